"""What sites know of each other, and where tokens are redeemed."""

from __future__ import annotations

import pytest

from knetsim.errors import NotFound
from knetsim.node.skupper.grants import Redeemed
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.node.skupper.views import SiteView

WORTH = Redeemed((), {})


class Controller:
    """Notes what it is asked, and how often it was told of a change."""

    def __init__(self, network: SkupperNetwork, cluster: str, address: str) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.told = 0
        network.join(cluster, address, self, self._hear)

    def _hear(self) -> None:
        self.told += 1

    def redeem(self, grant: str, code: str, subject: str) -> Redeemed:
        self.asked.append((grant, code, subject))
        return WORTH


def build_view(cluster: str, version: str = "") -> SiteView:
    return SiteView(cluster, cluster.lower(), f"uid-{cluster}", "default", cluster, "", version)


def test_others_are_told_of_what_changes_and_only_then() -> None:
    network = SkupperNetwork()
    first, second = Controller(network, "C0", "10.0.0.1"), Controller(network, "C1", "10.0.0.2")
    network.publish("C0", build_view("C0"))
    network.publish("C0", build_view("C0"))
    assert (first.told, second.told) == (0, 1)
    network.publish("C0", build_view("C0", "2"))
    assert second.told == 2
    assert network.others("C1") == [build_view("C0", "2")]
    assert network.others("C0") == []


def test_who_has_left_is_no_more() -> None:
    network = SkupperNetwork()
    Controller(network, "C0", "10.0.0.1")
    second = Controller(network, "C1", "10.0.0.2")
    network.publish("C0", build_view("C0"))
    network.leave("C0")
    network.leave("C0")
    assert second.told == 2
    assert network.others("C1") == []
    network.publish("C0", build_view("C0"))  # its last look ends late
    assert network.others("C1") == []


def test_a_token_is_redeemed_by_whose_address_its_url_has() -> None:
    network = SkupperNetwork()
    first, second = Controller(network, "C0", "10.0.0.1"), Controller(network, "C1", "10.0.0.2")
    assert network.redeem("https://10.0.0.2:9090/default/from-c0", "code", "me") is WORTH
    assert (first.asked, second.asked) == ([], [("default/from-c0", "code", "me")])


@pytest.mark.parametrize("url", ["https://10.0.0.9:9090/uid", "nonsense", "", "https://[::1/x"])
def test_an_address_that_nobody_has(url: str) -> None:
    network = SkupperNetwork()
    Controller(network, "C0", "10.0.0.1")
    with pytest.raises(NotFound) as refused:
        network.redeem(url, "code", "me")
    assert "10.0.0.1" in refused.value.hint

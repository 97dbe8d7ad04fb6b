"""Being told of changes by rtnetlink, and of not having been told of all."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from knetsim.system.netlink import (
    FdbEntry,
    Monitor,
    Netlink,
    add_address,
    add_bridge,
    add_neighbour,
    add_route,
    add_veth,
    delete_link,
    delete_route,
    set_link,
)
from knetsim.system.netns import Namespaces

pytestmark = pytest.mark.usefixtures("no_leaks")


Places = Callable[[str], Namespaces]
Sockets = Callable[[Namespaces], Netlink]

MAC = "0a:58:0b:0f:40:01"
VTEP = "02:42:ac:11:00:09"


def test_a_monitor_tells_what_changes(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    with Monitor.in_namespace(place) as monitor:
        assert not monitor.wait(0)
        netlink.apply([add_bridge("cni0", mac=MAC)])
        netlink.apply([add_address(2, "10.0.0.1/24"), add_route("10.1.0.0/16", via="10.0.0.2")])
        netlink.apply([add_neighbour(2, "10.0.0.2", VTEP)])
        seen = monitor.wait(5)
        assert not seen.lost
        assert {type(change.item).__name__ for change in seen} >= {"Link", "Address", "Route", "Neighbour"}
        assert all(change.present for change in seen if not isinstance(change.item, FdbEntry))
        netlink.apply([delete_route("10.1.0.0/16")])
        gone = [change for change in monitor.wait(5) if not change.present]
        assert [getattr(change.item, "dst", None) for change in gone] == ["10.1.0.0/16"]
        assert not monitor.wait(0.01)


def test_a_monitor_hears_only_its_groups(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    netlink.apply([add_bridge("cni0")])
    with Monitor.in_namespace(place, ["address"]) as monitor:
        netlink.apply([set_link(2, mtu=1400), add_address(2, "10.0.0.1/24")])
        assert [change.item for change in monitor.wait(5)] == netlink.addresses(2)


def test_a_port_that_leaves_its_bridge_is_not_a_link_that_is_gone(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    netlink.apply([add_bridge("cni0"), add_veth("a", "b", master=2)])
    with Monitor.in_namespace(place, ["link"]) as monitor:
        netlink.apply([set_link("a", master=0)])
        seen = [change for change in monitor.wait(5) if getattr(change.item, "name", "") == "a"]
        assert seen
        assert all(change.present for change in seen)
        netlink.apply([delete_link("a")])
        assert {"a", "b"} <= {getattr(change.item, "name", "") for change in monitor.wait(5) if not change.present}


def test_a_monitor_says_when_it_lost_something(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    netlink.apply([add_bridge("cni0"), add_address(2, "10.0.0.1/8")])
    with Monitor.in_namespace(place, ["route"]) as monitor:
        netlink.apply(add_route(f"11.{n >> 8}.{n & 255}.0/24", via="10.0.0.2") for n in range(10_000))
        assert monitor.wait(5).lost
        netlink.apply([delete_route("11.0.0.0/24")])
        after = monitor.wait(5)
        assert not after.lost
        assert len(after.items) == 1


def test_closing_a_monitor_wakes_who_waits(places: Places) -> None:
    monitor = Monitor.in_namespace(places("a"))
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(monitor.wait()))
    thread.start()
    monitor.close()
    monitor.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(answers) == 1
    assert not answers[0]
    assert not monitor.wait()

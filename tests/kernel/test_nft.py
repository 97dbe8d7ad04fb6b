"""nftables through libnftables: one transaction, the right namespace, nft's own words with the right line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from knetsim.errors import CommandError
from knetsim.system.netlink import Netlink, add_bridge
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft, apply_nft, read_nft
from knetsim.system.run import run

pytestmark = pytest.mark.usefixtures("no_leaks")

Places = Callable[[str], Namespaces]

TABLE = """\
table ip knetsim-test {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 80 counter accept
	}
}
"""


def test_what_is_applied_is_what_nft_shows(places: Places) -> None:
    place = places("C0w1")
    apply_nft(place, TABLE)
    assert run(["nft", "list", "ruleset"], place=place).output == read_nft(place, "list ruleset")
    with Nft(place) as nft:
        assert nft.read_tables() == {("ip", "knetsim-test")}
        assert "packets" in nft.read("list ruleset")
        assert "packets" not in nft.read("list ruleset", stateless=True)
        assert "# handle" in nft.read("list ruleset", handles=True)
        assert [next(iter(entry)) for entry in nft.read_json("list ruleset")] == ["table", "chain", "rule"]
        nft.apply("delete table ip knetsim-test")
        assert nft.read("list ruleset") == ""
        assert nft.read_tables() == set()


def test_a_text_is_one_transaction(places: Places) -> None:
    place = places("C0w1")
    with pytest.raises(CommandError):
        apply_nft(place, TABLE + "add rule ip knetsim-test nowhere accept\n")
    assert read_nft(place, "list ruleset") == ""


def test_an_error_shows_the_line_and_nfts_words(places: Places) -> None:
    place = places("C0w1")
    text = "add table ip x\nadd chain ip x c\nadd rule ip x nowhere accept\n"
    with pytest.raises(CommandError) as caught:
        apply_nft(place, text)
    error = caught.value
    assert error.output == (
        "line 3:15-21: Error: Could not process rule: No such file or directory\n"
        "add rule ip x nowhere accept\n"
        "              ^^^^^^^\n"
    )
    assert error.where == "C0w1"
    assert error.argv == ("nft", "-f", "-")
    with pytest.raises(CommandError, match="line 4:19-24: Error: syntax error, unexpected accept"):
        apply_nft(place, "table ip x {\n chain c {\n\n   ip saddr 1.2.3 accept\n }\n}\n")
    with pytest.raises(CommandError) as caught:
        read_nft(place, "list table ip nothing")
    assert caught.value.argv == ("nft", "list table ip nothing")
    assert "No such file or directory" in caught.value.output


def test_a_context_stays_in_its_namespace_whoever_uses_it(places: Places) -> None:
    here, elsewhere = places("here"), places("elsewhere")
    with Netlink.in_namespace(here) as netlink:
        netlink.apply([add_bridge("cni0")])
    with Nft(here) as nft:
        thread = threading.Thread(target=nft.apply, args=(TABLE,))
        thread.start()
        thread.join()
        # An interface's name is looked up where the rule is added, so this needs the right namespace too.
        nft.apply("add rule ip knetsim-test input iif cni0 accept")
        assert 'iif "cni0"' in nft.read("list ruleset")
    assert read_nft(elsewhere, "list ruleset") == ""


def test_threads_work_on_many_namespaces(places: Places) -> None:
    workers = [places(f"C0w{number}") for number in range(1, 5)]
    errors: list[BaseException] = []

    def work(place: Namespaces, number: int) -> None:
        try:
            with Netlink.in_namespace(place) as netlink:
                netlink.apply([add_bridge(f"br{number}")])
            with Nft(place) as nft:
                nft.apply(TABLE)
                for _ in range(25):
                    nft.apply(f"add rule ip knetsim-test input iif br{number} accept")
                    assert f'iif "br{number}"' in nft.read("list ruleset")
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(place, number)) for number, place in enumerate(workers, start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for number, place in enumerate(workers, start=1):
        assert read_nft(place, "list ruleset").count(f'iif "br{number}"') == 25


def test_rules_stop_packets(places: Places) -> None:
    place = places("C0w1")
    run(["ip", "link", "set", "lo", "up"], place=place)
    ping = ["ping", "-c", "1", "-W", "1", "127.0.0.1"]
    assert run(ping, place=place, check=False).code == 0
    apply_nft(place, TABLE + "add rule ip knetsim-test input icmp type echo-request drop\n")
    assert run(ping, place=place, check=False).code == 1
    apply_nft(place, "delete table ip knetsim-test")
    assert run(ping, place=place, check=False).code == 0


def test_a_process_with_many_descriptors_keeps_low_ones_for_libnftables(places: Places) -> None:
    """libnftables waits with select(2), and a number from 1024 on would end the process: run apart."""
    script = """
from knetsim.system.limits import raise_open_files
from knetsim.system.low_descriptors import LOW_DESCRIPTORS
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft
import os
raise_open_files()
LOW_DESCRIPTORS.reserve()
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
assert min(held) >= 1024
place = Namespaces.of_thread("here", ("net",))
for _ in range(1100):
    with Nft(place) as nft:
        nft.apply("add table ip x")
        assert nft.read_tables() == {("ip", "x")}
many = [Nft(place) for _ in range(300)]
many[-1].apply("delete table ip x")
for fd in held[:1000]:
    os.close(fd)
many[0].read_tables()
"""
    run([sys.executable, "-c", script], place=places("C0w1"))

"""nftables by messages: what they put in is what nft puts in for the text; one transaction; who was refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import pytest

from knetsim.dataplane.services.rules import build_service
from knetsim.dataplane.services.table import (
    KEYS,
    TABLE,
    Difference,
    Rules,
    build_changes,
    build_deletion,
    build_difference,
    build_picks,
    build_table,
    encode_changes,
    encode_deletion,
    encode_picks,
    find_picks,
)
from knetsim.errors import KernelError
from knetsim.system.netlink.wire import Request
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink import Count, Ruleset, Transactions, UnknownForm, next_generation
from knetsim.system.nfnetlink.commands import add_chain, add_elements, add_rule, delete_chain, flush_chain
from knetsim.system.nft import Nft, apply_nft, read_nft
from knetsim.system.run import run
from tests.golden.test_services_golden import CASES, PLACE, read_port

pytestmark = pytest.mark.usefixtures("no_leaks")

Places = Callable[[str], Namespaces]

TWO_CHAINS = """\
table ip t {
	map m { type ipv4_addr : verdict; }
	chain c { }
	chain d { }
	chain input { type filter hook input priority 0; jump c; }
}
"""
#: libnftables carries these out: a set of networks in a rule
BY_TEXT = {"source-ranges"}


def show(place: Namespaces) -> str:
    """Everything nft knows of the table: as it lists it, and the kernel's own expressions with registers and notes."""
    with Nft(place) as nft:
        listed = nft.read(f"list table ip {TABLE}")
    shown = run(["nft", "--debug=netlink", "list", "table", "ip", TABLE], place=place).output
    # without handles, and a set's elements in order: the kernel has them by a hash of its own
    lines = re.sub(r"^(ip \S+ \S+)( [0-9]+)+$", r"\1", shown, flags=re.MULTILINE).replace("\t", "\n").splitlines()
    groups = groupby((line.strip() for line in lines if line.strip()), lambda line: line.startswith("element"))
    return "\n".join([listed, *(line for is_set, group in groups for line in (sorted(group) if is_set else group))])


def build_rules(case: str, backends: int | None = None) -> list[Rules]:
    """The Services of a case of the golden files, with all of its backends or the first few."""
    found = [dict(values) for values in CASES[case]]
    for values in found:
        values["backends"] = values.get("backends", [])[:backends]
    return [build_service([read_port(values)], PLACE) for values in found]


def build_steps(case: str) -> list[list[Difference]]:
    """A case comes, loses a backend, gets it back with another one's chains gone, and goes."""
    whole, fewer, none = build_rules(case), build_rules(case, 1), build_rules(case, 0)
    stages: Sequence[Sequence[Rules | None]] = ([None] * len(whole), whole, fewer, none, whole, [None] * len(whole))
    return [
        [build_difference(before, after) for before, after in zip(one, other, strict=True)]
        for one, other in pairwise(stages)
    ]


@pytest.mark.parametrize("case", CASES)
def test_messages_put_in_what_the_text_says(places: Places, case: str) -> None:
    by_text, by_messages = places("text"), places("messages")
    retired: set[str] = set()
    with Nft(by_text) as nft, Transactions(by_messages) as kernel:
        for place in (by_text, by_messages):
            apply_nft(place, build_table(PLACE, []))
        picks = find_picks(rules for backends in (None, 1) for rules in build_rules(case, backends))
        kernel.commit(encode_picks(picks))
        nft.apply(build_picks(picks))
        empty = show(by_text)
        for step in build_steps(case):
            try:
                requests = encode_changes(step)
            except UnknownForm:
                assert case in BY_TEXT
                return
            kernel.commit(requests)
            nft.apply(build_changes(step))
            assert show(by_messages) == show(by_text)
            retired = {*retired, *(chain for each in step for chain in each.retired)}
        kernel.commit(encode_deletion(sorted(retired)))
        nft.apply(build_deletion(sorted(retired)))
        assert read_nft(by_messages, "list ruleset") == read_nft(by_text, "list ruleset")
        assert show(by_messages) == empty


def test_counts_go_on_by_messages_as_by_text(places: Places) -> None:
    by_text, by_messages = places("text"), places("messages")
    port = read_port(CASES["cluster-ip"][0])
    before = build_service([port], PLACE)
    after = build_service([replace(port, backends=port.backends[1:])], PLACE)
    first, second = build_difference(None, before), build_difference(before, after)
    assert {(new.set, new.key[-1], old.key[-1]) for new, old in second.carried.items()} == {
        ("service-ips", "0", "0"),
        ("backends", "0", "1"),
    }
    back = build_difference(after, before)
    with Nft(by_text) as nft, Transactions(by_messages) as kernel, Ruleset(by_messages) as ruleset:
        for place in (by_text, by_messages):
            apply_nft(place, build_table(PLACE, [before]))
            apply_nft(place, build_changes([build_difference(before, None), first]))
        kernel.commit(encode_picks([3, 5]))
        nft.apply(build_picks([3, 5]))
        for step, packets in ((second, 5), (back, 6)):
            counts = {new: Count(packets, 60 * packets) for new in step.carried}
            kernel.commit(encode_changes([step], counts))
            nft.apply(build_changes([step], counts))
            assert show(by_messages) == show(by_text)
            assert f"counter packets {packets} bytes {60 * packets}" in show(by_messages)
            for new, count in counts.items():
                assert ruleset.counts(TABLE, new.set, KEYS[new.set], [new.key]) == {new.key: count}
        nothing = "100.64.0.99 . tcp . 80"
        assert ruleset.counts(TABLE, "service-ips", KEYS["service-ips"], [nothing]) == {}
        assert ruleset.counts("no-table", "service-ips", KEYS["service-ips"], [nothing]) == {}


def test_a_transaction_is_all_or_nothing_and_names_what_was_refused(places: Places) -> None:
    place = places("C0w1")
    apply_nft(place, TWO_CHAINS)
    before = read_nft(place, "list ruleset")
    with Transactions(place) as kernel:
        with pytest.raises(KernelError) as caught:
            kernel.commit([add_chain("t", "new"), add_rule("t", "nowhere", "drop"), delete_chain("t", "nothing")])
        assert read_nft(place, "list ruleset") == before
        assert caught.value.where == "C0w1"
        assert "nft add rule ip t nowhere drop" in str(caught.value)
        assert "No such file or directory" in str(caught.value)
        assert "1 more" in str(caught.value)
        # what is found only when all of it is looked at: a loop
        with pytest.raises(KernelError, match="jump"):
            kernel.commit([add_rule("t", "c", "jump d"), add_rule("t", "d", "jump c")])
        assert read_nft(place, "list ruleset") == before
        assert kernel.commit([add_chain("t", "new"), add_rule("t", "c", "jump new"), flush_chain("t", "d")])
        assert "jump new" in read_nft(place, "list ruleset")
        assert kernel.commit([])


def test_a_transaction_may_depend_on_the_rulesets_generation(places: Places) -> None:
    place = places("C0w1")
    apply_nft(place, TWO_CHAINS)
    with Transactions(place) as kernel, Ruleset(place) as ruleset:
        seen = ruleset.generation()
        assert kernel.commit([add_chain("t", "e")], seen)
        assert ruleset.generation() == next_generation(seen)
        assert not kernel.commit([add_chain("t", "f")], seen), "it is another one now"
        assert "chain f" not in read_nft(place, "list ruleset")
        assert kernel.commit([add_chain("t", "f")], next_generation(seen))


def test_thousands_of_requests_are_one_transaction(places: Places) -> None:
    place = places("C0w1")
    apply_nft(place, TWO_CHAINS)
    with Transactions(place) as kernel, Ruleset(place) as ruleset:
        seen = ruleset.generation()
        addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(4000)]
        requests: list[Request] = [add_chain("t", address) for address in addresses]
        requests += [
            add_elements("t", "m", ["ipv4_addr"], {address: (f"goto {address}", "some words")}) for address in addresses
        ]
        assert kernel.commit(requests, seen)
        assert ruleset.generation() == next_generation(seen)
        with Nft(place) as nft:
            (found,) = [entry["map"] for entry in nft.read_json("list map ip t m") if "map" in entry]
        assert len(found["elem"]) == len(addresses)
        # so many refusals, and one that is carried out afterwards
        with pytest.raises(KernelError, match="3999 more"):
            kernel.commit([delete_chain("t", f"no-{address}") for address in addresses])
        assert kernel.commit([add_chain("t", "last")])


def test_two_threads_may_share_a_socket(places: Places) -> None:
    place = places("C0w1")
    apply_nft(place, TWO_CHAINS)

    def work(kernel: Transactions, number: int) -> Any:
        return [kernel.commit([add_rule("t", "c", f"ip saddr 10.0.{number}.{each} drop")]) for each in range(50)]

    with Transactions(place) as kernel, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: work(kernel, number), range(2)))
    assert found == [[True] * 50] * 2
    assert read_nft(place, "list ruleset").count("drop") == 100


def test_it_needs_no_low_descriptor(places: Places) -> None:
    """Unlike libnftables, which waits with select(2); run apart, for its many descriptors."""
    script = """
import os
from knetsim.system.limits import raise_open_files
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink import Transactions
from knetsim.system.nfnetlink.commands import add_chain
raise_open_files()
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
with Transactions(Namespaces.of_thread("here", ("net",))) as kernel:
    assert kernel.fileno() >= 1024
    assert kernel.commit([add_chain("t", "here")])
"""
    place = places("C0w1")
    apply_nft(place, "add table ip t")
    run([sys.executable, "-c", script], place=place)
    assert "chain here" in read_nft(place, "list ruleset")


def test_what_a_table_has_is_read_without_words(places: Places) -> None:
    place = places("C0w1")
    with Ruleset(place) as ruleset:
        assert ruleset.table_handle("t") is None
        with pytest.raises(KernelError, match="No such file"):
            ruleset.read("t", ["m"])
        apply_nft(place, TWO_CHAINS + "add element ip t m { 10.0.0.1 : goto d }\nadd table ip other { chain x { }; }")
        apply_nft(place, "add rule ip t c ip saddr { 10.0.0.2, 10.0.0.3 } drop")
        found = ruleset.read("t", ["m", "nothing"])
        assert found.chains == {"c": 1, "d": 0, "input": 1}
        assert (found.sets, found.elements) == ({"m"}, {("m", bytes((10, 0, 0, 1)))})
        first = ruleset.table_handle("t")
        assert first is not None
        apply_nft(place, "delete table ip t; add table ip t")
        assert ruleset.table_handle("t") not in (None, first)

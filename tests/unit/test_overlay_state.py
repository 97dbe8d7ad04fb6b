"""From the state there is to the state wanted: whatever both are, the requests lead there, and none is sent in vain."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.overlay.drift import is_drift
from knetsim.dataplane.overlay.lease import VXLAN, Backend, Lease, build_lease_value, lease_key
from knetsim.dataplane.overlay.snapshot import LeaseTable, changed_entries, explain_changes, merge, without
from knetsim.dataplane.overlay.state import (
    Desired,
    Device,
    Entries,
    Observed,
    Underlay,
    diff,
    diff_device,
    diff_entries,
    explain_mismatch,
)
from knetsim.dataplane.overlay.vxlan import Vxlan
from knetsim.system.netlink import Address, Change, FdbEntry, Link, Neighbour, Request, Route
from knetsim.system.netlink.decode import Vxlan as VxlanLink

BACKEND = Vxlan(Backend(VXLAN, vni=100, port=8472))
UNDERLAY = Underlay("C0w1-eth0", 2, 1500)
INDEX = 7


def lease(number: int, mac: int | None = None, public_ip: int | None = None) -> Lease:
    """The lease of the worker with this number."""
    return Lease(
        IPv4Network(f"11.10.{16 * number}.0/20"),
        IPv4Address(f"10.1.1.{number if public_ip is None else public_ip}"),
        VXLAN,
        100,
        f"02:00:00:00:00:{number if mac is None else mac:02x}",
    )


leases = st.builds(lease, st.integers(0, 15), st.integers(0, 15), st.integers(0, 15))
lease_sets = st.lists(leases, max_size=12, unique_by=lambda lease: lease.subnet)


# --- a kernel made of words: what the commands would do


def apply(requests: list[Request], entries: Entries) -> Entries:
    """The entries after the commands; one that is not needed, or has nothing to delete, fails."""
    routes, neighbours, fdb = dict(entries.routes), dict(entries.neighbours), dict(entries.fdb)
    for request in requests:
        words = request.text().split()
        match words:
            case ["ip", "route", "replace", dst, "via", via, "dev", "if7", "onlink"]:
                assert routes.get(dst) != via
                assert via in neighbours, "a route before the ARP entry of its gateway"
                routes[dst] = via
            case ["ip", "route", "delete", dst, "via", via, "dev", "if7"]:
                assert routes.pop(dst) == via
            case ["ip", "neighbour", "replace", address, "lladdr", mac, "dev", "if7", "nud", "permanent"]:
                assert neighbours.get(address) != mac
                neighbours[address] = mac
            case ["ip", "neighbour", "delete", address, "dev", "if7"]:
                assert neighbours.pop(address)
            case ["bridge", "fdb", "replace", mac, "dev", "if7", "dst", address, "self", "permanent"]:
                assert fdb.get(mac) != address
                fdb[mac] = address
            case ["bridge", "fdb", "delete", mac, "dev", "if7", "dst", address, "self"]:
                assert fdb.pop(mac) == address
            case _:
                raise AssertionError(f"unexpected: {request.text()}")
    return Entries(routes, neighbours, fdb)


def entries_of(found: list[Lease]) -> Entries:
    return merge(map(BACKEND.build_entries, found))


@given(lease_sets, lease_sets)
def test_the_difference_leads_to_what_is_wanted(before: list[Lease], after: list[Lease]) -> None:
    observed, desired = entries_of(before), entries_of(after)
    assert apply(diff_entries(observed, desired, INDEX, onlink=True), observed) == desired


@given(lease_sets, lease_sets, st.sets(st.integers(0, 40)))
def test_also_from_a_damaged_state(before: list[Lease], after: list[Lease], lost: set[int]) -> None:
    whole, desired = entries_of(before), entries_of(after)
    routes = {dst: via for number, (dst, via) in enumerate(whole.routes.items()) if number not in lost}
    neighbours = {ip: mac for number, (ip, mac) in enumerate(whole.neighbours.items()) if number + 20 not in lost}
    observed = Entries(routes, neighbours, whole.fdb)
    assert apply(diff_entries(observed, desired, INDEX, onlink=True), observed) == desired


def test_one_new_lease_is_three_messages() -> None:
    observed, desired = entries_of([lease(1), lease(2)]), entries_of([lease(1), lease(2), lease(3)])
    assert len(diff_entries(observed, desired, INDEX, onlink=True)) == 3
    assert diff_entries(desired, desired, INDEX, onlink=True) == []


# --- the device

DEVICE = Device("flannel.100", 100, "10.1.1.1", 8472, 2, "02:00:00:00:00:01", 1450)
LINK = Link(
    index=INDEX,
    name="flannel.100",
    kind="vxlan",
    mac=DEVICE.mac,
    mtu=1450,
    up=True,
    carrier=True,
    operstate="unknown",
    master=0,
    link=0,
    link_netnsid=None,
    flags=0,
    queue_length=0,
    vxlan=VxlanLink(vni=100, local="10.1.1.1", device_index=2, port=8472, learning=False),
)
WANTED = Desired(entries_of([lease(2), lease(3)]), DEVICE, "11.10.16.0/32")


def texts(requests: list[Request]) -> list[str]:
    return [request.text() for request in requests]


def test_a_device_that_is_missing_is_made_and_nothing_else() -> None:
    (request,) = diff(Observed(), WANTED)
    assert request.text().startswith("ip link add name flannel.100 ")


@pytest.mark.parametrize(
    ("vxlan", "words"),
    [
        ({"vni": 1}, "vni 1 instead of 100"),
        ({"local": "10.1.1.9"}, "local address 10.1.1.9 instead of 10.1.1.1"),
        ({"port": 4789}, "port 4789 instead of 8472"),
        ({"device_index": 5}, "underlay interface 5 instead of 2"),
        ({"learning": True}, "learning True instead of False"),
    ],
)
def test_a_device_that_cannot_be_changed_is_made_anew(vxlan: dict[str, Any], words: str) -> None:
    assert LINK.vxlan is not None
    link = replace(LINK, vxlan=replace(LINK.vxlan, **vxlan))
    assert explain_mismatch(link, DEVICE) == words
    assert [text.split()[2] for text in texts(diff(Observed(INDEX, device=link), WANTED))] == ["delete", "add"]


def test_another_kind_of_interface_of_that_name_is_replaced() -> None:
    link = replace(LINK, kind="dummy", vxlan=None)
    assert explain_mismatch(link, DEVICE) == "a dummy interface instead of vxlan"


@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        ({"mtu": 1500}, "ip link set dev if7 mtu 1450"),
        ({"up": False}, "ip link set dev if7 up"),
        ({"mac": "02:00:00:00:00:09"}, "ip link set dev if7 address 02:00:00:00:00:01"),
        ({}, ""),
    ],
)
def test_a_device_that_can_be_changed_is(wrong: dict[str, Any], command: str) -> None:
    requests = diff_device(Observed(INDEX, device=replace(LINK, **wrong)), WANTED)
    assert texts(requests) == ([command] if command else [])


def test_the_address_is_the_only_one() -> None:
    observed = Observed(INDEX, WANTED.entries, LINK, ("11.99.0.0/32",))
    assert texts(diff(observed, WANTED)) == [
        "ip address delete 11.99.0.0/32 dev if7",
        "ip address replace 11.10.16.0/32 dev if7",
    ]
    assert diff(replace(observed, addresses=("11.10.16.0/32",)), WANTED) == []


# --- snapshots

OWN = lease(1)


def table() -> LeaseTable:
    return LeaseTable(BACKEND.build_entries)


class Entry(NamedTuple):
    """A key as a listing tells of it."""

    key: str
    value: bytes
    revision: int


class Gone(NamedTuple):
    """A key as a watch tells of its end."""

    key: str
    revision: int
    value: None = None


def entry(found: Lease, revision: int = 1) -> Entry:
    return Entry(lease_key(found.subnet), build_lease_value(found).encode(), revision)


@given(lease_sets, lease_sets)
def test_what_changed_is_enough_for_every_worker(before: list[Lease], after: list[Lease]) -> None:
    leases = table()
    old = leases.reset(map(entry, before), 5)
    names = {lease.subnet for lease in after}
    gone = [Gone(lease_key(lease.subnet), 6) for lease in before if lease.subnet not in names]
    new = leases.update([*gone, *(entry(lease, 7) for lease in after)] or [Gone(lease_key(OWN.subnet), 7)])
    mine = BACKEND.build_entries(OWN)
    left, come = (without(part, mine) for part in changed_entries(old, new))
    had = without(old.entries, mine)
    assert apply(diff_entries(left, come, INDEX, onlink=True), had) == without(new.entries, mine)


def test_a_worker_that_moves_keeps_its_fdb_entry() -> None:
    leases = table()
    old = leases.reset([entry(lease(2))], 1)
    moved = lease(3, mac=2, public_ip=2)
    new = leases.update([entry(moved, 2), Gone(lease_key(lease(2).subnet), 3)])
    left, come = changed_entries(old, new)
    assert not [text for text in texts(diff_entries(left, come, INDEX, onlink=True)) if "fdb" in text]


def test_a_lease_that_cannot_be_read_is_told_and_passed_over() -> None:
    leases = table()
    old = leases.reset([entry(lease(2))], 1)
    new = leases.update([Entry(lease_key(lease(2).subnet), b"{}", 2), Entry("/coreos.com/network/subnets/x", b"", 2)])
    assert new.leases == {} and set(new.unreadable) == {"11.10.32.0-20", "x"}
    lines = explain_changes(old, new)
    assert lines[0] == "11.10.32.0/20 is gone"
    assert re.search("ignored the lease 11.10.32.0-20: .*PublicIP is missing", lines[1])


def test_changes_in_words() -> None:
    leases = table()
    old = leases.reset([entry(lease(2)), entry(lease(4))], 1)
    new = leases.reset([entry(lease(2, mac=9)), entry(lease(3))], 2)
    assert explain_changes(old, new) == (
        "11.10.64.0/20 is gone",
        "11.10.32.0/20 is now at 10.1.1.2, VTEP 02:00:00:00:00:09",
        "11.10.48.0/20 is at 10.1.1.3, VTEP 02:00:00:00:00:03",
    )


# --- drift


def route(dst: str, via: str | None, index: int = INDEX, metric: int = 0, table: int = 254) -> Route:
    return Route(dst, via, index, True, "global", "boot", None, metric, table, 1)


GATEWAY, MAC = "11.10.32.0", "02:00:00:00:00:02"


@pytest.mark.parametrize(
    ("present", "item", "drift"),
    [
        (True, route("11.10.32.0/20", GATEWAY), False),
        (False, route("11.10.32.0/20", GATEWAY), True),
        (True, route("11.10.32.0/20", "10.1.1.9", index=2), True),
        (True, route("11.10.32.0/20", "10.1.1.9", index=2, metric=100), False),
        (True, route("11.10.32.0/20", GATEWAY, table=100), False),
        (True, route("11.10.96.0/20", "11.10.96.0"), True),
        (False, route("11.10.96.0/20", "11.10.96.0"), False),
        (True, route("10.244.0.0/16", None, index=9), False),
        (True, Neighbour(INDEX, GATEWAY, MAC, "permanent"), False),
        (True, Neighbour(INDEX, GATEWAY, MAC, "stale"), True),
        (True, Neighbour(INDEX, GATEWAY, "02:00:00:00:00:99", "permanent"), True),
        (False, Neighbour(INDEX, GATEWAY, MAC, "permanent"), True),
        (True, Neighbour(INDEX, "11.10.96.0", MAC, "permanent"), True),
        (False, Neighbour(INDEX, "11.10.96.0", MAC, "permanent"), False),
        (True, Neighbour(9, GATEWAY, None, "incomplete"), False),
        (True, FdbEntry(INDEX, MAC, "10.1.1.2", 0, True, True), False),
        (True, FdbEntry(INDEX, MAC, "10.1.1.9", 0, True, True), True),
        (False, FdbEntry(INDEX, MAC, "10.1.1.2", 0, True, True), True),
        (True, FdbEntry(INDEX, "02:00:00:00:00:99", "10.1.1.2", 0, True, True), True),
        (True, FdbEntry(9, MAC, None, 8, False, False), False),
        (True, Address(INDEX, "11.10.16.0/32", "global", None, ""), False),
        (False, Address(INDEX, "11.10.16.0/32", "global", None, ""), True),
        (True, Address(INDEX, "11.10.16.5/32", "global", None, ""), True),
        (False, Address(2, "11.10.16.0/32", "global", None, ""), False),
        (True, LINK, False),
        (False, LINK, True),
        (True, replace(LINK, up=False), True),
        (True, replace(LINK, mtu=1400), True),
        (True, replace(LINK, index=8), True),
        (True, replace(LINK, index=8, name="veth12"), False),
    ],
)
def test_what_is_drift(present: bool, item: Link | Address | Route | Neighbour | FdbEntry, drift: bool) -> None:
    assert is_drift(Change(present, item), WANTED, "flannel.100", INDEX) is drift

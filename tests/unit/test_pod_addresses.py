"""Which address a pod gets: host-local's order, without its files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from knetsim.dataplane.pod.addresses import AddressPool
from knetsim.errors import KnetsimError

SUBNET = IPv4Network("11.15.64.0/29")  # .1 is the gateway, .2 to .6 are for pods, .7 is the broadcast address


def reserve(pool: AddressPool, count: int) -> list[str]:
    return [str(pool.reserve()).removeprefix("11.15.64.") for _ in range(count)]


def test_addresses_are_given_in_order_and_never_the_gateway() -> None:
    assert reserve(AddressPool(SUBNET), 5) == ["2", "3", "4", "5", "6"]


def test_a_freed_address_is_not_given_again_at_once() -> None:
    pool = AddressPool(SUBNET)
    reserve(pool, 2)
    pool.release(IPv4Address("11.15.64.2"))
    assert reserve(pool, 3) == ["4", "5", "6"]
    assert reserve(pool, 1) == ["2"], "round the end"


def test_exhaustion_names_the_subnet_and_heals() -> None:
    pool = AddressPool(SUBNET)
    reserve(pool, 5)
    with pytest.raises(KnetsimError, match=r"no free address in the subnet 11\.15\.64\.0/29: all 5 are taken by pods"):
        pool.reserve()
    pool.release(IPv4Address("11.15.64.4"))
    assert reserve(pool, 1) == ["4"]


def test_what_pods_were_found_to_have_is_taken() -> None:
    pool = AddressPool(SUBNET)
    for last in (4, 2):
        pool.take(IPv4Address(f"11.15.64.{last}"))
    pool.take(IPv4Address("10.0.0.9"))
    assert len(pool) == 2
    assert reserve(pool, 3) == ["5", "6", "3"]


def test_freeing_what_is_free_is_fine() -> None:
    pool = AddressPool(SUBNET)
    pool.release(IPv4Address("11.15.64.4"))
    pool.release(IPv4Address("10.0.0.9"))
    assert reserve(pool, 1) == ["2"]


@pytest.mark.parametrize("length", [30, 31, 32])
def test_a_subnet_may_be_too_small(length: int) -> None:
    pool = AddressPool(IPv4Network(f"11.15.64.0/{length}"))
    given = 1 if length == 30 else 0
    reserve(pool, given)
    with pytest.raises(KnetsimError, match=f"all {given} are taken"):
        pool.reserve()


def test_threads_never_get_the_same_address() -> None:
    pool = AddressPool(IPv4Network("11.15.64.0/22"))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pool.reserve(), range(1000)))
    assert len(set(found)) == 1000

"""Flannel's keys and values: read and written as flannel does, or refused with the reason; and flannel's choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.overlay.lease import (
    BACKENDS,
    HOST_GW,
    VXLAN,
    Backend,
    Choice,
    Lease,
    NetworkConfig,
    build_lease_name,
    build_lease_value,
    build_mac,
    build_network_config,
    choose_subnet,
    free_subnets,
    lease_key,
    parse_lease,
    parse_lease_name,
    parse_network_config,
)
from knetsim.dataplane.overlay.subnet_file import SubnetFile, build_subnet_file, parse_subnet_file
from knetsim.errors import KnetsimError, ObjectError

#: as flanneld v0.28.4 wrote them (its MAC and addresses), key and value
BY_FLANNELD = [
    (
        "/coreos.com/network/subnets/11.15.64.0-20",
        (
            '{"PublicIP":"10.1.0.2","PublicIPv6":null,"BackendType":"vxlan",'
            '"BackendData":{"VNI":100,"VtepMAC":"7e:6b:e7:7d:e3:ac"}}'
        ),
        Lease(IPv4Network("11.15.64.0/20"), IPv4Address("10.1.0.2"), VXLAN, 100, "7e:6b:e7:7d:e3:ac"),
    ),
    (
        "/coreos.com/network/subnets/11.16.0.0-20",
        '{"PublicIP":"10.1.0.3","PublicIPv6":null,"BackendType":"host-gw"}',
        Lease(IPv4Network("11.16.0.0/20"), IPv4Address("10.1.0.3"), HOST_GW),
    ),
]
CONFIG = NetworkConfig(
    IPv4Network("11.0.0.0/8"),
    20,
    IPv4Address("11.10.0.0"),
    IPv4Address("11.99.0.0"),
    Backend(VXLAN, vni=100, port=8472),
)

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
networks = st.builds(
    lambda address, length: IPv4Network((int(address), length), strict=False), addresses, st.integers(1, 30)
)
macs = st.binary(min_size=6, max_size=6).map(build_mac)
leases = st.one_of(
    st.builds(Lease, networks, addresses, st.just(VXLAN), st.integers(0, 2**24 - 1), macs),
    st.builds(Lease, networks, addresses, st.just(HOST_GW)),
)


@pytest.mark.parametrize(("key", "value", "lease"), BY_FLANNELD, ids=[VXLAN, HOST_GW])
def test_reads_and_writes_what_flanneld_writes(key: str, value: str, lease: Lease) -> None:
    assert parse_lease(key, value.encode()) == lease
    assert build_lease_value(lease) == value
    assert lease_key(lease.subnet) == key


@given(leases)
def test_what_is_written_is_read(lease: Lease) -> None:
    assert parse_lease(lease_key(lease.subnet), build_lease_value(lease)) == lease


@given(networks)
def test_names_of_subnets(subnet: IPv4Network) -> None:
    assert parse_lease_name(build_lease_name(subnet)) == subnet


#: what can stand at any place of a JSON document
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("11.0.0.0/8") | st.just("11.9.0.0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def objects(*names: str, **inner: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """JSON objects with some of these fields, each with any value or one of its own strategy."""
    fields = {name: inner.get(name, values) | values for name in names}
    return st.fixed_dictionaries({}, optional=fields).map(json.dumps)


backends = st.fixed_dictionaries(
    {"Type": st.sampled_from(BACKENDS)}, optional=dict.fromkeys(("VNI", "Port", "MTU", "Learning", "GBP"), values)
)
vteps = st.fixed_dictionaries({}, optional={"VNI": values, "VtepMAC": values})


@given(st.text() | objects("PublicIP", "BackendType", "BackendData", BackendType=st.just(VXLAN), BackendData=vteps))
def test_any_value_is_read_or_refused(text: str) -> None:
    with suppress(ObjectError):
        parse_lease("/coreos.com/network/subnets/11.15.64.0-20", text)


@given(
    st.text()
    | objects(
        "Network", "SubnetLen", "SubnetMin", "SubnetMax", "EnableIPv6", "EnableNFTables", "Backend", Backend=backends
    )
)
def test_any_configuration_is_read_or_refused(text: str) -> None:
    with suppress(ObjectError):
        parse_network_config(text)


def test_json_too_deep_to_read_is_refused() -> None:
    with pytest.raises(ObjectError, match="not JSON"):
        parse_network_config("[" * 100_000)


def test_field_names_in_any_case_as_go_reads_them() -> None:
    text = '{"network":"11.0.0.0/8","SUBNETLEN":20,"Backend":{"type":"vxlan","vni":7,"port":4789}}'
    assert parse_network_config(text).backend == Backend(VXLAN, vni=7, port=4789)


def test_flannels_defaults() -> None:
    config = parse_network_config('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}')
    assert config == NetworkConfig(
        IPv4Network("10.244.0.0/16"),
        24,
        IPv4Address("10.244.1.0"),
        IPv4Address("10.244.255.0"),
        Backend(VXLAN, vni=1, port=8472),
    )
    small = parse_network_config('{"Network":"10.244.0.0/28","Backend":{"Type":"host-gw"}}')
    assert (small.subnet_len, str(small.subnet_min), str(small.subnet_max)) == (30, "10.244.0.4", "10.244.0.12")


@pytest.mark.parametrize("backend", [CONFIG.backend, Backend(VXLAN, 1, 8472, 1400, True), Backend(HOST_GW)])
@pytest.mark.parametrize("nftables", [False, True])
def test_the_configuration_that_is_written_is_read(backend: Backend, nftables: bool) -> None:
    config = NetworkConfig(CONFIG.network, 20, CONFIG.subnet_min, CONFIG.subnet_max, backend, nftables)
    assert parse_network_config(build_network_config(config)) == config


@given(st.binary(min_size=6, max_size=6))
def test_new_macs_are_unicast_and_local(random: bytes) -> None:
    first = int(build_mac(random)[:2], 16)
    assert first & 0b11 == 0b10


# --- which subnet


def lease_of(subnet: str, public_ip: str) -> Lease:
    return Lease(IPv4Network(subnet), IPv4Address(public_ip), VXLAN, 100, "02:00:00:00:00:01")


def choose(public_ip: str, *held: Lease, previous: str | None = None, config: NetworkConfig = CONFIG) -> Choice:
    return choose_subnet(
        config,
        held,
        [lease.subnet for lease in held],
        IPv4Address(public_ip),
        IPv4Network(previous) if previous else None,
        pick=lambda free: free[0],
    )


def test_a_workers_own_lease_is_used_again() -> None:
    choice = choose("10.1.1.1", lease_of("11.20.0.0/20", "10.1.1.1"), lease_of("11.10.0.0/20", "10.1.1.2"))
    assert (str(choice.subnet), choice.reason, choice.discard) == ("11.20.0.0/20", "reuse", ())


def test_an_own_lease_outside_the_configuration_is_given_up() -> None:
    old = lease_of("11.200.0.0/20", "10.1.1.1")
    choice = choose("10.1.1.1", old, lease_of("11.10.0.0/20", "10.1.1.2"))
    assert (str(choice.subnet), choice.reason, choice.discard) == ("11.10.16.0/20", "new", (old,))


def test_the_previous_subnet_while_it_is_free() -> None:
    assert choose("10.1.1.1", previous="11.20.0.0/20").reason == "previous"
    taken = choose("10.1.1.1", lease_of("11.20.0.0/20", "10.1.1.2"), previous="11.20.0.0/20")
    assert (str(taken.subnet), taken.reason) == ("11.10.0.0/20", "new")
    assert choose("10.1.1.1", previous="11.200.0.0/20").reason == "new"
    assert choose("10.1.1.1", previous="11.20.0.0/24").reason == "new"


def test_the_choice_is_among_the_first_hundred_free() -> None:
    seen: list[IPv4Network] = []

    def pick(free: Sequence[IPv4Network]) -> IPv4Network:
        seen.extend(free)
        return free[-1]

    choose_subnet(CONFIG, [], [], IPv4Address("10.1.1.1"), pick=pick)
    assert (len(seen), str(seen[0]), str(seen[99])) == (100, "11.10.0.0/20", "11.16.48.0/20")


def test_the_last_subnet_can_be_leased_and_then_there_is_none() -> None:
    config = parse_network_config(
        json.dumps({"Network": "11.0.0.0/16", "SubnetLen": 24, "SubnetMin": "11.0.254.0", "Backend": {"Type": "vxlan"}})
    )
    first, second = lease_of("11.0.254.0/24", "10.1.1.2"), lease_of("11.0.255.0/24", "10.1.1.3")
    assert str(choose("10.1.1.1", first, config=config).subnet) == "11.0.255.0/24"
    with pytest.raises(KnetsimError, match="no free subnet"):
        choose("10.1.1.1", first, second, config=config)


@given(st.lists(networks, max_size=20))
def test_free_subnets_are_admitted_and_overlap_nothing(taken: list[IPv4Network]) -> None:
    free = free_subnets(CONFIG, taken)
    assert len(set(free)) == len(free) <= 100
    for subnet in free:
        assert CONFIG.admits(subnet)
        assert not any(subnet.overlaps(other) for other in taken)


# --- the subnet file


def test_the_subnet_file_as_flanneld_writes_it() -> None:
    text = "FLANNEL_NETWORK=11.0.0.0/8\nFLANNEL_SUBNET=11.15.64.1/20\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    content = parse_subnet_file(text)
    assert content.subnet == IPv4Network("11.15.64.0/20")
    assert build_subnet_file(content) == text


@pytest.mark.parametrize("text", ["", "FLANNEL_NETWORK=11.0.0.0/8\n", "FLANNEL_NETWORK=x\nFLANNEL_SUBNET=y\n"])
def test_a_broken_subnet_file_is_refused(text: str) -> None:
    with pytest.raises(ObjectError):
        parse_subnet_file(text)


def test_ip_masq_is_kept() -> None:
    content = SubnetFile(IPv4Network("11.0.0.0/8"), parse_subnet_file(build_subnet_file(EXAMPLE)).gateway, 1450, True)
    assert parse_subnet_file(build_subnet_file(content)) == content


EXAMPLE = parse_subnet_file("FLANNEL_NETWORK=11.0.0.0/8\nFLANNEL_SUBNET=11.15.64.1/20\nFLANNEL_MTU=1450\n")

"""What flannel keeps in etcd, byte for byte: the network configuration and one subnet lease per worker; pure.

    <prefix>/config
    {"Network":"11.0.0.0/8","SubnetLen":20,…,"Backend":{"Type":"vxlan","VNI":100,"Port":8472}}
    <prefix>/subnets/11.15.64.0-20
    {"PublicIP":"10.1.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":100,"VtepMAC":"…"}}

A worker owns the subnet whose key carries its PublicIP. The key hangs on an etcd lease of 24 h that its agent renews an
hour before the end, so the subnet of a worker that is gone becomes free again a day later. Source: flannel v0.28,
pkg/subnet/config.go (configuration and its checks), pkg/subnet/etcd/local_manager.go (choice of a subnet), pkg/lease.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from knetsim.dataplane.overlay import go_json
from knetsim.errors import KnetsimError, ObjectError
from knetsim.names import did_you_mean

PREFIX = "/coreos.com/network"
VXLAN = "vxlan"
HOST_GW = "host-gw"
BACKENDS = (VXLAN, HOST_GW)

#: seconds that a lease lives without renewal, and how long before its end it is renewed
LEASE_TTL = 24 * 3600
RENEW_MARGIN = 3600
#: how many free subnets, from SubnetMin upwards, the random choice is made among
CANDIDATES = 100
#: flannel's defaults: VNI 1, and no port named, which leaves the choice to Linux: 8472, older than IANA's 4789
DEFAULT_VNI = 1
LINUX_VXLAN_PORT = 8472
#: the largest VNI whose VTEP, `flannel.<vni>`, has a name of at most 15 characters; VXLAN itself has 24 bits
VNI_MAX = 9_999_999

_CONFIG_KEYS = (
    "EnableIPv4", "EnableIPv6", "EnableNFTables", "Network", "IPv6Network", "SubnetMin", "SubnetMax",
    "IPv6SubnetMin", "IPv6SubnetMax", "SubnetLen", "IPv6SubnetLen", "Backend",
)  # fmt: skip
_BACKEND_KEYS = {VXLAN: ("Type", "VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting"), HOST_GW: ("Type",)}
_LEASE_NAME = re.compile(r"^(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&[0-9a-f:]+-\d+)?$")
_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")


@dataclass(frozen=True, slots=True)
class Backend:
    """How packets reach other workers. `mtu` None means the underlay's; the four last count for vxlan only."""

    type: str
    vni: int = DEFAULT_VNI
    port: int = LINUX_VXLAN_PORT
    mtu: int | None = None
    learning: bool = False


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The pod network of a cluster: every worker leases one subnet of length `subnet_len` out of it.

    `subnet_min` and `subnet_max` are the first and the last subnet that may be leased. `nftables` has flanneld use nft
    instead of iptables for the rules it owns (none, with the flags of `flanneld.build_argv`).
    """

    network: IPv4Network
    subnet_len: int
    subnet_min: IPv4Address
    subnet_max: IPv4Address
    backend: Backend
    nftables: bool = False

    def admits(self, subnet: IPv4Network) -> bool:
        """Whether a worker may lease `subnet`: of the right length, between the first and the last."""
        return subnet.prefixlen == self.subnet_len and self.subnet_min <= subnet.network_address <= self.subnet_max


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's part of the pod network: packets for `subnet` go to `public_ip`, in vxlan to `vtep_mac` there."""

    subnet: IPv4Network
    public_ip: IPv4Address
    backend: str
    vni: int | None = None
    vtep_mac: str | None = None

    @property
    def name(self) -> str:
        """The last part of its key: `11.15.64.0-20`."""
        return build_lease_name(self.subnet)

    @property
    def gateway(self) -> str:
        """The first address of the subnet with its length, as the subnet file and the pods' bridge have it."""
        return f"{self.subnet.network_address + 1}/{self.subnet.prefixlen}"


# --- keys -----------------------------------------------------------------------------------------


def config_key(prefix: str = PREFIX) -> str:
    """Where the network configuration is."""
    return f"{prefix}/config"


def leases_prefix(prefix: str = PREFIX) -> str:
    """What the keys of all leases begin with."""
    return f"{prefix}/subnets/"


def lease_key(subnet: IPv4Network, prefix: str = PREFIX) -> str:
    """The key of one lease."""
    return leases_prefix(prefix) + build_lease_name(subnet)


def build_lease_name(subnet: IPv4Network) -> str:
    """`11.15.64.0/20` as flannel writes it in a key: `11.15.64.0-20`."""
    return f"{subnet.network_address}-{subnet.prefixlen}"


def parse_lease_name(name: str) -> IPv4Network:
    """The subnet that a key (or its last part) stands for; of a dual-stack key the IPv4 part. ObjectError otherwise."""
    match = _LEASE_NAME.match(name.rpartition("/")[2])
    try:
        if match is None:
            raise ValueError("flannel writes ADDRESS-LENGTH, such as 11.15.64.0-20")
        return IPv4Network(f"{match[1]}/{match[2]}")
    except ValueError as error:
        raise ObjectError("not the key of a subnet lease", name, str(error), "delete it with etcdctl del") from error


# --- a lease's value ------------------------------------------------------------------------------


def build_lease_value(lease: Lease) -> str:
    """The value under a lease's key, with flannel's fields in flannel's order."""
    value: dict[str, Any] = {"PublicIP": str(lease.public_ip), "PublicIPv6": None, "BackendType": lease.backend}
    if lease.backend == VXLAN:
        value["BackendData"] = {"VNI": lease.vni, "VtepMAC": lease.vtep_mac}
    return json.dumps(value, separators=(",", ":"))


def parse_lease(key: str, value: str | bytes) -> Lease:
    """The lease in etcd under `key`; ObjectError says what is wrong with it. Of other backends, the name is kept."""
    subnet = parse_lease_name(key)
    fields = go_json.parse_object(value, key)
    public_ip = go_json.take(fields, "PublicIP", key, go_json.as_address)
    backend = fields.get("backendtype", "")
    if backend != VXLAN:
        return Lease(subnet, public_ip, str(backend))
    details = fields.get("backenddata")
    if not isinstance(details, dict):
        raise ObjectError("a vxlan lease without its VTEP", key, "BackendData is missing", field="BackendData")
    details = go_json.fold_names(details)
    vni = go_json.take(details, "VNI", key, go_json.as_whole(0, 2**24 - 1))
    return Lease(subnet, public_ip, VXLAN, vni, go_json.take(details, "VtepMAC", key, parse_mac))


def parse_mac(text: Any) -> str:
    """A MAC address in the kernel's way of writing it; ValueError otherwise."""
    mac = go_json.as_text(text).lower().replace("-", ":")
    if not _MAC.match(mac):
        raise ValueError(f"{text!r} is not a MAC address")
    return mac


def build_mac(random_bytes: bytes) -> str:
    """A unicast, locally administered MAC address out of six random bytes, as flannel makes one for a new VTEP."""
    first = (random_bytes[0] & 0xFE) | 0x02
    return bytes((first, *random_bytes[1:6])).hex(":")


# --- the network configuration --------------------------------------------------------------------


def build_network_config(config: NetworkConfig) -> str:
    """The value under `config_key`, which flanneld and the embedded agent both read."""
    backend: dict[str, Any] = {"Type": config.backend.type}
    if config.backend.type == VXLAN:
        backend |= {"VNI": config.backend.vni, "Port": config.backend.port}
        backend |= {"MTU": config.backend.mtu} if config.backend.mtu is not None else {}
        backend |= {"Learning": True} if config.backend.learning else {}
    value: dict[str, Any] = {
        "Network": str(config.network),
        "SubnetLen": config.subnet_len,
        "SubnetMin": str(config.subnet_min),
        "SubnetMax": str(config.subnet_max),
        "Backend": backend,
    }
    if config.nftables:
        value["EnableNFTables"] = True
    return json.dumps(value, separators=(",", ":"))


def parse_network_config(text: str | bytes, where: str = config_key()) -> NetworkConfig:
    """The configuration with flannel's defaults filled in and flannel's checks made, or ObjectError.

    Names of fields are matched without regard to case, as Go's decoder does. What this agent does not do (IPv6, GBP,
    direct routing) is refused, and so is a field that flannel would overlook.
    """
    fields = go_json.parse_object(text, where, _CONFIG_KEYS)
    ipv4 = go_json.take(fields, "EnableIPv4", where, go_json.as_truth, True)
    if not ipv4 or go_json.take(fields, "EnableIPv6", where, go_json.as_truth, False):
        what, hint = "the embedded agent does not do IPv6", "flanneld does"
        raise ObjectError(what, where, hint=hint, field="EnableIPv6")
    network = go_json.take(fields, "Network", where, go_json.as_network)
    length = _subnet_length(fields, network, where)
    size = 2 ** (32 - length)
    first = go_json.take(fields, "SubnetMin", where, go_json.as_address, network.network_address + size)
    last = go_json.take(fields, "SubnetMax", where, go_json.as_address, network.broadcast_address + 1 - size)
    for name, address in (("SubnetMin", first), ("SubnetMax", last)):
        if address not in network:
            raise ObjectError(f"{name} {address} is outside the network {network}", where, field=name)
        if int(address) % size:
            raise ObjectError(f"{name} {address} does not begin a /{length}", where, field=name)
    if first > last:
        raise ObjectError(f"SubnetMin {first} is above SubnetMax {last}", where, field="SubnetMin")
    backend = _parse_backend(fields.get("backend"), where)
    nftables = go_json.take(fields, "EnableNFTables", where, go_json.as_truth, False)
    return NetworkConfig(network, length, first, last, backend, nftables)


def _subnet_length(fields: Mapping[str, Any], network: IPv4Network, where: str) -> int:
    """SubnetLen; /24 when none is given and the network has room for four of them, else a quarter of the network.

    The first subnet is not leased (its first address is the network's own), hence four and not two.
    """
    given = go_json.take(fields, "SubnetLen", where, go_json.as_whole(0, 32), 0)
    if given == 0:
        if network.prefixlen > 28:
            raise ObjectError(f"the network {network} is too small", where, "a /28 is the smallest", field="Network")
        return 24 if network.prefixlen <= 22 else network.prefixlen + 2
    if given > 30:
        raise ObjectError(f"SubnetLen {given} leaves no room for pods", where, "30 is the most", field="SubnetLen")
    if given < network.prefixlen + 2:
        why = f"{network} does not hold four subnets of length {given}"
        raise ObjectError(f"SubnetLen {given} is too short", where, why, field="SubnetLen")
    return given


def _parse_backend(value: Any, where: str) -> Backend:
    fields = go_json.fold_names(value) if isinstance(value, dict) else {}
    kind = fields.get("type")
    if kind is None:
        why, hint = "flanneld takes this for `udp`", f"known: {', '.join(BACKENDS)}"
        raise ObjectError("no backend is named", where, why, hint, "Backend.Type")
    if kind not in BACKENDS:
        hint = did_you_mean(str(kind), BACKENDS)
        raise ObjectError(f"the embedded agent has no backend {kind!r}", where, "", hint, "Backend.Type")
    go_json.refuse_unknown(value, _BACKEND_KEYS[kind], where)
    if kind == HOST_GW:
        return Backend(HOST_GW)
    for name in ("GBP", "DirectRouting"):
        if go_json.take(fields, name, where, go_json.as_truth, False):
            what, hint = f"the embedded agent does not do {name}", "flanneld does"
            raise ObjectError(what, where, hint=hint, field=f"Backend.{name}")
    return Backend(
        VXLAN,
        go_json.take(fields, "VNI", where, go_json.as_whole(0, VNI_MAX), DEFAULT_VNI),
        go_json.take(fields, "Port", where, go_json.as_whole(0, 65535), 0) or LINUX_VXLAN_PORT,
        go_json.take(fields, "MTU", where, go_json.as_whole(0, 65535), 0) or None,
        go_json.take(fields, "Learning", where, go_json.as_truth, False),
    )


# --- which subnet ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Which subnet a worker shall lease, why, and the worker's own unusable leases to delete first.

    `reason` is for the log: `reuse` (the lease in etcd is this worker's), `previous` (it was, and is free), `new`.
    """

    subnet: IPv4Network
    reason: str
    discard: tuple[Lease, ...] = ()


def choose_subnet(
    config: NetworkConfig,
    leases: Iterable[Lease],
    taken: Iterable[IPv4Network],
    public_ip: IPv4Address,
    previous: IPv4Network | None = None,
    pick: Callable[[Sequence[IPv4Network]], IPv4Network] = random.choice,
) -> Choice:
    """The subnet for the worker at `public_ip`, in flannel's order: its lease, its previous subnet, a free one.

    `taken` are all subnets that are spoken for, also by keys whose value cannot be read. KnetsimError when none is
    free.
    """
    own = [lease for lease in leases if lease.public_ip == public_ip]
    for lease in own:
        if config.admits(lease.subnet):
            return Choice(lease.subnet, "reuse")
    discard = tuple(own)
    gone = {lease.subnet for lease in own}
    occupied = [subnet for subnet in taken if subnet not in gone]
    if previous is not None and config.admits(previous) and not any(previous.overlaps(subnet) for subnet in occupied):
        return Choice(previous, "previous", discard)
    free = free_subnets(config, occupied)
    if not free:
        why = f"all of {config.subnet_min}…{config.subnet_max} (/{config.subnet_len}) are leased"
        raise KnetsimError("no free subnet", str(config.network), why, "a larger pod network, or fewer workers")
    return Choice(pick(free), "new", discard)


def free_subnets(config: NetworkConfig, taken: Iterable[IPv4Network], count: int = CANDIDATES) -> list[IPv4Network]:
    """The first `count` subnets that overlap none of `taken`, from SubnetMin upwards."""
    shift = 32 - config.subnet_len
    held: set[int] = set()
    for subnet in taken:
        held.update(range(int(subnet.network_address) >> shift, (int(subnet.broadcast_address) >> shift) + 1))
    free: list[IPv4Network] = []
    for number in range(int(config.subnet_min) >> shift, (int(config.subnet_max) >> shift) + 1):
        if len(free) == count:
            break
        if number not in held:
            free.append(IPv4Network((number << shift, config.subnet_len)))
    return free

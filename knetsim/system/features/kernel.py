"""What the kernel can do, tried: each feature is used once, in a throw-away set of namespaces (`apart.py`).

A trial is the very command that a person would type, so its refusal is in words that can be looked up. Trying makes the
kernel load a module that it has and has not loaded yet, as any use does. Where loading would change the host (`ip_gre`
puts a gre0 into the host's own namespace) nothing is tried unless the kernel knows the kind already: it then answers
a listing of that kind with nothing, and otherwise ignores the filter and lists the loopback device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knetsim.errors import CommandError, KnetsimError, MissingTool
from knetsim.system import linux
from knetsim.system.features.apart import Apart, Findings, try_apart
from knetsim.system.features.feature import BETTER_KERNEL, RUN_AS_ROOT, Feature, Need
from knetsim.system.features.modules import find_module
from knetsim.system.netlink import Netlink
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft
from knetsim.system.programs import find_program
from knetsim.system.run import run

DEADLINE = 10.0
_COMMAND_SECONDS = 3.0
_Finding = tuple[bool | None, str]


@dataclass(frozen=True, slots=True)
class Trial:
    """A feature and the command that needs it; `config` is the kernel's name for it.

    `kind` is given where loading its `module` would put the device `leaves` on the host.
    """

    name: str
    need: Need
    command: str
    config: str
    cost: str
    kind: str = ""
    module: str = ""
    leaves: str = ""


_NAMESPACES = {
    "pid": "processes of a simulation would outlive it",
    "mnt": "workers would share the host's files",
    "uts": "workers and pods would have no host names",
    "ipc": "pods would share memory with the host",
    "net": "there would be no workers and no pods",
}
_NETWORK_COST = "no workers and no pods"

# `k0` and `k1` are the ends of a veth pair; the first trial makes them
DEVICES = (
    Trial("veth", "required", "ip link add k0 type veth peer name k1", "CONFIG_VETH", _NETWORK_COST),
    Trial("bridge", "required", "ip link add k2 type bridge", "CONFIG_BRIDGE", "no switches, no pods"),
    Trial("VXLAN", "required", "ip link add k3 type vxlan id 1 dev k0 dstport 8472", "CONFIG_VXLAN",
          "no pod network with backend vxlan; host-gw works"),
    Trial("macvlan", "later", "ip link add k4 link k0 type macvlan", "CONFIG_MACVLAN", "no CNI plugin macvlan"),
    Trial("VLAN", "later", "ip link add k5 link k0 type vlan id 5", "CONFIG_VLAN_8021Q", "no VLANs in the underlay"),
    Trial("VRF", "later", "ip link add k6 type vrf table 10", "CONFIG_NET_VRF", "no VRFs on routers"),
    Trial("WireGuard", "later", "ip link add k7 type wireguard", "CONFIG_WIREGUARD", "no encrypted pod network"),
    Trial("tun", "later", "ip tuntap add dev k8 mode tun", "CONFIG_TUN", "no flannel backend udp"),
    Trial("dummy", "later", "ip link add k9 type dummy", "CONFIG_DUMMY", "no kube-proxy in mode ipvs",
          kind="dummy", module="dummy", leaves="dummy0"),
    Trial("GRE", "later", "ip link add k10 type gre remote 192.0.2.1", "CONFIG_NET_IPGRE", "no GRE tunnels",
          kind="gre", module="ip_gre", leaves="gre0"),
    Trial("IPIP", "later", "ip link add k11 type ipip remote 192.0.2.1", "CONFIG_NET_IPIP",
          "no flannel backend ipip, no Calico-like tunnels", kind="ipip", module="ipip", leaves="tunl0"),
)  # fmt: skip
QUEUES = (
    Trial("tbf", "later", "tc qdisc replace dev k0 root tbf rate 1mbit burst 32kbit latency 50ms",
          "CONFIG_NET_SCH_TBF", "no rate limits on links and pods"),
    Trial("htb", "later", "tc qdisc replace dev k0 root htb", "CONFIG_NET_SCH_HTB", "no shared rate limits"),
    Trial("netem", "later", "tc qdisc replace dev k0 root netem delay 1ms", "CONFIG_NET_SCH_NETEM",
          "no delay and loss on links"),
)  # fmt: skip
_CHAIN = "add table ip k; add chain ip k c {{ type nat hook prerouting priority -100; }}; add rule ip k c {}"
RULES = (
    Trial("nft nat", "required", _CHAIN.format("dnat to 192.0.2.1"), "CONFIG_NFT_NAT",
          "pods do not reach the underlay"),
    Trial("nft conntrack", "required", _CHAIN.format("ct state established accept"), "CONFIG_NFT_CT",
          "no connection tracking"),
    Trial("nft numgen", "required", _CHAIN.format("dnat to numgen random mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }"),
          "CONFIG_NFT_NUMGEN", "Services do not lead to pods"),
    Trial("nft jhash", "later", _CHAIN.format("dnat to jhash ip saddr mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }"),
          "CONFIG_NFT_HASH", "no session affinity by hash"),
    Trial("nft fib", "required", _CHAIN.format("fib daddr type local accept"), "CONFIG_NFT_FIB_IPV4", "no NodePorts"),
    Trial("nft trace", "later", _CHAIN.format("meta nftrace set 1"), "CONFIG_NF_TABLES",
          "`trace` cannot say which rule decided"),
)  # fmt: skip

_COSTS: dict[str, tuple[Need, str]] = {
    **{f"{kind} namespace": ("required", cost) for kind, cost in _NAMESPACES.items()},
    "mounts": ("required", "workers and containers could not have files of their own"),
    "sysctl": ("required", "workers could not forward packets"),
    **{trial.name: (trial.need, trial.cost) for trial in (*DEVICES, *QUEUES, *RULES)},
    "overlayfs": ("optional", "the root directory of containers is read-only"),
}
_CONFIGS = {trial.name: trial.config for trial in (*DEVICES, *QUEUES, *RULES)} | {"overlayfs": "CONFIG_OVERLAY_FS"}
_BY_PRIVILEGE = {*(f"{kind} namespace" for kind in _NAMESPACES), "mounts", "sysctl"}
NAMES = tuple(_COSTS)
REQUIRED = frozenset(name for name, (need, _) in _COSTS.items() if need == "required")


def read_kernel(names: Collection[str] = NAMES) -> list[Feature]:
    """The features `names`, each tried; when not root, none can be. The host is as it was."""
    if os.geteuid() != 0:
        return [_feature(name, (None, "only root can try")) for name in names]
    findings = try_apart(lambda apart: try_all(apart, names), DEADLINE)
    return [_feature(name, findings[name]) for name in names]


def _feature(name: str, finding: _Finding) -> Feature:
    present, detail = finding
    need, cost = _COSTS[name]
    if present is False and name in _CONFIGS:
        detail = f"{detail} ({_CONFIGS[name]})"
    remedy = RUN_AS_ROOT if present is None or name in _BY_PRIVILEGE else BETTER_KERNEL
    return Feature(name, "kernel", need, present, detail, cost, remedy)


def try_all(apart: Apart, names: Collection[str]) -> Findings:
    """In the child: all trials in their order; those that make what others need are always made."""
    found: Findings = {f"{kind} namespace": _refusal(apart, kind) for kind in _NAMESPACES}
    found["mounts"] = _refusal(apart, "mounts")
    if "sysctl" in names:
        found["sysctl"] = _when(apart.network, "no network namespace", _try_sysctl)
    for trial in (*DEVICES, *QUEUES):
        if trial.name in names or trial is DEVICES[0]:
            found[trial.name] = _when(apart.network, "no network namespace", partial(try_command, trial))
    rules = [trial for trial in RULES if trial.name in names]
    found |= _try_rules(rules) if apart.network else {trial.name: (None, "no network namespace") for trial in rules}
    if "overlayfs" in names:
        scratch = apart.scratch
        found["overlayfs"] = _try_overlay(scratch) if scratch else (None, "no mounts")
    return {name: found[name] for name in names}


def _refusal(apart: Apart, what: str) -> _Finding:
    why = apart.refused.get(what) or (what == "mounts" and apart.refused.get("mnt"))
    return (False, why) if why else (True, "")


def _when(possible: bool, otherwise: str, trial: Callable[[], _Finding]) -> _Finding:
    return trial() if possible else (None, otherwise)


def try_command(trial: Trial) -> _Finding:
    """Run the command of a trial here, unless that could change the host."""
    if trial.kind and not _knows_kind(trial.kind):
        state = find_module(trial.module)
        if state:
            return True, f"module {trial.module}, {state}; loading it puts {trial.leaves} on the host"
        return False, "unknown to the running kernel"
    name, *words = trial.command.split()
    program = find_program(name)
    if program is None:
        return None, f"no program `{name}` to try it with"
    try:
        answer = run([str(program), *words], timeout=_COMMAND_SECONDS, check=False, merge=True)
    except KnetsimError as error:
        return False, str(error)
    return (True, "") if answer.code == 0 else (False, _shorten(answer.output) or f"exit {answer.code}")


def _knows_kind(kind: str) -> bool:
    with Netlink.in_namespace(Namespaces.of_thread("probe", ("net",))) as netlink:
        return not any(link.name == "lo" for link in netlink.links(kind=kind))


def _shorten(output: str) -> str:
    """The words of a refusal: `RTNETLINK answers: Operation not supported` → `Operation not supported`."""
    line = next((line.strip() for line in output.splitlines() if line.strip()), "")
    return line.removeprefix("Error: ").removeprefix("RTNETLINK answers: ").rstrip(".")


def _try_rules(trials: list[Trial]) -> Findings:
    """Each rule in a table of its own, which goes again."""
    if not trials:
        return {}
    try:
        with Nft(Namespaces.of_thread("probe", ("net",))) as nft:
            return {trial.name: _try_rule(nft, trial.command) for trial in trials}
    except MissingTool as error:
        return {trial.name: (None, str(error)) for trial in trials}


def _try_rule(nft: Nft, text: str) -> _Finding:
    try:
        nft.apply(text)
    except CommandError as error:
        why = _shorten(error.output)
        return False, why.rpartition("Error: ")[2] or "refused"
    nft.apply("delete table ip k")
    return True, ""


def _try_sysctl() -> _Finding:
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    except OSError as error:
        return False, f"net.ipv4.ip_forward: {error.strerror}"
    return True, ""


def _try_overlay(scratch: str) -> _Finding:
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{scratch}/{name}")
    options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
    try:
        linux.mount("overlay", f"{scratch}/merged", "overlay", options=options)
    except OSError as error:
        return False, error.strerror or str(error)
    return True, ""

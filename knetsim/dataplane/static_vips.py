"""The VIPs of the first knetsim, `kp_vip_add`: one address for some pods, for any protocol; pure.

Reality: nothing like it. A Service has ports and follows its pods; this has neither ports (ping is answered, too) nor
follows: a pod that is deleted keeps its share of the flows, and they fail, which shows what endpoint slices are for.
A flow's first packet draws a pod by lot; connection tracking keeps the flow there.

A table of its own on each worker, `knetsim-vips`, whose chains stand five before those of Services: the first that
rewrites an address wins, and the proxy's rules (the emulator's as kube-proxy's), which drop what no Service has, see
the pod's address only.

    chain              hook         priority
    nat-prerouting     prerouting   dstnat - 5    from pods and from other machines
    nat-output         output       -105          from the worker itself
    nat-postrouting    postrouting  srcnat - 5    masquerades what would not come back: from outside the pod network,
                                                  and from a pod to itself

Commands: `C0w1 nft list table ip knetsim-vips` (each pod's counter is its flows), `py C0w1.exec_container("c1", "ping
-c 1 100.64.10.1")`. A change makes the table anew, so counters begin anew. Cost: two rules a pod.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from knetsim.dataplane.services.table import MARK_RULE, MASQUERADE_MARK

TABLE = "knetsim-vips"


@dataclass(frozen=True, slots=True, order=True)
class StaticVip:
    """An address and the pods' addresses that share its flows."""

    address: IPv4Address
    backends: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class VipPlace:
    """A worker as the table sees it. `routed` is its own subnet where the kernel does not show bridged frames to the
    packet filter, None where it does."""

    pod_network: IPv4Network
    routed: IPv4Network | None = None


def build_static_vips(place: VipPlace, vips: Iterable[StaticVip]) -> str:
    """The nft text that makes the table, in place of the one that may be there, in one transaction; without VIPs it
    only takes the table away."""
    wanted = sorted(vips)
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}"]
    if not wanted:
        return "\n".join([*lines, ""])
    lines += [f"table ip {TABLE} {{", '\tcomment "kp_vip_add: any protocol, to pods that do not change"']
    lines += ["\tmap vips {", "\t\ttype ipv4_addr : verdict;"]
    lines += [f"\t\telements = {{ {', '.join(f'{vip.address} : goto vip/{vip.address}' for vip in wanted)} }}", "\t}"]
    for chain, rules in _build_chains(place, wanted).items():
        lines += [f"\tchain {chain} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([*lines, "}", ""])


def _build_chains(place: VipPlace, vips: Iterable[StaticVip]) -> dict[str, tuple[str, ...]]:
    chains: dict[str, tuple[str, ...]] = {}
    for vip in vips:
        names = [f"pod/{vip.address}/{backend}" for backend in vip.backends]
        for name, backend in zip(names, vip.backends, strict=True):
            chains[name] = (f'ip saddr {backend} {MARK_RULE} comment "to itself"', f"counter dnat to {backend}")
        lots = ", ".join(f"{number} : goto {name}" for number, name in enumerate(names))
        chains[f"vip/{vip.address}"] = (
            f'ip saddr != {place.pod_network} {MARK_RULE} comment "from outside the pod network"',
            f"numgen random mod {len(names)} vmap {{ {lots} }}",
        )
    chains["nat-prerouting"] = ("type nat hook prerouting priority dstnat - 5; policy accept;", "ip daddr vmap @vips")
    chains["nat-output"] = ("type nat hook output priority -105; policy accept;", "ip daddr vmap @vips")
    chains["nat-postrouting"] = (
        "type nat hook postrouting priority srcnat - 5; policy accept;",
        f"meta mark & {MASQUERADE_MARK:#x} != 0 meta mark set meta mark ^ {MASQUERADE_MARK:#x} masquerade fully-random",
        *_routed_rules(place),
    )
    return chains


def _routed_rules(place: VipPlace) -> tuple[str, ...]:
    if place.routed is None:
        return ()
    both = f"ip saddr {place.routed} ip daddr {place.routed}"
    return (f'ct status dnat {both} masquerade fully-random comment "no br_netfilter: the answer must come this way"',)

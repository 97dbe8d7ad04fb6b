"""The chains and elements of one Service; pure.

One with nothing but a ClusterIP has elements only. The chain is that of all Services with as many backends:

    service-ips:  100.64.0.9 . tcp . 80 comment "default/web/tcp/80" : goto pick-2
    chain pick-2:                                           one of the backends, by lot
        dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @backends
    backends:     100.64.0.9 . tcp . 80 . 0 : 11.15.64.2 . 8080, 100.64.0.9 . tcp . 80 . 1 : 11.15.80.2 . 8080
    hairpin-connections:  100.64.0.9 . 11.15.64.2 . 11.15.64.2, …   a pod that reaches itself: masqueraded

One with other addresses, or with affinity, has chains of its own:

    service-ips:  100.64.0.9 . tcp . 80 : goto service/default/web/tcp/80
    chain service/default/web/tcp/80:                       one of the backends, by lot
        numgen random mod 2 0 goto endpoint/default/web/tcp/80/11.15.64.2/8080
        goto endpoint/default/web/tcp/80/11.15.80.2/8080
    chain endpoint/default/web/tcp/80/11.15.64.2/8080:
        ip saddr 11.15.64.2 meta mark set …                 a pod that reaches itself: masqueraded
        meta l4proto tcp counter dnat to 11.15.64.2:8080

`local/…` is the chain of the worker's own backends, for traffic policies, `external/…` what NodePorts and external
addresses pass before, `firewall/…` whom a load balancer's address drops, `affinity/…` the set of the clients that stay
with a backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from knetsim.dataplane.services.choose import Choice, choose_backends
from knetsim.dataplane.services.ports import Backend, ServicePlace, ServicePort
from knetsim.dataplane.services.table import (
    BACKENDS,
    CLUSTER_IPS,
    FIREWALL_IPS,
    HAIRPINS,
    MARK_RULE,
    NO_ENDPOINT_NODE_PORTS,
    NO_ENDPOINT_SERVICES,
    REJECT,
    SERVICE_IPS,
    SERVICE_NODE_PORTS,
    Element,
    Rules,
    pick_chain,
)

_REFUSED = f"goto {REJECT}"
#: what nft takes (nftables include/rule.h: NFTNL_UDATA_COMMENT_MAXLEN); with names of 63 letters a path has 138
_COMMENT_MAX = 128
#: who adds a client says for how long, so that another time is another rule and the set with its clients stays
_AFFINITY = "type ipv4_addr; flags dynamic,timeout;"


def build_service(ports: Iterable[ServicePort], place: ServicePlace) -> Rules:
    """What the ports of one Service have in the table of the worker `place`."""
    chains: dict[str, tuple[str, ...]] = {}
    elements: dict[Element, tuple[str, str]] = {}
    sets: dict[str, str] = {}
    picks: set[int] = set()
    for port in ports:
        choice = choose_backends(port, place)
        elements[Element(CLUSTER_IPS, str(port.cluster_ip))] = ("", "")
        if _needs_no_chain(port) and (backends := choice.local if port.internal_local else choice.cluster):
            elements |= _draw_elements(port, backends)
            picks.add(len(backends))
            continue
        elements |= _internal_elements(port, choice)
        elements |= _external_elements(port, choice)
        elements |= _firewall_elements(port)
        if choice.anywhere:
            chains |= _build_chains(port, choice, place)
        if port.is_walled:
            chains[_name("firewall", port)] = (_firewall_rule(port, place),)
        if port.affinity_seconds is not None:
            sets |= {_affinity(port, backend): _AFFINITY for backend in choice.all}
    return Rules(chains, elements, sets, frozenset(picks - {1}))


def depends_on_worker(ports: Iterable[ServicePort]) -> bool:
    """Whether `build_service` says different things on different workers."""
    return any(
        port.uses_local or port.is_walled or any(backend.zones or backend.nodes for backend in port.backends)
        for port in ports
    )


def _name(kind: str, port: ServicePort) -> str:
    return f"{kind}/{port.path}"


def _endpoint(port: ServicePort, backend: Backend) -> str:
    return f"endpoint/{port.path}/{backend.address}/{backend.port}"


def _affinity(port: ServicePort, backend: Backend) -> str:
    return f"affinity/{port.path}/{backend.address}/{backend.port}"


def _needs_no_chain(port: ServicePort) -> bool:
    """Whether all there is to it is a VIP, and backends of which any may take a connection. Its elements have its name
    in their comments; where that is too long, only a chain can have it."""
    return not port.is_external and port.affinity_seconds is None and len(port.path) <= _COMMENT_MAX


# --- who leads there --------------------------------------------------------------------------------------------------


def _internal_elements(port: ServicePort, choice: Choice) -> dict[Element, tuple[str, str]]:
    key = f"{port.cluster_ip} . {port.protocol} . {port.port}"
    if port.internal_local:
        reachable, chain = bool(choice.local), "local"
    else:
        reachable, chain = bool(choice.cluster), "service"
    if reachable:
        return {Element(SERVICE_IPS, key): (f"goto {_name(chain, port)}", "")}
    return {Element(NO_ENDPOINT_SERVICES, key): ("drop" if choice.anywhere else _REFUSED, _comment(port))}


def _draw_elements(port: ServicePort, backends: Sequence[Backend]) -> dict[Element, tuple[str, str]]:
    """Of a port without chains: how many lots, who has which, and pods that draw themselves."""
    key, comment = f"{port.cluster_ip} . {port.protocol} . {port.port}", _comment(port)
    found = {Element(SERVICE_IPS, key): (f"goto {pick_chain(len(backends))}", comment)}
    for lot, backend in enumerate(backends):
        found[Element(BACKENDS, f"{key} . {lot}")] = (f"{backend.address} . {backend.port}", comment)
        found[Element(HAIRPINS, f"{port.cluster_ip} . {backend.address} . {backend.address}")] = ("", "")
    return found


def _external_elements(port: ServicePort, choice: Choice) -> dict[Element, tuple[str, str]]:
    """Of NodePort and external addresses. Without backends here, pods and the worker still get through: what does not
    is dropped, as by a load balancer that sends nothing here."""
    found: dict[Element, tuple[str, str]] = {}
    reachable = bool(choice.local if port.external_local else choice.cluster)
    keys = [
        (SERVICE_IPS, NO_ENDPOINT_SERVICES, f"{address} . {port.protocol} . {port.port}")
        for address in port.outside_ips
    ]
    if port.node_port:
        keys.append((SERVICE_NODE_PORTS, NO_ENDPOINT_NODE_PORTS, f"{port.protocol} . {port.node_port}"))
    for by, without, key in keys:
        if choice.anywhere:
            found[Element(by, key)] = (f"goto {_name('external', port)}", "")
        if not reachable:
            found[Element(without, key)] = ("drop" if choice.anywhere else _REFUSED, _comment(port))
    return found


def _firewall_elements(port: ServicePort) -> dict[Element, tuple[str, str]]:
    if not port.is_walled:
        return {}
    verdict = f"goto {_name('firewall', port)}"
    keys = (f"{address} . {port.protocol} . {port.port}" for address in port.balancer_ips)
    return {Element(FIREWALL_IPS, key): (verdict, "") for key in keys}


def _comment(port: ServicePort) -> str:
    return port.path[:_COMMENT_MAX]


# --- where it goes ----------------------------------------------------------------------------------------------------


def _build_chains(port: ServicePort, choice: Choice, place: ServicePlace) -> dict[str, tuple[str, ...]]:
    chains = {_endpoint(port, backend): _endpoint_rules(port, backend) for backend in choice.all}
    if choice.cluster:
        chains[_name("service", port)] = _spread_rules(port, choice.cluster)
    if choice.local:
        chains[_name("local", port)] = _spread_rules(port, choice.local)
    if port.is_external:
        chains[_name("external", port)] = _external_rules(port, choice, place)
    return chains


def _endpoint_rules(port: ServicePort, backend: Backend) -> tuple[str, ...]:
    hairpin = f'ip saddr {backend.address} {MARK_RULE} comment "to itself"'
    sticky = []
    if port.affinity_seconds is not None:
        sticky = [f"update @{_affinity(port, backend)} {{ ip saddr timeout {port.affinity_seconds}s }}"]
    return (hairpin, *sticky, f"meta l4proto {port.protocol} counter dnat to {backend}")


def _spread_rules(port: ServicePort, backends: Sequence[Backend]) -> tuple[str, ...]:
    sticky = []
    if port.affinity_seconds is not None:
        sticky = [f"ip saddr @{_affinity(port, backend)} goto {_endpoint(port, backend)}" for backend in backends]
    return (*sticky, *_draw_lots([_endpoint(port, backend) for backend in backends]))


def _draw_lots(chains: Sequence[str]) -> Iterator[str]:
    """One third goes to the first of three, half of the rest to the second, and what is left to the last.

    Not by a map for each Service, as kube-proxy has it: for each such map the kernel looks through all others and
    through the whole transaction, so that 10 000 Services take it a minute instead of a second.
    """
    for left, chain in zip(range(len(chains), 0, -1), chains, strict=True):
        yield f"numgen random mod {left} 0 goto {chain}" if left > 1 else f"goto {chain}"


def _external_rules(port: ServicePort, choice: Choice, place: ServicePlace) -> tuple[str, ...]:
    """From outside: masqueraded, as the backend may be on another worker; with the policy Local the client's address is
    kept, and pods and the worker itself are served as through the ClusterIP."""
    if not port.external_local:
        return (f'{MARK_RULE} comment "masquerade"', f"goto {_name('service', port)}")
    rules = []
    if choice.cluster:
        everywhere = f"goto {_name('service', port)}"
        rules += [
            f'ip saddr {place.pod_network} {everywhere} comment "pods go to any worker"',
            f'fib saddr type local {MARK_RULE} comment "masquerade the worker itself"',
            f'fib saddr type local {everywhere} comment "so does the worker itself"',
        ]
    if choice.local:
        rules.append(f"goto {_name('local', port)}")
    return tuple(rules)


def _firewall_rule(port: ServicePort, place: ServicePlace) -> str:
    """Who is dropped, judged before the address is rewritten. A worker within the ranges may come with a balancer's
    address as its own, where that is an address of the worker."""
    sources = [str(network) for network in port.source_ranges]
    if any(place.address in network for network in port.source_ranges):
        sources += [str(each) for each in port.balancer_ips if not any(each in one for one in port.source_ranges)]
    return f'ip saddr != {{ {", ".join(sources)} }} counter drop comment "not in loadBalancerSourceRanges"'

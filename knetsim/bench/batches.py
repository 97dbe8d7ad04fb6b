"""The floor as text: what somebody who knows `ip`, `bridge` and `nft` would feed them for the same objects; pure.

Each stage is a shell script and the batch files it names, all written before the clock starts. They are as fast as
these programs allow, so that nobody can say that the floor was raised for our sake:
- One `ip -batch` makes all namespaces, one all links: a link's two ends are made where they belong, not moved there.
- What has to be said inside a namespace takes one `ip -batch` there, and for a worker one `bridge -batch` and one
  `nft -f` beside it. They are entered by `nsenter --net`, which is quicker than `ip -n`: that gives each program a copy
  of the mount table, and `ip netns add` has put an entry for every namespace into it.
- Nothing is looked at, waited for, or written down; no name is resolved; no object is stored.
What is not in it although the simulator makes it: the hosts' mount, UTS and IPC namespaces, the pods' UTS namespaces
and files, and all that is not in the kernel.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from knetsim.bench.layout import (
    BRIDGE,
    POD_MTU,
    POD_NETWORK,
    PORT,
    TOP_SWITCH,
    UNDERLAY,
    UNDERLAY_MTU,
    VNI,
    VTEP,
    Host,
    Layout,
    PodHost,
    WorkerHost,
)
from knetsim.dataplane.overlay.masquerade import build_masquerade
from knetsim.dataplane.pod.bridge import build_mac

#: where `ip netns` keeps its names
NETNS = "/run/netns"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the floor: `script` is run by `sh -e` in a directory that holds `files`."""

    name: str
    script: str
    files: dict[str, str]


def build_stages(layouts: Sequence[Layout]) -> list[Stage]:
    """Everything that clusters of these sizes amount to, on one top switch."""
    return [_build_namespaces(layouts), _build_underlay(layouts), _build_workers(layouts), _build_pods(layouts)]


#: the simulator's switches do not hand what they forward to the packet filter, so these must not either
_NO_BRIDGE_FILTERS = "for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 0 >$file; done"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _inside(namespace: str, *argv: str) -> str:
    return shlex.join(["nsenter", f"--net={NETNS}/{namespace}", *argv])


def _build_namespaces(layouts: Sequence[Layout]) -> Stage:
    spaces = [
        name
        for layout in layouts
        for name in (
            *(host.name for host in (*layout.worker_hosts(), *layout.other_hosts())),
            *(pod.name for pod in layout.pod_hosts()),
        )
    ]
    return Stage(
        "namespaces", "ip -batch namespaces.ip\n", {"namespaces.ip": _text(f"netns add {name}" for name in spaces)}
    )


# --- the underlay


def _build_underlay(layouts: Sequence[Layout]) -> Stage:
    links = ["link set lo up", *_switch(TOP_SWITCH)]
    script, files = [_NO_BRIDGE_FILTERS, "ip -batch links.ip"], {}
    for number, layout in enumerate(layouts, 1):
        links += _switch(layout.switch)
        near, far = f"{layout.switch}-eth0", f"{TOP_SWITCH}-eth{number}"
        links.append(f"link add {near} mtu {UNDERLAY_MTU} type veth peer name {far} mtu {UNDERLAY_MTU}")
        links += [f"link set {near} master {layout.switch} up", f"link set {far} master {TOP_SWITCH} up"]
        hosts = (*layout.worker_hosts(), *layout.other_hosts())
        links += [line for host in hosts for line in _host_link(host, layout.switch)]
        for host in layout.other_hosts():
            files[f"{host.name}.ip"] = _text(_host_network(host))
            script.append(_inside(host.name, "ip", "-batch", f"{host.name}.ip"))
    return Stage("underlay", _text(script), {"links.ip": _text(links), **files})


def _switch(name: str) -> list[str]:
    return [f"link add {name} mtu {UNDERLAY_MTU} type bridge", f"link set {name} up"]


def _host_link(host: Host, switch: str) -> list[str]:
    mtu = UNDERLAY_MTU
    return [
        f"link add {host.interface} netns {host.name} mtu {mtu} type veth peer name {host.port} mtu {mtu}",
        f"link set {host.port} master {switch} up",
    ]


def _host_network(host: Host) -> list[str]:
    return [
        "link set lo up",
        f"link set {host.interface} up",
        f"address add {host.address}/{UNDERLAY.prefixlen} dev {host.interface}",
    ]


# --- workers


def _build_workers(layouts: Sequence[Layout]) -> Stage:
    """Per worker: its address, VTEP, the ways to all others, the bridge of its pods, forwarding and masquerading."""
    files = {"masquerade.nft": _masquerade()}
    script = []
    for layout in layouts:
        workers = layout.worker_hosts()
        for worker in workers:
            others = [other for other in workers if other is not worker]
            files[f"{worker.name}.ip"] = _text(
                [*_host_network(worker), *_vtep(worker), *_ways(others), *_bridge(worker)]
            )
            files[f"{worker.name}.fdb"] = _text(
                f"fdb add {other.mac} dev {VTEP} dst {other.address} self permanent" for other in others
            )
            commands = [f"ip -batch {worker.name}.ip", f"bridge -batch {worker.name}.fdb"]
            commands += ["echo 1 >/proc/sys/net/ipv4/ip_forward", "exec nft -f masquerade.nft"]
            script.append(_inside(worker.name, "sh", "-ec", "; ".join(commands)))
    return Stage("workers", _text(script), files)


def _masquerade() -> str:
    """The simulator's own table, without deleting the one before: there is none, and it would take 15 ms of RCU's."""
    lines = build_masquerade(POD_NETWORK).splitlines()
    return _text(line for line in lines if not line.startswith("delete table "))


def _vtep(worker: WorkerHost) -> list[str]:
    vxlan = f"vxlan id {VNI} local {worker.address} dev {worker.interface} dstport {PORT} nolearning"
    return [
        f"link add {VTEP} mtu {POD_MTU} address {worker.mac} type {vxlan}",
        f"link set {VTEP} up",
        f"address add {worker.subnet.network_address}/32 dev {VTEP}",
    ]


def _ways(others: Iterable[WorkerHost]) -> list[str]:
    lines = []
    for other in others:
        gateway = other.subnet.network_address
        lines.append(f"route add {other.subnet} via {gateway} dev {VTEP} onlink")
        lines.append(f"neighbour add {gateway} lladdr {other.mac} dev {VTEP} nud permanent")
    return lines


def _bridge(worker: WorkerHost) -> list[str]:
    return [
        f"link add {BRIDGE} mtu {POD_MTU} address {build_mac(worker.gateway)} type bridge",
        f"address add {worker.gateway}/{worker.subnet.prefixlen} broadcast + dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]


# --- pods


def _build_pods(layouts: Sequence[Layout]) -> Stage:
    pods = [pod for layout in layouts for pod in layout.pod_hosts()]
    return Stage("pods", *_wire(pods, "pods"))


def build_pods_stage(pods: Sequence[PodHost], name: str) -> Stage:
    """Pods that come later, with their namespaces, in files called after `name`."""
    script, files = _wire(pods, name, with_namespaces=True)
    return Stage(name, script, files)


def build_removal(pods: Sequence[PodHost], name: str) -> Stage:
    """The end of pods: their namespaces take the rest along."""
    return Stage(name, f"ip -batch {name}.ip\n", {f"{name}.ip": _text(f"netns delete {pod.name}" for pod in pods)})


def _wire(pods: Sequence[PodHost], name: str, with_namespaces: bool = False) -> tuple[str, dict[str, str]]:
    """Script and files: all pairs at once, then the ports of each worker, then the inside of each pod."""
    lines = [f"netns add {pod.name}" for pod in pods] if with_namespaces else []
    lines += [_pair(pod) for pod in pods]
    ports: dict[str, list[str]] = defaultdict(list)
    for pod in pods:
        ports[pod.worker.name] += _port(pod)
    files = {f"{name}.ip": _text(lines)}
    script = [f"ip -batch {name}.ip"] if pods else []
    for worker, port_lines in ports.items():
        files[f"{name}-{worker}.ip"] = _text(port_lines)
        script.append(_inside(worker, "ip", "-batch", f"{name}-{worker}.ip"))
    for pod in pods:
        files[f"{name}-{pod.name}.ip"] = _text(_pod_network(pod))
        script.append(_inside(pod.name, "ip", "-batch", f"{name}-{pod.name}.ip"))
    return _text(script), files


def _pair(pod: PodHost) -> str:
    return (
        f"link add {pod.veth} netns {pod.worker.name} mtu {POD_MTU} "
        f"type veth peer name eth0 mtu {POD_MTU} address {build_mac(pod.address)} netns {pod.name}"
    )


def _port(pod: PodHost) -> list[str]:
    return [
        f"link set {pod.veth} master {BRIDGE} up",
        f"link set {pod.veth} type bridge_slave hairpin on",
        f"neighbour add {pod.address} lladdr {build_mac(pod.address)} dev {BRIDGE} nud permanent",
    ]


def _pod_network(pod: PodHost) -> list[str]:
    subnet, gateway = pod.worker.subnet, pod.worker.gateway
    return [
        "link set lo up",
        "link set eth0 up",
        f"address add {pod.address}/{subnet.prefixlen} broadcast + dev eth0",
        f"route add {POD_NETWORK} via {gateway} dev eth0",
        f"route add default via {gateway} dev eth0",
        f"neighbour add {gateway} lladdr {build_mac(gateway)} dev eth0 nud permanent",
    ]

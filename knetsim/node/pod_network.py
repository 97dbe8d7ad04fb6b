"""Who gives a cluster's workers their part of the pod network, and who wires their pods: chosen, started, awaited.

Each worker has an agent, the real flanneld as a daemon of its own or the embedded one that serves all its workers of
the cluster, and a way to wire pods, the real CNI plugins or netlink. `auto` means the real ones while there are few
workers: a flanneld costs 60 MB and a CNI chain 20 ms a pod.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from knetsim import names
from knetsim.api.etcd import Etcd
from knetsim.dataplane.overlay.agent import OverlayAgent
from knetsim.dataplane.overlay.flannel_log import NAME as LOG_NAME
from knetsim.dataplane.overlay.flanneld import build_argv
from knetsim.dataplane.overlay.lease import VXLAN, Backend, NetworkConfig
from knetsim.dataplane.overlay.lease_store import ensure_network_config, list_leases
from knetsim.dataplane.overlay.masquerade import build_masquerade
from knetsim.dataplane.overlay.readiness import read_status, wait_ready
from knetsim.dataplane.overlay.state import Underlay
from knetsim.dataplane.overlay.subnet_file import read_subnet_file
from knetsim.dataplane.overlay.worker import OverlayStatus, OverlayWorker
from knetsim.dataplane.pod import GuardedWiring, NativeWiring, PluginWiring, PodGuard, PodNetwork, WorkerPlace
from knetsim.errors import MissingTool, NotReady, StoreUnavailable
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.flanneld_watch import FlanneldWatch
from knetsim.node.worker import Worker
from knetsim.system.daemon import DaemonSpec, Supervisor
from knetsim.system.nft import apply_nft
from knetsim.system.programs import PLUGIN_DIRECTORIES, find_plugin, find_program
from knetsim.system.sysctl import write_sysctl

AUTO_LIMIT = 10
FLANNELD = "flanneld"
EMBEDDED = "embedded"
PLUGINS = "plugins"
NATIVE = "native"
#: the chain of `cni: plugins`
CNI_CHAIN = ("flannel", "bridge", "host-local")


@dataclass(frozen=True, slots=True)
class Programs:
    """The real programs that are here: `flanneld`, or None; and where CNI plugins are, empty when the chain is not
    whole."""

    flanneld: Path | None
    plugin_path: Sequence[Path]


#: who has a share of the pod network
NetworkHost = Worker | ControlPlaneHost


@dataclass(frozen=True, slots=True)
class WorkerNetwork:
    """One worker, or the control plane's host, and what was chosen for it."""

    worker: NetworkHost
    agent: str
    cni: str


def choose_parts(workers: Sequence[tuple[NetworkHost, str, str]], programs: Programs) -> list[WorkerNetwork]:
    """The agent and the wiring of each worker from what its scenario says of it; pure.

    MissingTool when a part is demanded that is not installed.
    """
    few = len(workers) <= AUTO_LIMIT
    chosen = []
    for worker, agent, cni in workers:
        if agent == FLANNELD and programs.flanneld is None:
            raise MissingTool(
                "flanneld is not installed", worker.name, hint="run ./utils/setup, or say agent: embedded"
            )
        if cni == PLUGINS and not programs.plugin_path:
            raise MissingTool(
                "the CNI plugins are not installed", worker.name, hint="run ./utils/setup, or say cni: native"
            )
        real_agent = FLANNELD if few and programs.flanneld else EMBEDDED
        real_cni = PLUGINS if few and programs.plugin_path else NATIVE
        chosen.append(
            WorkerNetwork(worker, real_agent if agent == "auto" else agent, real_cni if cni == "auto" else cni)
        )
    return chosen


class PodNetworkAgents:
    """The pod network of one cluster."""

    def __init__(
        self,
        cluster: str,
        config: NetworkConfig,
        networks: Sequence[WorkerNetwork],
        programs: Programs,
        etcd: Etcd,
        endpoints: Sequence[str],
        supervisor: Supervisor,
        *,
        repair: bool,
        tell: Callable[[str, str], None],
    ) -> None:
        """`endpoints` are the client URLs by which flanneld reaches etcd from the workers; `tell(worker, message)` is
        called when something had to be repaired."""
        self.cluster, self.config, self.networks = cluster, config, list(networks)
        self._programs, self._etcd, self._endpoints = programs, etcd, list(endpoints)
        self._supervisor, self._repair = supervisor, repair
        real = [network.worker for network in networks if network.agent == FLANNELD]
        workers = {f"{worker.name}/{FLANNELD}": _overlay_worker(worker) for worker in real}
        self._watch = FlanneldWatch(cluster, etcd, config, workers, supervisor, tell)
        self._agent: OverlayAgent | None = None
        self._wirings: dict[str, PodNetwork] = {}
        self._guard: PodGuard | None = None

    def start(self) -> None:
        """Write the network configuration, prepare the workers, start the agents; returns before they are ready."""
        ensure_network_config(self._etcd, self.config)
        for network in self.networks:
            worker = network.worker
            write_sysctl(worker.place, {"net.ipv4.ip_forward": "1"})
            apply_nft(worker.place, build_masquerade(self.config.network, fresh=True))
            if network.agent == FLANNELD:
                self._start_flanneld(worker)
        self.start_agent()
        if self._repair:
            self._watch.start()

    def start_agent(self) -> None:
        """Start the embedded agent, where a worker has it."""
        workers = [_overlay_worker(network.worker) for network in self.networks if network.agent == EMBEDDED]
        if workers:
            self._agent = OverlayAgent(self.cluster, self._etcd, workers, repair=self._repair)
            self._agent.start()

    def stop_agent(self) -> None:
        """End the embedded agent; packets do not need it. As when a flanneld is killed."""
        if self._agent is not None:
            self._agent.stop()
            self._agent = None

    def stop(self) -> None:
        """End all agents; the data path stays."""
        self._watch.stop()
        self.stop_agent()
        for network in self.networks:
            self._supervisor.stop(f"{network.worker.name}/{FLANNELD}")

    def _start_flanneld(self, worker: NetworkHost) -> None:
        assert self._programs.flanneld is not None
        directory = Path(names.host_directory(worker.name))
        argv = build_argv(
            str(self._programs.flanneld),
            endpoints=self._endpoints,
            address=IPv4Address(worker.address),
            directory=directory,
        )
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self._supervisor.start(
            DaemonSpec(f"{worker.name}/{FLANNELD}", argv, directory / LOG_NAME, place=worker.place, env=env)
        )

    def wait_ready(self, deadline: float) -> None:
        """Wait until every worker reaches every other one's subnet; NotReady says what is missing where."""
        if self._agent is not None and all(network.agent == EMBEDDED for network in self.networks):
            self._agent.wait_ready(deadline)  # it knows; the kernels of hundreds of workers need not be read
        else:
            wait_ready([_overlay_worker(network.worker) for network in self.networks], self._etcd, deadline)

    def place(self, worker: NetworkHost) -> WorkerPlace:
        """The worker as its pods' network sees it. NotReady before it has a subnet."""
        directory = names.host_directory(worker.name)
        lease = read_subnet_file(Path(directory))
        if lease is None:
            raise NotReady(f"{worker.name} has no subnet yet", why="its agent has not written the subnet file")
        return WorkerPlace(worker.name, worker.place, directory, worker.netlink, lease)

    def wiring(self, network: WorkerNetwork) -> PodNetwork:
        """Who wires the pods of a worker."""
        if network.cni not in self._wirings:
            plugins = [str(path) for path in self._programs.plugin_path]
            wiring: PodNetwork = PluginWiring(plugins) if network.cni == PLUGINS else NativeWiring()
            self._wirings[network.cni] = GuardedWiring(wiring, self._guard) if self._guard else wiring
        return self._wirings[network.cni]

    def guard_pods(self, guard: PodGuard) -> None:
        """Have every pod that is wired from now on admitted by `guard` before anything runs in it."""
        self._guard = guard
        self._wirings.clear()

    def status(self) -> list[OverlayStatus]:
        """How far each worker's overlay is, whichever agent it has; of flanneld what the kernel shows.

        Without etcd nobody can say what the kernel ought to show.
        """
        rows = {status.worker: status for status in (self._agent.status() if self._agent else ())}
        absent = [network.worker for network in self.networks if network.worker.name not in rows]
        if absent:
            try:
                listing = list_leases(self._etcd)
            except StoreUnavailable as error:
                rows |= {worker.name: _unknown_status(worker, error) for worker in absent}
            else:
                rows |= {worker.name: read_status(_overlay_worker(worker), self.config, listing) for worker in absent}
        return [rows[network.worker.name] for network in self.networks]


def build_config(pod_network: Any) -> NetworkConfig:
    """Flannel's configuration from the scenario's `podNetwork`; with nft where br_netfilter is missing, as flanneld
    demands."""
    backend = pod_network.backend
    options = Backend(backend.type, backend.vni, backend.port) if backend.type == VXLAN else Backend(backend.type)
    return NetworkConfig(
        network=pod_network.network,
        subnet_len=pod_network.subnet_len,
        subnet_min=pod_network.subnet_min,
        subnet_max=pod_network.subnet_max,
        backend=options,
        nftables=not os.path.isdir("/proc/sys/net/bridge"),
    )


def _unknown_status(worker: NetworkHost, error: StoreUnavailable) -> OverlayStatus:
    lease = read_subnet_file(Path(names.host_directory(worker.name)))
    return OverlayStatus(worker.name, subnet=str(lease.subnet) if lease else "", error=f"not known: {error.what}")


def _underlay(worker: NetworkHost) -> Underlay:
    interface = worker.defaultIntf()
    return Underlay(interface.name, interface.index, interface.mtu)


def _overlay_worker(worker: NetworkHost) -> OverlayWorker:
    return OverlayWorker(
        name=worker.name,
        namespaces=worker.place,
        netlink=worker.netlink,
        interface=_underlay(worker).interface,
        address=IPv4Address(worker.address),
        directory=Path(names.host_directory(worker.name)),
    )


def find_programs() -> Programs:
    """The real parts of a pod network that are installed here."""
    whole = all(find_plugin(name) is not None for name in CNI_CHAIN)
    return Programs(find_program("flanneld"), PLUGIN_DIRECTORIES if whole else ())


def explain_choice(networks: Iterable[WorkerNetwork]) -> str:
    """`3 workers with flanneld, CNI plugins; C0cp with flanneld` or, mixed, each count."""
    counts: dict[str, int] = {}
    others = []
    for network in networks:
        agent = network.agent if network.agent == FLANNELD else f"the {network.agent} agent"
        if isinstance(network.worker, ControlPlaneHost):  # it has no pods to be wired
            others.append(f"{network.worker.name} with {agent}")
            continue
        words = f"{agent}, {'CNI plugins' if network.cni == PLUGINS else 'native wiring'}"
        counts[words] = counts.get(words, 0) + 1
    workers = [f"{count} worker{'s' if count > 1 else ''} with {words}" for words, count in counts.items()]
    return "; ".join([*workers, *others])

"""The simulation: the one place where everything is put together. Start, use, stop.

Order of a start, each step waiting for facts: hosts and links of all clusters → then, each cluster in a thread of its
own: etcd members healthy → pod network ready on every worker → Nodes ready → manifests written → Pods ready. It runs
inside the sandbox (`Simulation.run` makes one), whose end frees whatever it made.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from knetsim import names
from knetsim.cluster import Cluster, ClusterParts
from knetsim.cluster_status import find_orphans, find_problems, read_cluster
from knetsim.control.kubernetes.kubeconfig import format_kubeconfig, join_kubeconfigs
from knetsim.control_choice import open_api_ports
from knetsim.control_planes import KubernetesPlane, require_kubernetes
from knetsim.dataplane.underlay import Underlay
from knetsim.errors import NotFound, NotReady, UsageError
from knetsim.node.etcd import install_etcdctl
from knetsim.node.images import Images, find_user_tables, read_tables
from knetsim.node.skupper.network import SkupperNetwork
from knetsim.policy_status import read_policies
from knetsim.rollout import collect_objects
from knetsim.scenario import Scenario
from knetsim.service_status import read_services
from knetsim.site_status import read_sites
from knetsim.status import ClusterPolicies, ClusterServices, OrphanState, SiteState, State, Status
from knetsim.system import rpc, signals
from knetsim.system.cgroup import Cgroups
from knetsim.system.daemon import Daemon, Supervisor
from knetsim.system.layers import Layers
from knetsim.system.ledger import Ledger
from knetsim.system.limits import raise_open_files
from knetsim.system.low_descriptors import LOW_DESCRIPTORS
from knetsim.system.netns import Namespaces
from knetsim.system.rpc import Answer, RpcServer
from knetsim.system.state import CONTROL_SOCKET, KUBECONFIG

#: for sites to link: one whose neighbour is not there holds up nobody for longer
LINKED_DEADLINE = 10.0

T = TypeVar("T")


class Progress(Protocol):
    """Who is told how the start goes on."""

    def step(self, name: str, text: str) -> None:
        """`name` is now waiting for `text`."""

    def done(self, name: str, text: str) -> None:
        """`name` has arrived at `text`."""

    def failed(self, name: str, text: str) -> None:
        """`name` failed, for the reason `text`."""


class Silent:
    """A progress that nobody watches."""

    def step(self, name: str, text: str) -> None:
        """Nothing is shown."""

    def done(self, name: str, text: str) -> None:
        """Nothing is shown."""

    def failed(self, name: str, text: str) -> None:
        """Nothing is shown."""


@dataclass(frozen=True, slots=True)
class Target:
    """A place that a user named: its namespaces (the caller's to close), what a prompt calls it, and where a shell
    starts."""

    place: Namespaces
    prompt: str
    env: dict[str, str]
    cwd: str


class Simulation:
    """A running scenario. To be made inside a sandbox."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        name: str = "default",
        progress: Progress | None = None,
        repair: bool = True,
        listeners: Mapping[str, socket.socket] | None = None,
        images: Sequence[Path] = (),
    ) -> None:
        """`listeners` are what `open_api_ports` made before the sandbox was entered; without them no port of the host
        leads to the clusters' API servers. `images` are tables of the user's, beside those that are found anyway."""
        self.scenario = scenario
        self.name = name
        self.progress = progress or Silent()
        self.repair = repair
        self.started = time.time()
        self.state: State = "starting"
        self._ended = threading.Event()
        raise_open_files()
        LOW_DESCRIPTORS.reserve()
        self._objects = collect_objects(scenario)
        self.net = Underlay()
        self.supervisor = Supervisor(self._daemon_ended)
        known = Images(read_tables(find_user_tables(images)), Layers(names.IMAGE_LAYERS))
        ledger = Ledger(Path(names.INSIDE_STATE))
        parts = ClusterParts(
            self.net,
            self.supervisor,
            self.progress,
            scenario,
            repair,
            dict(listeners or {}),
            known,
            Cgroups.of_machine(name, ledger.record),
            SkupperNetwork(),
        )
        self.clusters = [Cluster(spec, parts) for spec in scenario.clusters]

    @classmethod
    def run(cls, scenario: Scenario, body: Callable[[Simulation], int | None], *, name: str = "default") -> int:
        """Run `body` with a started simulation, in a sandbox of its own; its exit code. Nothing remains afterwards.

        For programs: `Simulation.run(read_scenario("lab.yaml"), lambda sim: print(sim.status()))`. An error of `body`
        is raised here again, as the class it was when it is one of knetsim's; of others the traceback is shown.
        """
        from knetsim.system.sandbox import Sandbox

        listeners = open_api_ports(scenario)

        def engine() -> int:
            signals.raise_on_termination()
            simulation = cls(scenario, name=name, listeners=listeners)
            simulation.start()
            return body(simulation) or 0

        try:
            return Sandbox(name=name, scenario=scenario.file, version="", engine=engine).run()
        finally:
            for listener in listeners.values():
                listener.close()

    # --- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring everything up and wait until it is usable. NotReady, with what was waited for, and other errors."""
        self.progress.step("underlay", "hosts, switches and links")
        self._build_underlay()
        hosts = len(self.net.hosts)
        self.progress.done("underlay", f"{hosts} hosts on {len(self.net.switches)} switches")
        self._rpc = RpcServer(f"{names.INSIDE_STATE}/{CONTROL_SOCKET}", self._methods())
        self._in_parallel(lambda cluster: cluster.start(self._objects[cluster.name]))
        self._write_kubeconfig()
        self._wait_linked()
        self.state = "ready"

    def _build_underlay(self) -> None:
        install_etcdctl(Path(names.INSIDE_STATE))
        top = self.net.addSwitch(names.TOP_SWITCH)
        hosts_file = build_hosts_file(self.scenario)
        for cluster in self.clusters:
            self.net.addLink(cluster.build(hosts_file), top)
        self.net.settle_addresses()

    def _wait_linked(self) -> None:
        """Have the clusters reach each other before anybody types; whoever has a link that leads nowhere may start all
        the same, and is told so by the status."""
        try:
            for _ in ("links", "what comes over them, to those too who only answer"):
                self._in_parallel(lambda cluster: cluster.wait_linked(LINKED_DEADLINE))
        except NotReady as error:
            self.progress.failed("skupper", f"{error.what}: {error.why}")

    def _write_kubeconfig(self) -> None:
        """For `knetsim kubectl` on the host: the state directory is seen there too, and ends with the simulation."""
        config = self.kubeconfig()
        if config["contexts"]:
            path = Path(names.INSIDE_STATE, KUBECONFIG)
            path.touch(mode=0o600)
            path.write_text(format_kubeconfig(config))

    def kubeconfig(self, cluster: str = "") -> dict[str, Any]:
        """A kubeconfig for programs of this machine: a context `knetsim-C0` for each cluster with an API server, or for
        one. NotFound; KnetsimError with the remedy when the one that is asked for has no API server."""
        if cluster:
            found = self.get(cluster)
            return require_kubernetes(found.plane, found.name, "kubeconfig").kubeconfig()
        planes = [one.plane for one in self.clusters]
        return join_kubeconfigs(
            [plane.kubeconfig() for plane in planes if isinstance(plane, KubernetesPlane) and plane.relay is not None]
        )

    def _in_parallel(self, step: Callable[[Cluster], T]) -> list[T]:
        """One step for all clusters at once. The first error ends the wait, and so does whoever interrupts it: what the
        other clusters still wait for may be a minute away, and ends with the process."""
        pool = ThreadPoolExecutor(len(self.clusters), "cluster")
        try:
            futures = [pool.submit(step, cluster) for cluster in self.clusters]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False)

    def stop(self) -> None:
        """Stop agents and daemons; the sandbox's end does the rest, and needs no call of this."""
        self.state = "stopping"
        for cluster in self.clusters:
            cluster.stop()
        self.supervisor.close()
        self._ended.set()

    def wait(self) -> None:
        """Block until `stop` is called, or a signal raises."""
        self._ended.wait()

    def _daemon_ended(self, daemon: Daemon) -> None:
        host = daemon.spec.name.partition("/")[0]
        for cluster in self.clusters:
            if cluster.owns_host(host):
                cluster.daemon_ended(host, daemon)

    # --- questions ----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Cluster:
        """The cluster called `name` (`C0`, `c0` or `0`). NotFound."""
        for cluster in self.clusters:
            if name.lower() in (cluster.name.lower(), names.cluster_id(cluster.name)):
                return cluster
        raise NotFound(f"no cluster '{name}'", hint=names.did_you_mean(name, [c.name for c in self.clusters]))

    def find_target(self, word: str, container: str | None = None) -> Target:
        """What `C0w1`, `t0`, `C0/c1`, `C0/namespace/c1` or `C0w1/c1` means. NotFound, UsageError."""
        parts = word.split("/")
        if len(parts) == 1:
            return self._host_target(word)
        if len(parts) > 3 or not all(parts):
            raise UsageError(f"'{word}' is no target", hint="a host (C0w1), a pod (C0/c1, C0/namespace/c1) or C0w1/c1")
        pod = parts[-1]
        for cluster in self.clusters:
            if parts[0].lower() in (cluster.name.lower(), names.cluster_id(cluster.name)):
                namespace = parts[1] if len(parts) == 3 else names.DEFAULT_NAMESPACE
                return self._pod_target(cluster, namespace, pod, container)
        for cluster in self.clusters:
            for worker in cluster.workers:
                if worker.name.lower() == parts[0].lower():
                    namespace = parts[1] if len(parts) == 3 else names.DEFAULT_NAMESPACE
                    cluster.require_pod_on(worker, namespace, pod)
                    return self._pod_target(cluster, namespace, pod, container)
        places = [c.name for c in self.clusters] + [w.name for c in self.clusters for w in c.workers]
        raise NotFound(f"no cluster or worker '{parts[0]}'", hint=names.did_you_mean(parts[0], places))

    def _host_target(self, word: str) -> Target:
        node = self.net.find_node(word)
        place = _whole_place(node.place)
        directory = names.host_directory(node.name)
        env = getattr(node, "environment", {})
        return Target(place, _prompt_of(node.name, self.clusters), env, directory if Path(directory).is_dir() else "/")

    def _pod_target(self, cluster: Cluster, namespace: str, pod: str, container: str | None) -> Target:
        found, worker = cluster.pod_place(namespace, pod, container)
        try:
            place = _whole_place(found)
        finally:
            found.close()
        prompt = f"{worker.cluster_id}:{worker.short_name}:{pod}"
        return Target(place, prompt, {"HOSTNAME": pod}, "/")

    def status(self) -> Status:
        """Everything that `knetsim status` shows, as plain JSON."""
        clusters = self._in_parallel(read_cluster)
        problems = [problem for cluster in clusters for problem in find_problems(cluster)]
        limits = sum(len(cluster["notSimulated"]) for cluster in clusters)  # problems too, but nothing to mend
        state = "degraded" if self.state == "ready" and len(problems) > limits else self.state
        return {
            "name": self.name,
            "state": state,
            "scenario": self.scenario.file,
            "uptimeSeconds": int(time.time() - self.started),
            "clusters": clusters,
            "sites": self.sites(),
            "switches": [{"name": switch.name, "ports": len(switch.intfList())} for switch in self.net.switches],
            "problems": problems,
            "orphans": self.orphans(),
        }

    def services(self) -> list[ClusterServices]:
        """Every Service with its backends and their connections, as plain JSON (`knetsim status services`)."""
        return self._in_parallel(read_services)

    def policies(self) -> list[ClusterPolicies]:
        """Every NetworkPolicy with what it let through and held back, as plain JSON (`knetsim status policies`)."""
        return self._in_parallel(read_policies)

    def sites(self) -> list[SiteState]:
        """Every cluster's Skupper site with its links, as plain JSON (`knetsim link status`)."""
        return [site for cluster in self.clusters for site in read_sites(cluster)]

    def orphans(self) -> list[OrphanState]:
        """Kernel objects in the simulation that no object and no host owns."""
        return [orphan for cluster in self.clusters for orphan in find_orphans(cluster)]

    # --- from other terminals -----------------------------------------------------------------------------------------

    def _methods(self) -> dict[str, rpc.Method]:
        return {
            "status": self._rpc_status,
            "summary": self._rpc_summary,
            "services": lambda: Answer(self.services()),
            "policies": lambda: Answer(self.policies()),
            "sites": lambda: Answer(self.sites()),
            "exec": self._rpc_exec,
            "hosts": self._rpc_hosts,
            "kubeconfig": lambda cluster="": Answer(self.kubeconfig(cluster)),
            "apply": lambda cluster, objects: Answer(self.get(cluster).apply(objects)),
        }

    def add_method(self, name: str, method: rpc.Method) -> None:
        """Have the simulation answer one more question from other terminals."""
        self._rpc.add(name, method)

    def _rpc_status(self, orphans: bool = False) -> Answer:
        return Answer({"orphans": self.orphans()} if orphans else self.status())

    def _rpc_summary(self) -> Answer:
        return Answer(
            {
                "state": self.state,
                "clusters": len(self.clusters),
                "workers": sum(len(cluster.workers) for cluster in self.clusters),
                "pods": sum(cluster.pod_count() for cluster in self.clusters),
            }
        )

    def _rpc_exec(self, target: str, container: str | None = None) -> Answer:
        found = self.find_target(target, container)
        kinds = list(found.place.fds)
        answer = {"kinds": kinds, "prompt": found.prompt, "env": found.env, "cwd": found.cwd}
        return Answer(answer, [found.place.fds[kind] for kind in kinds])

    def _rpc_hosts(self) -> Answer:
        return Answer(sorted(self.net.nameToNode))


def build_hosts_file(scenario: Scenario) -> str:
    """/etc/hosts of every host: all hosts of all clusters by their Mininet and their Kubernetes names."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {host} {names.node_name(host)}" for host, address in scenario.host_addresses().items()]
    return "\n".join(lines) + "\n"


def _whole_place(place: Namespaces) -> Namespaces:
    """`place` for a command from outside: a switch has a network namespace only, a host and a pod without a process no
    pid namespace; the rest is the simulation's. The caller closes both."""
    with closing(Namespaces.of_thread("simulation", ("mnt", "pid"))) as own:
        return own.with_fds(place.name, **place.fds)


def _prompt_of(host: str, clusters: list[Cluster]) -> str:
    """`0:w1` for a worker, as the first knetsim's `utils/exec` has it; the host's name for others."""
    for cluster in clusters:
        for worker in cluster.workers:
            if worker.name == host:
                return f"{worker.cluster_id}:{worker.short_name}"
    return host

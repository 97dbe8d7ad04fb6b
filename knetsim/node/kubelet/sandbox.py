"""What a pod has before any container: its network namespace, wired, and its files and volumes.

Kubernetes calls it the pod's sandbox; there a `pause` process holds the namespaces, here open descriptors do. The
network namespace is shown in the worker's /run/netns, where `ip netns` finds it: `C0w1 ip netns exec k0_c1 ip addr`.
The pod's directory, `/tmp/knetsim/C0w1/pods/default_c1`, holds `hosts`, `resolv.conf`, `volumes/` and each
container's logs; a pod that only holds its network has none before somebody enters it.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from knetsim import names
from knetsim.api.objects import Object, name_of, namespace_of, uid_of
from knetsim.dataplane.pod import PodPlace, Wired
from knetsim.errors import NotFound
from knetsim.node.kubelet.files import ClusterDns, Warn, build_hosts, build_resolv_conf
from knetsim.node.kubelet.host_names import build_host_name, build_kernel_name
from knetsim.node.kubelet.host_ports import HostPorts, read_host_ports
from knetsim.node.kubelet.node import KubeletWorker
from knetsim.node.kubelet.security import read_sysctls
from knetsim.node.kubelet.volumes import PodVolumes
from knetsim.system import netns, rootfs
from knetsim.system.container import DEFAULT_ENV, ContainerProcess, Process, start_command
from knetsim.system.netns import Namespaces
from knetsim.system.rootfs import Mount
from knetsim.system.strays import end_processes
from knetsim.system.sysctl import write_sysctl

#: users who are not root may take any port and may ping, as containerd 2 has it (enable_unprivileged_ports, _icmp):
#: programs of images that drop all rights rely on it, CoreDNS on port 53 among them
_RUNTIME_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


class PodSandbox:
    """One pod's place. Its kubelet's thread opens, repairs and closes it; any thread may ask for a way in."""

    def __init__(
        self,
        worker: KubeletWorker,
        cluster: str,
        pod: Object,
        dns: ClusterDns | None,
        resolv_conf: str,
        build_volumes: Callable[[str], PodVolumes],
        host_ports: HostPorts,
        warn: Warn,
    ) -> None:
        """`resolv_conf` is the worker's own, for pods that are to have it; `build_volumes` is given the pod's
        directory, `host_ports` are the worker's, `warn` hears of name servers that are left out."""
        self.worker = worker
        self.netns_name = names.pod_netns(cluster, namespace_of(pod), name_of(pod))
        self.directory = f"{worker.place.directory}/pods/{namespace_of(pod)}_{name_of(pod)}"
        self.wired: Wired | None = None
        self._name = build_host_name(pod, dns.domain if dns else "cluster.local")
        self.hostname = self._name.name  # until the kernel's own name of it is known
        self.volumes = build_volumes(self.directory)
        self._pod, self._dns, self._resolv_conf, self._warn = pod, dns, resolv_conf, warn
        self._host_ports = host_ports
        self._lock = threading.RLock()
        self._own: Namespaces | None = None
        self._view: int | None = None
        self._visited = self._has_files = False

    @property
    def ready(self) -> bool:
        """Whether it is open and wired."""
        return self.wired is not None

    @property
    def ip(self) -> str:
        """The pod's address, or ""."""
        return self.wired.ip if self.wired else ""

    @property
    def place(self) -> Namespaces:
        """The worker's place with the pod's network, host name and IPC; its descriptors are not to be closed."""
        assert self._own is not None, "the sandbox is open"
        with self._lock:
            if "ipc" not in self._own.fds and not self._pod["spec"].get("hostIPC"):
                self._own.fds["ipc"] = netns.create_ipc()  # only now: a pod without processes has no use for it
            return Namespaces(self.netns_name, **{**self.worker.place.namespaces.fds, **self._own.fds})

    def _pod_place(self, own: Namespaces) -> PodPlace:
        pod = self._pod
        return PodPlace(self.netns_name, namespace_of(pod), name_of(pod), uid_of(pod), own)

    # --- opening, repairing, closing

    def open(self) -> None:
        """Make the namespace and have it wired; errors of the wiring. Half of it may be there already."""
        own = self._own
        if own is None:
            self.hostname = build_kernel_name(self._pod, self._name)
            own = netns.create_netns(self.netns_name, self.hostname)
            try:
                self._set_kernel(own)
                self._publish(own)
                wired = self.worker.network.add(self.worker.place, self._pod_place(own))
            except BaseException:
                netns.unpublish_netns(self.worker.place.namespaces, self.netns_name)
                own.close()
                raise
        else:
            wired = self.worker.network.add(self.worker.place, self._pod_place(own))
        with self._lock:
            self._own = own
        try:
            self._host_ports.put(uid_of(self._pod), read_host_ports(self._pod["spec"], wired.ip))
        except BaseException:
            self.worker.network.remove(self.worker.place, self._pod_place(own))
            raise
        self.wired = wired
        if self._has_files:
            self._write_files()  # its address may have changed

    def _set_kernel(self, own: Namespaces) -> None:
        """What a runtime sets in every pod, then the pod's sysctls, in its network and IPC namespaces."""
        settings = read_sysctls(self._pod["spec"])
        if any(name.startswith("kernel.") for name in settings):
            own.fds["ipc"] = netns.create_ipc()
        write_sysctl(own, {**_RUNTIME_SYSCTLS, **settings})

    def adopt(self) -> bool:
        """Take over what a kubelet before this one left: the namespace with its address. False when that is not
        there."""
        worker = self.worker.place
        self.hostname = build_kernel_name(self._pod, self._name)
        own = netns.open_published(worker.namespaces, self.netns_name, self.hostname)
        if own is None:
            return False
        end_processes(own.net)  # nobody is there any more who knows them
        wired = self.worker.network.adopt(worker, self._pod_place(own))
        if wired is None:
            own.close()
            return False
        with self._lock:
            self._own, self.wired = own, wired
        self._host_ports.put(uid_of(self._pod), read_host_ports(self._pod["spec"], wired.ip))
        return True

    def _publish(self, own: Namespaces) -> None:
        worker = self.worker.place.namespaces
        try:
            netns.publish_netns(worker, own.net, self.netns_name)
        except FileExistsError:  # left by an attempt that was cut off, by a kubelet before this one, or by a hand
            netns.unpublish_netns(worker, self.netns_name)
            netns.publish_netns(worker, own.net, self.netns_name)

    def check(self) -> list[str]:
        """What somebody has changed by hand, in words; empty when all is as it was made."""
        own, worker = self._own, self.worker.place
        assert own is not None, "the sandbox is open"
        wrong = []
        if not netns.is_published(worker.namespaces, own.net, self.netns_name):
            wrong.append(f"/run/netns/{self.netns_name} is missing on {worker.name}")
        return wrong + self.worker.network.check(worker, self._pod_place(own))

    def repair(self) -> None:
        """Show and wire the pod anew, in the same namespace: its processes live on."""
        own, worker = self._own, self.worker.place
        assert own is not None, "the sandbox is open"
        if not netns.is_published(worker.namespaces, own.net, self.netns_name):
            self._publish(own)
        self.worker.network.ensure_bridge(worker)
        if self.worker.network.check(worker, self._pod_place(own)):
            self.worker.network.remove(worker, self._pod_place(own))
            self.wired = None
            self.open()

    def close(self) -> None:
        """Unwire the pod and end its namespace, with all that runs in it; logs and volumes stay. Twice is once."""
        with self._lock:
            own, view, self._view = self._own, self._view, None
            self._own = None  # nobody finds the way in any more
        if view is not None:
            os.close(view)
        if own is None:
            return
        worker = self.worker.place
        try:
            if self._visited:
                end_processes(own.net)
            self._host_ports.put(uid_of(self._pod), [])
            self.worker.network.remove(worker, self._pod_place(own))
        except BaseException:
            self._own = own  # to be tried again
            raise
        self.wired = None
        netns.unpublish_netns(worker.namespaces, self.netns_name)
        own.close()

    def release(self) -> None:
        """Let go of the descriptors and leave everything as it is."""
        with self._lock:
            own, view, self._view, self._own = self._own, self._view, None, None
        if view is not None:
            os.close(view)
        if own is not None:
            own.close()

    def remove_files(self) -> None:
        """Delete the pod's directory. What is not there is fine."""
        self.volumes.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- files

    def _write_files(self) -> None:
        assert self.wired is not None
        os.makedirs(self.directory, exist_ok=True)
        # written in place: containers that run have the very file mounted
        texts = {
            "hosts": build_hosts(self._pod, self.wired.ip, self._name, self._read_worker_hosts()),
            "resolv.conf": build_resolv_conf(self._pod, self._dns, self._resolv_conf, self._warn),
            "hostname": self.hostname + "\n",
        }
        for name, text in texts.items():
            Path(self.directory, name).write_text(text)

    def _read_worker_hosts(self) -> str:
        """The worker's own /etc/hosts, where it counts."""
        return ""

    def files(self) -> list[Mount]:
        """The files that every container of the pod sees; written when they are wanted first."""
        if not self._has_files:
            self._write_files()
            self._has_files = True
        return [Mount(f"{self.directory}/{name}", f"/etc/{name}") for name in ("hosts", "resolv.conf", "hostname")]

    # --- ways in

    def view(self) -> Namespaces:
        """Where commands run that belong to no container; the caller closes it. NotFound when the pod is not there."""
        with self._lock:
            self._require_open()
            if self._view is None:
                self._view = rootfs.create_pod_view(self.place, self.files())
            return self.place.with_fds(self.netns_name, mnt=self._view)

    def open_place(self) -> Namespaces:
        """The pod's place for connections into it; the caller closes it. NotFound when the pod is not there."""
        with self._lock:
            if self._own is None:
                raise self._not_running()
            return self.place.with_fds(self.netns_name)

    def enter(self, process: ContainerProcess) -> Namespaces:
        """Where commands of a container run; the caller closes it. NotFound when it has ended."""
        with self._lock:
            self._require_open()
            return process.exec_place()

    def start_command(self, place: Namespaces, argv: Sequence[str], log: str) -> Process:
        """Start a command that ends by itself or with the pod."""
        with self._lock:
            self._require_open()
            return start_command(place, argv, log, env={**DEFAULT_ENV, "HOSTNAME": self.hostname})

    def _require_open(self) -> None:
        if self._own is None:
            raise self._not_running()
        self._visited = True

    def _not_running(self) -> NotFound:
        return NotFound(f"pod {namespace_of(self._pod)}/{name_of(self._pod)} is not running", self.worker.place.name)

"""`cni: plugins`: a pod's network by the real CNI plugins: flannel's, which calls `bridge`, which calls `host-local`.

What happens in a real cluster: kubelet asks the container runtime for a sandbox, the runtime makes a network namespace
and executes the plugins of the first file in /etc/cni/net.d, which on a cluster with flannel is `10-flannel.conflist`.
flannel's plugin reads the subnet file that flanneld wrote and hands a complete configuration to `bridge`.
Ours: the same file, in the worker's directory where it can be read and changed (the next pod is wired by what stands
there then), the same programs, in the worker's namespaces. What they keep is in `cni/` of the worker's directory:
`networks/cbr0/` the addresses (host-local), `flannel/` the configuration given to `bridge`, `results/` what came out.

The configuration is kube-flannel's with four differences. `cniVersion` is 0.4.0, the newest that flannel's plugin v0.9
knows, instead of 0.3.1, so that there is CHECK. `ipMasq` is false for the bridge whatever the subnet file says:
masquerading has one owner (dataplane/overlay/masquerade.py). `portmap` is left out: it serves hostPorts. `dataDir` is
given, twice, since all workers of a simulation would share /var/lib/cni, and clusters may use the same addresses. As
there, `hairpinMode` is true, for a pod must be able to reach itself through a Service, and `isDefaultGateway` is true.

How it differs from a container runtime: loopback is brought up by netlink (as containerd does with
`use_internal_loopback`) instead of by the plugin `loopback`; flannel's plugin implements no CHECK, so the plugin that
it called is asked as well, with the configuration that flannel kept; and a bridge that was deleted by hand is made
again with its ports, which in reality waits until all pods are made anew.

Commands: `C0w1 cat /tmp/knetsim/C0w1/10-flannel.conflist`, `C0w1 ls /tmp/knetsim/C0w1/cni/networks/cbr0`.
Cost per pod: three programs executed for ADD and three for DEL, 20 to 40 ms each way.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path

from knetsim.dataplane.overlay.subnet_file import NAME as SUBNET_FILE
from knetsim.dataplane.pod.bridge import ensure_bridge
from knetsim.dataplane.pod.cni import Attachment, CniError, CniRuntime, Conflist, Json, ResultCache, parse_conflist
from knetsim.dataplane.pod.wiring import BRIDGE, NETWORK, POD_INTERFACE, PodPlace, Wired, WorkerPlace
from knetsim.errors import AlreadyExists, KnetsimError, ObjectError
from knetsim.system import netlink
from knetsim.system.netlink import Netlink
from knetsim.system.programs import PLUGIN_DIRECTORIES

CONFLIST = "10-flannel.conflist"
CNI_VERSION = "0.4.0"
_STATE = "cni"


def build_conflist(worker_directory: str) -> str:
    """The text of a worker's `10-flannel.conflist`."""
    flannel = {
        "type": "flannel",
        "subnetFile": f"{worker_directory}/{SUBNET_FILE}",
        "dataDir": f"{worker_directory}/{_STATE}/flannel",
        "ipam": {"dataDir": f"{worker_directory}/{_STATE}/networks"},
        "delegate": {"hairpinMode": True, "isDefaultGateway": True, "ipMasq": False},
    }
    return json.dumps({"name": NETWORK, "cniVersion": CNI_VERSION, "plugins": [flannel]}, indent=2) + "\n"


def build_attachment(pod: PodPlace, ip: str = "") -> Attachment:
    """The pod as CNI names it; the arguments are those of a Kubernetes container runtime. host-local gives it `ip`."""
    args = (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", pod.namespace),
        ("K8S_POD_NAME", pod.pod),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.uid),
        ("K8S_POD_UID", pod.uid),
        *([("IP", ip)] if ip else []),
    )
    return Attachment(pod.uid, pod.netns_path, POD_INTERFACE, args)


def ensure_conflist(worker: WorkerPlace) -> Conflist:
    """What stands in the worker's conflist, which is written when there is none; ObjectError when somebody broke it."""
    path = Path(worker.directory, CONFLIST)
    if not path.exists():
        hidden = path.with_name(f".{CONFLIST}.{threading.get_ident()}")  # several first pods may come at once
        hidden.write_text(build_conflist(worker.directory))
        os.replace(hidden, path)
    return parse_conflist(path.read_text(), str(path))


class PluginWiring:
    """Wires the pods of any number of workers by executing CNI plugins; implements `PodNetwork`."""

    name = "plugins"

    def __init__(self, search_path: Sequence[str | Path] = PLUGIN_DIRECTORIES) -> None:
        self.search_path = tuple(map(str, search_path))

    def _runtime(self, worker: WorkerPlace) -> CniRuntime:
        return CniRuntime(worker.namespaces, self.search_path)

    @staticmethod
    def _cache(worker: WorkerPlace) -> ResultCache:
        return ResultCache(Path(worker.directory, _STATE, "results"))

    def add(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """ADD; CniError with the plugin's own words, after a DEL, and kept under the worker's cni/results."""
        return self._add(worker, pod, build_attachment(pod))

    def _add(self, worker: WorkerPlace, pod: PodPlace, attachment: Attachment) -> Wired:
        cache = self._cache(worker)
        conflist = ensure_conflist(worker)
        if cache.read(attachment) is not None:
            raise AlreadyExists(f"pod {pod} is wired already", worker.name)
        try:
            result = self._runtime(worker).add(conflist, attachment)
            wired = _read_wired(worker, pod, result)
        except BaseException as error:
            self._undo(worker, conflist, attachment, error)
            raise
        cache.write(conflist, attachment, result)
        return wired

    def _undo(self, worker: WorkerPlace, conflist: Conflist, attachment: Attachment, error: BaseException) -> None:
        """The DEL that the specification wants after a failed ADD."""
        if isinstance(error, CniError):
            self._cache(worker).write_error(conflist.name, attachment, error)
        try:
            self._runtime(worker).delete(conflist, attachment, None)
        except KnetsimError as undo_error:
            error.add_note(f"and the DEL after it failed: {undo_error}")

    def adopt(self, worker: WorkerPlace, pod: PodPlace) -> Wired | None:
        """Take over a pod whose result was kept, if its interface is there."""
        kept = self._cache(worker).read(build_attachment(pod))
        if kept is None:
            return None
        with Netlink.in_namespace(pod.namespaces) as inside:
            if inside.link(POD_INTERFACE) is None:
                return None
        return _read_wired(worker, pod, kept[1])

    def check(self, worker: WorkerPlace, pod: PodPlace) -> list[str]:
        """CHECK; what the first plugin that is not content says."""
        attachment = build_attachment(pod)
        kept = self._cache(worker).read(attachment)
        if kept is None:
            return ["it is not wired"]
        conflist, result = kept
        runtime = self._runtime(worker)
        try:
            runtime.check(conflist, attachment, result)
            delegated = _read_delegated(conflist, attachment)
            if delegated is not None:
                runtime.execute("CHECK", {**delegated, "prevResult": _with_gateways(result)}, attachment)
        except CniError as error:
            return [f"{error.plugin}: {error.why}"]
        return []

    def repair(self, worker: WorkerPlace, pod: PodPlace) -> Wired:
        """DEL and ADD, asking for the same address."""
        kept = self._cache(worker).read(build_attachment(pod))
        if kept is None:
            return self.add(worker, pod)
        self.remove(worker, pod)
        return self._add(worker, pod, build_attachment(pod, str(_read_address(worker, pod, kept[1])[0])))

    def remove(self, worker: WorkerPlace, pod: PodPlace) -> None:
        """DEL with the configuration and the result of the ADD; after a CniError it can be tried again."""
        attachment = build_attachment(pod)
        cache = self._cache(worker)
        kept = cache.read(attachment)
        try:
            conflist, result = kept or (ensure_conflist(worker), None)
        except ObjectError:
            return  # nothing was wired by a configuration that cannot be read
        try:
            self._runtime(worker).delete(conflist, attachment, result)
        except CniError as error:
            cache.write_error(conflist.name, attachment, error)
            raise
        cache.forget(attachment)

    def ensure_bridge(self, worker: WorkerPlace) -> list[str]:
        """Repair the bridge and its ports, as the kept results name them; the plugin makes it with the first pod."""
        outside = [
            interface
            for result in self._cache(worker).results()
            for interface in result.get("interfaces", [])
            if not interface.get("sandbox")
        ]
        macs = [interface.get("mac") for interface in outside if interface.get("name") == BRIDGE]
        if not macs:
            return []
        return ensure_bridge(worker, {interface["name"] for interface in outside} - {BRIDGE}, macs[-1])


def _read_address(worker: WorkerPlace, pod: PodPlace, result: Json) -> tuple[IPv4Address | IPv6Address, str]:
    """The address in a result, and its gateway."""
    try:
        address = result["ips"][0]
        return ip_interface(address["address"]).ip, str(address.get("gateway", ""))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise KnetsimError(f"the CNI plugins gave pod {pod} no address", worker.name, json.dumps(result)) from error


def _read_wired(worker: WorkerPlace, pod: PodPlace, result: Json) -> Wired:
    """The result in our words, with what the kernel says of the interface; loopback is brought up on the way."""
    ip, gateway = _read_address(worker, pod, result)
    with Netlink.in_namespace(pod.namespaces) as inside:
        inside.apply([netlink.set_link("lo", up=True)])
        link = inside.link(POD_INTERFACE)
    if link is None:
        raise KnetsimError(f"the CNI plugins gave pod {pod} no {POD_INTERFACE}", worker.name, json.dumps(result))
    host = worker.netlink.link(link.link) if link.kind == "veth" else None
    bridge = worker.netlink.link(host.master) if host and host.master else None
    if bridge is not None:  # the plugin waits for the port; the bridge sends nothing until its own carrier is noticed
        worker.netlink.settle_carrier(bridge.name)
    return Wired(str(ip), gateway, link.mac, host.name if host else "", link.mtu)


def _with_gateways(result: Json) -> Json:
    """The result with each route's gateway spelled out: where it is left out it is that of the address, says the
    specification, but `bridge` looks for a route without one (pkg/ip/ipam_linux.go: ValidateExpectedRoute).
    """
    gateway = next((address["gateway"] for address in result.get("ips", []) if "gateway" in address), None)
    if gateway is None:
        return result
    return {**result, "routes": [{"gw": gateway, **route} for route in result.get("routes", [])]}


def _read_delegated(conflist: Conflist, attachment: Attachment) -> Json | None:
    """The configuration that flannel's plugin gave to the plugin it called, from where it keeps it for DEL."""
    directories = [plugin.get("dataDir") for plugin in conflist.plugins if plugin["type"] == "flannel"]
    for directory in filter(None, directories):
        try:
            content = json.loads(Path(directory, attachment.container_id).read_text())
        except FileNotFoundError:
            continue
        if isinstance(content, dict) and "type" in content:
            return content
    return None

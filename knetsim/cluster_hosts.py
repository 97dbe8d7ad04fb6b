"""A cluster's hosts on its switch: etcd members, control plane, workers; each with files that it sees as its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knetsim import names
from knetsim.dataplane.underlay import BridgeSwitch, HostNode, Underlay
from knetsim.node.control_plane import ControlPlaneHost
from knetsim.node.etcd import EtcdMember, client_url
from knetsim.node.worker import Worker, WorkerCluster
from knetsim.scenario import ClusterSpec

#: /etc/resolv.conf of the hosts: a name server that knows them, as /etc/hosts does, and says at once what it does not
_RESOLV_CONF = """\
# knows the hosts; the cluster's Services are known at the address of its Service kube-dns
nameserver {server}
"""


@dataclass(slots=True)
class ClusterHosts:
    """What `build_cluster_hosts` has made."""

    switch: BridgeSwitch
    control_plane: ControlPlaneHost
    members: list[EtcdMember] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)


class _Builder:
    def __init__(self, net: Underlay, spec: ClusterSpec, prefix_length: int, hosts_file: str) -> None:
        self._net, self._spec, self._hosts_file = net, spec, hosts_file
        self._addresses = {host: f"{address}/{prefix_length}" for host, address in spec.host_addresses().items()}
        self.switch: BridgeSwitch = net.addSwitch(names.cluster_switch(spec.name))

    def add(self, name: str, cls: type[HostNode], **params: Any) -> Any:
        """A host with its directory and its files, linked to the switch."""
        directory = Path(names.host_directory(name))
        directory.mkdir()
        endpoints = ",".join(client_url(str(address)) for address in self._spec.etcd_addresses())
        resolv_conf = _RESOLV_CONF.format(server=self._spec.control_plane_address())
        files = {"hosts": self._hosts_file, "resolv.conf": resolv_conf, "etcd-endpoints": endpoints + "\n"}
        for file, text in files.items():
            (directory / file).write_text(text)
        shown = {
            str(directory / file): f"/etc/{file}" for file in ("hosts", "resolv.conf") if Path(f"/etc/{file}").exists()
        }
        host = self._net.addHost(name, cls=cls, ip=self._addresses[name], mounts=shown, **params)
        self._net.addLink(host, self.switch)
        return host


def build_cluster_hosts(
    net: Underlay, spec: ClusterSpec, cluster: WorkerCluster, prefix_length: int, hosts_file: str
) -> ClusterHosts:
    """Make the hosts of `spec` and link them to the cluster's switch; `cluster` is what the workers ask of theirs.

    `prefix_length` is the underlay's, `hosts_file` every host's /etc/hosts.
    """
    builder = _Builder(net, spec, prefix_length, hosts_file)
    members = [
        builder.add(names.etcd_host(spec.name, number), EtcdMember, cluster=spec.name)
        for number in range(1, spec.etcd.members + 1)
    ]
    control_plane = builder.add(names.control_plane_host(spec.name), ControlPlaneHost)
    workers = [
        builder.add(names.worker_host(spec.name, worker.name), Worker, cluster=cluster, short_name=worker.name)
        for worker in spec.workers
    ]
    return ClusterHosts(builder.switch, control_plane, members, workers)

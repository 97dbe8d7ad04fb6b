"""Every derived name, address and path, in one place; pure.

A cluster `C0` has workers `C0w1`…, etcd members `C0e1`…, the control plane's host `C0cp` and the switch `C0s0`; the
switch `t0` joins the clusters. The Mininet host `C0w1` is the Kubernetes Node `c0w1` (Kubernetes wants lower case).
Interface names hold 15 characters at most (IFNAMSIZ - 1), which bounds the length of the others.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

INTERFACE_NAME_MAX = 15
CLUSTER_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9]{0,5}$")
WORKER_NAME = re.compile(r"^[a-z][a-z0-9]{0,5}$")
DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
DNS_SUBDOMAIN = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")

TOP_SWITCH = "t0"
DEFAULT_NAMESPACE = "default"


class TakenPorts(NamedTuple):
    """TCP ports that are not free on a worker, who has them, and at which of its addresses: 0.0.0.0 for all."""

    ports: range
    owner: str
    address: str = "0.0.0.0"


#: which ports a Service may have on every node, as kube-apiserver gives them (--service-node-port-range)
NODE_PORTS = range(30000, 32768)
#: what every worker has
WORKER_PORTS = (
    TakenPorts(range(10249, 10250), "kube-proxy", "127.0.0.1"),
    TakenPorts(range(10250, 10251), "the kubelet"),
    TakenPorts(range(10256, 10257), "kube-proxy"),
    TakenPorts(NODE_PORTS, "the node ports of Services"),
)
SKUPPER_GROUP = "skupper.io"
SKUPPER_API_VERSION = f"{SKUPPER_GROUP}/v2alpha1"
#: in the URLs of tokens, as with Skupper's controller; nobody listens there: one engine has the controllers of all
REDEMPTION_PORT = 9090
#: of a Skupper router: where skstat and skmanage ask, and where it tells how it is
MANAGEMENT_PORT, HEALTH_PORT = 5672, 9090
#: what a worker with a Skupper router has beside
ROUTER_PORTS = (
    TakenPorts(range(MANAGEMENT_PORT, MANAGEMENT_PORT + 1), "the router's management", "127.0.0.1"),
    TakenPorts(range(HEALTH_PORT, HEALTH_PORT + 1), "the router's health check"),
)

#: where every simulation's state lives on the host, and where a simulation sees its own
HOST_STATE = "/run/knetsim"
INSIDE_STATE = "/tmp/knetsim"
#: of the environment: which simulation is meant where no `--name` says so
NAME_VARIABLE = "KNETSIM_NAME"
#: where the machine listens for kubectl unless `--api-address` says so
ADDRESS_VARIABLE = "KNETSIM_API_ADDRESS"
#: inside, where etcd keeps its files
MEMORY_DISK = f"{INSIDE_STATE}/disk"
#: inside, where the files of images are
IMAGE_LAYERS = f"{INSIDE_STATE}/images"
#: inside, where the disks of claims are, and what PersistentVolumes call who makes them
VOLUMES = f"{INSIDE_STATE}/volumes"
VOLUME_DRIVER = "knetsim.io"


def worker_host(cluster: str, worker: str) -> str:
    """The Mininet host of a worker: `C0`, `w1` → `C0w1`."""
    return f"{cluster}{worker}"


def node_name(host: str) -> str:
    """The Kubernetes Node of a Mininet host: `C0w1` → `c0w1`."""
    return host.lower()


def etcd_host(cluster: str, member: int) -> str:
    """The Mininet host of the etcd member number `member` (from 1)."""
    return f"{cluster}e{member}"


def control_plane_host(cluster: str) -> str:
    """The Mininet host on which the control plane runs."""
    return f"{cluster}cp"


def cluster_switch(cluster: str) -> str:
    """The switch to which all hosts of a cluster are linked."""
    return f"{cluster}s0"


def cluster_id(cluster: str) -> str:
    """What stands for the cluster in pod namespaces and in `utils/exec`: `C0` → `0`, `East` → `east`."""
    return cluster[1:] if re.fullmatch(r"C[0-9]+", cluster) else cluster.lower()


def pod_netns(cluster: str, namespace: str, pod: str) -> str:
    """The name of a pod's network namespace in its worker's /run/netns: `k0_c1`; elsewhere than in `default`,
    `k0_web_c1`.

    Kubernetes names hold no underscore, so two pods never share a name. File names hold 255 characters.
    """
    middle = "" if namespace == DEFAULT_NAMESPACE else f"{namespace}_"
    return f"k{cluster_id(cluster)}_{middle}{pod}"[:255]


def pod_veth(namespace: str, pod: str, uid: str) -> str:
    """The worker's end of a pod's veth pair when knetsim wires it: `veth` and 8 hexadecimal digits, as the CNI
    plugin's."""
    return "veth" + hashlib.sha256(f"{namespace}/{pod}/{uid}".encode()).hexdigest()[:8]


def find_port_owner(taken: Iterable[TakenPorts], address: str, port: int) -> str:
    """Who has a port, so that nobody else can listen there at `address`; empty when it is free."""
    return next((each.owner for each in taken if port in each.ports and addresses_meet(address, each.address)), "")


def addresses_meet(one: str, other: str) -> bool:
    """Whether sockets at these two addresses of a host cannot have the same port."""
    return one == other or "0.0.0.0" in (one, other)


def host_directory(host: str) -> str:
    """Where a Mininet host's files are, seen inside the simulation: `/tmp/knetsim/C0w1`."""
    return f"{INSIDE_STATE}/{host}"


def pod_directory(host: str, namespace: str, pod: str) -> str:
    """Where a pod's hosts file, logs and volumes are: `/tmp/knetsim/C0w1/pods/default_c1`."""
    return f"{host_directory(host)}/pods/{namespace}_{pod}"


def etcd_socket(member_host: str) -> str:
    """The UNIX socket of an etcd member, beside its TCP port. etcd demands the form `host:port` for its name."""
    return f"{host_directory(member_host)}/client:0"


def nearest_word(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever its case, or None."""
    by_lower = {other.lower(): other for other in sorted(set(known), reverse=True)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the known words when none is near, or nothing when there are none."""
    words = sorted(set(known))
    near = nearest_word(word, words)
    if near is not None:
        return f"did you mean '{near}'?"
    return f"known: {', '.join(words)}" if words else ""

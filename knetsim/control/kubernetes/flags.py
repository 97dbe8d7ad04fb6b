"""The command lines of the control plane's programs, and the scheduler's configuration file; pure.

What differs from what kubeadm gives them, and why:
- `--storage-media-type=application/json`: `etcdctl get` shows objects as text; lists cost a little more.
- no leader election: there is one of each, and nobody to wait for at the start.
- far higher limits on requests a second, and more workers where many objects are made at once: 300 pods are bound in a
  second instead of fourteen.
- no allocation of pod subnets: flannel's leases are the subnets, and each Node says its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knetsim.control.kubernetes.certificates import Credentials

APISERVER, CONTROLLERS, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
#: what workers may run, of which there is a kubeconfig too
PROXY = "kube-proxy"
#: what has to be installed
PROGRAMS = (APISERVER, CONTROLLERS, SCHEDULER)

SECURE_PORT, CONTROLLERS_PORT, SCHEDULER_PORT = 6443, 10257, 10259
#: the API server, when it speaks to a kubelet: the only one whom kubelets let in
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
#: the API server, when it passes a request on to an extension server
FRONT_PROXY_CLIENT = "front-proxy-client"
#: Go's own pace of collecting garbage: GOGC=50 saves 60 MB a cluster, and costs a start a second on two cores
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
ISSUER = "https://kubernetes.default.svc.cluster.local"
_QPS, _BURST = 500, 1000
_SYNCS = 20


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """What the flags are made of: the cluster's name, its host's address and directory, its etcd and its Services."""

    cluster: str
    address: str
    directory: Path
    etcd: Sequence[str]
    services: IPv4Network

    @property
    def kubernetes_vip(self) -> str:
        """The address of the Service `kubernetes`: the first of the range."""
        return str(self.services.network_address + 1)

    def kubeconfig(self, program: str) -> Path:
        """Where the kubeconfig of a program lies."""
        return self.directory / f"{program.removeprefix('kube-')}.conf"

    def server_names(self) -> list[str]:
        """What the API server is called by those who reach it: on the underlay, by its Service, by the host's port."""
        service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        own = [self.address, self.directory.name, self.directory.name.lower(), self.kubernetes_vip]
        return [*own, *service, "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "::1"]


def build_apiserver_argv(program: str, plane: ControlPlane, credentials: Credentials) -> list[str]:
    """kube-apiserver."""
    signed = credentials
    return [
        program,
        f"--advertise-address={plane.address}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={signed.ca}",
        f"--etcd-servers={','.join(plane.etcd)}",
        f"--kubelet-certificate-authority={signed.ca}",
        f"--kubelet-client-certificate={signed.kubelet_client.certificate}",
        f"--kubelet-client-key={signed.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--proxy-client-cert-file={signed.front_proxy_client.certificate}",
        f"--proxy-client-key-file={signed.front_proxy_client.key}",
        f"--requestheader-allowed-names={FRONT_PROXY_CLIENT}",
        f"--requestheader-client-ca-file={signed.front_proxy_authority}",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--secure-port={SECURE_PORT}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={signed.accounts_public}",
        f"--service-account-signing-key-file={signed.accounts_key}",
        f"--service-cluster-ip-range={plane.services}",
        "--storage-media-type=application/json",
        f"--tls-cert-file={signed.apiserver.certificate}",
        f"--tls-private-key-file={signed.apiserver.key}",
    ]


def build_controllers_argv(program: str, plane: ControlPlane, credentials: Credentials) -> list[str]:
    """kube-controller-manager."""
    kubeconfig, authority = plane.kubeconfig(CONTROLLERS), credentials.authority.pair
    many = ("deployment", "replicaset", "statefulset", "daemonset", "job", "endpoint", "service-endpoint", "namespace")
    return [
        program,
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--client-ca-file={credentials.ca}",
        f"--cluster-name={plane.cluster}",
        f"--cluster-signing-cert-file={authority.certificate}",
        f"--cluster-signing-key-file={authority.key}",
        *(f"--concurrent-{what}-syncs={_SYNCS}" for what in (*many, "gc")),
        f"--kube-api-burst={_BURST}",
        f"--kube-api-qps={_QPS}",
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        f"--requestheader-client-ca-file={credentials.front_proxy_authority}",
        f"--root-ca-file={credentials.ca}",
        f"--secure-port={CONTROLLERS_PORT}",
        f"--service-account-private-key-file={credentials.accounts_key}",
        f"--service-cluster-ip-range={plane.services}",
        "--use-service-account-credentials=true",
    ]


def build_scheduler_argv(program: str, plane: ControlPlane) -> list[str]:
    """kube-scheduler; most of what it is told stands in its configuration file."""
    kubeconfig = plane.kubeconfig(SCHEDULER)
    return [
        program,
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--config={plane.directory / 'scheduler.yaml'}",
        f"--secure-port={SCHEDULER_PORT}",
    ]


def build_scheduler_config(plane: ControlPlane) -> dict[str, Any]:
    """The scheduler's configuration file. Source: kube-scheduler-config.v1."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(plane.kubeconfig(SCHEDULER)), "qps": _QPS, "burst": _BURST},
        "leaderElection": {"leaderElect": False},
    }

"""Who serves Services on a cluster's hosts: the emulator, one for all of them, or the real kube-proxy, one on each.

A worker's `proxy` in the scenario says which; both can be in one cluster. The control plane's host always has the
emulator: kube-proxy wants a Node, and that host is none.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from knetsim import names
from knetsim.api.informer import Informer
from knetsim.api.store import Store
from knetsim.dataplane.services.kube_proxy import CONFIG_NAME, HEALTHZ_PORT, LOG_NAME, build_argv, build_config
from knetsim.dataplane.underlay import HostNode
from knetsim.errors import MissingTool
from knetsim.node.service_rules import (
    ZONE_LABEL,
    ServiceRules,
    ServiceStatus,
    ServiceWorker,
    Tell,
    TellService,
    ensure_host,
)
from knetsim.system.daemon import DaemonSpec, Supervisor
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.wait import wait_until

EMULATOR = "emulator"
KUBE_PROXY = "kube-proxy"
READY_DEADLINE = 60.0
_ANSWER_SECONDS = 5.0
#: a smaller heap for a little more work, as the control plane's programs have
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOGC": "50"}


@dataclass(frozen=True, slots=True)
class KubeProxyParts:
    """What the real kube-proxy needs: the program, and a kubeconfig that lets it in."""

    program: Path
    kubeconfig: Path


@dataclass(frozen=True, slots=True)
class ServiceNetworks:
    """The addresses of pods and of Services."""

    pods: IPv4Network
    services: IPv4Network


@dataclass(frozen=True, slots=True)
class ProxiedHost:
    """A host and who serves Services on it."""

    worker: ServiceWorker
    proxy: str


def build_proxied_host(
    host: HostNode, address: str, proxy: str, subnet: IPv4Network | None, labels: Mapping[str, str]
) -> ProxiedHost:
    """A Mininet host as the proxies see it; `labels` are its Node's, `subnet` its share of the pod network."""
    worker = ServiceWorker(
        name=host.name,
        node=names.node_name(host.name),
        namespaces=host.place,
        netlink=host.netlink,
        interface=host.defaultIntf().name,
        address=IPv4Address(address),
        subnet=subnet,
        zone=labels.get(ZONE_LABEL, ""),
    )
    return ProxiedHost(worker, proxy)


class ServiceProxies:
    """The proxies of one cluster; one use: start, stop."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        hosts: Sequence[ProxiedHost],
        networks: ServiceNetworks,
        supervisor: Supervisor,
        *,
        kube_proxy: KubeProxyParts | None = None,
        nodes: Informer | None = None,
        repair: bool = True,
        tell: Tell = lambda worker, reason, message: None,
        tell_service: TellService = lambda service, reason, message: None,
    ) -> None:
        """MissingTool when a worker demands the real kube-proxy and `kube_proxy` is None: it is not installed, or the
        cluster has no API server to let it in."""
        self._real = [host.worker for host in hosts if host.proxy == KUBE_PROXY]
        if self._real and kube_proxy is None:
            raise MissingTool(
                "kube-proxy cannot run here",
                self._real[0].name,
                "it is not installed, or the cluster has no API server",
                "./utils/setup and controlPlane: kubernetes, or proxy: emulator",
            )
        self._kube_proxy, self._networks, self._supervisor = kube_proxy, networks, supervisor
        self.rules = ServiceRules(
            cluster,
            store,
            [host.worker for host in hosts if host.proxy != KUBE_PROXY],
            pod_network=networks.pods,
            service_network=networks.services,
            nodes=nodes,
            repair=repair,
            tell=tell,
            tell_service=tell_service,
        )

    def start(self) -> None:
        """Begin; returns before anything is in the kernels (see `wait_ready`). NotReady when no list can be read."""
        for worker in self._real:
            self._start_kube_proxy(worker)
        self.rules.start()

    def wait_ready(self, deadline: float = READY_DEADLINE) -> None:
        """Wait until every host serves what is known by now; NotReady."""
        self.rules.wait_synced(deadline)
        for worker in self._real:
            wait_until(
                f"{worker.name}'s kube-proxy",
                lambda worker=worker: read_health(worker.namespaces),  # type: ignore[misc]
                deadline,
                hint=f"see {LOG_NAME} in its directory",
            )

    def stop(self) -> None:
        """End the proxies; what is in the kernels stays. Twice is once."""
        self.rules.stop()
        for worker in self._real:
            self._supervisor.stop(_daemon(worker))

    def status(self) -> list[ServiceStatus]:
        """How far the emulator is on each of its hosts; kube-proxy's daemons are the supervisor's to tell."""
        return self.rules.status()

    def _start_kube_proxy(self, worker: ServiceWorker) -> None:
        assert self._kube_proxy is not None, "checked when this was made"
        ensure_host(worker, self._networks.services)
        directory = Path(names.host_directory(worker.name))
        config = build_config(worker.node, self._networks.pods, self._kube_proxy.kubeconfig)
        # JSON is YAML too
        (directory / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
        argv = build_argv(str(self._kube_proxy.program), directory)
        log = directory / LOG_NAME
        self._supervisor.start(DaemonSpec(_daemon(worker), argv, log, place=worker.namespaces, env=_ENVIRONMENT))


def _daemon(worker: ServiceWorker) -> str:
    return f"{worker.name}/{KUBE_PROXY}"


def read_health(place: Namespaces) -> str:
    """What the kube-proxy in `place` has not done yet, in words; empty once its rules are in the kernel.

    It answers 200 when it has synced within twice its period.
    """
    connection = http.client.HTTPConnection("127.0.0.1", HEALTHZ_PORT)
    try:
        sock = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
        connection.sock = sock
        sock.settimeout(_ANSWER_SECONDS)
        sock.connect(("127.0.0.1", HEALTHZ_PORT))
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return "" if answer.status == http.HTTPStatus.OK else f"healthz says {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"healthz does not answer: {error}"
    finally:
        connection.close()

"""The server of all kubelets of a cluster: a listening socket in each worker's namespace, one thread."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from knetsim.errors import KnetsimError
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.node.kubelet_api.admission import admit
from knetsim.node.kubelet_api.context import NODES, Nodes
from knetsim.node.kubelet_api.logs import answer_logs
from knetsim.node.kubelet_api.node_logs import answer_node_logs
from knetsim.node.kubelet_api.objects import answer_configz, answer_healthz, answer_pods
from knetsim.node.kubelet_api.port_forward import answer_port_forward
from knetsim.node.kubelet_api.stats import answer_metrics, answer_resource_metrics, answer_summary
from knetsim.node.kubelet_api.streaming import answer_attach, answer_exec
from knetsim.system.loop_thread import LoopThread
from knetsim.system.netns import Namespaces, netns_socket

PORT = 10250
_BACKLOG = 512
_STOP_SECONDS = 10.0


class KubeletApi:
    """Serves the API of the workers that are added. `start` once, `stop` once; any thread may call."""

    def __init__(self, kubelet: Kubelet, ca: Path, *, port: int = PORT) -> None:
        """`ca` is the certificate of the authority that signed the API server's client certificate."""
        self.port, self._ca = port, ca
        self._nodes = Nodes(kubelet)
        self._thread = LoopThread("kubelet api")
        self._runners: list[web.AppRunner] = []  # the kubelets' first

    def start(self) -> None:
        """Begin; without workers nothing listens yet."""
        self._thread.start()
        self._thread.call(self._open())

    def add_worker(self, worker: KubeletWorker, certificate: Path, key: Path) -> None:
        """Listen on a worker, with the certificate of its Node. KnetsimError when its port is taken."""
        place = worker.place.namespaces
        listening = netns_socket(place, socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("", self.port))
            context = build_tls(certificate, key, self._ca)
            self._nodes.add(context, worker)
            self._thread.call(self._listen(listening, context))
        except OSError as error:
            listening.close()
            raise KnetsimError(
                f"the kubelet's API cannot listen on port {self.port}", worker.place.name, str(error)
            ) from error

    def stop(self) -> None:
        """End all sessions and listen no more. Twice is once."""
        self._thread.stop(self._close)

    def serve_beside(
        self,
        host: Namespaces,
        address: tuple[str, int],
        context: ssl.SSLContext,
        build: Callable[[Nodes], web.Application],
    ) -> None:
        """Serve something else that is known of the nodes, at an address of a host. KnetsimError when it is taken."""
        listening = netns_socket(host, socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            self._thread.call(self._listen(listening, context, build(self._nodes)))
        except OSError as error:
            listening.close()
            raise KnetsimError(f"port {address[1]} cannot be listened on", host.name, str(error)) from error

    async def _open(self) -> None:
        self._runners.append(await _run(build_application(self._nodes)))

    async def _listen(
        self, listening: socket.socket, context: ssl.SSLContext, application: web.Application | None = None
    ) -> None:
        if application is not None:
            self._runners.append(await _run(application))
        runner = self._runners[-1 if application is not None else 0]
        await web.SockSite(runner, listening, ssl_context=context, backlog=_BACKLOG).start()

    async def _close(self) -> None:
        for task in self._nodes.sessions.copy():
            task.cancel()
        for runner in self._runners:
            await runner.cleanup()
        await self._thread.loop.shutdown_default_executor()


async def _run(application: web.Application) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    return runner


def build_application(nodes: Nodes) -> web.Application:
    """All paths."""
    application = web.Application(middlewares=[admit])
    application[NODES] = nodes
    router = application.router
    for path in ("/exec/{namespace}/{pod}/{container}", "/exec/{namespace}/{pod}/{uid}/{container}"):
        router.add_get(path, answer_exec)
        router.add_post(path, answer_exec)
    for path in ("/attach/{namespace}/{pod}/{container}", "/attach/{namespace}/{pod}/{uid}/{container}"):
        router.add_get(path, answer_attach)
        router.add_post(path, answer_attach)
    router.add_get("/containerLogs/{namespace}/{pod}/{container}", answer_logs)
    for path in ("/portForward/{namespace}/{pod}", "/portForward/{namespace}/{pod}/{uid}"):
        router.add_get(path, answer_port_forward)
        router.add_post(path, answer_port_forward)
    router.add_get("/healthz", answer_healthz)
    for path in ("/pods", "/pods/", "/runningpods/", "/runningpods"):
        router.add_get(path, answer_pods)
    router.add_get("/configz", answer_configz)
    for path in ("/logs/", "/logs/{name}"):
        router.add_get(path, answer_node_logs)
    router.add_get("/stats/summary", answer_summary)
    router.add_get("/metrics", answer_metrics)
    router.add_get("/metrics/resource", answer_resource_metrics)
    return application


def build_tls(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS 1.2 or later, HTTP/1.1 only (there is no upgrade in HTTP/2); who shows no certificate is told so later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context

"""What the answers to requests share: the kubelet, and which worker a connection came to."""

from __future__ import annotations

import asyncio
import ssl

from aiohttp import web

from knetsim.api.objects import Object, name_of, namespace_of
from knetsim.errors import NotFound
from knetsim.node.kubelet import Kubelet, KubeletWorker
from knetsim.node.kubelet.access import ContainerAccess
from knetsim.node.kubelet_api.usage import UsageWatch


class Nodes:
    """The workers of one cluster, each known by the TLS context of its listening socket."""

    def __init__(self, kubelet: Kubelet) -> None:
        self.kubelet = kubelet
        self.sessions: set[asyncio.Task[None]] = set()
        self.usage = UsageWatch(kubelet, lambda: list(self._workers.values()))
        self._workers: dict[ssl.SSLContext, KubeletWorker] = {}

    def add(self, context: ssl.SSLContext, worker: KubeletWorker) -> None:
        """Know a worker."""
        self._workers[context] = worker

    def worker_of(self, request: web.Request) -> KubeletWorker:
        """To which worker a request came."""
        assert request.transport is not None, "a request that is answered has a connection"
        return self._workers[request.transport.get_extra_info("ssl_object").context]

    def node_labels(self) -> dict[str, dict[str, str]]:
        """The Nodes by name, with their labels as they are stored."""
        nodes = [one.node for one in self._workers.values()]
        return {node: self.kubelet.node(node)["metadata"].get("labels") or {} for node in nodes}

    def find_pod(self, request: web.Request) -> Object:
        """The pod that a request names. NotFound, also when it is on another worker."""
        path, node = request.match_info, self.worker_of(request).node
        for pod in self.kubelet.pods_on(node):
            if (namespace_of(pod), name_of(pod)) == (path["namespace"], path["pod"]):
                return pod
        raise NotFound("pod does not exist")

    def find(self, request: web.Request) -> ContainerAccess:
        """The container that a request names, of a pod that has been begun. NotFound."""
        self.find_pod(request)
        path = request.match_info
        run, pod = self.kubelet.find(path["namespace"], path["pod"])
        if run.uid != path.get("uid", run.uid):
            raise NotFound("pod does not exist")
        return run.access(pod, path["container"])


NODES: web.AppKey[Nodes] = web.AppKey("nodes", Nodes)

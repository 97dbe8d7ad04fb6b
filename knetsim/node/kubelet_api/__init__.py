"""The kubelet's HTTP API: what the API server asks of a node for `kubectl exec`, `logs`, `attach`, `port-forward`.

Reality: every kubelet is a server of its own on port 10250, which lets in whom the API server vouches for. Ours: one
thread of asyncio for all workers of a cluster, with a listening socket in each worker's network namespace, TLS with a
certificate of each node, and only the API server's client certificate let in. Paths, words of errors and stream
protocols are Kubernetes' (pkg/kubelet/server, k8s.io/cri-streaming), so stock kubectl and the client libraries work.

    server.py      listening sockets, TLS, the thread          admission.py   who is let in
    streaming.py   exec and attach: a request and its answer   session.py     moves bytes between a client and a command
    channels.py    their WebSocket protocols, v5 and v4        port_forward.py connections into pods, over
    spdy.py        SPDY/3.1 frames, pure                       spdy_connection.py the streams of it
    raw_spdy.py    SPDY/3.1 without a WebSocket, for clients before kubectl 1.31
    logs.py        containerLogs                               log_reading.py the part of a log that is asked for, pure
    node_logs.py   the logs of the node's daemons

To see it: `C0w1 ss -ltnp`, `kubectl get --raw /api/v1/nodes/c0w1/proxy/pods`. Nobody's session costs
nothing.
"""

from knetsim.node.kubelet_api.server import KubeletApi, build_tls

__all__ = ["KubeletApi", "build_tls"]

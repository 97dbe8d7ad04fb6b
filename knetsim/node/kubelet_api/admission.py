"""Who may ask a kubelet: the API server, by its client certificate.

A real kubelet asks the API server about everybody who comes (TokenReview, SubjectAccessReview); those whom it refuses
read the same words here. A certificate of another authority does not get past the TLS handshake.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

#: whom kubeadm's certificate for the API server names (and ours)
API_SERVER = "kube-apiserver-kubelet-client"


def read_user(certificate: dict[str, Any] | None) -> str:
    """The common name of a peer's certificate as the ssl module shows it; "" without one."""
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return value
    return ""


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the API server's requests pass."""
    transport = request.transport
    user = read_user(transport.get_extra_info("peercert")) if transport is not None else ""
    if not user:
        return web.Response(status=401, text="Unauthorized")
    if user != API_SERVER:
        what = f"user={user}, verb={_VERBS.get(request.method, 'get')}, resource=nodes, subresource=[proxy]"
        return web.Response(status=403, text=f"Forbidden ({what})")
    return await handler(request)


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

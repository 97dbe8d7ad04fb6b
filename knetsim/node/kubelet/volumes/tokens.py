"""Service-account tokens of one pod: asked for once, again when four fifths of their life have passed.

Source: Kubernetes' pkg/kubelet/token/token_manager.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knetsim.api.objects import Object, name_of, namespace_of, uid_of
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.sources import Sources

#: a token is replaced when so much of its life has passed, and after a day in any case
_LIFE, _LONGEST = 0.8, 24 * 3600.0
#: seconds until the next attempt when a token that still holds cannot be replaced
_RETRY = 30.0


@dataclass(slots=True)
class _Token:
    text: str
    replace_at: float
    expires: float


class Tokens:
    """The tokens of one pod."""

    def __init__(self, pod: Object, sources: Sources, wall: Callable[[], float]) -> None:
        self._pod, self._sources, self._wall = pod, sources, wall
        self._tokens: dict[tuple[str, int], _Token] = {}

    def get(self, audience: str, seconds: int) -> str:
        """The token for an audience ("" for the API server), one that has life left. Errors of the store."""
        now, token = self._wall(), self._tokens.get((audience, seconds))
        if token is not None and now < token.replace_at:
            return token.text
        try:
            text, expires = self._request(audience, seconds)
        except KnetsimError:
            if token is None or now >= token.expires:
                raise
            token.replace_at = now + _RETRY  # the one that is there still holds
            return token.text
        replace_at = min(now + (expires - now) * _LIFE, now + _LONGEST)
        self._tokens[audience, seconds] = _Token(text, replace_at, expires)
        return text

    def next_replacement(self) -> float | None:
        """Seconds until a token is to be replaced; None when there is none."""
        moments = [token.replace_at for token in self._tokens.values()]
        return max(min(moments) - self._wall(), 0.0) if moments else None

    def _request(self, audience: str, seconds: int) -> tuple[str, float]:
        pod = self._pod
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)},
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        return self._sources.token(namespace_of(pod), account, body)

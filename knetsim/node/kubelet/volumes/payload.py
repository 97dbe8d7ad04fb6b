"""What files a ConfigMap, a Secret, the downward API or a projection of several makes; pure, but for tokens.

Sources: Kubernetes' pkg/volume/{configmap,secret,downwardapi,projected}, and their messages.
"""

from __future__ import annotations

import base64
import os.path
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from knetsim.api.objects import Object, namespace_of
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.downward import read_field, read_resource
from knetsim.node.kubelet.sources import Sources

_DEFAULT_MODE = 0o644
#: of a token that only its container's user or group is to read
_TOKEN_MODE = 0o600


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume; `owner` is a user id, when it is not root's."""

    data: bytes
    mode: int = _DEFAULT_MODE
    owner: int | None = None


#: path below the volume → file
Payload = dict[str, File]
#: a token for (audience, seconds)
Tokens = Callable[[str, int], str]


@dataclass(frozen=True, slots=True)
class Projection:
    """What volumes are made from: the pod, what it may read, tokens, and the user all its containers run as."""

    pod: Object
    sources: Sources
    tokens: Tokens
    user: int | None = None

    @property
    def namespace(self) -> str:
        """The pod's."""
        return namespace_of(self.pod)


def build_payload(volume: Mapping[str, Any], projection: Projection) -> Payload:
    """The files of a volume of one of the kinds in `BUILDERS`. KnetsimError, in the kubelet's words."""
    kind = next(kind for kind in BUILDERS if volume.get(kind) is not None)
    source = volume[kind]
    return BUILDERS[kind](source, source.get("defaultMode", _DEFAULT_MODE), projection)


def _from_config_map(source: Mapping[str, Any], mode: int, projection: Projection) -> Payload:
    name, optional = source.get("name", ""), bool(source.get("optional"))
    found = projection.sources.config_map(projection.namespace, name)
    if found is None and not optional:
        raise KnetsimError(f'configmap "{name}" not found')
    held = {key: value.encode() for key, value in ((found or {}).get("data") or {}).items()}
    held |= {key: base64.b64decode(value) for key, value in ((found or {}).get("binaryData") or {}).items()}
    missing = "configmap references non-existent config key: {}"
    return _choose(held, source.get("items"), mode, optional, missing)


def _from_secret(source: Mapping[str, Any], mode: int, projection: Projection) -> Payload:
    name, optional = source.get("secretName", source.get("name", "")), bool(source.get("optional"))
    found = projection.sources.secret(projection.namespace, name)
    if found is None and not optional:
        raise KnetsimError(f'secret "{name}" not found')
    held = {key: base64.b64decode(value) for key, value in ((found or {}).get("data") or {}).items()}
    return _choose(held, source.get("items"), mode, optional, "references non-existent secret key: {}")


def _choose(
    held: Mapping[str, bytes], items: Iterable[Mapping[str, Any]] | None, mode: int, optional: bool, missing: str
) -> Payload:
    """All of it, or the chosen keys at their paths."""
    if not items:
        return {key: File(data, mode) for key, data in held.items()}
    payload = {}
    for item in items:
        if item["key"] in held:
            payload[_clean(item["path"])] = File(held[item["key"]], _mode(item, mode))
        elif not optional:
            raise KnetsimError(missing.format(item["key"]))
    return payload


def _from_downward(source: Mapping[str, Any], mode: int, projection: Projection) -> Payload:
    pod, payload, failures = projection.pod, {}, []
    for item in source.get("items") or ():
        text = ""
        try:
            if field := item.get("fieldRef"):
                text = read_field(pod, field["fieldPath"])
            elif resource := item.get("resourceFieldRef"):
                allocatable = projection.sources.allocatable(pod["spec"].get("nodeName", ""))
                text = read_resource(pod, resource, allocatable)
        except KnetsimError as error:
            failures.append(error.what)
        payload[_clean(item["path"])] = File(text.encode(), _mode(item, mode))
    _raise_all(failures)
    return payload


def _from_projected(source: Mapping[str, Any], mode: int, projection: Projection) -> Payload:
    payload: Payload = {}
    failures: list[str] = []
    for one in source.get("sources") or ():
        kind = next((kind for kind in _PROJECTED if one.get(kind) is not None), "")
        try:
            if not kind:
                unknown = ", ".join(kind for kind, given in one.items() if given is not None)
                raise KnetsimError(f"knetsim's kubelet does not simulate projected volumes of {unknown}")
            payload.update(_PROJECTED[kind](one[kind], mode, projection))
        except KnetsimError as error:
            failures.append(str(error))
    _raise_all(failures)
    return payload


def _from_token(source: Mapping[str, Any], mode: int, projection: Projection) -> Payload:
    token = projection.tokens(source.get("audience", ""), source.get("expirationSeconds", 3600))
    spec = projection.pod["spec"]
    private = projection.user is not None or (spec.get("securityContext") or {}).get("fsGroup") is not None
    return {_clean(source["path"]): File(token.encode(), _TOKEN_MODE if private else mode, projection.user)}


def _mode(item: Mapping[str, Any], mode: int) -> int:
    given = item.get("mode")
    return mode if given is None else int(given)


def _clean(path: str) -> str:
    return os.path.normpath(path)


def _raise_all(failures: list[str]) -> None:
    """As Go's aggregate of errors reads."""
    if failures:
        raise KnetsimError(failures[0] if len(failures) == 1 else f"[{', '.join(dict.fromkeys(failures))}]")


BUILDERS: dict[str, Callable[[Mapping[str, Any], int, Projection], Payload]] = {
    "configMap": _from_config_map,
    "secret": _from_secret,
    "downwardAPI": _from_downward,
    "projected": _from_projected,
}
_PROJECTED = {
    "configMap": _from_config_map,
    "secret": _from_secret,
    "downwardAPI": _from_downward,
    "serviceAccountToken": _from_token,
}

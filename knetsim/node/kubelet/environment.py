"""The environment of a container: what its pod declares, and what its image and the cluster add.

Of what is declared, later variables may refer to earlier ones, and to those of Services, as `$(NAME)`; so may
`command`, `args` and `subPathExpr`. What the image or the runtime sets (PATH, HOSTNAME) is not known to that expansion,
as with a kubelet, which hands its variables to the runtime. Source: Kubernetes' pkg/kubelet/kubelet_pods.go
(makeEnvironmentVariables), k8s.io/kubernetes/third_party/forked/golang/expansion.
"""

from __future__ import annotations

import base64
import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from knetsim.api.objects import Object, namespace_of
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.downward import Addresses, read_field, read_resource
from knetsim.node.kubelet.service_links import build_service_links
from knetsim.node.kubelet.sources import Sources

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


class ConfigError(KnetsimError):
    """A container's configuration cannot be made: it waits with the reason CreateContainerConfigError."""


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable's value; unknown ones stay, `$$` is `$`. As Kubernetes' expansion package."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def expand_all(text: str, env: Mapping[str, str]) -> str:
    """As `expand`; ConfigError when a variable is unknown or empty."""
    missing = {match[1] for match in _REFERENCE.finditer(text) if match[1] is not None and not env.get(match[1])}
    if missing:
        raise ConfigError(f"missing value for {', '.join(sorted(missing))}")
    return expand(text, env)


def build_env(pod: Object, container: Mapping[str, Any], sources: Sources, addresses: Addresses) -> dict[str, str]:
    """What a kubelet tells a container's runtime to set; ConfigError in the kubelet's words."""
    spec, namespace = pod["spec"], namespace_of(pod)
    links = build_service_links(sources.services(), namespace, links=spec.get("enableServiceLinks", True))
    env: dict[str, str] = {}
    known = ChainMap(env, links)
    for source in container.get("envFrom") or ():
        env.update(_read_all(source, namespace, sources))
    for variable in container.get("env") or ():
        if value := variable.get("value"):
            env[variable["name"]] = expand(value, known)
        elif not variable.get("valueFrom"):
            env[variable["name"]] = ""
        else:
            found = _read_value(variable["valueFrom"], pod, container, sources, addresses)
            if found is not None:
                env[variable["name"]] = found
    return {**links, **env}


def _read_all(source: Mapping[str, Any], namespace: str, sources: Sources) -> dict[str, str]:
    """All of a ConfigMap or a Secret, for `envFrom`."""
    prefix = source.get("prefix") or ""
    if reference := source.get("configMapRef"):
        held = _find_held(sources.config_map, "configmap", reference, namespace)
        return {prefix + key: value for key, value in ((held or {}).get("data") or {}).items()}
    if reference := source.get("secretRef"):
        held = _find_held(sources.secret, "secret", reference, namespace)
        return {prefix + key: _decode(value) for key, value in ((held or {}).get("data") or {}).items()}
    return {}


def _read_value(
    source: Mapping[str, Any], pod: Object, container: Mapping[str, Any], sources: Sources, addresses: Addresses
) -> str | None:
    """What `valueFrom` says; None: the variable is not set."""
    namespace = namespace_of(pod)
    try:
        if field := source.get("fieldRef"):
            return read_field(pod, field["fieldPath"], addresses)
        if resource := source.get("resourceFieldRef"):
            return read_resource(pod, resource, sources.allocatable(pod["spec"].get("nodeName", "")), container)
    except KnetsimError as error:
        raise ConfigError(error.what) from error
    if reference := source.get("configMapKeyRef"):
        held = _find_held(sources.config_map, "configmap", reference, namespace)
        return _pick(held, reference, f"ConfigMap {namespace}/{reference.get('name', '')}")
    if reference := source.get("secretKeyRef"):
        held = _find_held(sources.secret, "secret", reference, namespace)
        value = _pick(held, reference, f"Secret {namespace}/{reference.get('name', '')}")
        return None if value is None else _decode(value)
    raise ConfigError(
        f"knetsim's kubelet does not carry out valueFrom.{next(iter(source), '')}",
        hint="fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef are",
    )


def _find_held(
    find: Callable[[str, str], Object | None], kind: str, reference: Mapping[str, Any], namespace: str
) -> Object | None:
    """The ConfigMap or Secret that is referred to; None when it may be missing, else ConfigError as of a kubelet."""
    name = reference.get("name", "")
    found = find(namespace, name)
    if found is None and not reference.get("optional"):
        raise ConfigError(f'{kind} "{name}" not found')
    return found


def _pick(held: Object | None, reference: Mapping[str, Any], what: str) -> str | None:
    key, data = reference.get("key", ""), (held or {}).get("data") or {}
    if key in data:
        return str(data[key])
    if reference.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {key} in {what}")


def _decode(value: str) -> str:
    """A Secret's value; what is no text is kept byte by byte."""
    return base64.b64decode(value).decode(errors="surrogateescape")

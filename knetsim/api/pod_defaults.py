"""What the API server writes into the parts of a Pod that do not say it: volumes, probes, sources of values.

Pure. Source: Kubernetes' pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object

_PROBE_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_DEFAULTS = {"path": "/", "scheme": "HTTP"}
#: rw-r--r--
_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600


def without_nulls(given: Mapping[str, Any]) -> Object:
    """A field that is null is not given, in Kubernetes."""
    return {field: value for field, value in given.items() if value is not None}


def fill(given: Object, defaults: Mapping[str, Any]) -> Object:
    """The same mapping, with what is missing, 0 or "" replaced."""
    for field, value in defaults.items():
        if given.get(field) in (None, "", 0):
            given[field] = value
    return given


def default_probe(given: Mapping[str, Any]) -> Object:
    """A probe with its numbers."""
    return fill(default_action(given), _PROBE_DEFAULTS)


def default_action(given: Mapping[str, Any]) -> Object:
    """What a probe or a hook does, complete."""
    action = without_nulls(given)
    if "httpGet" in action:
        action["httpGet"] = fill(without_nulls(action["httpGet"]), _HTTP_DEFAULTS)
    if "grpc" in action:
        action["grpc"] = {"service": "", **without_nulls(action["grpc"])}
    return action


def default_source(given: Mapping[str, Any]) -> Object:
    """Where the value of a variable, or a file of the downward API, comes from."""
    source = without_nulls(given)
    if "fieldRef" in source:
        source["fieldRef"] = fill(without_nulls(source["fieldRef"]), {"apiVersion": "v1"})
    if "resourceFieldRef" in source:
        source["resourceFieldRef"] = fill(without_nulls(source["resourceFieldRef"]), {"divisor": "0"})
    return source


def default_volume(given: Mapping[str, Any]) -> Object:
    """A volume; one without a source is an emptyDir."""
    volume = without_nulls(given)
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for word in ("configMap", "secret", "downwardAPI", "projected"):
        if word in volume:
            volume[word] = {"defaultMode": _FILE_MODE, **without_nulls(volume[word])}
    if "hostPath" in volume:
        volume["hostPath"] = {"type": "", **without_nulls(volume["hostPath"])}
    if "downwardAPI" in volume:
        _default_files(volume["downwardAPI"])
    if volume.get("projected", {}).get("sources"):
        volume["projected"]["sources"] = [_default_projection(source) for source in volume["projected"]["sources"]]
    return volume


def _default_projection(given: Mapping[str, Any]) -> Object:
    source = without_nulls(given)
    if "serviceAccountToken" in source:
        token = without_nulls(source["serviceAccountToken"])
        source["serviceAccountToken"] = fill(token, {"expirationSeconds": _TOKEN_SECONDS})
    if "downwardAPI" in source:
        source["downwardAPI"] = without_nulls(source["downwardAPI"])
        _default_files(source["downwardAPI"])
    return source


def _default_files(downward: Object) -> None:
    if downward.get("items"):
        downward["items"] = [default_source(item) for item in downward["items"]]

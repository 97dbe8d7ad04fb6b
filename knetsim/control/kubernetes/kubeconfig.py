"""kubeconfig files: where an API server is, whom to believe, and as whom to speak; pure but for reading the keys."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from knetsim.control.kubernetes.certificates import KeyPair


def build_kubeconfig(context: str, server: str, ca: Path, pair: KeyPair, *, cluster: str = "") -> dict[str, Any]:
    """A kubeconfig with one context, which is the current one; everything it needs is inside it.

    `server` is the URL; the cluster and the user have the name `cluster`, or else the context's.
    Source: kubernetes.io/docs/reference/config-api/kubeconfig.v1.
    """
    name = cluster or context
    user = {"client-certificate-data": _encode(pair.certificate), "client-key-data": _encode(pair.key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _encode(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": name, "user": name}}],
        "current-context": context,
    }


def join_kubeconfigs(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One kubeconfig with all contexts of several; the first one's current context is current."""
    joined: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for config in configs:
        for field in ("clusters", "users", "contexts"):
            joined[field] += config[field]
    joined["current-context"] = configs[0]["current-context"] if configs else ""
    return joined


def format_kubeconfig(config: dict[str, Any]) -> str:
    """The file's text."""
    return yaml.safe_dump(config, sort_keys=False)


def _encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

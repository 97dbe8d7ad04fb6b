"""The bytes that lie in etcd, as a kube-apiserver with JSON storage would put them, below their key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from knetsim.api import accept
from knetsim.api.events import build_event
from knetsim.api.objects import Object, encode, kind_of, name_of, namespace_of, storage_key

_CASES = sorted((Path(__file__).parent / "storage").glob("*.yaml"))
_NOW = 1738317600.0  # 2025-01-31T10:00:00Z
_UID = "7d3a5c3e-0000-4000-8000-000000000001"


def stored(obj: Object) -> str:
    """Key and value, as `etcdctl get KEY` prints them."""
    return f"{storage_key(kind_of(obj), name_of(obj), namespace_of(obj))}\n{encode(obj).decode()}"


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.stem)
def test_storage(case: Path, golden: Callable[[Path, str], None]) -> None:
    given = yaml.safe_load(case.read_text())
    obj = accept.accept_create(kind_of(given), given, _NOW)
    obj["metadata"]["uid"] = _UID
    if case.stem.endswith("-deleted"):
        marked = accept.plan_delete(kind_of(obj), obj, None, None, _NOW)
        assert marked is not None
        obj = marked
    golden(case.with_suffix(".txt"), stored(obj))


def test_event(golden: Callable[[Path, str], None]) -> None:
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "c1", "namespace": "default", "uid": _UID}}
    event = build_event(pod, "Started", "Started container main", component="kubelet", host="c0w1", now=_NOW)
    obj = accept.accept_create(kind_of(event), event, _NOW)
    obj["metadata"]["uid"] = _UID
    golden(Path(__file__).parent / "storage" / "event.txt", stored(obj))

"""The same object through a real kube-apiserver and through the embedded store: the same defaults, the same refusals.

What differs on purpose: a field that was given empty stays; quantities stay as they were written (`0.5`, not `500m`);
what admission adds is missing, service accounts, and the taint of a Node that is not ready yet; Go's zeros in a Node's
status and `null` for the lists of an EndpointSlice.
"""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.api.accept import accept_create
from knetsim.api.http import ApiClient
from knetsim.api.http_store import HttpStore
from knetsim.api.objects import KINDS, Object, kind_of
from knetsim.errors import ObjectError
from tests.lab.kubernetes_fixture import ApiServer, api_server, members

__all__ = ["api_server", "members"]

_ROOT = Path(__file__).parents[2]
_FOLDER = Path(__file__).parent / "accepted_alike"
_OBJECTS = [obj for path in sorted(_FOLDER.glob("*.yaml")) for obj in yaml.safe_load_all(path.read_text())]
_REFUSED = [
    path for path in sorted((_FOLDER.parents[1] / "golden/object_errors").glob("*.yaml"))
    if path.stem not in ("custom-resource", "deployment", "skupper-other-kind", "skupper-version", "wrong-version")
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def custom_kinds(api_server: ApiServer) -> None:
    """The server serves them."""
    api_server.define()
    client = api_server.client()
    try:
        store = HttpStore(client)
        for kind in KINDS.values():
            store.list(kind.name)
    finally:
        client.close()


def post(client: ApiClient, obj: Object) -> Object:
    """What the server would store."""
    kind = kind_of(obj)
    group = "/api/v1" if kind.api_version == "v1" else f"/apis/{kind.api_version}"
    place = "/namespaces/default" if kind.namespaced else ""
    return client.request("POST", f"{group}{place}/{kind.plural}?dryRun=All&fieldValidation=Strict", obj)


def comparable(obj: Object) -> Any:
    """An object without what each store says by itself."""
    found = {field: value for field, value in obj.items() if field != "metadata"}
    found["labels"] = obj["metadata"].get("labels")
    found["generation"] = obj["metadata"].get("generation")
    return found


@pytest.mark.parametrize("obj", _OBJECTS, ids=lambda obj: f"{obj['kind']}-{obj['metadata']['name']}")
def test_the_same_defaults(api_server: ApiServer, obj: Object) -> None:
    client = api_server.client()
    try:
        real = post(client, copy.deepcopy(obj))
    finally:
        client.close()
    assert comparable(accept_create(kind_of(obj), obj, 0.0)) == comparable(real)


@pytest.mark.parametrize("path", _REFUSED, ids=lambda path: path.stem)
def test_the_same_refusals(api_server: ApiServer, path: Path) -> None:
    """What is refused here is refused there."""
    obj = yaml.safe_load(path.read_text())
    client = api_server.client()
    try:
        with pytest.raises(ObjectError):
            post(client, obj)
    finally:
        client.close()
    with pytest.raises(ObjectError):
        accept_create(kind_of(obj), obj, 0.0)


def test_the_structure_is_that_of_the_server(api_server: ApiServer, tmp_path: Path) -> None:
    """What tools/openapi/build.py makes of this server's documents is the file that is here."""
    build = runpy.run_path(str(_ROOT / "tools/openapi/build.py"))
    client = api_server.client()
    try:
        for path in {"version", *(f"openapi/v3/{path}" for path in build["KINDS"].values())}:
            saved = path.removeprefix("openapi/v3/").replace("/", "_")
            (tmp_path / f"{saved}.json").write_text(json.dumps(client.request("GET", f"/{path}")))
    finally:
        client.close()
    assert build["build_structure"](str(tmp_path)) == build["RESULT"].read_text()


def test_there_are_objects() -> None:
    assert len(_OBJECTS) >= 15
    assert len(_REFUSED) >= 8

"""Where objects are served: for rows of KINDS by the row, for every other kind by what the server says of itself.

Discovery is asked once for each `apiVersion` and kept; a kind that is not in it is looked for again, since a custom
resource may have been defined meanwhile. One that has just been defined is served a moment later: that is waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from knetsim import names
from knetsim.api.http.client import ApiClient
from knetsim.api.objects import KINDS, Kind, describe
from knetsim.errors import NotFound, ObjectError, StoreUnavailable

#: seconds for which a kind that is defined, but not yet served, is waited for
_DEFINED_SECONDS = 10.0
_PAUSE = 0.1
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Resource(NamedTuple):
    """A kind as it is served."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str = "", name: str = "", part: str = "", **query: str | int) -> str:
        """The path of a collection, an object, or a part of one (`status`), with its query."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        place = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        path = f"{root}{self.api_version}{place}/{self.plural}"
        if name:
            path += f"/{quote(name, safe='')}"
        if part:
            path += f"/{part}"
        return f"{path}?{urlencode(query)}" if query else path


def resource_of(kind: Kind) -> Resource:
    """How the kind of a row is served."""
    return Resource(kind.api_version, kind.plural, kind.namespaced)


class Discovery:
    """What kinds the server serves, whoever has defined them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Resource]] = {}

    def find(self, obj: Mapping[str, Any]) -> Resource:
        """How the object's kind is served; ObjectError when it is not."""
        kind, version = obj.get("kind"), obj.get("apiVersion")
        for field, value in (("apiVersion", version), ("kind", kind)):
            if not isinstance(value, str) or not value:
                raise ObjectError(f"an object needs {'an' if field == 'apiVersion' else 'a'} {field}", field=field)
        assert isinstance(kind, str)
        assert isinstance(version, str)
        row = KINDS.get(kind)
        if row is not None and row.api_version == version:
            return resource_of(row)
        end = time.monotonic() + _DEFINED_SECONDS
        found = self._served(version).get(kind) or self._served(version, again=True).get(kind)
        while found is None:
            if not self._is_defined(kind, version) or time.monotonic() >= end:
                raise self._unknown(obj, kind, version)
            if self._client.closing.wait(_PAUSE):
                raise StoreUnavailable("the API server does not answer", self._client.where, "closed")
            found = self._served(version, again=True).get(kind)
        return found

    def _served(self, version: str, *, again: bool = False) -> dict[str, Resource]:
        """The kinds of an apiVersion."""
        with self._lock:
            known = self._known.get(version)
        if known is not None and not again:
            return known
        path = f"/{'apis' if '/' in version else 'api'}/{quote(version)}"
        try:
            listed = self._client.request("GET", path).get("resources") or ()
        except NotFound:
            listed = ()
        served = {
            item["kind"]: Resource(version, item["name"], item["namespaced"])
            for item in listed
            if "/" not in item["name"]  # `pods/status` is a part of another
        }
        with self._lock:
            self._known[version] = served
        return served

    def _is_defined(self, kind: str, version: str) -> bool:
        """Whether a custom resource of this kind and version is defined, to be served in a moment."""
        group, _, short = version.partition("/")
        definitions: Iterable[Any] = self._client.request("GET", _DEFINITIONS).get("items") or ()
        specs = [item["spec"] for item in definitions]
        return any(
            spec["group"] == group
            and spec["names"]["kind"] == kind
            and any(item["name"] == short and item["served"] for item in spec["versions"])
            for spec in specs
        )

    def _unknown(self, obj: Mapping[str, Any], kind: str, version: str) -> ObjectError:
        served = self._served(version)
        if served:
            what, hint = f"{version} has no kind {kind!r}", names.did_you_mean(kind, served)
        else:
            hint = "kubectl api-versions shows what it serves"
            what = f"the API server serves no apiVersion {version!r}"
            if kind in KINDS:
                hint = f"did you mean {KINDS[kind].api_version!r}?"
        return ObjectError(what, describe(obj), hint=hint, field="kind" if served else "apiVersion")

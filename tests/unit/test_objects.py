"""Objects as they are stored: the kinds, the keys, the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.api import objects
from knetsim.errors import ObjectError

QUICK = settings(max_examples=40, deadline=None)
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(TEXT.filter(lambda name: name not in ("metadata", "kind", "apiVersion")), JSON, max_size=4)
METADATA = st.dictionaries(TEXT.filter(lambda name: name not in ("resourceVersion", "selfLink")), JSON, max_size=4)
OBJECTS = st.builds(
    lambda fields, metadata: {**fields, "metadata": metadata, "apiVersion": "v1", "kind": "Pod"}, FIELDS, METADATA
)


class TestLayout:
    @QUICK
    @given(OBJECTS, st.integers(1, 2**62))
    def test_what_is_stored_is_read(self, obj: dict[str, Any], revision: int) -> None:
        given = json.loads(json.dumps(obj))
        read = objects.decode(objects.encode(obj), revision)
        assert read["metadata"].pop("resourceVersion") == str(revision)
        assert read == given == obj

    @QUICK
    @given(OBJECTS)
    def test_storing_again_changes_nothing(self, obj: dict[str, Any]) -> None:
        value = objects.encode(obj)
        assert objects.encode(objects.decode(value, 7)) == value

    @QUICK
    @given(OBJECTS)
    def test_one_line_kind_first(self, obj: dict[str, Any]) -> None:
        value = objects.encode(obj)
        assert value.startswith(b'{"kind":"Pod","apiVersion":"v1","metadata":{')
        assert value.endswith(b"}\n")
        assert value.count(b"\n") == 1

    def test_the_version_is_not_stored(self) -> None:
        obj = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "5", "selfLink": "", "name": "c1"}}
        assert objects.encode(obj) == b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"c1"}}\n'
        assert obj["metadata"] == {"resourceVersion": "5", "selfLink": "", "name": "c1"}

    @pytest.mark.parametrize("value", [{1, 2}, float("nan"), b"bytes", "\ud800"])
    def test_what_is_no_json(self, value: object) -> None:
        with pytest.raises(ObjectError, match="Pod c1: cannot be written as JSON"):
            objects.encode({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "c1"}, "spec": value})

    @pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b"null", b'{"metadata":5}', b"k8s\x00\n\x08", b"\xff"])
    def test_what_is_no_object_is_left_out(self, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
        assert objects.read_object("/registry/pods/default/c1", value, 1) is None
        assert "/registry/pods/default/c1 holds no object" in caplog.text


class TestKeys:
    @pytest.mark.parametrize(
        ("kind", "name", "namespace", "key"),
        [
            ("Pod", "c1", "default", "/registry/pods/default/c1"),
            ("Node", "c0w1", None, "/registry/minions/c0w1"),
            ("Namespace", "default", None, "/registry/namespaces/default"),
            ("Lease", "c0w1", "kube-node-lease", "/registry/leases/kube-node-lease/c0w1"),
            ("Event", "c1.18a", "default", "/registry/events/default/c1.18a"),
            ("Service", "web", "default", "/registry/services/specs/default/web"),
            ("EndpointSlice", "web-x", "default", "/registry/endpointslices/default/web-x"),
            ("Ingress", "web", "shop", "/registry/ingress/shop/web"),
            ("IngressClass", "nginx", None, "/registry/ingressclasses/nginx"),
        ],
    )
    def test_as_in_kubernetes(self, kind: str, name: str, namespace: str | None, key: str) -> None:
        row = objects.kind_named(kind)
        assert objects.storage_key(row, name, namespace) == key
        assert key.startswith(objects.storage_prefix(row))
        assert key.startswith(objects.storage_prefix(row, namespace))

    def test_no_prefix_holds_another_kind(self) -> None:
        prefixes = [objects.storage_prefix(kind) for kind in objects.KINDS.values()]
        assert not [(one, other) for one in prefixes for other in prefixes if one != other and one.startswith(other)]

    @QUICK
    @given(st.from_regex(r"[a-z0-9][-a-z0-9.]*", fullmatch=True), st.none() | st.from_regex(r"[a-z]+", fullmatch=True))
    def test_cache_keys(self, name: str, namespace: str | None) -> None:
        key = objects.make_key(name, namespace)
        assert objects.split_key(key) == (namespace, name)
        assert objects.key_of({"metadata": {"name": name, "namespace": namespace}}) == key

    def test_where_an_object_is(self) -> None:
        assert objects.locate(objects.kind_named("Pod"), "c1", None) == ("default", "c1")
        assert objects.locate(objects.kind_named("Pod"), "c1", "shop") == ("shop", "c1")
        assert objects.locate(objects.kind_named("Node"), "C0w1", "shop") == ("", "c0w1")


class TestKinds:
    def test_unknown(self) -> None:
        with pytest.raises(ObjectError) as caught:
            objects.kind_named("Nodes")
        assert caught.value.hint == "did you mean 'Node'?"

    def test_what_needs_controllers(self) -> None:
        with pytest.raises(ObjectError, match="needs Kubernetes' controllers"):
            objects.kind_of({"kind": "Deployment", "apiVersion": "apps/v1"})


class TestTimes:
    def test_as_kubernetes_writes_them(self) -> None:
        assert objects.format_time(1738317600.9) == "2025-01-31T10:00:00Z"
        assert objects.format_micro_time(1738317600.25) == "2025-01-31T10:00:00.250000Z"

    @QUICK
    @given(st.integers(0, 2**33))
    def test_are_read_again(self, moment: int) -> None:
        assert objects.parse_time(objects.format_time(moment)) == moment
        assert objects.parse_time(objects.format_micro_time(moment)) == moment

    def test_what_is_no_time(self) -> None:
        with pytest.raises(ValueError, match="soon"):
            objects.parse_time("soon")

"""The parts of the store through an API server that need none: what an answer means, lines, patches, lost answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.api.http.connection import Answer
from knetsim.api.http.failures import Expired, error_of
from knetsim.api.http.resources import Resource
from knetsim.api.http.status_patch import build_status_patch
from knetsim.api.http.wanted import draw_name, holds
from knetsim.api.http.watch import split_lines
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, ObjectError, StoreUnavailable


def build_answer(code: int, reason: str = "", *causes: tuple[str, str], message: str = "words") -> Answer:
    """An answer with a Status object."""
    details = {"causes": [{"field": field, "message": text} for field, text in causes]}
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return Answer(code, json.dumps(status).encode(), {})


class TestFailures:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (build_answer(404, "NotFound"), NotFound),
            (Answer(404, b"404 page not found", {}), NotFound),
            (build_answer(409, "AlreadyExists"), AlreadyExists),
            (build_answer(409, "Conflict"), Conflict),
            (build_answer(410, "Expired"), Expired),
            (Answer(410, b"", {}), Expired),
            (build_answer(422, "Invalid"), ObjectError),
            (build_answer(400, "BadRequest"), ObjectError),
            (build_answer(403, "Forbidden"), ObjectError),
            (Answer(415, b"", {}), ObjectError),
            (build_answer(413, "RequestEntityTooLarge"), ObjectError),
            (build_answer(429, "TooManyRequests"), StoreUnavailable),
            (build_answer(500, "InternalError"), StoreUnavailable),
            (build_answer(504, "Timeout"), StoreUnavailable),
            (Answer(503, b"\xff\xfe", {}), StoreUnavailable),
        ],
    )
    def test_by_code_and_reason(self, answer: Answer, error: type[KnetsimError]) -> None:
        caught = error_of(answer, "Pod default/c1")
        assert type(caught) is error
        assert caught.where == "Pod default/c1"

    def test_who_is_not_known_is_no_input_error(self) -> None:
        assert type(error_of(build_answer(401, "Unauthorized"), "Pod default/c1")) is KnetsimError

    def test_all_causes_are_told(self) -> None:
        error = error_of(build_answer(422, "Invalid", ("spec.a", "is bad"), ("spec.b", "is missing")), "Pod default/c1")
        assert isinstance(error, ObjectError)
        assert str(error) == "Pod default/c1: is refused for 2 mistakes: spec.a: is bad; spec.b: is missing"
        assert error.field == "spec.a"
        assert error.problems == (("spec.a", "is bad"), ("spec.b", "is missing"))


class TestLines:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=6), st.data())
    def test_whatever_pieces_they_come_in(self, lines: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(line + b"\n" for line in lines) + b"cut off"
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert list(split_lines(iter(pieces))) == lines


class TestPaths:
    @pytest.mark.parametrize(
        ("resource", "parts", "path"),
        [
            (Resource("v1", "pods", True), ("shop", "c1"), "/api/v1/namespaces/shop/pods/c1"),
            (Resource("v1", "pods", True), (), "/api/v1/pods"),
            (Resource("v1", "nodes", False), ("shop", "c0w1", "status"), "/api/v1/nodes/c0w1/status"),
            (
                Resource("apps/v1", "deployments", True),
                ("a/b", "c d"),
                "/apis/apps/v1/namespaces/a%2Fb/deployments/c%20d",
            ),
        ],
    )
    def test_of_objects(self, resource: Resource, parts: tuple[str, ...], path: str) -> None:
        assert resource.path(*parts) == path


class TestStatusPatch:
    def test_says_what_stays_and_what_is_replaced(self) -> None:
        status = {
            "phase": "Running",
            "podIPs": [{"ip": "11.1.1.1"}],
            "message": None,
            "conditions": [{"type": "Ready"}],
        }
        patch = build_status_patch("Pod", status, "u1")
        assert patch["metadata"] == {"uid": "u1"}
        assert patch["status"]["podIPs"] == [{"$patch": "replace"}, {"ip": "11.1.1.1"}]
        assert patch["status"]["conditions"] == [{"type": "Ready"}]
        assert {"phase", "podIPs", "conditions", "qosClass"} <= set(patch["status"]["$retainKeys"])
        assert "message" not in patch["status"]
        assert "message" not in patch["status"]["$retainKeys"]

    def test_maps_of_one_writer_are_replaced(self) -> None:
        patch = build_status_patch("Node", {"nodeInfo": {"kernelVersion": "6"}, "capacity": {"cpu": "1"}}, "")
        assert patch["status"]["nodeInfo"] == {"kernelVersion": "6", "$patch": "replace"}
        assert patch["status"]["capacity"] == {"cpu": "1"}
        assert "metadata" not in patch


class TestLostAnswers:
    @pytest.mark.parametrize(
        ("current", "wanted", "held"),
        [
            ({"a": 1, "b": 2}, {"a": 1}, True),
            ({"a": 1}, {"a": 2}, False),
            ({}, {"a": {}, "b": [], "c": None, "d": ""}, True),
            ({}, {"a": {"b": 1}}, False),
            ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
            ({"a": [1, 2]}, {"a": [1]}, False),
            ({"a": False}, {"a": 0}, True),
            (None, 0, True),
            (None, 1, False),
        ],
    )
    def test_what_was_done_holds_what_was_wanted(self, current: Any, wanted: Any, held: bool) -> None:
        assert holds(current, wanted) is held

    def test_drawn_names(self) -> None:
        assert len(draw_name("x" * 80)) == 63
        assert draw_name("web-").startswith("web-")
        assert draw_name("") == ""

"""Selectors of labels as text."""

from __future__ import annotations

import pytest

from knetsim.node.skupper.selection import read_selector


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web", "tier": "x"}, True),
        (" app = web ", {"app": "web"}, True),
        ("app=web", {"app": "api"}, False),
        ("app=", {"app": ""}, True),
        ("app=", {}, False),
        ("app!=web", {}, True),
        ("app!=web", {"app": "web"}, False),
        ("app in (web, api)", {"app": "api"}, True),
        ("app in (web,api)", {"app": "db"}, False),
        ("app notin (web)", {}, True),
        ("app notin (web)", {"app": "web"}, False),
        ("app", {"app": "x"}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("!app", {"app": "x"}, False),
        ("app in (web, api),tier!=test, zone", {"app": "web", "zone": "a"}, True),
        ("app in (web, api),tier!=test, zone", {"app": "web"}, False),
        ("app.kubernetes.io/name=web", {"app.kubernetes.io/name": "web"}, True),
    ],
)
def test_what_a_selector_means(text: str, labels: dict[str, str], matches: bool) -> None:
    assert read_selector(text).matches(labels) is matches


@pytest.mark.parametrize(
    "text",
    ["", "  ", ",", "app=web,", "=web", "app=a b", "app in web", "app in (a", "app in (a,)x", "a=b=c", "app~web", "-a"],
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_selector(text)

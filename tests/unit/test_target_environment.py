"""What a command in a host or pod sees of the environment it was typed in."""

from __future__ import annotations

import pytest

from knetsim.cli.execute import build_environment


def test_terminal_and_editor_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubectl edit` at the prompt opens the editor that the user, or the image, chose."""
    chosen = {"TERM": "screen", "EDITOR": "nano", "KUBE_EDITOR": "busybox vi"}
    for key, value in chosen.items():
        monkeypatch.setenv(key, value)
    assert chosen.items() <= build_environment("C0w1", {}).items()
    monkeypatch.delenv("KUBE_EDITOR")
    assert "KUBE_EDITOR" not in build_environment("C0w1", {})


def test_everything_else_is_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("HOME", "/home/somebody")
    seen = build_environment("0:w1:c1", {"HOSTNAME": "c1", "TERM": "dumb"})
    assert "PYTHONPATH" not in seen
    assert (seen["HOME"], seen["HOSTNAME"], seen["TERM"], seen["PS1"]) == ("/root", "c1", "dumb", "0:w1:c1> ")

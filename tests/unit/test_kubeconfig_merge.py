"""Contexts in a user's kubeconfig: what is not ours stays, what is ours goes again."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.errors import KnetsimError, ObjectError
from knetsim.system.kubeconfig_merge import merge_contexts, remove_contexts
from knetsim.system.ledger import Ledger


def config(*names: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}} for name in names],
        "users": [{"name": name, "user": {}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "current-context": names[0],
    }


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_contexts_are_added_and_taken_out_again(tmp_path: Path) -> None:
    path = tmp_path / "config"
    mine = {**config("work"), "preferences": {"colors": True}}
    path.write_text(yaml.safe_dump(mine))
    path.chmod(0o640)
    merge_contexts(path, config("knetsim-C0", "knetsim-C1"))
    assert [one["name"] for one in read(path)["contexts"]] == ["work", "knetsim-C0", "knetsim-C1"]
    assert read(path)["current-context"] == "work"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    remove_contexts(path, ["knetsim-C0", "knetsim-C1"])
    assert read(path) == mine
    assert [file.name for file in tmp_path.iterdir()] == ["config"]


def test_a_second_merge_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    merge_contexts(path, config("knetsim-C0"))
    merge_contexts(path, config("knetsim-C0"))
    assert read(path) == config("knetsim-C0")
    remove_contexts(path, ["knetsim-C0"])
    assert not path.exists()


def test_another_simulations_cluster_of_the_same_name_stays(tmp_path: Path) -> None:
    path, mine, other = tmp_path / "config", config("knetsim-C0", "knetsim-C1"), config("knetsim-C0")
    other["clusters"][0]["cluster"]["server"] = "https://elsewhere"
    merge_contexts(path, mine)
    merge_contexts(path, other)
    remove_contexts(path, ["knetsim-C0", "knetsim-C1", "https://knetsim-C0", "https://knetsim-C1"])
    assert read(path) == other
    remove_contexts(path, ["knetsim-C0", "https://elsewhere"])
    assert not path.exists()


def test_what_was_made_current_is_so_no_more(tmp_path: Path) -> None:
    path = tmp_path / "config"
    merge_contexts(path, config("work"))
    merge_contexts(path, config("knetsim-C0"))
    path.write_text(yaml.safe_dump({**read(path), "current-context": "knetsim-C0"}))
    remove_contexts(path, ["knetsim-C0"])
    assert read(path)["current-context"] == ""


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target, path = tmp_path / "dotfiles" / "kube", tmp_path / "config"
    target.write_text(yaml.safe_dump(config("work")))
    path.symlink_to(target)
    merge_contexts(path, config("knetsim-C0"))
    assert path.readlink() == target
    assert [one["name"] for one in read(target)["contexts"]] == ["work", "knetsim-C0"]
    remove_contexts(path, ["knetsim-C0"])
    assert read(target) == config("work")
    assert [file.name for file in target.parent.iterdir()] == ["kube"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_root_makes_is_the_users(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    path = tmp_path / ".kube" / "deep" / "config"
    merge_contexts(path, config("knetsim-C0"))
    assert {file.stat().st_uid for file in (path, *path.parents[:2])} == {1234}


def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config"
    for text in (b"kind: Pod\n", b"clusters: [work]\n", b"\xff\xfe"):
        path.write_bytes(text)
        with pytest.raises(ObjectError):
            merge_contexts(path, config("knetsim-C0"))
        remove_contexts(path, ["knetsim-C0"])
        assert path.read_bytes() == text
    remove_contexts(tmp_path / "missing", ["knetsim-C0"])


def test_a_file_that_is_being_written_is_waited_for_by_the_user(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.with_name("config.lock").touch()
    with pytest.raises(KnetsimError, match="another program"):
        merge_contexts(path, config("knetsim-C0"))
    assert not path.exists()


def test_the_ledger_takes_them_out_at_the_end(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "config"
    state.mkdir()
    merge_contexts(path, config("work"))
    Ledger(state).record("contexts", str(path), ["knetsim-C0"])
    merge_contexts(path, config("knetsim-C0"))
    Ledger(state).sweep()
    assert read(path) == config("work")
    assert not state.exists()

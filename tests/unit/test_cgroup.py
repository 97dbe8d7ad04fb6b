"""Where control groups can be made, from what the kernel tells and from what a hierarchy holds; version 2 as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from knetsim.system.cgroup import (
    CPU,
    MEMORY,
    Branch,
    Cgroups,
    Hierarchy,
    Limits,
    find_branches,
    read_hierarchies,
    remove_cgroup_tree,
)

BOTH = frozenset((CPU, MEMORY))
V1 = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct
31 22 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
32 22 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""


def test_version_1() -> None:
    membership = "4:memory:/session\n3:name=systemd:/\n1:cpu,cpuacct:/\n0::/\n"
    assert read_hierarchies(V1, membership) == [
        Hierarchy(1, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", frozenset((CPU,))),
        Hierarchy(1, "/sys/fs/cgroup/memory/session", "/sys/fs/cgroup/memory", frozenset((MEMORY,))),
    ]


@pytest.mark.parametrize(
    ("root", "path", "own"),
    [
        ("/", "/user.slice/a.scope", "/sys/fs/cgroup/user.slice/a.scope"),
        ("/", "/", "/sys/fs/cgroup"),
        ("/docker/1f", "/docker/1f", "/sys/fs/cgroup"),
        ("/docker/1f", "/docker/1f/in", "/sys/fs/cgroup/in"),
        ("/a\\040b", "/a b/c", "/sys/fs/cgroup/c"),
    ],
)
def test_version_2(root: str, path: str, own: str) -> None:
    mountinfo = f"36 25 0:32 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
    assert read_hierarchies(mountinfo, f"0::{path}\n") == [Hierarchy(2, own, "/sys/fs/cgroup", frozenset())]


def make_tree(top: Path, **files: str) -> Hierarchy:
    """A hierarchy of version 2, user.slice/a.scope: what its groups hand on or are limited to, by name of the group."""
    own = top / "user.slice/a.scope"
    own.mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("cpu io memory\n")
    for path in (own, own.parent):
        (path / "cgroup.subtree_control").write_text(files.get(path.name.partition(".")[0], ""))
        (path / "memory.max").write_text(files.get(f"max_{path.name.partition('.')[0]}", "max"))
    return Hierarchy(2, str(own), str(top), frozenset())


def test_the_nearest_group_that_hands_on(tmp_path: Path) -> None:
    assert find_branches([make_tree(tmp_path, user="memory pids")]) == [Branch(2, str(tmp_path), BOTH)]


def test_the_own_group_if_it_hands_on(tmp_path: Path) -> None:
    hierarchy = make_tree(tmp_path, a="memory cpu")
    assert find_branches([hierarchy]) == [Branch(2, hierarchy.own, BOTH)]


@pytest.mark.parametrize("limited", ["max_a", "max_user"])
def test_a_limit_is_not_got_round(tmp_path: Path, limited: str) -> None:
    assert find_branches([make_tree(tmp_path, **{limited: "100000000"})]) == []


def test_version_2_counts_before_version_1(tmp_path: Path) -> None:
    new = make_tree(tmp_path / "unified", a="memory")
    Path(new.top, "cgroup.subtree_control").write_text("io")
    old = [Hierarchy(1, str(tmp_path), str(tmp_path), frozenset((one,))) for one in (MEMORY, CPU)]
    expected = [Branch(2, new.own, frozenset((MEMORY,))), Branch(1, str(tmp_path), frozenset((CPU,)))]
    assert find_branches([*old, new]) == expected


def test_what_cannot_be_made_is_explained(tmp_path: Path) -> None:
    recorded: list[tuple[str, str]] = []
    hierarchy = Hierarchy(1, str(tmp_path), str(tmp_path), frozenset((MEMORY,)))
    plain = Cgroups("x", lambda kind, path: recorded.append((kind, path)), [hierarchy])
    assert plain.resources() == frozenset()  # a directory is no group: it has none of the files
    assert plain.create("uid", "main", Limits(memory=1), Limits()) is None
    ((kind, path),) = recorded
    assert (kind, Path(path).parent) == ("cgroup", tmp_path)


def test_a_tree_is_removed_from_below(tmp_path: Path) -> None:
    (tmp_path / "knetsim-x/uid/main").mkdir(parents=True)
    remove_cgroup_tree(str(tmp_path / "knetsim-x"))
    remove_cgroup_tree(str(tmp_path / "knetsim-x"))
    assert list(tmp_path.iterdir()) == []

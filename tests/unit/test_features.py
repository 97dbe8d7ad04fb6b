"""What is read off the machine and off programs: parsing, on samples."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from knetsim.errors import MissingTool
from knetsim.system import features, programs
from knetsim.system.features import Feature, group_remedies, kernel
from knetsim.system.features.feature import RUN_AS_ROOT
from knetsim.system.features.machine import read_cgroups, read_meminfo


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("etcd Version: 3.4.23\nGit SHA: Not provided\nGo Version: go1.19.8\n", "3.4.23"),
        ("v0.28.4\n", "0.28.4"),
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("iperf 3.12 (cJSON 1.7.15)\n", "3.12"),
        ("ip utility, iproute2-6.1.0, libbpf 1.1.2\n", "6.1.0"),
        ("nftables v1.0.6 (Lester Gooch #5)\n", "1.0.6"),
        ("BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.\n", "1.35.0"),
        ("Kubernetes v1.36.0-rc.1+abc\n", "1.36.0-rc.1+abc"),
        ("CNI bridge plugin v1.1.1\nCNI protocol versions supported: 0.1.0, 1.0.0\n", "1.1.1"),
        ("CNI bridge plugin version unknown\nCNI protocol versions supported: 0.1.0, 1.0.0\n", ""),
        ("Kubernetes v0.0.0-master+$Format:%H$\n", ""),
        ("dev\n", ""),
        ("", ""),
    ],
)
def test_find_version(answer: str, version: str) -> None:
    assert programs.find_version(answer) == version


def go_program(module_text: bytes, *, inline: bool = True) -> bytes:
    """A 64-bit ELF file with nothing but the section in which the Go linker says what it linked."""

    def text(value: bytes) -> bytes:
        size = len(value)
        return (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + value

    info = b"\xff Go buildinf:" + bytes([8, 2 if inline else 0]) + bytes(16) + text(b"go1.26.0") + text(module_text)
    numbers = (2, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 2, 0)  # two sections, their table at 64
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *numbers)
    start = 64 + 2 * 64
    sections = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, start, len(info), 0, 0, 16, 0)
    return header + sections + info


@pytest.mark.parametrize(
    ("module", "version"),
    [
        (b"path\tx.org/x/cmd\nmod\tx.org/x\tv0.28.4\th1:a=\ndep\ty\tv9.9.9\th1:x\n" + b"x" * 200, "0.28.4"),
        (b"path\tx\nmod\tx\tv3.4.23+incompatible\t\n", "3.4.23"),
        (b"path\tx\nmod\tx\t(devel)\t\n", ""),
        (b"path\tgo.etcd.io/etcd\nbuild\t-compiler=gc\n", ""),
        (b"", ""),
    ],
)
def test_read_module_version(module: bytes, version: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(go_program(module))
    assert programs.read_module_version(path) == version


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01", go_program(b"mod\tx\tv1.0.0\n")[:-9]])
def test_files_that_tell_no_module_version(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(content)
    assert programs.read_module_version(path) == ""


def test_module_version_of_old_go_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(go_program(b"mod\tx\tv1.0.0\n", inline=False))
    assert programs.read_module_version(path) == ""


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path: Path) -> programs.Places:
    """Directories that hold nothing yet: first one for programs and plugins, then one for each."""
    both, path, plugins = (tmp_path / name for name in ("tools", "path", "plugins"))
    return programs.Places((both, path, plugins), (both, plugins))


def test_the_first_place_comes_first(places: programs.Places) -> None:
    on_path = make_program(places.programs[1] / "etcd", "")
    assert programs.find_program("etcd", places) == on_path
    built = make_program(places.programs[0] / "etcd", "")
    assert programs.find_program("etcd", places) == built


def test_tools_come_before_path_and_path_before_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/one::/two")
    found = programs.read_places().programs
    assert found[:3] == (programs.TOOLS, Path("/one"), Path("/two"))
    assert found[-1] == programs.PLUGIN_DIRECTORIES[-1]


def test_a_plugin_is_not_a_program_of_the_same_name(places: programs.Places) -> None:
    program = make_program(places.programs[1] / "bridge", "")
    assert programs.find_plugin("bridge", places) is None
    plugin = make_program(places.plugins[1] / "bridge", "")
    assert programs.find_plugin("bridge", places) == plugin
    assert programs.find_program("bridge", places) == program
    assert programs.require_program("bridge", places) == plugin


def test_files_that_cannot_be_executed_are_no_programs(places: programs.Places) -> None:
    places.programs[0].mkdir()
    (places.programs[0] / "etcd").write_text("notes")
    (places.programs[0] / "flanneld").mkdir()
    assert programs.find_program("etcd", places) is None
    assert programs.find_program("flanneld", places) is None


def test_a_missing_program_comes_with_its_remedy(places: programs.Places) -> None:
    with pytest.raises(MissingTool) as caught:
        programs.require_program("etcd", places)
    assert caught.value.hint == "sudo apt-get install etcd-server"
    with pytest.raises(MissingTool):
        programs.require_program("whatever", places)


def test_programs_are_asked(places: programs.Places) -> None:
    make_program(places.programs[0] / "etcd", "echo etcd Version: 3.5.9; echo trouble >&2")
    make_program(places.programs[1] / "ip", "echo cannot be >&2; exit 127")
    make_program(places.programs[1] / "tc", "echo what do you mean >&2; exit 1")
    found = programs.read_programs(["etcd", "ip", "tc", "kubectl"], places)
    etcd, ip, tc = found["etcd"], found["ip"], found["tc"]
    assert etcd
    assert (etcd.version, etcd.trouble) == ("3.5.9", "")
    assert ip
    assert "cannot be" in ip.trouble
    assert tc
    assert tc.trouble == ""
    assert found["kubectl"] is None


def test_a_program_of_another_machine_is_told(places: programs.Places) -> None:
    path = make_program(places.programs[0] / "flanneld", "")
    path.write_bytes(go_program(b"", inline=False))
    found = programs.read_programs(["flanneld"], places)["flanneld"]
    assert found
    assert found.trouble


def test_a_program_that_does_not_answer_is_not_waited_for(places: programs.Places) -> None:
    make_program(places.programs[0] / "etcd", "while :; do :; done")
    found = programs.read_programs(["etcd"], places, timeout=0.05)["etcd"]
    assert found
    assert found.trouble == ""


def test_every_program_says_what_it_costs_and_how_to_get_it() -> None:
    for program in programs.PROGRAMS.values():
        assert program.cost, program.name
        assert program.remedy, program.name


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("36 25 0:32 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw", ("v2", True)),
        ("36 25 0:32 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw", ("v2", False)),
        ("36 25 0:32 / /cpu rw - cgroup cgroup rw,cpu\n37 25 0:3 / /x ro - cgroup2 none rw", ("v1 and v2", True)),
        ("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw", ("", False)),
        ("", ("", False)),
    ],
)
def test_read_cgroups(line: str, expected: tuple[str, bool]) -> None:
    assert read_cgroups(line) == expected


def test_read_meminfo() -> None:
    text = "MemTotal:       24684084 kB\nMemFree:          100 kB\nHugePages_Total:       0\n"
    assert read_meminfo(text) == {"MemTotal": 24684084 * 1024, "MemFree": 102400}


def test_debian_packages_come_in_one_command() -> None:
    def lacking(name: str, remedy: str) -> Feature:
        return Feature(name, "program", "optional", False, remedy=remedy)

    features_missing = [
        lacking("a", "sudo apt-get install x"), lacking("b", "./utils/setup"), lacking("c", "sudo apt-get install y"),
        lacking("d", "sudo apt-get install x"),
    ]  # fmt: skip
    assert group_remedies(features_missing) == {"sudo apt-get install x y": ["a", "d", "c"], "./utils/setup": ["b"]}
    assert group_remedies([]) == {}


def test_require_knows_its_features() -> None:
    with pytest.raises(ValueError, match="vxlan"):
        features.require(["vxlan"])


def test_only_root_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingTool, match="only root") as caught:
        features.require()
    assert "sudo" in caught.value.hint


def test_who_is_not_root_learns_what_could_not_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tried = kernel.read_kernel()
    assert {feature.present for feature in tried} == {None}
    assert {feature.remedy for feature in tried} == {RUN_AS_ROOT}

"""Every page of this repository: its blocks say what they are, and no reader sees how they say it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from knetsim.cli.bench import bench
from knetsim.cli.lesson import read_lessons
from knetsim.lessons.remark import KEYS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "bench").glob("*.md")])
WATCH_POD = ROOT / "scenarios/course/watch-pod"
#: what may be a program's name: a word at the beginning of a command, on a host, in a pod, in a pipeline
_COMMAND = re.compile(r"(?:^(?:\w+ )?|[|;&\"(] ?| -- |sudo )([a-z][\w-]*)")
#: set-up builds it
OURS = {"kubectl"}
_HIDDEN = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_blocks_say_what_they_are(page: Path) -> None:
    (lesson,) = read_lessons([page], None)
    assert lesson.chapters


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nobody_sees_how_they_say_it(page: Path) -> None:
    """As forges show it: what is left of the HTML without comments and marks. A deck's front matter is Marp's."""
    body = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(), flags=re.DOTALL)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    shown = re.sub(r"<(pre|code)\b.*?</\1>", "", html, flags=re.DOTALL)
    text = _HIDDEN.sub("", shown)
    said = [line for line in text.splitlines() if re.match(rf"\s*(<!--|({'|'.join(KEYS)}):\s)", line)]
    assert not said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_links_and_pictures_lead_to_files(page: Path) -> None:
    text = re.sub(r"^````?.*?^````?$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    files = [target for target in targets if target and not target.startswith(("http://", "https://"))]
    assert [file for file in files if not (page.parent / file).exists()] == []


def _rows(title: str) -> list[str]:
    """The rows of the table under one of the README's headings."""
    section = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_what_the_readme_says_of_where_things_are_is_true() -> None:
    rows = _rows("Where is …?")
    assert len(rows) >= 25
    for row in rows:
        paths = re.findall(r"`(\w[\w./-]*)`", row.split("|")[2]) + re.findall(r"\]\(([^)]+)\)", row.split("|")[2])
        assert paths, row
        assert [path for path in paths if not (ROOT / path).exists()] == [], row


def test_every_figure_of_the_readme_names_the_measurement_that_yields_it() -> None:
    (what,) = [param for param in bench.params if param.name == "what"]
    assert isinstance(what.type, click.Choice)
    rows = _rows("Figures")
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`(\w+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= set(what.type.choices), row


def test_the_readme_is_run() -> None:
    (readme,) = read_lessons([ROOT / "README.md"], None)
    assert ROOT / "README.md" in PAGES
    assert len(readme.blocks) >= 15


def _package_of(program: str) -> str:
    """The Debian package that this machine has a program from; empty when it has it from elsewhere, or not at all."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin")
    if found is None:
        return ""
    real = os.path.realpath(found)
    for path in (found, real, found.removeprefix("/usr"), real.removeprefix("/usr")):
        said = subprocess.run(["dpkg-query", "--search", path], capture_output=True, text=True, check=False)
        if said.returncode == 0 and not said.stdout.startswith("diversion"):
            return said.stdout.partition(":")[0]
    return ""


def test_what_the_course_and_the_readme_type_is_installed_by_the_set_up() -> None:
    """As far as this machine can tell: what it has as a program is of a package of the set-up, or of every Debian's."""
    if shutil.which("dpkg-query") is None:
        pytest.skip("no dpkg here")
    lessons = read_lessons([ROOT / "presentation.md", ROOT / "README.md"], None)
    typed = [step.text for lesson in lessons for block in lesson.blocks for step in block.steps]
    words = {word for line in [*typed, *WATCH_POD.read_text().splitlines()] for word in _COMMAND.findall(line)}
    packages = {word: package for word in sorted(words - OURS) if (package := _package_of(word))}
    assert {"jq", "tcpdump", "traceroute", "wget"} <= packages.keys()
    listed = re.search(r"^DEBIAN_PACKAGES=\((.*?)^\)$", (ROOT / "utils/setup").read_text(), re.DOTALL | re.MULTILINE)
    assert listed is not None
    show = ["dpkg-query", "--show", "--showformat", "${Package} ${Priority}\\n", *set(packages.values())]
    priorities = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    installed = {*re.findall(r"[\w.+-]+", listed[1]), *re.findall(r"^(\S+) required$", priorities, re.MULTILINE)}
    assert {word: package for word, package in packages.items() if package not in installed} == {}


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"etcdctl": "echo '{}'"}, "watch-pod: jq is not installed\n    try: sudo ./utils/setup\n"),
        ({"etcdctl": "exit 1", "jq": "echo 7"}, "watch-pod: etcd does not answer\n    try: sudo ./utils/knetsim exec"),
        (
            {"etcdctl": "echo '{}'", "jq": "echo null"},
            "watch-pod: etcd's answer has no revision: {}\n    try: etcdctl get",
        ),
    ],
    ids=["no jq", "no etcd", "no revision"],
)
def test_watch_pod_says_what_it_misses(tmp_path: Path, programs: dict[str, str], said: str) -> None:
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    argv = ["/bin/sh", str(WATCH_POD), "hello"]
    done = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)

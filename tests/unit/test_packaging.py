"""What is installed: pins that fit the ranges, are complete, and leave to Debian what is Debian's."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from knetsim.system.programs import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    """The lines of a requirements file: package (normalised) → version."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        words = line.split("#")[0].strip()
        if words:
            package, version = words.split("==")
            found[canonical(package)] = version
    return found


def canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_every_dependency_has_a_pin_in_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime, tests = pins("requirements.txt"), pins("requirements-test.txt")
    for line in project["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(runtime[canonical(requirement.name)]), line
    for line in project["optional-dependencies"]["test"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(tests[canonical(requirement.name)]), line
    assert not runtime.keys() & tests.keys()


def test_what_debian_must_bring_is_not_pinned() -> None:
    pinned = pins("requirements.txt").keys() | pins("requirements-test.txt").keys()
    assert not pinned & {"protobuf", "grpcio", "etcd3", "mininet", "nftables", "cslab-etcd3", "python-qpid-proton"}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_pins_are_closed_and_are_what_runs_here(name: str) -> None:
    """pip installs them with --no-deps: what a package needs must be pinned too."""
    known = pins("requirements.txt") | pins(name)
    for package, version in pins(name).items():
        assert importlib.metadata.version(package) == version
        for line in importlib.metadata.requires(package) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert requirement.specifier.contains(known[canonical(requirement.name)]), f"{package}: {line}"


def test_set_up_brings_the_packages_and_programs_that_knetsim_looks_for() -> None:
    listed = re.search(r"^DEBIAN_PACKAGES=\((.*?)^\)", (ROOT / "utils/setup").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    packages = {name for word in re.sub(r"#.*|'", "", listed[1]).split() for name in word.split("|")}
    assert {program.package for program in PROGRAMS.values() if program.package} <= packages
    built = {name for description in (ROOT / "tools").glob("*/*.program") for name in read_names(description)}
    assert built == {name for name, program in PROGRAMS.items() if not program.package and program.need != "later"}


def read_names(description: Path) -> list[str]:
    """By which names the program that set-up builds is called; none if it is utils/conformance that wants it."""
    text = description.read_text()
    if re.search("^extra=", text, re.MULTILINE):
        return []
    listed = re.search(r"^names=\((.*)\)", text, re.MULTILINE)
    return listed[1].split() if listed else [description.stem]


def test_what_knetsim_links_to_and_the_pages_are_part_of_the_image() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    targets = {path.resolve() for path in (ROOT / "knetsim").rglob("*") if path.is_symlink()}
    own = {target.relative_to(ROOT) for target in targets if target.is_relative_to(ROOT)}
    pages = {path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))}
    assert Path("docs/images.md") in own
    assert {Path("README.md"), Path("presentation.md"), Path("docs/teaching.md")} <= pages
    wanted = {part for path in own | pages for part in (path, *path.parents)} - {Path()}
    assert "tests" in patterns
    assert not [(part, pattern) for part in wanted for pattern in patterns if fnmatch(part.as_posix(), pattern)]

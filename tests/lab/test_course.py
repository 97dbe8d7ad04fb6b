"""The course notices: what a slide shows wrongly, and a network that is broken, with the slide's number.

Of `presentation.md` itself, in copies in which one thing is changed; only the chapter concerned is run.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from knetsim.control_choice import has_kubernetes
from tests.lab.lab import CHECKOUT, KNETSIM

SECONDS = 420
pytestmark = pytest.mark.timeout(SECONDS + 60)

COURSE = (CHECKOUT / "presentation.md").read_text()
CHAPTER, TITLE = "2", "Hands on: two pods of two workers"
HEADING = f"## {TITLE}\n"
#: on this slide, a worker does not forward any more; nothing mends it
_BREAK = "<!-- run: mininet | type: C0w3 sysctl -w net.ipv4.ip_forward=0 -->"


def slide_of(title: str) -> int:
    """The number of a slide, counted by hand: each heading of the first or the second level begins one."""
    bare = re.sub(r"^```.*?^```$", "", COURSE.partition("\n---\n")[2], flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^##? (.+)$", re.sub(r"<!--.*?-->", "", bare, flags=re.DOTALL), flags=re.MULTILINE)
    return 1 + headings.index(title)


def find_differences(folder: Path, text: str) -> list[Mapping[str, Any]]:
    """Run the chapter of a copy of the course; the blocks that differ."""
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    copy = folder / "course.md"
    copy.write_text(text)
    argv = [*KNETSIM, "lesson", "test", str(copy), "--chapter", CHAPTER, "-o", "json"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {one["chapter"][0] for one in told if one["kind"] == "run"} == {CHAPTER}
    return [one for one in told if not one["good"]]


def test_what_a_slide_shows_wrongly_is_found_and_nothing_else(tmp_path: Path) -> None:
    before, _, slide = COURSE.partition(HEADING)
    changed = before + HEADING + slide.replace("icmp_seq=2 ttl=62", "icmp_seq=2 ttl=63", 1)
    (wrong,) = find_differences(tmp_path, changed)
    assert wrong["slide"] == slide_of(TITLE)
    assert changed.splitlines()[wrong["line"] - 1].startswith("mininet> py C0w1.exec_container")
    assert any("icmp_seq=2 ttl=63" in line for line in wrong["expected"])
    assert "icmp_seq=2 ttl=62" in wrong["seen"]


def test_a_worker_that_does_not_forward_is_found_where_it_is_met_first(tmp_path: Path) -> None:
    before, _, rest = COURSE.partition(HEADING)
    slide = rest.partition("\n## ")[0]  # what follows would only wait for its deadlines
    broken = f"{before}{HEADING}\n{_BREAK}\n{slide}\n"
    broken = broken.replace("$ sudo ./utils/run\n", "$ sudo ./utils/run --no-repair\n", 1)
    assert "utils/run --no-repair" in broken.partition(HEADING)[0]
    wrong = find_differences(tmp_path, broken)[0]
    assert wrong["slide"] == slide_of(TITLE)
    assert "ping -c 2" in wrong["typed"][0]
    assert "100% packet loss" in wrong["seen"]

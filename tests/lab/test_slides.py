"""`utils/slides`: a page that stands for itself; nothing on it lies past a slide's edges or over another part."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import CHECKOUT

pytestmark = pytest.mark.timeout(600)

MARP = CHECKOUT / ".tools" / "slides"
BROWSERS = ("chromium", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40"/></svg>'
DECK = """\
---
marp: true
---

# Title :smile: 😀

![](pictures/box.svg)
![bg right](pictures/box.svg)

<!-- What the speaker says. -->

---

<!-- run: mininet | expect: 0% packet loss -->
```console
mininet> C0w1 ping -c 1 C0w2
```

<!--
run: shell
expect: a|b
-->
```bash
ls
```
<!-- output -->
```text
a
```
"""


def slides(*words: str) -> subprocess.CompletedProcess[str]:
    """`utils/slides`; the test is skipped where Marp cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("no Node here: ./utils/slides installs it")
    done = subprocess.run(
        [CHECKOUT / "utils" / "slides", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if "could not be fetched" in done.stdout:
        pytest.skip("npm's registry cannot be reached")
    return done


def measure(page: Path) -> dict[str, Any]:
    """What a browser sees: how many slides, what lies past their edges or over one another, what the page asked for."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip("no browser here: apt-get install chromium")
    script = Path(__file__).with_name("slide_edges.mjs")
    env = {**os.environ, "HOME": str(page.parent)}
    argv = ["node", str(script), str(MARP), found[0], str(page)]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=300, env=env).stdout)


def bare(deck: Path, output: Path) -> Path:
    """The deck with all slides below one another."""
    argv = [MARP / "node_modules/.bin/marp", "--config-file", CHECKOUT / "marp.config.mjs", "--no-stdin"]
    subprocess.run([*argv, "--template", "bare", "-o", output, "--", deck], cwd=deck.parent, check=True)
    return output


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "box.svg").write_text(PICTURE)
    file = tmp_path / "deck.md"
    file.write_text(DECK)
    return file


def test_the_page_stands_for_itself(deck: Path, tmp_path: Path) -> None:
    done = slides(str(deck), "-o", str(tmp_path / "out" / "deck.html"))
    assert done.returncode == 0, done.stdout
    assert not re.search(r"WARN|ERROR", done.stdout)
    html = (tmp_path / "out" / "deck.html").read_text()
    assert html.count(base64.b64encode(PICTURE.encode()).decode()) == 2
    assert "box.svg" not in html
    assert "What the speaker says." in html
    assert "run: mininet" not in html
    assert "expect: a|b" not in html
    assert "😀" in html


def test_what_would_load_from_the_network_is_refused(deck: Path) -> None:
    deck.write_text(DECK + "\n![](https://example.org/picture.png)\n")
    done = slides(str(deck))
    assert done.returncode == 1
    assert "the slides would load from the network" in done.stdout


def test_a_picture_that_is_not_there_is_refused(deck: Path) -> None:
    deck.write_text(DECK + "\n![](pictures/none.svg)\n")
    done = slides(str(deck))
    assert done.returncode == 1
    assert "pictures/none.svg" in done.stdout
    assert "there is no such picture" in done.stdout


@pytest.mark.parametrize("words", [["none.md"], ["a.md", "b.md"], ["--pfd"], ["-o"]])
def test_misuse(words: list[str]) -> None:
    done = slides(*words)
    assert done.returncode in (1, 2)
    assert done.stdout.startswith("slides: ")


def test_the_measure_finds_what_lies_past_the_edges(deck: Path, tmp_path: Path) -> None:
    assert slides(str(deck)).returncode == 0
    assert measure(bare(deck, tmp_path / "good.html")) == {"slides": 2, "found": [], "asked": []}
    deck.write_text(
        DECK
        + "\n---\n\n"
        + "Line.\n\n" * 40
        + "\n---\n\n<style scoped>p { position: relative; left: 1300px }</style>\n\nx\n"
        + "\n---\n\n<style scoped>h2 { margin-bottom: -60px }</style>\n\n## Over\n\nwhat follows\n"
    )
    found = measure(bare(deck, tmp_path / "bad.html"))["found"]
    assert any("past the edge" in line for line in found)
    assert any(line.startswith("slide 5: p lies") and "over a h2" in line for line in found)
    assert {line.split(":")[0] for line in found} == {"slide 3", "slide 4", "slide 5"}


@pytest.mark.parametrize("page", sorted(CHECKOUT.glob("presentation.md")), ids=lambda page: page.name)
def test_nothing_of_the_course_lies_past_the_edges_or_over_another_part(page: Path, tmp_path: Path) -> None:
    done = slides(str(page), "-o", str(tmp_path / "slides.html"))
    assert done.returncode == 0, done.stdout
    assert not re.search(r"WARN|ERROR", done.stdout)
    seen = measure(bare(page, tmp_path / "bare.html"))
    assert seen["slides"] >= 80
    assert (seen["found"], seen["asked"]) == ([], [])

"""Pages as lessons: what is read, what counts as expected, and how it is shown; pure."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from knetsim.cli.lesson_run import show_block
from knetsim.errors import KnetsimError, NotFound, ScenarioError
from knetsim.lessons.block import Block
from knetsim.lessons.checks import Checks, Pattern, clean_output, find_pattern_mistake, matches_shown
from knetsim.lessons.lesson import Lesson, parse_lesson, read_lesson
from knetsim.lessons.places import find_scenario
from knetsim.lessons.player import choose_blocks, choose_chapter
from knetsim.lessons.report import lay_side_by_side
from knetsim.lessons.stage import build_environment

DECK = """\
---
marp: true
scenario: policies
options: --no-repair
---

# 0 What this is

<!-- A note for the speaker. -->

<!-- run: mininet | expect: 2 received | expect: ttl=64 | never: Error | within: 2min -->
```console
mininet> C0w1 ping -c 2 C0w2
```

---

# 1 Workers

## Interfaces

1. First

   <!--
   run: C0/c1
   exit: fails
   eventually: 1.5s
   -->

   ```bash
   ping -c 1 \\
     10.9.9.9
   ```

---

<!-- run: no, it would end the lesson -->
```console
mininet> exit
```

```yaml
a: b
```

# 2 Ends

<!-- run: shell | background: dump | expect: listening -->
```console
$ sudo tcpdump -n
```
<!-- watch: dump | expect: seq 2 --> <!-- end: dump | expect: captured | within: 5s -->
<!-- run: mininet | type: py 1 + 1 | type: status -->
"""


def lesson(text: str) -> Lesson:
    return parse_lesson(textwrap.dedent(text), "page.md")


def test_a_deck() -> None:
    deck = parse_lesson(DECK, "deck.md")
    assert (deck.scenario, deck.options, deck.slides, deck.only_shown) == ("policies", "--no-repair", 3, 2)
    assert [str(chapter) for chapter in deck.chapters] == ["0 What this is", "1 Workers", "2 Ends"]
    ping, pod, dump, watch, end, hidden = deck.blocks
    assert (ping.line, ping.slide, ping.title, ping.place, ping.within) == (12, 1, "0 What this is", "mininet", 120.0)
    assert [step.text for step in ping.steps] == ["C0w1 ping -c 2 C0w2"]
    assert ping.checks == Checks((Pattern("2 received", 11), Pattern("ttl=64", 11)), (Pattern("Error", 11),), 0)
    assert (pod.line, pod.slide, pod.title, pod.place) == (30, 2, "Interfaces", "C0/c1")
    assert (pod.checks.code, pod.eventually) == ("fails", 1.5)
    assert [(step.text, step.line) for step in pod.steps] == [("ping -c 1 \\", 31), ("  10.9.9.9", 32)]
    assert (dump.kind, dump.name, dump.slide) == ("run", "dump", 3)
    assert [(one.kind, one.name, one.line) for one in (watch, end)] == [("watch", "dump", 52), ("end", "dump", 52)]
    assert (end.checks.code, end.within, watch.checks.code) == ("any", 5.0, 0)
    assert hidden.hidden and [step.text for step in hidden.steps] == ["py 1 + 1", "status"]


def test_a_page_has_chapters_at_the_second_level_and_no_slides() -> None:
    page = lesson("# Title\n\n---\n\n## One\n\n### Part\n\n## Two\n")
    assert [chapter.title for chapter in page.chapters] == ["One", "Two"]
    assert (page.slides, page.scenario) == (0, "default")


@pytest.mark.parametrize(
    ("divider", "slides"),
    [("", [1, 1, 1, 2]), ("headingDivider: 2", [1, 2, 2, 3]), ("headingDivider: [3]", [1, 1, 2, 3])],
)
def test_slides_end_where_marp_ends_them(divider: str, slides: list[int]) -> None:
    run = "\n\n<!-- run: shell -->\n```bash\nls\n```\n\n"
    text = f"---\nmarp: true\n{divider}\n---\n# A{run}## B{run}### C{run}\n---\n{run}"
    assert [block.slide for block in lesson(text).blocks] == slides


def test_a_console_holds_commands_and_their_output() -> None:
    page = lesson("""\
        <!-- run: shell -->
        ```console
        $ cat <<END
        > one
        > END
        one
        $ curl -v http://web
        > GET / HTTP/1.1
        $
        ```
        <!-- run: C0w1/c1 -->
        ```console
        0:w1:c1> ip route
        ```
    """)
    shell, pod = page.blocks
    assert [(step.text, step.shown) for step in shell.steps] == [
        ("cat <<END", None),
        ("one", None),
        ("END", ("one",)),
        ("curl -v http://web", ("> GET / HTTP/1.1",)),
        ("", None),
    ]
    assert [step.line for step in shell.steps] == [3, 4, 5, 7, 9]
    assert pod.steps[0].text == "ip route"


def test_output_belongs_to_the_block_before() -> None:
    page = lesson("""\
        <!-- run: shell -->
        ```bash
        seq 9
        ```
        <!-- output -->
        ```
        1
        …
        9
        ```
        <!-- file: a.yaml -->
        ```yaml
        a: b
        ```
    """)
    run, file = page.blocks
    assert run.shown == ("1", "…", "9")
    assert (file.kind, file.name, file.text) == ("file", "a.yaml", "a: b\n")


def test_what_is_typed_does_not_mind_pipes_and_colons() -> None:
    (block,) = lesson("<!-- run: shell | expect: a|b: c | never: d |e -->\n```bash\nx\n```\n").blocks
    assert [one.text for one in block.checks.expect] == ["a|b: c"]
    assert [one.text for one in block.checks.never] == ["d |e"]


def test_who_types_ctrl_c_does_not_care_for_the_exit_code() -> None:
    (block,) = lesson("<!-- run: mininet | interrupt: seq=2 -->\n```console\nmininet> C0w1 ping C0w2\n```\n").blocks
    assert block.checks.code == "any"
    assert block.interrupt == Pattern("seq=2", 1)


def test_a_page_without_anything() -> None:
    for text in ("", "---\nmarp: true\n---\n"):
        page = parse_lesson(text, "page.md")
        assert (page.chapters, page.blocks) == ((), ())


@pytest.mark.parametrize("word", ["1", "workers", "Work", "1 Workers"])
def test_chapters_are_found(word: str) -> None:
    assert parse_lesson(DECK, "deck.md").find_chapter(word).title == "1 Workers"


def test_where_some_chapters_have_numbers_the_others_need_none() -> None:
    page = lesson("# T\n\n## The plan\n\n## 1 Services\n\n## 2 Names\n\n## The end\n")
    assert [str(chapter) for chapter in page.chapters] == ["The plan", "1 Services", "2 Names", "The end"]
    assert [page.find_chapter(word).title for word in ("1", "2", "end")] == ["1 Services", "2 Names", "The end"]
    with pytest.raises(NotFound, match="no chapter '4'") as caught:
        page.find_chapter("4")
    assert caught.value.hint == "there are: The plan; 1 Services; 2 Names; The end"


def test_chapters_without_numbers_are_counted() -> None:
    page = lesson("# T\n\n## Services in 3 steps\n\n## Names\n")
    assert [str(chapter) for chapter in page.chapters] == ["1 Services in 3 steps", "2 Names"]
    assert page.find_chapter("2").title == "Names"
    for word in ("3", "", "x"):
        with pytest.raises(NotFound, match="no chapter"):
            page.find_chapter(word)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe")
    for name, what in (("none.md", "there is no such file"), ("", "Is a directory"), ("bytes.md", "cannot be read")):
        with pytest.raises(ScenarioError, match=what):
            read_lesson(tmp_path / name)


def test_a_mark_of_the_byte_order_hides_no_front_matter(tmp_path: Path) -> None:
    (tmp_path / "deck.md").write_text(f"\N{BOM}{DECK}", encoding="utf-8")
    assert read_lesson(tmp_path / "deck.md").slides == 3


def test_to_come_to_a_chapter() -> None:
    page = lesson("""\
        # A
        <!-- run: shell | type: one -->
        <!-- file: a.txt -->
        ```
        text
        ```
        # B
        <!-- run: start -->
        ```console
        $ ./utils/run services
        ```
        <!-- run: shell | type: two -->
        # C
        <!-- run: shell | type: three -->
    """)

    def names(blocks: list[Block]) -> list[str]:
        return [block.name or block.steps[0].text for block in blocks]

    assert names(choose_blocks(page, page.chapters[1])) == ["one", "a.txt"]
    assert names(choose_blocks(page, page.chapters[2])) == ["a.txt", "./utils/run services", "two"]
    assert names(choose_chapter(page, page.chapters[1])) == ["a.txt", "./utils/run services", "two"]
    assert names(choose_chapter(page, page.chapters[2])) == ["a.txt", "./utils/run services", "three"]


@pytest.mark.parametrize(
    ("line", "scenario"),
    [
        ("sudo ./utils/run", "default"),
        ("sudo ./utils/run --images ids scenarios/services.yaml  # a tour", "scenarios/services.yaml"),
        ("knetsim up services --no-repair", "services"),
    ],
)
def test_which_scenario_a_line_starts(line: str, scenario: str) -> None:
    assert find_scenario(line) == scenario


@pytest.mark.parametrize("line", ["ls", "./utils/run --detach", "knetsim up -d x", "knetsim up -estatus"])
def test_lines_that_start_no_prompt(line: str) -> None:
    with pytest.raises(KnetsimError):
        find_scenario(line)


# --- what counts as expected ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "output", "found"),
    [
        ("0% packet loss", "2 packets transmitted, 2 received, 0% packet loss", True),
        ("0% packet loss", "2 packets transmitted, 0 received, 100% packet loss", False),
        ("icmp_seq=1", "icmp_seq=1 ttl", True),
        ("icmp_seq=1", "icmp_seq=12 ttl", False),
        ("^b$", "a\nb\nc", True),
        (r"\d+ received", "12 received", True),
        (r"mtu \d", "mtu 1450", True),
        ("seq=1", "icmp_seq=1 ttl", True),
        ("veth", "5: veth0cbea0eb@C0w1-eth0", True),
        ("1|2", "12", False),
        (r"11\.0\.0\.2\b", "11.0.0.20", False),
    ],
)
def test_numbers_count_whole(pattern: str, output: str, found: bool) -> None:
    assert (Checks(expect=(Pattern(pattern, 1),)).explain(output, 0) == []) is found
    assert (Checks(never=(Pattern(pattern, 1),)).explain(output, 0) == []) is not found


@pytest.mark.parametrize(
    ("wanted", "code", "good"),
    [
        (0, 0, True),
        (0, 1, False),
        (7, 7, True),
        (7, 0, False),
        ("fails", 1, True),
        ("fails", 0, False),
        ("any", 9, True),
    ],
)
def test_exit_codes(wanted: int, code: int, good: bool) -> None:
    assert (Checks(code=wanted).explain("", code) == []) is good


@pytest.mark.parametrize("pattern", ["(", "*", "a{2", ".*", "", "x?", "a|", "^"])
def test_patterns_that_cannot_be_used(pattern: str) -> None:
    assert bool(find_pattern_mistake(pattern)) is (pattern != "a{2")


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (["a", "b"], "a\nb", True),
        (["a"], "a\nb", False),
        (["a", "b"], "a", False),
        (["a", "…"], "a\nb\nc", True),
        (["…", "c"], "a\nb\nc", True),
        (["…", "b"], "a\nb\nc", False),
        (["…"], "", True),
        (["time=… ms"], "time=0.04 ms", True),
        (["time=… ms"], "time=0.04 s", False),
        (["a   b"], "a b", True),
        (["a  … b"], "  a x   b ", True),
        (["a.c"], "abc", False),
        (["a", "", "b"], "a\n\nb", True),
        (["a"], "", False),
    ],
)
def test_shown_output(shown: list[str], output: str, same: bool) -> None:
    assert matches_shown(shown, output) is same


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\r\nb\r\n", "a\nb"),
        ("\x1b[1;31mred\x1b[0m  \r\n", "red"),
        ("10%\r50%\r100%\r\n", "100%"),
        ("\x1b]0;title\x07x", "x"),
        ("\r\n\r\na\r\n", "a"),
    ],
)
def test_output_as_a_terminal_would_show_it_in_the_end(text: str, clean: str) -> None:
    assert clean_output(text) == clean


def test_columns_keep_to_their_width() -> None:
    lines = lay_side_by_side(["wanted", "x" * 50], ["seen", "y" * 70], 60)
    assert max(map(len, lines)) <= 60
    assert "".join(re.findall("y", "".join(lines))) == "y" * 70
    assert "".join(re.findall("x", "".join(lines))) == "x" * 50
    assert lay_side_by_side(["ab"], ["cd"], 40) == ["ab       │ cd"]


def test_what_a_reader_sees_before_it_is_run() -> None:
    ping, pod, dump, watch, end, _ = parse_lesson(DECK, "deck.md").blocks
    assert show_block(ping) == ["mininet> C0w1 ping -c 2 C0w2"]
    again = "(again and again for 1.5 s, until it is as the page says)"
    assert show_block(pod) == ["C0/c1> ping -c 1 \\", "C0/c1>   10.9.9.9", again]
    assert show_block(dump) == ["$ sudo tcpdump -n", "(goes on in a second terminal, as dump)"]
    assert show_block(watch) == ["(see what is printed by dump)"]
    assert show_block(end) == ["(Ctrl-C ends dump)"]
    assert show_block(Block("file", 1, name="a.yaml", text="a: b\nc: d\n")) == ["file a.yaml:", "a: b", "c: d"]


def test_the_environment_of_a_lesson(tmp_path: Path) -> None:
    caller = {"PATH": "/bin", "SUDO_USER": "me", "LC_ALL": "de_DE", "KNETSIM_NAME": "other", "HOME": "/home/me"}
    caller |= {"KNETSIM_API_ADDRESS": "0.0.0.0", "KNETSIM_IMAGES": "mine.md"}
    env = build_environment(caller, "lesson-1", tmp_path, is_root=True)
    assert (env["PATH"], env["HOME"], env["LC_ALL"]) == ("/bin", str(tmp_path), "C.UTF-8")
    assert env["KNETSIM_NAME"] == "lesson-1"
    assert env["KNETSIM_API_ADDRESS"] == "0.0.0.0"
    assert "KNETSIM_IMAGES" not in env
    assert "SUDO_USER" not in env
    assert any("sudo" in name for name in env)
    assert not any("sudo" in name for name in build_environment(caller, "lesson-1", tmp_path, is_root=False))

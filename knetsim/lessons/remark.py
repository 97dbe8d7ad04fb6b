"""The invisible comments with which a page says what its blocks are. No forge and no slide shows them.

A comment stands right before its fenced block. It is a list of `KEY: VALUE`, each on a line of its own, or on one line
with ` | ` between them:

    <!-- run: mininet | expect: 2 received | within: 30s -->

The first key says what the block is:

    run: PLACE     it is typed there: `mininet` (the prompt), `shell` (this machine's), or a host or pod, called as by
                   `knetsim exec` (`C0w1`, `C0/c1`, `C0w1/c1`). Each place keeps one terminal through the page
    run: start     its command starts the simulation and opens the prompt: `sudo ./utils/run scenarios/services.yaml`;
                   the simulation before it ends
    run: no        it is only shown; why may follow after a comma
    output         it is what the block before printed, line by line; `…` stands for whatever comes there, alone on a
                   line for any number of lines
    file: NAME     it is a file, written to the directory in which the shells and the prompt are

Of `run`, and each but `expect`, `never` and `type` once:

    expect: PATTERN      a regular expression that is found in the output. A number at its ends counts whole:
                         `0% packet loss` is not in `100% packet loss`
    never: PATTERN       one that is not found there
    exit: CODE           of the last line: a number (0 unless said), `fails` or `any`; lines before it must succeed
    within: 30s          how long it may take (60 s); then its process is ended, and the rest goes on
    eventually: 30s      it is run again until all is as expected, for so long
    interrupt: PATTERN   Ctrl-C is typed as soon as this is in the output
    background: NAME     it goes on in a terminal of its own, the reader's second one; what is expected must be seen
                         before the next block
    type: LINE           no block follows: this line is typed, and no reader sees it

Comments that stand alone, about what goes on in the background; `expect`, `never` and `within` hold for all that it has
printed since its start:

    end: NAME            Ctrl-C is typed there
    await: NAME          its end is waited for; `exit` as of `run`
    watch: NAME          what is expected is waited for; it goes on

Before the first block, unless a front matter says `scenario:` and `options:`, or `default` is meant:

    scenario: NAME       the simulation that the page is about: a scenario that comes along, or a file
    options: WORDS       of `knetsim up`, as in `scenario: default | options: --no-repair`

A block of the language `console` holds prompts: what follows `mininet> `, `$ ` or `0:w1:c1> ` is typed, and lines
without a prompt are what must be seen there, as in a block that is `output`. Blocks of the languages text, yaml, json,
toml and markdown may go without a comment; they are only shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knetsim.names import did_you_mean, nearest_word

_CHECKS = frozenset({"expect", "never", "within"})
_ONCE = frozenset({"exit", "within", "eventually", "interrupt", "background", "options"})
#: first key → the keys that may follow
KEYS: dict[str, frozenset[str]] = {
    "run": _CHECKS | {"exit", "eventually", "interrupt", "background", "type"},
    "output": frozenset(),
    "file": frozenset(),
    "end": _CHECKS,
    "await": _CHECKS | {"exit"},
    "watch": _CHECKS,
    "scenario": frozenset({"options"}),
}
EXAMPLES = {
    "run": "run: mininet, run: shell, run: C0w1, run: no",
    "file": "file: web.yaml",
    "scenario": "scenario: default",
    "expect": "expect: 0% packet loss",
    "never": "never: Error",
    "exit": "exit: 0, exit: fails, exit: any",
    "within": "within: 30s",
    "eventually": "eventually: 30s",
    "interrupt": "interrupt: icmp_seq=2",
    "background": "background: dump",
    "type": "type: py C0.get('w1').IP()",
    "options": "options: --no-repair",
}
_FIRST = re.compile(r"\s*(?P<key>[a-z]+)\s*(?::|$|\|)")
_ENTRY = re.compile(r"(?P<key>[a-z]+)\s*:(?:\s+(?P<value>.*))?$")
_BETWEEN = re.compile(r"\s+\|\s+(?=[a-z]+\s*:(?:\s|$))")

#: a `|` that was meant to separate: `expect: a| never: b`
_GLUED = re.compile(rf"\|\s*({'|'.join(frozenset().union(*KEYS.values()))})\s*:\s")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `KEY: VALUE` and its line."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong in a line of a page, and what to do."""

    line: int
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment that says something about a block: its first key and value, and the further entries."""

    key: str
    value: str
    line: int
    entries: tuple[Entry, ...] = ()

    def values(self, key: str) -> list[Entry]:
        """All entries of a key."""
        return [entry for entry in self.entries if entry.key == key]


def is_remark(text: str) -> bool:
    """Whether a comment is for us: any other one is the author's own, as a speaker's notes are."""
    first = _FIRST.match(text)
    return first is not None and first["key"] in KEYS


def guess_remark(text: str) -> str:
    """What the first word of a comment may have meant: `rnu: mininet` → `run`; empty when nothing is near."""
    first = _FIRST.match(text)
    return nearest_word(first["key"], KEYS) or "" if first else ""


def read_remark(text: str, line: int) -> tuple[Remark | None, list[Mistake]]:
    """A comment's text that begins in `line` of its page, for which `is_remark` holds; and all mistakes in it."""
    mistakes: list[Mistake] = []
    entries = list(_read_entries(text, line, mistakes))
    if not entries:
        return None, mistakes
    first, rest = entries[0], entries[1:]
    if not first.value and first.key != "output":
        mistakes.append(Mistake(first.line, f"'{first.key}:' says nothing", _example(first.key)))
        return None, mistakes
    mistakes += _find_mistakes(first.key, rest)
    return Remark(first.key, first.value, first.line, tuple(rest)), mistakes


def _read_entries(text: str, line: int, mistakes: list[Mistake]) -> Iterator[Entry]:
    """The entries in order; lines that are none are mistakes."""
    for number, words in enumerate(text.splitlines(), line):
        for part in _BETWEEN.split(words.strip()):
            entry = _ENTRY.match(part)
            if entry:
                yield Entry(entry["key"], (entry["value"] or "").strip(), number)
            elif part == "output":
                yield Entry("output", "", number)
            elif part:
                mistakes.append(Mistake(number, f"what is '{part}'?", "every line of the comment is KEY: VALUE"))


def _find_mistakes(first: str, rest: Sequence[Entry]) -> Iterator[Mistake]:
    """Keys that are unknown, at the wrong place, empty, or there twice."""
    known, seen = KEYS[first], set()
    for entry in rest:
        if entry.key not in known:
            hint = did_you_mean(entry.key, known) if known else f"'{first}' stands alone"
            yield Mistake(entry.line, f"'{first}' knows no '{entry.key}'", hint)
        elif _GLUED.search(entry.value):
            yield Mistake(entry.line, f"'{entry.value}' holds another key", "put blanks around the | before it")
        elif not entry.value:
            yield Mistake(entry.line, f"'{entry.key}:' says nothing", _example(entry.key))
        elif entry.key in _ONCE and entry.key in seen:
            yield Mistake(entry.line, f"'{entry.key}' is there twice", "leave one out")
        seen.add(entry.key)


def _example(key: str) -> str:
    return EXAMPLES.get(key, f"{key}: NAME")

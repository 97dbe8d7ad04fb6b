"""Sessions with kubectl as text: what is typed, and what must come of it. 01-read.session says how."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from knetsim.errors import NotReady
from knetsim.system.wait import wait_until

SECONDS = 120
_EVENTUALLY = 60.0
_KEPT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r'"([^"]*)"(?=\s|$)|((?:\\ |\S)+)')


@dataclass
class Step:
    """One command of a session."""

    line: int
    words: list[str]
    input: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    code: int | None = 0
    eventually: bool = False
    editor: str = ""
    keep: str = ""

    def fill(self, kept: Mapping[str, str]) -> Step:
        """The step with what earlier ones have kept in the place of `{NAME}`."""

        def put(texts: list[str]) -> list[str]:
            return [_KEPT.sub(lambda match: kept.get(match[1], match[0]), text) for text in texts]

        return replace(self, words=put(self.words), expected=put(self.expected), absent=put(self.absent))

    def explain(self, code: int, output: str) -> str:
        """What is not as it must be; empty when all is."""
        wrong = [f"no line like {text}" for text in self.expected if not re.search(text, output, re.MULTILINE)]
        wrong += [f"a line like {text}" for text in self.absent if re.search(text, output, re.MULTILINE)]
        if self.code is not None and code != self.code:
            wrong.append(f"exit code {code}, not {self.code}")
        return "; ".join(wrong)


def read_session(path: Path) -> list[Step]:
    """The steps of a session file."""
    steps: list[Step] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark, text = line[:1], line[2:]
        if mark in ("#", ""):
            continue
        if mark == "$":
            steps.append(Step(number, split_words(text)))
            continue
        step = steps[-1]
        if mark == "<":
            step.input.append(text)
        elif mark == "=":
            step.expected.append(text)
        elif mark == "-":
            step.absent.append(text)
        elif mark == "@":
            step.eventually = True
        elif mark == ">":
            step.keep = text
        elif mark == "%":
            step.editor = text
        elif mark == "?":
            step.code = None if text == "any" else int(text)
        else:
            raise ValueError(f"{path}:{number}: what is {line!r}?")
    return steps


def split_words(text: str) -> list[str]:
    """Words at blanks; `"…"` is one word when it stands alone, a blank within others is written `\\ `."""
    return [
        match[1] if match[1] is not None else match[2].replace("\\ ", " ") for match in _WORD.finditer(text.strip())
    ]


@dataclass(frozen=True)
class Kubectl:
    """A kubectl program, with the cluster it speaks to and a directory for files."""

    program: Path
    kubeconfig: Path
    directory: Path

    def run(self, words: Sequence[str], stdin: str = "", editor: str = "") -> tuple[int, str]:
        """Its exit code and all that it printed."""
        argv = [str(self.program), *(word.replace("@tmp", str(self.directory)) for word in words)]
        own = {"KUBECONFIG": str(self.kubeconfig), "EDITOR": editor or "false", "HOME": str(self.directory)}
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=SECONDS,
                env={**os.environ, **own},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return -1, f"{error.output or ''}\nno end within {SECONDS} s"
        return done.returncode, done.stdout

    def play(self, steps: Sequence[Step]) -> Iterator[str]:
        """Run a session; yields what went wrong, in words."""
        kept: dict[str, str] = {}
        for step in (step.fill(kept) for step in steps):
            last: list[tuple[int, str]] = []

            def look(step: Step = step, last: list[tuple[int, str]] = last) -> str:
                last[:] = [self.run(step.words, "".join(f"{line}\n" for line in step.input), step.editor)]
                return step.explain(*last[0])

            try:
                if step.eventually:
                    wait_until(" ".join(step.words), look, _EVENTUALLY)
                else:
                    look()
            except NotReady:
                pass  # what it was last is told below
            if wrong := step.explain(*last[0]):
                yield f"line {step.line}: kubectl {' '.join(step.words)}\n  {wrong}\n  {last[0][1].strip()[-1500:]}"
            if step.keep:
                kept[step.keep] = last[0][1].strip()

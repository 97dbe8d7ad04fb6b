"""The table of `knetsim fidelity` as a page for people, docs/fidelity.md; pure. A golden test compares the two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from knetsim.fidelity import Part

_INTRODUCTION = """\
# What is real here

<!-- scenario: default -->

Every part of a simulated cluster, and in what it differs from the real thing. Where a part is told twice, it runs in
either way, and a scenario says which: for a whole cluster, or for one worker beside another that has it the other way.

| word | means |
|---|---|
| real | the program, or the kernel's own code, that clusters run |
| embedded | ours, and of the same wire format: both can serve one cluster |
| simplified | ours, and does less |
| absent | refused with a message, never pretended |

The same in a terminal; while a simulation runs, what that one uses, and in which clusters:

<!-- run: shell | expect: ^etcd +real +etcd +all | expect: ^control plane +real +kubernetes +C0, C1 -->
```console
$ sudo ./utils/knetsim fidelity
```

This page is written from the same table, `PARTS` in `knetsim/fidelity.py`:

<!-- run: no, it writes into the checkout -->
```console
$ ./utils/knetsim fidelity --page docs/fidelity.md
```"""


def build_page(parts: Sequence[Part]) -> str:
    """The whole page: one table to see what runs, and what differs under a heading for each part."""
    rows = [f"| {_link(part.name)} | {part.variant} | {part.reality} |" for part in parts]
    table = "\n".join(["| part | what runs | reality |", "|---|---|---|", *rows])
    sections = (_section(name, same) for name, same in groupby(parts, key=lambda part: part.name))
    return "\n\n".join([_INTRODUCTION, "## All parts", table, *sections]) + "\n"


def _section(name: str, parts: Iterable[Part]) -> str:
    said = (f"**{part.variant or name}**, {part.reality}: {part.differs}." for part in parts)
    return "\n\n".join([f"## {name}", *said])


def _link(name: str) -> str:
    """To the heading of that name, as forges call it."""
    return f"[{name}](#{name.lower().replace(' ', '-')})"

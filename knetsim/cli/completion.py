"""What Tab offers at the prompt inside `py` and `kubectl`."""

from __future__ import annotations

import rlcompleter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knetsim.errors import KnetsimError

#: bits of the number on the last line of `kubectl __complete`: something went wrong (cobra's ShellCompDirective)
_WENT_WRONG = 1
#: lines that are meant to be read (cobra's active help)
_ADVICE = "_activeHelp_"


def complete_python(text: str, names: Mapping[str, Any]) -> list[str]:
    """Names, or the attributes of what stands before the last dot; none that begin with `_` unless asked for."""
    completer = rlcompleter.Completer(dict(names))
    owner, dot, start = text.rpartition(".")
    found: list[str] = completer.attr_matches(text) if dot and owner else [] if dot else completer.global_matches(text)
    return sorted({one for one in found if start or not one[len(owner) + len(dot) :].startswith("_")})


def complete_kubectl(line: str, text: str, ask: Callable[[Sequence[str]], str]) -> list[str]:
    """What kubectl itself offers for the end of `line`, which is up to the cursor and without `kubectl`.

    `text` is the part of the last word that is to be replaced: readline takes `app=w` for two. `ask` runs the words
    after `kubectl` and returns what it prints.
    """
    words = line.split()
    last = "" if not line or line[-1].isspace() else words.pop()
    try:
        lines = ask(["__complete", *words, last]).splitlines()
    except KnetsimError:
        return []  # no kubectl, or the API server takes its time: Tab is no place for an error
    if not lines or not lines[-1].removeprefix(":").isdigit() or int(lines[-1].removeprefix(":")) & _WENT_WRONG:
        return []
    kept = len(last) - len(text)
    offered = [one.split("\t")[0] for one in lines[:-1]]
    return [one[kept:] for one in offered if one.startswith(last) and not one.startswith(_ADVICE)]

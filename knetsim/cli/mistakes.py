"""What a line at the prompt that is no command was probably meant to be; pure.

Python without `py`, a pod or a cluster where a host stands, a command that is for another terminal: each is common
enough to be answered by the line that was meant.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from knetsim.errors import UsageError
from knetsim.names import nearest_word
from knetsim.system.invocation import as_typed

#: what begins a statement; other keywords of Python begin no line, or are a command of a shell
_STATEMENTS = frozenset(
    {"assert", "class", "def", "del", "for", "from", "if", "import", "raise", "try", "while", "with"}
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*\s*=(?!=)")
#: nothing may stand before the dot: `C0w1 ./program` is a host's command
_EXPRESSION = re.compile(r"([A-Za-z_]\w*)[.(\[]")
#: what a shell passes on as it is
_PLAIN = re.compile(r"[\w\s./:=@%+,-]+")
#: of a large cluster not all hosts are listed
_FEW = 9


class PodHome(NamedTuple):
    """Where a pod is: its worker, and the words that begin kubectl's line for its cluster; none without kubectl."""

    worker: str
    kubectl: str


@dataclass(frozen=True, slots=True)
class Known:
    """What there is: commands, hosts and switches, the hosts of each cluster, what `py` knows, and for each call of a
    worker or a cluster the object that has it."""

    commands: Collection[str]
    nodes: Collection[str]
    clusters: Mapping[str, Sequence[str]]
    python: Collection[str]
    calls: Mapping[str, str]
    find_pod: Callable[[str], PodHome | None]


def is_python(line: str) -> bool:
    """Whether a line that begins with a host's name is an expression: `C0w1.IP()` is, `C0w1 ip addr` is not."""
    return _EXPRESSION.match(line) is not None


def explain_line(line: str, known: Known) -> UsageError:
    """What to say of a line that is no command."""
    line = line.strip()
    for explain in (_explain_python, _explain_outside, _explain_pod, _explain_cluster):
        error = explain(line, known)
        if error is not None:
            return error
    word = line.split(maxsplit=1)[0]
    near = nearest_word(word, [*known.commands, *known.nodes])
    return UsageError(f"unknown command '{word}'", hint=f"did you mean '{near}'?" if near else "help")


def _explain_python(line: str, known: Known) -> UsageError | None:
    what = "that is Python"
    first, _, rest = line.partition(" ")
    if (first in _STATEMENTS and rest) or _ASSIGNMENT.match(line):
        return UsageError(what, hint=f"px {line}")
    found = _EXPRESSION.match(line)
    if found is None:
        return None
    name = found[1]
    if name in known.calls and line[len(name)] == "(":
        return UsageError(what, hint=f"py {known.calls[name]}.{line}")
    exact = name if hasattr(builtins, name) else _find(name, known.python)
    return UsageError(what, hint=f"py {exact}{line[len(name) :]}") if exact else None


def _explain_outside(line: str, known: Known) -> UsageError | None:
    """`knetsim status`, with or without `sudo` and a path, and `./utils/exec 0 w1`."""
    words = line.removeprefix("sudo ").split()
    program, rest = words[0], words[1:]
    if not program.startswith("./utils/") and program.rpartition("/")[2] != "knetsim":
        return None
    name = program.rpartition("/")[2]
    here = _find_same(rest, known) if name == "knetsim" else ""
    typed = as_typed(" ".join(rest)).rstrip() if name == "knetsim" else f"sudo {' '.join(words)}"
    outside = f"in another terminal: {typed}"
    return UsageError(f"{name} is for another terminal", hint=f"here: {here}; {outside}" if here else outside)


def _find_same(rest: Sequence[str], known: Known) -> str:
    """The prompt's line for the same as `knetsim REST`; empty where it has none."""
    if rest[:1] == ["down"]:
        return "exit"
    if rest[:1] == ["exec"] and rest[1:2] and rest[1] in known.nodes:
        return " ".join([rest[1], *(rest[3:] or ["ip", "addr"])])
    return " ".join(rest) if rest and rest[0] in ("status", "link", "kubectl") else ""


def _explain_pod(line: str, known: Known) -> UsageError | None:
    word, _, rest = line.partition(" ")
    home = known.find_pod(word)
    if home is None:
        return None
    command = rest.strip() or "ip addr"
    quoted = json.dumps(command, ensure_ascii=False)
    hint = f'py {home.worker}.exec_container("{word}", {quoted})'
    if home.kubectl and _PLAIN.fullmatch(command):  # anything else a shell outside of the pod would take for its own
        hint += f"; or: {home.kubectl} exec {word} -- {command}"
    return UsageError(f"{word} is a pod, and only hosts are called by their names", hint=hint)


def _explain_cluster(line: str, known: Known) -> UsageError | None:
    word, _, rest = line.partition(" ")
    cluster = _find(word, known.clusters)
    if cluster is None or not known.clusters[cluster]:
        return None
    hosts = known.clusters[cluster]
    listed = " ".join(hosts[:_FEW]) + (" …" if len(hosts) > _FEW else "")
    hint = f"{hosts[0]} {rest.strip() or 'ip addr'}"
    return UsageError(f"{cluster} is a cluster", why=f"its hosts: {listed}", hint=hint)


def _find(word: str, known: Collection[str]) -> str | None:
    """The known word that this is, in whatever case."""
    return word if word in known else next((other for other in known if other.lower() == word.lower()), None)


def nearest_name(error: Exception, names: dict[str, Any]) -> str:
    """What a mistyped name or attribute may have meant."""
    if isinstance(error, NameError):
        known = list(names)
    elif isinstance(error, AttributeError):
        known = dir(error.obj)
    else:
        return ""
    near = nearest_word(error.name or "", [name for name in known if not name.startswith("_")])
    return f"did you mean '{near}'?" if near else ""

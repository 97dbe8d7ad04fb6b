"""What can go wrong, as one tree; every error says what, where, why and what to try.

    KnetsimError                exit 1   the thing failed
    ├── InputError              exit 2   what the user gave is wrong; nothing was changed
    │   ├── UsageError                   wrong words on the command line or at the prompt
    │   ├── ScenarioError                mistakes in a scenario or manifest, all of them (`problems`)
    │   └── ObjectError                  an object that cannot be accepted
    ├── NotFound                         the named thing does not exist
    ├── AlreadyExists                    the named thing exists
    ├── Conflict                         somebody else changed it first
    ├── StoreUnavailable                 the object store does not answer (etcd without quorum, server away)
    ├── CommandError                     a program failed; carries the command, pasteable, and its output
    ├── KernelError                      the kernel refused a request; carries errno
    ├── RouterRefusal                    a Skupper router refused a request; carries its words
    ├── NotReady                         a deadline passed; says what was waited for
    ├── MissingTool                      a program or kernel feature that is not here
    └── LeftoverError                    something could not be cleaned up; carries every failure

Only `cli/main.py` turns them into text, four lines at most: what, where, why, try this.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class KnetsimError(Exception):
    """Base of all errors: `what` failed, `where`, `why`, and a `hint` at what to try."""

    exit_code = EXIT_FAILED

    def __init__(self, what: str, where: str = "", why: str = "", hint: str = "") -> None:
        self.what, self.where, self.why, self.hint = what, where, why, hint
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text = f"{self.where}: {text}"
        if self.why:
            text = f"{text}: {self.why}"
        return text


class InputError(KnetsimError):
    """The user's input is wrong; refused before anything was changed."""

    exit_code = EXIT_USAGE


class UsageError(InputError):
    """Wrong words on a command line or at the prompt."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in a file: where (1-based line and column; line 0 is the file itself), what, and the remedy."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{where}: {self.what}"
        return f"{text} ({self.hint})" if self.hint else text


class ScenarioError(InputError):
    """All mistakes found in the scenario or manifests of one run."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        super().__init__(f"{count} mistake{'s' if count != 1 else ''} found")

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ObjectError(InputError):
    """An object that the store cannot accept: `field` is the path of the first mistake, `problems` all as (field,
    what)."""

    def __init__(
        self,
        what: str,
        where: str = "",
        why: str = "",
        hint: str = "",
        field: str = "",
        problems: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(what, where, why, hint)
        self.field = field
        self.problems = tuple(problems) or ((field, what),)


class NotFound(KnetsimError):
    """The named thing does not exist."""


class AlreadyExists(KnetsimError):
    """The named thing exists already."""


class Conflict(KnetsimError):
    """The object was changed by somebody else since it was read."""


class StoreUnavailable(KnetsimError):
    """The object store does not answer or has no quorum; trying again later may work."""


class CommandError(KnetsimError):
    """A program ended with an error: `argv`, `code` (negative: signal) and `output` are kept."""

    def __init__(self, argv: Sequence[str], code: int, output: str, where: str = "", hint: str = "") -> None:
        self.argv, self.code, self.output = tuple(argv), code, output
        ended = f"exit {code}" if code >= 0 else f"signal {-code}"
        tail = output.strip()[-2000:]
        super().__init__(f"`{shlex.join(argv)}` failed ({ended})", where, tail, hint)


class KernelError(KnetsimError):
    """The kernel refused a request; `errno` is its number, `request` the same request as an `ip` command."""

    def __init__(self, request: str, errno: int, why: str, where: str = "", hint: str = "") -> None:
        self.request, self.errno = request, errno
        super().__init__(f"the kernel refused `{request}`", where, why, hint)


class RouterRefusal(KnetsimError):
    """A Skupper router does not do what it was asked for; `why` are its words."""


class NotReady(KnetsimError):
    """A deadline passed; `what` names what was waited for."""


class MissingTool(KnetsimError):
    """A program or kernel feature is not here; the hint says how to get it."""


class LeftoverError(KnetsimError):
    """Tear-down went to its end, but not everything could be undone."""

    def __init__(self, failures: Sequence[BaseException]) -> None:
        self.failures = tuple(failures)
        super().__init__(
            f"{len(self.failures)} thing(s) could not be cleaned up",
            why="; ".join(str(failure) for failure in self.failures),
        )


def error_to_json(error: KnetsimError) -> list[Any]:
    """An error in a form that another process raises again; one with more than the four texts becomes its base."""
    plain = type(error).__init__ is KnetsimError.__init__
    kind = type(error).__name__ if plain else "InputError" if error.exit_code == EXIT_USAGE else "KnetsimError"
    return [kind, {"what": error.what, "where": error.where, "why": error.why[-4000:], "hint": error.hint}]


def error_from_json(said: list[Any]) -> KnetsimError:
    """The error of which another process said so, as the class it was; of one that is not known here, its base."""
    kind, fields = said
    error: KnetsimError = globals().get(kind, KnetsimError)(**fields)
    return error

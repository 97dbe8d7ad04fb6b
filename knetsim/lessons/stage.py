"""All that a lesson runs in: a directory, an environment, a simulation, and the terminals that are open in it.

The directory is a fresh one that holds links to what is in the directory of the caller: `./utils/exec` and
`scenarios/default.yaml` are there, and what a lesson writes goes away with it, as its home directory does. The
simulation's name is in the environment, so that `./utils/exec 0 w1` means this one, whatever else runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from knetsim.errors import KnetsimError
from knetsim.lessons.block import PROMPT, SHELL, Block
from knetsim.lessons.sessions import PromptSession, Session, ShellSession, shell_argv, target_argv
from knetsim.names import ADDRESS_VARIABLE, HOST_STATE, NAME_VARIABLE
from knetsim.system import sandbox
from knetsim.system.state import StateDirectory
from knetsim.system.terminal import COLUMNS, ROWS

_STOP_SECONDS = 60.0
#: of directories, before the number of the process whose they are
_PREFIX = "knetsim-lesson-"
#: what a shell of the caller's may hold that would change what commands print
_DROPPED = ("BASH_ENV", "ENV", "PROMPT_COMMAND", "CDPATH", "GREP_OPTIONS", "LS_COLORS", "LANGUAGE", "KUBECONFIG")
_SUDO = '() { case $1 in -*) command sudo "$@" ;; *) "$@" ;; esac; }'


@dataclass(frozen=True, slots=True)
class Going:
    """A program that goes on: the block that began it, and the terminal that is its own."""

    block: Block
    session: Session


@dataclass
class Stage:
    """`command` is how knetsim is called, `base` the directory whose files are linked, `columns` the terminals' width.
    `close` it in every case."""

    name: str
    command: Sequence[str]
    base: Path
    columns: int = COLUMNS
    going: dict[str, Going] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prompt: PromptSession | None = None
        self._shells: dict[str, ShellSession] = {}
        self._files: set[Path] = set()
        sweep_directories(Path(tempfile.gettempdir()))
        self.directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        for entry in self.base.iterdir():
            (self.directory / entry.name).symlink_to(entry.absolute())
        home = Path(tempfile.mkdtemp(prefix=".home-", dir=self.directory))
        self.env = build_environment(os.environ, self.name, home, self.columns, is_root=os.geteuid() == 0)

    @property
    def has_simulation(self) -> bool:
        """Whether the prompt is there."""
        return self._prompt is not None

    def start(self, line: str, seconds: float, listen: Callable[[str], None] = lambda output: None) -> str:
        """Start a simulation by a line of a shell, and end the one before; what it printed, which `listen` hears while
        it comes. KnetsimError, NotReady."""
        self.end_simulation()
        self._prompt = PromptSession(["bash", "-c", line], self.env, self.directory, self.name, self.columns)
        try:
            return self._prompt.wait_ready(seconds, listen)
        except BaseException:  # Ctrl-C too: what has begun to start is no simulation
            self.end_simulation()
            raise

    def end_simulation(self) -> None:
        """End the simulation with the terminals that are in it; without one nothing happens."""
        for place in [place for place in self._shells if place != SHELL]:
            self.forget(place)
        for name in [name for name, one in self.going.items() if one.block.place != SHELL]:
            self.going.pop(name).session.close()
        if self._prompt is not None:
            prompt, self._prompt = self._prompt, None
            prompt.close()
        directory = StateDirectory(Path(HOST_STATE) / self.name)
        if directory.path.exists():
            sandbox.stop(directory, _STOP_SECONDS)

    def session(self, place: str) -> Session:
        """The terminal of a place, opened when it is needed first. KnetsimError, NotReady."""
        if place == PROMPT:
            if self._prompt is None:
                raise KnetsimError("no simulation runs", hint="a block before it starts one: run: start")
            return self._prompt
        if place not in self._shells:
            self._shells[place] = self.open_shell(place)
        return self._shells[place]

    def open_shell(self, place: str) -> ShellSession:
        """One more terminal at a place."""
        argv = shell_argv() if place == SHELL else target_argv(self.command, place)
        return ShellSession(argv, self.env, self.directory, self.columns)

    def forget(self, place: str) -> None:
        """A terminal has ended, or does not answer: the next block there gets a new one. The prompt's is the
        simulation."""
        if place == PROMPT:
            self.end_simulation()
        elif place in self._shells:
            self._shells.pop(place).close()

    def write_file(self, name: str, text: str) -> None:
        """Write a file of the lesson's. KnetsimError when the caller's directory has one of that name."""
        path = self.directory / name
        if path.is_symlink() or (path.exists() and path not in self._files):
            raise KnetsimError(f"there is a file {name} already", str(self.base), hint="give the lesson's another name")
        path.write_text(text)
        self._files.add(path)

    def close(self) -> None:
        """End everything. Twice is once."""
        try:
            for one in self.going.values():
                one.session.close()
            self.going.clear()
            self.end_simulation()
        finally:
            for place in list(self._shells):
                self.forget(place)
            shutil.rmtree(self.directory, ignore_errors=True)


def sweep_directories(folder: Path) -> None:
    """Remove directories of lessons that were killed: their processes are no more."""
    for directory in folder.glob(f"{_PREFIX}*-*"):
        owner = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(directory, ignore_errors=True)


def build_environment(
    caller: Mapping[str, str], name: str, home: Path, columns: int = COLUMNS, *, is_root: bool
) -> dict[str, str]:
    """What a lesson's programs find in their environment; pure. Of root no sudo is wanted, which may not be there."""
    kept = {
        key: value
        for key, value in caller.items()
        if key == ADDRESS_VARIABLE  # a container's published ports lead there
        or (key not in _DROPPED and not key.startswith(("SUDO_", "BASH_FUNC_", "KNETSIM_", "LC_")))
    }
    own = {
        "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HISTFILE": "/dev/null",
        "INPUTRC": "/dev/null", "PAGER": "cat", "PYTHONUNBUFFERED": "1", NAME_VARIABLE: name,
        "COLUMNS": str(columns), "LINES": str(ROWS),  # else tables think of a dumb terminal as of a narrow one
    }  # fmt: skip
    return {**kept, **own, **({"BASH_FUNC_sudo%%": _SUDO} if is_root else {})}

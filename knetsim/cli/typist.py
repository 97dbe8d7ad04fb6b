"""For a program that types at the prompt as a person would (`knetsim lesson`): which lines have ended, and how.

A person sees the prompt again and knows that a line has ended. A program that reads the same terminal cannot tell a
prompt from output that looks like one, and sees no exit code: it asks for both at the simulation's socket.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knetsim.simulation import Simulation
from knetsim.system.children import kill_tree, read_children
from knetsim.system.rpc import Answer

#: the exit code of what Ctrl-C has ended, as shells have it
INTERRUPTED = 130


class LineRecord:
    """The lines of one prompt."""

    def __init__(self) -> None:
        self.lines, self.code = 0, 0
        self._depth = 0
        self._spared: frozenset[int] = frozenset()

    @contextmanager
    def noting(self, shell: Any) -> Iterator[None]:
        """The block runs one line of `shell`; a line that runs others, as `source` does, counts as one."""
        if not self._depth:
            self._spared = frozenset(_started_here())
            shell.code = 0
        self._depth += 1
        try:
            yield
        except KeyboardInterrupt:
            shell.code = INTERRUPTED
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                self.code = shell.code
                self.lines += 1

    def kill_command(self, nodes: Any) -> int:
        """End what the line that runs has started and Ctrl-C has not ended; how many processes that were.

        A host's command is a child of its shell, all others of our main thread's: only the prompt starts any there.
        """
        shells = [node.shell.pid for node in nodes if node.waiting and node.shell]
        started = [child for shell in shells for child in read_children(shell)]
        started += [child for child in _started_here() if child not in self._spared]
        return sum(kill_tree(child) for child in started) if self._depth else 0


def _started_here() -> list[int]:
    """The children of our main thread."""
    return read_children(os.getpid(), thread=os.getpid())


def answer_typist(simulation: Simulation, record: LineRecord) -> None:
    """Answer `prompt` and `kill` at the simulation's socket."""
    simulation.add_method("prompt", lambda: Answer({"lines": record.lines, "code": record.code}))
    simulation.add_method("kill", lambda: Answer(record.kill_command(simulation.net.hosts)))

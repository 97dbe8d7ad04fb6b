"""`knetsim exec`: a command or a shell in a host or pod of a running simulation, from any terminal."""

from __future__ import annotations

import os

from knetsim.errors import MissingTool
from knetsim.names import INSIDE_STATE
from knetsim.system import rpc, state
from knetsim.system.netns import Namespaces
from knetsim.system.run import run_attached

#: the exit code of a command that is not there, as shells have it
_NO_PROGRAM = 127
_KEPT = ("TERM", "LANG", "LC_ALL", "COLORTERM", "NO_COLOR", "EDITOR", "KUBE_EDITOR")


def execute(name: str | None, target: str, container: str | None, command: list[str]) -> int:
    """Run `command` (a shell when empty) in `target`; its exit code."""
    simulation = state.find(name)
    answer, fds = rpc.call(simulation.control_socket, "exec", target=target, container=container)
    place = Namespaces(target, **dict(zip(answer["kinds"], fds, strict=True)))
    try:
        argv = command or ["bash", "--norc", "--noprofile"]
        return run_attached(
            argv, place=place, env=build_environment(answer["prompt"], answer["env"]), cwd=answer["cwd"]
        )
    except MissingTool as error:
        error.exit_code, error.hint = _NO_PROGRAM, ""  # what is mistyped no set-up brings
        raise
    finally:
        place.close()


def build_environment(prompt: str, extra: dict[str, str]) -> dict[str, str]:
    """The environment of what runs in a target: the terminal's settings, the user's editor (`kubectl edit`), a plain
    PATH, a prompt that says where one is."""
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    return {
        "PATH": f"{INSIDE_STATE}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "SHELL": "/bin/bash",
        "PS1": f"{prompt}> ",
        "HISTFILE": "/dev/null",
        **kept,
        **extra,
    }

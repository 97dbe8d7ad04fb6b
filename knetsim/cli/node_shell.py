"""The shell of a host at the prompt: what waits unread at the terminal, and how its last command ended."""

from __future__ import annotations

import fcntl
import re
import sys
import termios
from select import POLLIN, poll
from typing import Any

from knetsim.errors import EXIT_OK

#: between looks whether a node's shell still runs
LOOK_MILLISECONDS = 500


def count_waiting(terminal: int) -> int:
    """How many characters were typed that nobody has read; 0 where there is no terminal."""
    if terminal < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_code(node: Any) -> int:
    """The exit code of the command that has just ended in the node's shell.

    Lines that were typed while it ran, and that it did not read, its shell has taken for commands: what they print is
    dropped here.
    """
    termios.tcflush(node.slave, termios.TCIFLUSH)
    node.write("echo code-of-knetsim=$?\n")
    poller = poll()
    poller.register(node.stdout, POLLIN)
    output = ""
    while not (said := re.search(r"code-of-knetsim=(\d+)\s*\x7f", output)):
        if poller.poll(LOOK_MILLISECONDS):
            output += node.read()
        elif node.shell.poll() is not None:
            return EXIT_OK
    return int(said[1])

"""nftables of a network namespace, through libnftables: text in, one transaction, nft's own words when it is refused.

libnftables is what the `nft` program is made of; a context kept open costs 0.1 ms to make and 0.07 ms a command, the
program 7 ms and more. A context talks through a netlink socket, which belongs to the namespace in which the context was
made; names of interfaces (`iif eth0`) are looked up in the namespace in which the command runs. So both happen inside.

libnftables keeps the list of interfaces in a variable of the process for the time of a command (nftables src/iface.c),
so commands run one after the other, whatever their namespace.

Own table per concern; to clean it up is to delete it. A whole text is one transaction: all of it or nothing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any, Self

from knetsim.errors import CommandError, MissingTool
from knetsim.system.low_descriptors import LOW_DESCRIPTORS
from knetsim.system.netns import Namespaces, entered

_libnftables = threading.Lock()
_PASTED_MAX = 120
_NETLINK_NETFILTER = 12  # linux/netlink.h


class Nft:
    """A libnftables context in one network namespace, for those who change rules often; any thread may use it."""

    def __init__(self, place: Namespaces) -> None:
        try:
            from nftables import Nftables  # a Debian module; without it everything but rules works
        except ImportError as error:
            raise MissingTool(
                "no nftables for Python", place.name, str(error), "apt-get install python3-nftables"
            ) from error
        self.place = place
        # it waits for the kernel's answers with select(2)
        with _libnftables, entered(place):
            self._context: Any = LOW_DESCRIPTORS.open(Nftables, _is_netlink)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the context and its socket; the rules stay. The place may be closed then. Twice is once."""
        with _libnftables:
            self._context = None
            LOW_DESCRIPTORS.give_back()

    def apply(self, text: str) -> None:
        """Carry out commands (one or more lines) in one transaction; CommandError shows nft's message and the line."""
        with _libnftables, entered(self.place):
            code, _, error = self._context.cmd(text)
            if code != 0:
                # For text from memory nft shows the wrong line, for a file the right one. Nothing was changed so far.
                code, error = self._run_as_file(text)
        if code != 0:
            raise self._error(text, error)

    def read(self, command: str, *, handles: bool = False, stateless: bool = False) -> str:
        """What a `list …` command prints; `handles` shows them, `stateless` leaves counters out."""
        return self._read(command, handles, stateless, as_json=False)

    def read_json(self, command: str) -> list[dict[str, Any]]:
        """What a `list …` command prints as JSON: the objects, without the line about the version. Handles included."""
        found = json.loads(self._read(command, True, False, as_json=True) or '{"nftables": []}')["nftables"]
        return [entry for entry in found if "metainfo" not in entry]

    def read_tables(self) -> set[tuple[str, str]]:
        """Family and name of every table: `("ip", "knetsim-services")`."""
        return {(entry["table"]["family"], entry["table"]["name"]) for entry in self.read_json("list tables")}

    def _read(self, command: str, handles: bool, stateless: bool, *, as_json: bool) -> str:
        with _libnftables, entered(self.place):
            self._context.set_handle_output(handles)
            self._context.set_stateless_output(stateless)
            self._context.set_json_output(as_json)
            code, output, error = self._context.cmd(command)
        if code != 0:
            raise self._error(command, error)
        return str(output)

    def _run_as_file(self, text: str) -> tuple[int, str]:
        fd = os.memfd_create("nft", os.MFD_CLOEXEC)
        path = f"/proc/{os.getpid()}/fd/{fd}"
        try:
            with open(fd, "w", closefd=False) as file:
                file.write(text)
            code, _, error = self._context.cmd_from_file(path)
            return code, error.replace(f"{path}:", "line ")
        finally:
            os.close(fd)

    def _error(self, text: str, error: str) -> CommandError:
        pasted = text.strip()
        short = "\n" not in pasted and len(pasted) <= _PASTED_MAX
        return CommandError(["nft", pasted] if short else ["nft", "-f", "-"], 1, error, where=self.place.name)


def _is_netlink(fd: int) -> bool:
    """Whether it is a socket that speaks with netfilter."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return (sock.family, sock.proto) == (socket.AF_NETLINK, _NETLINK_NETFILTER)
    except OSError:
        return False  # it is free, or no socket


def apply_nft(place: Namespaces, text: str) -> None:
    """Carry out `text` in `place` in one transaction, once; who changes rules often keeps an `Nft`."""
    with Nft(place) as nft:
        nft.apply(text)


def read_nft(place: Namespaces, command: str) -> str:
    """What `nft COMMAND` prints in `place`."""
    with Nft(place) as nft:
        return nft.read(command)

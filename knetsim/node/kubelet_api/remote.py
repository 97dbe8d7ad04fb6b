"""A client of exec or attach, whatever protocol it speaks: named streams both ways, and a status at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol


class Stream(IntEnum):
    """The streams, by the numbers that they have as channels of WebSocket."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


@dataclass(frozen=True, slots=True)
class Message:
    """What a client has sent: a piece of a stream, or with `chunk` None the stream's end."""

    stream: Stream
    chunk: bytes | None


class Remote(Protocol):
    """The client. Whatever goes wrong with the connection is a ConnectionError."""

    async def send(self, stream: Stream, chunk: bytes) -> None:
        """Send a piece of a stream; waits when the client does not read."""

    async def receive(self) -> Message | None:
        """What the client says next; None when it is gone."""

    async def finish(self, status: dict[str, Any]) -> None:
        """Say how it ended, and end the connection."""

    async def ping(self) -> None:
        """Send something that the client need not answer: with it, the loss of a connection is noticed."""


SUCCESS: dict[str, Any] = {"metadata": {}, "status": "Success"}


def build_status(code: int) -> dict[str, Any]:
    """The Status that tells a command's exit code."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def build_failure(message: str) -> dict[str, Any]:
    """The Status of what could not be done."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def read_size(chunk: bytes) -> tuple[int, int] | None:
    """Columns and rows of a message on the stream RESIZE; None when it says something else."""
    try:
        size = json.loads(chunk)
        return int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return None

"""A client and a command: bytes from one to the other, until the command has ended or the client is gone.

Back-pressure needs no buffer of ours: what the client does not read stays in the pipe, and the command waits; what the
command does not read stays in the connection, and the client waits. The price of the second: while a client's input
waits, nothing that it says is seen, not even that it goes. So it is pinged, without waiting for an answer, and the
network tells when nobody is there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from knetsim.node.kubelet_api.remote import Message, Remote, Stream, build_status, read_size
from knetsim.system.exec_session import ExecSession

_CHUNK = 32 * 1024
_PING_SECONDS = 2.0
#: how long what remains in a terminal after its command's end is waited for: children in the background keep it open
_LAST_WORDS_SECONDS = 1.0
_END_OF_TRANSMISSION = b"\x04"  # ^D
_OUTPUTS = {"stdout": Stream.STDOUT, "stderr": Stream.STDERR}


async def run_session(remote: Remote, session: ExecSession, *, wanted: frozenset[Stream]) -> None:
    """Serve a client until the end. The command and its process group have ended after it, and nothing is open."""
    work = [_carry_out(remote, session, wanted), _take_in(remote, session), ping_on(remote)]
    try:
        await first_of(*work)
    except ConnectionError:
        pass  # the client is gone, and the command goes with it
    finally:
        session.close()


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Wait for the first that ends, and end the others; its exception is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry_out(remote: Remote, session: ExecSession, wanted: frozenset[Stream]) -> None:
    """What the command writes, then how it ended."""
    outputs = [
        asyncio.ensure_future(_copy(fd, _OUTPUTS[name], remote if _OUTPUTS[name] in wanted else None))
        for name, fd in session.outputs.items()
    ]
    try:
        await wait_readable(session.pidfd)
        limit = _LAST_WORDS_SECONDS if session.tty else None
        done, _ = await asyncio.wait(outputs, timeout=limit)
        for output in done:
            output.result()
        await remote.finish(build_status(session.reap()))
    finally:
        for output in outputs:
            output.cancel()
        await asyncio.gather(*outputs, return_exceptions=True)


async def _copy(fd: int, stream: Stream, remote: Remote | None) -> None:
    """Everything that can be read, to the client; or to nobody."""
    while chunk := await read(fd):
        if remote is not None:
            await remote.send(stream, chunk)


async def _take_in(remote: Remote, session: ExecSession) -> None:
    """What the client says, until it is gone."""
    while message := await remote.receive():
        if message.stream is Stream.RESIZE:
            resize(session, message)
        elif session.stdin is None:
            continue
        elif message.chunk is not None:
            await write(session.stdin, message.chunk)
        elif session.tty:
            await write(session.stdin, _END_OF_TRANSMISSION)
        else:
            session.close_stdin()


def resize(session: ExecSession, message: Message) -> None:
    """Give the terminal the size that the client says."""
    size = read_size(message.chunk or b"")
    if size is not None:
        session.resize(*size)


async def ping_on(remote: Remote) -> None:
    """Never ends while the client is there; ConnectionError when it is not."""
    while True:
        await asyncio.sleep(_PING_SECONDS)
        await remote.ping()


# --- descriptors that do not block ---------------------------------------------------------------


async def read(fd: int) -> bytes:
    """Some bytes, once there are any; none at the end."""
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            await wait_readable(fd)
        except OSError:  # EIO: nobody has the other side of a terminal open any more
            return b""


async def write(fd: int, chunk: bytes) -> None:
    """All of `chunk`; what nobody will read any more is lost."""
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await _wait_writable(fd)
        except OSError:  # EPIPE, EIO
            return


async def wait_readable(fd: int) -> None:
    """Wait until something can be read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def _wait_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

"""attach: a client at a container's own standard files, beside its log and other clients.

What the container writes comes from the thread that follows it (ContainerWatch). A client that does not read makes the
container wait once half a megabyte is on its way to it, as with real runtimes. The end of the container is told as
success, whatever its exit code: clients read that from the pod's status.
"""

from __future__ import annotations

import asyncio
import os

from knetsim.node.kubelet.access import ContainerAccess
from knetsim.node.kubelet_api.remote import SUCCESS, Remote, Stream, read_size
from knetsim.node.kubelet_api.session import first_of, ping_on, write
from knetsim.system.container import ContainerProcess
from knetsim.system.exec_session import resize_terminal

_FULL_BYTES = 512 * 1024
_OUTPUTS = {"stdout": Stream.STDOUT, "stderr": Stream.STDERR}


class Outlet:
    """What a container writes, on its way from the watching thread to a client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
        self._written = self._sent = 0  # each by one thread only

    def write(self, stream: str, chunk: bytes) -> bool:
        """Called in the watching thread."""
        self._written += len(chunk)
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (stream, chunk))
        return self._written - self._sent < _FULL_BYTES

    def end(self) -> None:
        """Called in the watching thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    async def read(self) -> tuple[str, bytes] | None:
        """The next piece, or None after the last."""
        return await self._queue.get()

    def note_sent(self, size: int) -> bool:
        """A piece is gone; True when the rest is little enough to go on."""
        self._sent += size
        return self._written - self._sent < _FULL_BYTES // 2


async def attach(remote: Remote, access: ContainerAccess, *, wanted: frozenset[Stream]) -> None:
    """Serve a client until the container has ended or the client is gone."""
    process = access.main_process
    if process is None and access.holds:  # it only holds the pod's network, and writes nothing
        await first_of(_pass_over(remote), ping_on(remote))
        return
    if process is None:  # it has ended since it was asked for
        await remote.finish(SUCCESS)
        return
    outlet = Outlet(asyncio.get_running_loop())
    if not access.watch.attach(process, outlet):
        await remote.finish(SUCCESS)
        return
    try:
        work = [_carry_out(remote, access, process, outlet, wanted), ping_on(remote)]
        await first_of(*work, _take_in(remote, access, process, stdin=Stream.STDIN in wanted))
    finally:
        access.watch.detach(process, outlet)


async def _carry_out(
    remote: Remote, access: ContainerAccess, process: ContainerProcess, outlet: Outlet, wanted: frozenset[Stream]
) -> None:
    while piece := await outlet.read():
        name, chunk = piece
        if _OUTPUTS[name] in wanted:
            await remote.send(_OUTPUTS[name], chunk)
        if outlet.note_sent(len(chunk)):
            access.watch.resume(process, outlet)
    await remote.finish(SUCCESS)


async def _take_in(remote: Remote, access: ContainerAccess, process: ContainerProcess, *, stdin: bool) -> None:
    once, fd = bool(access.spec.get("stdinOnce")), process.dup_stdin()
    try:
        while message := await remote.receive():
            if fd is None:
                continue
            if message.stream is Stream.RESIZE:
                size = read_size(message.chunk or b"")
                if size is not None and process.spec.tty:
                    resize_terminal(fd, *size)
            elif message.chunk is not None and stdin:
                await write(fd, message.chunk)
            elif once and not process.spec.tty:
                break  # its input ends, and the client goes on reading
    finally:
        if fd is not None:
            os.close(fd)
        if once and stdin and not process.spec.tty:
            process.close_stdin()
    await _pass_over(remote)


async def _pass_over(remote: Remote) -> None:
    while await remote.receive():
        pass

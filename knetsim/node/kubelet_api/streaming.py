"""exec and attach: from a request to a session. Errors are told before the protocol is changed, in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from multidict import MultiMapping

from knetsim.errors import CommandError, KnetsimError, NotFound
from knetsim.node.kubelet.access import ContainerAccess
from knetsim.node.kubelet_api import raw_spdy
from knetsim.node.kubelet_api.attaching import attach
from knetsim.node.kubelet_api.channels import PROTOCOLS, Channels
from knetsim.node.kubelet_api.context import NODES
from knetsim.node.kubelet_api.remote import Remote, Stream, build_failure, build_status
from knetsim.node.kubelet_api.session import run_session
from knetsim.system.exec_session import ExecSession

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which streams a client wants."""

    streams: frozenset[Stream]
    tty: bool

    @property
    def outputs(self) -> frozenset[Stream]:
        """What is to be sent to it; a terminal has one output."""
        return self.streams - ({Stream.STDERR} if self.tty else set())


def read_wish(query: MultiMapping[str]) -> Wish:
    """From the query of a request."""
    names = {"input": Stream.STDIN, "output": Stream.STDOUT, "error": Stream.STDERR}
    streams = frozenset(stream for name, stream in names.items() if _is_set(query, name))
    return Wish(streams, _is_set(query, "tty"))


def _is_set(query: MultiMapping[str], name: str) -> bool:
    return query.get(name, "") in ("1", "true")


async def answer_exec(request: web.Request) -> web.StreamResponse:
    """Run a command for the client."""
    access = await _find(request)
    wish, command = read_wish(request.query), request.query.getall("command", [])
    if not command:
        raise web.HTTPBadRequest(text="you must specify a command")

    async def serve(remote: Remote) -> None:
        stdin = Stream.STDIN in wish.streams
        try:
            session = await _start(access, command, stdin=stdin, tty=wish.tty)
        except CommandError as error:
            await remote.send(Stream.STDOUT if wish.tty else Stream.STDERR, f"{error.output}\n".encode())
            await remote.finish(build_status(error.code))
        except (KnetsimError, OSError) as error:
            await remote.finish(build_failure(f"error executing command in container: {error}"))
        else:
            await run_session(remote, session, wanted=wish.outputs)

    return await _upgrade(request, wish, serve)


async def answer_attach(request: web.Request) -> web.StreamResponse:
    """Connect the client with a container's own standard files."""
    access = await _find(request)
    if access.main_process is None and not access.holds:
        raise web.HTTPInternalServerError(text=f'container not found ("{access.name}")')
    wish = read_wish(request.query)

    async def serve(remote: Remote) -> None:
        await attach(remote, access, wanted=wish.streams)

    return await _upgrade(request, wish, serve)


async def _find(request: web.Request) -> ContainerAccess:
    try:
        access = request.app[NODES].find(request)
    except NotFound as error:
        raise web.HTTPNotFound(text=error.what) from error
    if not read_wish(request.query).streams:
        raise web.HTTPBadRequest(text="you must specify at least 1 of stdin, stdout, stderr")
    return access


async def _start(access: ContainerAccess, command: list[str], *, stdin: bool, tty: bool) -> ExecSession:
    """In another thread; a session that nobody waits for any more is ended."""
    starting = asyncio.ensure_future(asyncio.to_thread(access.start, command, stdin=stdin, tty=tty))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_end_unwanted)
        raise


def _end_unwanted(starting: asyncio.Future[ExecSession]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()


async def _upgrade(request: web.Request, wish: Wish, serve: Callable[[Remote], Awaitable[None]]) -> web.StreamResponse:
    """Change the protocol to the one that the client speaks, and serve it."""
    if raw_spdy.is_raw(request):
        return await _serve_spdy(request, wish, serve)
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, compress=False)
    if not socket.can_prepare(request):
        raise web.HTTPBadRequest(text="Upgrade request required")
    await socket.prepare(request)
    if socket.ws_protocol is None:
        await socket.close(code=1002, message=b"no protocol in common")
        return socket
    remote = Channels(socket)
    with _session(request):
        first = min(wish.outputs - {Stream.STDIN}, default=Stream.ERROR)
        await remote.send(first, b"")  # clients expect a first message, as the original sends one
        await serve(remote)
    return socket


async def _serve_spdy(
    request: web.Request, wish: Wish, serve: Callable[[Remote], Awaitable[None]]
) -> web.StreamResponse:
    version = raw_spdy.choose_version(request, raw_spdy.REMOTE_COMMANDS)
    with _session(request):
        async with raw_spdy.taken_over(request, version) as connection:
            remote = raw_spdy.SpdyRemote(connection, version)
            try:
                await remote.open(wish.streams - ({Stream.STDERR} if wish.tty else set()), tty=wish.tty)
                await serve(remote)
            finally:
                await remote.close()
    return raw_spdy.Taken()


@contextmanager
def _session(request: web.Request) -> Iterator[None]:
    """The server ends what happens in the block when it stops; a client that has gone is no error."""
    task = asyncio.current_task()
    assert task is not None
    request.app[NODES].sessions.add(task)
    try:
        yield
    except ConnectionError:
        pass
    finally:
        request.app[NODES].sessions.discard(task)

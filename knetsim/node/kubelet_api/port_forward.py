"""portForward: connections to a pod's ports, made inside the pod: to 127.0.0.1, or else to ::1.

kubectl opens two SPDY streams for each connection, one for errors and one for the bytes, which have the same
`requestID`. The Python client speaks channels of a WebSocket: two for each port that the request names, on which the
server first says the port's number (16 bits, little endian). Source: k8s.io/cri-streaming/pkg/streaming/portforward.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from knetsim.api.objects import uid_of
from knetsim.errors import NotFound
from knetsim.node.kubelet.dialing import Dialer, explain_dial
from knetsim.node.kubelet_api import raw_spdy, spdy
from knetsim.node.kubelet_api.context import NODES
from knetsim.node.kubelet_api.session import first_of
from knetsim.node.kubelet_api.spdy_connection import SpdyConnection, SpdyStream, Tunnel

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = ("v4.channel.k8s.io", "portforward.k8s.io")
_CHUNK = 32 * 1024
_PING_SECONDS = 2.0


class Forwarder:
    """Connects to the ports of one pod."""

    def __init__(self, pod: str, uid: str, dialer: Dialer) -> None:
        self._pod, self._uid, self._dialer = pod, uid, dialer

    async def connect(self, port: int) -> socket.socket:
        """A connection; ConnectionRefusedError with a kubelet's words."""
        try:
            return await self._dialer.connect("127.0.0.1", port)
        except OSError as first:
            try:
                return await self._dialer.connect("::1", port)
            except OSError:
                raise ConnectionRefusedError(self._explain(port, explain_dial(first, "127.0.0.1", port))) from first
        except NotFound as error:
            raise ConnectionRefusedError(self._explain(port, str(error))) from error

    def _explain(self, port: int, why: str) -> str:
        where = f"failed to connect to localhost:{port} inside namespace of pod"
        return f"error forwarding port {port} to pod {self._pod}, uid {self._uid}: {where}: {why}"


async def answer_port_forward(request: web.Request) -> web.StreamResponse:
    """Forward until the client is gone."""
    nodes = request.app[NODES]
    try:
        pod = nodes.find_pod(request)
        run, _ = nodes.kubelet.find(request.match_info["namespace"], request.match_info["pod"])
        place = run.sandbox.open_place()
    except NotFound as error:
        raise web.HTTPNotFound(text=error.what) from error
    try:
        forwarder = Forwarder(request.match_info["pod"], uid_of(pod), Dialer(place))
        if raw_spdy.is_raw(request):
            return await _forward_raw(request, forwarder)
        websocket = web.WebSocketResponse(protocols=(TUNNEL, *CHANNELS), max_msg_size=0, compress=False)
        if not websocket.can_prepare(request):
            raise web.HTTPBadRequest(text="Upgrade request required")
        ports = read_ports(request.query.getall("port", []))
        await websocket.prepare(request)
        try:
            await _forward(websocket, ports, forwarder)
        except ConnectionError:
            pass  # the client is gone
        return websocket
    finally:
        place.close()


async def _forward_raw(request: web.Request, forwarder: Forwarder) -> web.StreamResponse:
    version = raw_spdy.choose_version(request, raw_spdy.PORT_FORWARD)
    try:
        async with raw_spdy.taken_over(request, version) as connection:
            await forward_streams(connection, forwarder, lambda: connection.send(spdy.build_ping(2)))
    except ConnectionError:
        pass  # the client is gone
    return raw_spdy.Taken()


async def _forward(websocket: web.WebSocketResponse, ports: list[int], forwarder: Forwarder) -> None:
    if websocket.ws_protocol == TUNNEL:
        await forward_streams(SpdyConnection(Tunnel(websocket)), forwarder, websocket.ping)
    elif websocket.ws_protocol is not None:
        await forward_channels(websocket, ports, forwarder)
    await websocket.close()


def read_ports(words: list[str]) -> list[int]:
    """The ports that a request names; HTTP 400 when one is none."""
    ports = []
    for word in ",".join(words).split(","):
        if word:
            try:
                ports.append(_read_port(word))
            except ValueError as error:
                what = f'query parameter "port" must be a port number, but it is "{word}"'
                raise web.HTTPBadRequest(text=what) from error
    return ports


def _read_port(word: str) -> int:
    """The port that a stream names. ValueError."""
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 65536):
        raise ValueError(f'unable to parse "{word}" as a port')
    return int(word)


# --- streams


async def forward_streams(
    connection: SpdyConnection, forwarder: Forwarder, ping: Callable[[], Awaitable[None]]
) -> None:
    """Serve pairs of streams until the connection ends."""
    await first_of(connection.run(), _serve_pairs(connection, forwarder), _ping(ping))


async def _ping(ping: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(_PING_SECONDS)
        await ping()


async def _serve_pairs(connection: SpdyConnection, forwarder: Forwarder) -> None:
    errors: dict[str, SpdyStream] = {}
    async with asyncio.TaskGroup() as pairs:
        while True:
            stream = await connection.accept()
            kind, request = stream.headers.get("streamtype"), stream.headers.get("requestid")
            if kind == "error":
                errors[request or str(stream.number)] = stream
            elif kind == "data":  # clients before Kubernetes 1.2 say no requestID
                pair = errors.pop(request or str(stream.number - 2), None)
                pairs.create_task(_forward_pair(connection, stream, pair, forwarder))
            else:
                await stream.cancel()


async def _forward_pair(
    connection: SpdyConnection, stream: SpdyStream, error: SpdyStream | None, forwarder: Forwarder
) -> None:
    try:
        try:
            target = await forwarder.connect(_read_port(stream.headers.get("port", "")))
        except (ConnectionRefusedError, ValueError) as refusal:
            if error is not None:
                await error.write(str(refusal).encode())
            await stream.cancel()
        else:
            try:
                await _join(target, stream.read, stream.write, stream.finish, stream.reset.wait())
            finally:
                target.close()
        if error is not None:
            await error.finish()
    except ConnectionError:
        pass  # the client is gone
    finally:
        connection.forget(stream)
        if error is not None:
            connection.forget(error)


async def _join(
    target: socket.socket,
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], Awaitable[None]],
    finish: Callable[[], Awaitable[None]],
    dropped: Awaitable[object],
) -> None:
    """Bytes between a client and its target, until both directions have ended or the client drops it."""
    loop = asyncio.get_running_loop()

    async def upwards() -> None:
        try:
            while chunk := await read():
                await loop.sock_sendall(target, chunk)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the target takes no more

    async def downwards() -> None:
        try:
            while chunk := await loop.sock_recv(target, _CHUNK):
                await write(chunk)
        except ConnectionResetError:
            pass
        await finish()

    async def both() -> None:
        await asyncio.gather(upwards(), downwards())

    async def drop() -> None:
        await dropped

    await first_of(both(), drop())


# --- channels


async def forward_channels(websocket: web.WebSocketResponse, ports: list[int], forwarder: Forwarder) -> None:
    """Serve one connection to each port, on two channels each."""
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await websocket.send_bytes(struct.pack("<BH", channel, port))
    inputs: list[asyncio.Queue[bytes]] = [asyncio.Queue(16) for _ in ports]

    async def take_in() -> None:
        while (message := await websocket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
            content = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if len(content) > 1 and content[0] % 2 == 0 and content[0] // 2 < len(inputs):
                await inputs[content[0] // 2].put(content[1:])

    async def serve(index: int, port: int) -> None:
        async def send(chunk: bytes) -> None:
            await websocket.send_bytes(bytes((2 * index,)) + chunk)

        over = asyncio.Event()  # there is no half of an end on channels

        async def end() -> None:
            over.set()

        try:
            target = await forwarder.connect(port)
        except ConnectionRefusedError as refusal:
            await websocket.send_bytes(bytes((2 * index + 1,)) + str(refusal).encode())
            return
        try:
            await _join(target, inputs[index].get, send, end, over.wait())
        finally:
            target.close()

    async def serve_all() -> None:
        await asyncio.gather(*(serve(index, port) for index, port in enumerate(ports)))

    await first_of(take_in(), serve_all(), _ping(websocket.ping))

"""Streams as channels of a WebSocket: each message begins with a byte that names its stream.

`v5.channel.k8s.io` adds to v4 the end of a stream (channel 255, then the stream), without which a command's input
never ends. `base64.channel…` are for browsers: text, the channel as an ASCII digit. A client may send text on the
others too (the Python client does); the bytes count. Before v4 the end was told in plain words, which nobody speaks
any more. Source: k8s.io/apimachinery/pkg/util/remotecommand, apiserver/pkg/util/wsstream.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from aiohttp import WSMsgType, web

from knetsim.node.kubelet_api.remote import Message, Remote, Stream

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
#: as clients choose: the first of theirs that is here
PROTOCOLS = (V5, V4, "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io")
_CLOSE = 255


class Channels(Remote):
    """A client that speaks WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._base64 = "base64" in (socket.ws_protocol or "")
        self._ends = socket.ws_protocol == V5
        self._plain = not (socket.ws_protocol or "").startswith(("v4.", "v5."))

    async def send(self, stream: Stream, chunk: bytes) -> None:
        """One message; an empty one too."""
        if self._base64:
            await self._socket.send_str(f"{int(stream)}{base64.b64encode(chunk).decode()}")
        else:
            await self._socket.send_bytes(bytes((stream,)) + chunk)

    async def receive(self) -> Message | None:
        """Messages on channels that there are not are passed over."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            content = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            read = self._read(content)
            if read is not None:
                return read

    def _read(self, content: bytes) -> Message | None:
        if not content:
            return None
        channel, chunk = content[0], content[1:]
        if self._base64:
            try:
                channel, chunk = channel - ord("0"), base64.b64decode(chunk)
            except binascii.Error:
                return None
        if channel == _CLOSE and self._ends:
            return Message(Stream(chunk[0]), None) if chunk and chunk[0] in _INPUTS else None
        return Message(Stream(channel), chunk) if channel in _INPUTS else None

    async def finish(self, status: dict[str, Any]) -> None:
        """The status is the last message."""
        if self._plain:  # success is silence
            words = b"" if status["status"] == "Success" else status.get("message", "").encode()
        else:
            words = json.dumps(status).encode()
        if words:
            await self.send(Stream.ERROR, words)
        await self._socket.close()

    async def ping(self) -> None:
        """A ping of WebSocket; the pong is not waited for: it cannot come while the client's input waits."""
        await self._socket.ping()


_INPUTS = frozenset((Stream.STDIN, Stream.RESIZE))

"""port-forward without a network: what a client asks that there cannot be."""

from __future__ import annotations

import asyncio

from knetsim.node.kubelet_api import spdy
from knetsim.node.kubelet_api.port_forward import Forwarder, forward_streams
from knetsim.node.kubelet_api.spdy_connection import SpdyConnection


class Client:
    """Says its pieces, then waits until it has been told something on stream 1, and goes."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.answers, self.told = list(pieces), list[spdy.Frame](), asyncio.Event()
        self._decoder = spdy.Decoder()

    async def send(self, chunk: bytes) -> None:
        for frame in self._decoder.feed(chunk):
            self.answers.append(frame)
            if isinstance(frame, spdy.Piece) and frame.stream == 1:
                self.told.set()

    async def receive(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        await self.told.wait()
        return b""


def test_a_port_that_is_none_ends_no_other_connection() -> None:
    async def ask() -> list[spdy.Frame]:
        client = spdy.Encoder()
        kinds = {1: "error", 3: "data"}
        opened = [
            client.open_stream(number, {"streamtype": kind, "port": "99999", "requestid": "0"})
            for number, kind in kinds.items()
        ]
        carrier = Client(*opened)
        async with asyncio.timeout(10):
            await forward_streams(SpdyConnection(carrier), Forwarder("p", "u", None), asyncio.Event().wait)
        return carrier.answers

    answers = asyncio.run(ask())
    assert spdy.Piece(1, b'unable to parse "99999" as a port', False) in answers
    assert spdy.Reset(3, spdy.CANCEL) in answers

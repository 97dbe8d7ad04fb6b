"""Two neighbours in one process: links, streams and what becomes of them when either side goes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from knetsim.dataplane.skupper.router.amqp import SESSION_CAPACITY, AmqpConnection
from knetsim.dataplane.skupper.router.conversation import Terms
from knetsim.dataplane.skupper.router.loop import Loop
from knetsim.dataplane.skupper.router.message import (
    BODY_NULL,
    STREAMING,
    Annotations,
    Properties,
    build_head,
    build_message,
)
from knetsim.dataplane.skupper.router.peers import CAPABILITIES, Peer
from knetsim.dataplane.skupper.router.streams import ACCEPTED, MODIFIED, RELEASED, Incoming
from tests.skupper_loop import run_until

SECONDS = 20.0
HEAD = build_head(Annotations(STREAMING, None, "0/A", ("0/A",)), Properties(to="web"), {}) + BODY_NULL


class Text:
    """A source: some bytes, all there from the beginning."""

    def __init__(self, octets: bytes, *, endless: bool = False) -> None:
        self._octets, self._endless = octets, endless
        self.read_so_far = 0
        self.aborted = False
        self.outcome: int | None = None
        self.offsets: list[int] = []

    @property
    def ended(self) -> bool:
        return not self._endless and self.read_so_far == len(self._octets)

    def read(self, limit: int) -> bytes:
        if self._endless:
            self.read_so_far += limit
            return b"x" * limit
        piece = self._octets[self.read_so_far : self.read_so_far + limit]
        self.read_so_far += len(piece)
        return piece

    def received(self, offset: int) -> None:
        self.offsets.append(offset)

    def settle(self, outcome: int) -> None:
        assert self.outcome is None
        self.outcome = outcome


class Drain:
    """A sink: keeps what comes, and accepts it at the end; or never looks at it."""

    def __init__(self, incoming: Incoming, *, lazy: bool = False) -> None:
        assert incoming.head is not None
        del incoming.octets[: incoming.head.body_at + len(BODY_NULL)]
        self.incoming, self.lazy = incoming, lazy
        self.octets = bytearray()
        self.state = "coming"
        incoming.sink = self
        self.pull()

    def pull(self) -> None:
        if self.state != "coming":
            return
        if self.incoming.aborted:
            self.state = "aborted"
            self.incoming.settle(MODIFIED)
            return
        while not self.lazy and (piece := self.incoming.read(65536)):
            self.octets += piece
            self.incoming.received(len(self.octets))
        if self.incoming.ended:
            self.state = "ended"
            self.incoming.settle(ACCEPTED)


class Side:
    """A router's middle that keeps everything."""

    def __init__(self) -> None:
        self.controls: list[bytes] = []
        self.messages: list[bytes] = []
        self.drains: list[Drain] = []
        self.peers: list[Peer] = []
        self.lazy = self.refuses = False

    def take_control(self, _peer: Peer, incoming: Incoming) -> None:
        self.controls.append(bytes(incoming.octets))
        incoming.settle(ACCEPTED)

    def take_message(self, incoming: Incoming) -> None:
        assert incoming.head is not None
        if self.refuses:
            incoming.settle(RELEASED)
        elif incoming.head.annotations is not None and incoming.head.annotations.is_stream:
            self.drains.append(Drain(incoming, lazy=self.lazy))
        else:
            self.messages.append(bytes(incoming.octets))
            incoming.settle(ACCEPTED)

    def gain_peer(self, peer: Peer) -> None:
        self.peers.append(peer)

    def lose_peer(self, peer: Peer) -> None:
        self.peers.remove(peer)


class Pair:
    """A dialled connection and the one that was taken, in one loop."""

    def __init__(self, *, frame: int = 65536) -> None:
        self.loop = Loop()
        self.left, self.right = Side(), Side()
        self.ends: list[str] = []
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            client = socket.create_connection(server.getsockname())
            taken, _ = server.accept()
        self.a, self.b = self._join("A", client, self.left, frame), self._join("B", taken, self.right, frame)
        self.run(lambda: bool(self.left.peers and self.right.peers))

    def run(self, fact: Callable[[], bool]) -> None:
        """Until something is so."""
        run_until(self.loop, fact, SECONDS)

    def close(self) -> None:
        self.a.connection.drop("the test is over")
        self.b.connection.drop("the test is over")
        self.loop.close()

    def _join(self, name: str, stream: socket.socket, side: Side, frame: int) -> Peer:
        terms = Terms(container=name, mechanisms="ANONYMOUS", capabilities=CAPABILITIES, max_frame=frame)
        connection = AmqpConnection(self.loop, stream, terms, dialled=name == "A")
        peer = Peer(connection, 1, side, 1, self.ends.append)
        connection.start(peer)
        return peer


@pytest.fixture
def pair() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


def test_what_is_opened(pair: Pair) -> None:
    assert (pair.a.router, pair.b.router) == ("B", "A")
    pair.run(lambda: len(pair.b.ins) == len(pair.b.outs) == 11)
    for peer in (pair.a, pair.b):
        kinds = sorted((link.kind, link.priority) for link in peer.links())
        assert kinds == sorted(2 * [*(("inter-router", number) for number in range(10)), ("router-control", 9)])


def test_control_and_short_messages_arrive_whole(pair: Pair) -> None:
    control = build_message(None, Properties(to="amqp:/_local/qdhello"), {"opcode": "HELLO"}, {"id": "A"})
    short = build_message(None, Properties(to="amqp:/_topo/0/B/$management"), {}, "x" * 300000)
    pair.run(lambda: len(pair.b.ins) == 11)
    pair.a.send_control(control)
    for priority in (0, 4, 99):
        assert pair.a.send_short(short, priority)
    pair.b.send_control(control)
    pair.run(lambda: len(pair.right.messages) == 3 and bool(pair.left.controls))
    assert pair.right.controls == pair.left.controls == [control]
    assert pair.right.messages == [short] * 3


@pytest.mark.parametrize("frame", [512, 16384, 65536])
def test_streams_arrive_and_their_links_are_used_again(frame: int) -> None:
    with closing(Pair(frame=frame)) as pair:
        texts = [bytes([number % 256]) * (number * 700) for number in range(60)]
        for _ in range(3):
            sources = [Text(text) for text in texts]
            for source in sources:
                pair.a.send_stream(source, HEAD)
            pair.run(lambda sources=sources: all(source.outcome is not None for source in sources))
            assert {source.outcome for source in sources} == {ACCEPTED}
            assert [source.offsets == sorted(source.offsets) for source in sources] == [True] * 60
        assert sorted(drain.octets for drain in pair.right.drains) == sorted(texts * 3)
        assert len(pair.a.outs) == 11 + 60


def test_links_beyond_the_pool_are_closed_on_both_sides(pair: Pair) -> None:
    sources = [Text(b"x") for _ in range(300)]
    for source in sources:
        pair.a.send_stream(source, HEAD)
    pair.run(lambda: all(source.outcome for source in sources))
    pair.run(lambda: len(pair.a.outs) == 11 + 128 and len(pair.b.ins) == 11 + 128)
    again = [Text(b"y") for _ in range(200)]
    for source in again:
        pair.a.send_stream(source, HEAD)
    pair.run(lambda: all(source.outcome for source in again))
    assert {source.outcome for source in (*sources, *again)} == {ACCEPTED}
    assert sum(drain.octets == b"y" for drain in pair.right.drains) == 200


def test_who_does_not_read_stops_the_source_and_the_loop_rests(pair: Pair) -> None:
    pair.right.lazy = True
    source = Text(b"", endless=True)
    pair.a.send_stream(source, HEAD)
    read = -1

    def rests() -> bool:
        nonlocal read
        before, read = read, source.read_so_far
        return before == read > SESSION_CAPACITY // 2

    pair.run(rests)
    assert source.read_so_far < 2 * SESSION_CAPACITY
    # nothing is tried again and again: only the test's own timers are left
    pair.run(lambda: pair.loop.is_idle)
    # another stream is not stopped by it
    pair.right.lazy = False
    other = Text(b"other" * 100000)
    pair.a.send_stream(other, HEAD)
    pair.run(lambda: other.outcome == ACCEPTED)
    # and it goes on when it is read
    drain = pair.right.drains[0]
    drain.lazy = False
    drain.pull()
    pair.run(lambda: len(drain.octets) > 2 * SESSION_CAPACITY)


def test_a_source_that_gives_up_is_told_to_the_far_end(pair: Pair) -> None:
    source = Text(b"", endless=True)
    pair.right.lazy = True
    outgoing = pair.a.send_stream(source, HEAD)
    pair.run(lambda: bool(pair.right.drains))
    source.aborted = True
    outgoing.pull()
    pair.run(lambda: pair.right.drains[0].state == "aborted")
    assert source.outcome == MODIFIED
    # the link is as good as before
    pair.right.lazy = False
    after = Text(b"after")
    pair.a.send_stream(after, HEAD)
    pair.run(lambda: after.outcome == ACCEPTED)
    assert pair.right.drains[-1].octets == b"after"


def test_a_far_end_that_refuses_is_told_to_the_source(pair: Pair) -> None:
    pair.right.refuses = True
    over: list[bool] = []
    source = Text(b"x" * 100000, endless=True)
    pair.a.send_stream(source, HEAD, lambda: over.append(True))
    pair.run(lambda: source.outcome is not None)
    assert source.outcome == RELEASED and over == [True]


def test_a_lost_connection_ends_everything_on_it(pair: Pair) -> None:
    pair.right.lazy = True
    sources = [Text(b"", endless=True) for _ in range(5)]
    for source in sources:
        pair.a.send_stream(source, HEAD)
    pair.run(lambda: len(pair.right.drains) == 5)
    pair.a.connection.drop("pulled out")
    assert [source.outcome for source in sources] == [MODIFIED] * 5
    pair.run(lambda: all(drain.state == "aborted" for drain in pair.right.drains))
    pair.run(lambda: len(pair.ends) == 2)
    assert pair.left.peers == pair.right.peers == []
    assert pair.a.links() == pair.b.links() == []


def test_a_session_that_is_ended_ends_its_links(pair: Pair) -> None:
    pair.right.lazy = True
    sources = [Text(b"", endless=True) for _ in range(3)]
    first, *_ = [pair.a.send_stream(source, HEAD) for source in sources]
    pair.run(lambda: len(pair.right.drains) == 3)
    first.link.link.session.close()
    pair.a.mark()
    pair.run(lambda: [drain.state for drain in pair.right.drains] == ["aborted", "coming", "coming"])
    pair.run(lambda: sources[0].outcome == MODIFIED)
    assert len(pair.a.outs) == 11 + 2 and len(pair.b.ins) == 11 + 2
    # who ends the session of the control links ends it all
    assert pair.b.control_out is not None
    pair.b.control_out.link.session.close()
    pair.b.mark()
    pair.run(lambda: len(pair.ends) == 2)
    assert [source.outcome for source in sources] == [MODIFIED] * 3


def test_a_connection_that_is_closed_is_closed_by_both(pair: Pair) -> None:
    pair.a.connection.close("enough")
    pair.run(lambda: len(pair.ends) == 2)
    assert not pair.a.connection.is_open and not pair.b.connection.is_open

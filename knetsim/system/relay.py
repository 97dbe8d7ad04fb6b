"""A port outside that leads inside: connections accepted on one socket are joined to connections made by `dial`.

The socket listens before the sandbox is entered, so it stays the host's however deep its owner stands; `dial` makes the
other half in a network namespace of the simulation. One thread carries all connections of a relay, without blocking:
what one side is slow to take is not read from the other, and the end of one direction is passed on as just that. Who
comes when this process has no descriptor left waits until somebody has gone.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from knetsim.errors import KnetsimError, UsageError

_CHUNK = 65536
_PORTS_TRIED = 100
_FULL_SECONDS = 0.1
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

Dial = Callable[[], socket.socket]


def listen_at(address: str, first: int, taken: Iterable[int] = ()) -> socket.socket:
    """A listening TCP socket at the first port from `first` on that is free, and not one of `taken`.

    UsageError when the address is none of this machine's, KnetsimError when no port is free.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first, first + _PORTS_TRIED):
        if port in taken:
            continue
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise UsageError(f"cannot listen at {address}", why=str(error), hint="take 127.0.0.1 or 0.0.0.0") from error
    raise KnetsimError(f"no port is free from {first} to {first + _PORTS_TRIED - 1}", address)


@dataclass(slots=True, eq=False)
class _End:
    """One end of a joined connection: what is still to be written to it, and what is known of both directions."""

    socket: socket.socket
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    finished: bool = False  # it sends nothing more
    told: bool = False  # it was told that nothing more will come
    events: int = 0  # what the selector watches it for


class Relay:
    """Joins what `listener` accepts to what `dial` makes. `start` once, `stop` once; the listener is closed then.

    `dial` must not block: its socket may still be connecting. OSError says that nobody is there.
    """

    def __init__(self, name: str, listener: socket.socket, dial: Dial) -> None:
        self.name, self._listener, self._dial = name, listener, dial
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()
        self._full = False  # no descriptor is left: the listener is not looked at
        self._thread = threading.Thread(target=self._run, name=f"relay {name}", daemon=True)
        self._peers: dict[_End, _End] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: address and port."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Cut all connections and close the port. Twice is once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is None:  # a start that failed before this one's
            self._close()
        else:
            self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, events in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _End) and key.data in self._peers:  # not cut by an event before this one
                    self._carry(key.data, events)
        self._close()

    def _close(self) -> None:
        for end in list(self._peers):
            end.socket.close()
        self._selector.close()
        self._listener.close()

    def _accept(self) -> None:
        try:
            outer, _ = self._listener.accept()
        except OSError as error:
            self._note_full(error)
            return  # or whoever called has gone again
        try:
            inner = self._dial()
        except OSError as error:
            self._note_full(error)
            outer.close()  # nobody is there: the caller sees the end of the connection
            return
        pair = _End(outer), _End(inner)
        for end, peer in (pair, pair[::-1]):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[end] = peer
            end.events = selectors.EVENT_READ
            self._selector.register(end.socket, end.events, end)

    def _note_full(self, error: OSError) -> None:
        """Accept nobody until a connection has ended, if descriptors are what lacks: the caller would stay readable."""
        if error.errno not in _NO_DESCRIPTORS or self._full:
            return
        if not self._peers:
            self._stopping.wait(_FULL_SECONDS)  # others have them all
            return
        self._full = True
        self._selector.unregister(self._listener)

    def _carry(self, end: _End, events: int) -> None:
        """Take what an end has to say, or give it what waits for it."""
        peer = self._peers[end]
        try:
            if events & selectors.EVENT_READ and not end.finished and not peer.pending:
                chunk = end.socket.recv(_CHUNK)
                end.finished = not chunk
                peer.pending = memoryview(chunk)
                _write(peer)
            if events & selectors.EVENT_WRITE:
                _write(end)
            for one, other in ((end, peer), (peer, end)):
                if other.finished and not one.pending and not one.told:
                    one.told = True
                    one.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self._cut(end, peer)
            return
        if end.told and peer.told:
            self._cut(end, peer)
            return
        self._look(end, peer)
        self._look(peer, end)

    def _look(self, end: _End, peer: _End) -> None:
        """Watch an end for what can be done with it next."""
        reads = selectors.EVENT_READ if not end.finished and not peer.pending else 0
        wanted = reads | (selectors.EVENT_WRITE if end.pending else 0)
        if wanted == end.events:
            return
        if not wanted:
            self._selector.unregister(end.socket)
        elif not end.events:
            self._selector.register(end.socket, wanted, end)
        else:
            self._selector.modify(end.socket, wanted, end)
        end.events = wanted

    def _cut(self, *ends: _End) -> None:
        for end in ends:
            del self._peers[end]
            if end.events:
                self._selector.unregister(end.socket)
            end.socket.close()
        if self._full:
            self._full = False
            self._selector.register(self._listener, selectors.EVENT_READ)


def _write(end: _End) -> None:
    """Give an end what waits for it, as much as it takes now."""
    if end.pending:
        try:
            end.pending = end.pending[end.socket.send(end.pending) :]
        except BlockingIOError:
            pass

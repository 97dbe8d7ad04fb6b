"""A network between client and server that tests break: connections are refused, cut, or lose one answer."""

from __future__ import annotations

import socket
import threading


class UnsafeNetwork:
    """`dial` connects to `target` through a relay. It ends with its connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_shut = False
        self._loses_answer = threading.Event()
        self.lost = threading.Event()

    def dial(self) -> socket.socket:
        """A connection; ConnectionRefusedError while the network is shut."""
        with self._lock:
            if self._is_shut:
                raise ConnectionRefusedError("the network is shut")
            server = socket.create_connection(self._target)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = socket.create_connection(listener.getsockname())
                inner, _ = listener.accept()
            self._sockets += [server, inner]
        threading.Thread(target=self._pump, args=(inner, server, False), daemon=True).start()
        threading.Thread(target=self._pump, args=(server, inner, True), daemon=True).start()
        return client

    def lose_answer(self) -> None:
        """The next thing that the server says on any connection is lost, and the connection with it."""
        self.lost.clear()
        self._loses_answer.set()

    def shut(self) -> None:
        """Cut what is there, refuse what comes."""
        with self._lock:
            self._is_shut = True
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            _end(sock)

    def open(self) -> None:
        """Connect again."""
        with self._lock:
            self._is_shut = False

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while piece := source.recv(65536):
                if is_answer and self._loses_answer.is_set():
                    self._loses_answer.clear()
                    self.lost.set()
                    break
                sink.sendall(piece)
        except OSError:
            pass  # cut from the other side
        _end(source)
        _end(sink)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was already

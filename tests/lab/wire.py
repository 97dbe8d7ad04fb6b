"""A UNIX socket between a client and a member that keeps answers back and is cut: an answer is lost on purpose."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class Wire:
    """Listens at `path` and passes bytes on to the socket at `target`, both ways."""

    def __init__(self, path: Path, target: Path) -> None:
        self._target = str(target)
        self._open = threading.Event()  # answers pass
        self._open.set()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on requests pass and answers do not."""
        self._open.clear()

    def cut(self) -> None:
        """Close all connections, with the answers that were held; new ones pass everything."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            _shut(end)
        self._open.set()

    def close(self) -> None:
        """End it."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            member = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            member.connect(self._target)
            with self._lock:
                self._ends += [client, member]
            threading.Thread(target=self._pass, args=(client, member, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(member, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while chunk := source.recv(65536):
                if answers and not self._open.is_set():
                    self._open.wait()
                    return  # it was cut meanwhile: what was held is lost
                sink.sendall(chunk)
        except OSError:
            pass  # one end was cut
        finally:
            _shut(source)
            _shut(sink)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
    end.close()

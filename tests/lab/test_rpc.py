"""Questions over the control socket: every caller gets an answer that it understands, however badly it asks."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.errors import KernelError, KnetsimError, NotFound, StoreUnavailable
from knetsim.system import rpc
from knetsim.system.rpc import Answer, RpcServer


def refuse() -> Answer:
    raise KernelError("ip link", 1, "no")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "control.sock")
    methods = {
        "add": lambda a, b: Answer(a + b),
        "open": lambda: Answer("null", [os.open(os.devnull, os.O_RDONLY)]),
        "refuse": refuse,
        "unspeakable": lambda: Answer(object()),
    }
    server = RpcServer(path, methods)
    yield path
    server.close()


def test_results_and_descriptors(path: str) -> None:
    assert rpc.call(path, "add", a=1, b=2) == (3, [])
    result, (fd,) = rpc.call(path, "open")
    assert result == "null"
    assert os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    os.close(fd)


def test_errors_come_as_what_they_are(path: str) -> None:
    with pytest.raises(NotFound, match="no method 'nothing'"):
        rpc.call(path, "nothing")
    with pytest.raises(KnetsimError, match="the kernel refused `ip link`"):
        rpc.call(path, "refuse")
    with pytest.raises(KnetsimError, match="TypeError"):
        rpc.call(path, "add", c=1)
    with pytest.raises(KnetsimError, match="TypeError"):
        rpc.call(path, "unspeakable")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        rpc.call(str(tmp_path / "nothing.sock"), "add")


@pytest.mark.parametrize("request_line", [b"", b"[]\n", b'{"meth', b'{"method": "add", "params": []}\n'])
def test_what_is_no_request_is_answered(path: str, request_line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        assert b"not a request" in connection.recv(4096)
    assert rpc.call(path, "add", a=1, b=1) == (2, [])


def test_callers_that_say_nothing_hold_up_nobody(path: str) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for connection in silent:
        connection.connect(path)
    assert rpc.call(path, "add", a=1, b=1) == (2, [])
    for connection in silent:
        connection.close()

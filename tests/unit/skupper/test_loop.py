"""The loop: timers in their order, sockets, and mistakes that end nothing."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from knetsim.dataplane.skupper.router.loop import READABLE, WRITABLE, Loop
from knetsim.dataplane.skupper.router.sockets import Dial, open_listener


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop()) as loop:
        yield loop


def test_timers_are_called_in_their_order_and_not_when_cancelled(loop: Loop) -> None:
    called: list[str] = []
    loop.after(0.5, lambda: called.append("later"))  # so late that a busy machine does not turn them round
    loop.after(1.0, loop.stop)
    loop.after(0.01, lambda: called.append("sooner"))
    loop.after(0.015, lambda: called.append("never")).cancel()
    loop.soon(lambda: called.append("soon"))
    loop.run()
    assert called == ["soon", "sooner", "later"]


def test_a_clock_that_is_given_is_used() -> None:
    now = 100.0
    with closing(Loop(lambda: now)) as loop:
        called: list[float] = []
        loop.after(5, lambda: called.append(now))
        loop.after(10, loop.stop)

        def forward() -> None:
            nonlocal now
            now += 1
            loop.soon(forward)

        loop.soon(forward)
        loop.run()
    assert called == [105.0]


def test_a_mistake_ends_nothing_and_is_told(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("SERVER").propagate = True

    def mistake() -> None:
        raise ValueError("a mistake")

    called: list[str] = []
    loop.soon(mistake)
    loop.after(0, mistake)
    loop.soon(lambda: called.append("after it"))
    loop.after(0.01, loop.stop)
    loop.run()
    assert called == ["after it"]
    assert caplog.text.count("ValueError: a mistake") == 2


def test_other_threads_wake_it(loop: Loop) -> None:
    thread = threading.Thread(target=lambda: loop.from_thread(loop.stop))
    loop.soon(thread.start)
    loop.run()
    thread.join()


def test_who_comes_after_the_end_is_not_heard() -> None:
    loop = Loop()
    loop.close()
    loop.from_thread(loop.stop)


def test_a_socket_that_takes_the_number_of_a_closed_one_does_not_get_its_events(loop: Loop) -> None:
    """Two are ready in one turn; the first closes the second, whose descriptor goes to a new one at once."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        for one in (end for pair in pairs for end in pair):
            stack.callback(one.close)
        called: list[str] = []
        fresh: list[socket.socket] = []

        def first(_mask: int) -> None:
            replace(pairs[1][0])

        def second(_mask: int) -> None:
            replace(pairs[0][0])

        def replace(other: socket.socket) -> None:
            if fresh:
                return
            number = other.fileno()
            loop.unwatch(number)
            other.close()
            fresh.extend(socket.socketpair())
            found = next(one for one in fresh if one.fileno() == number)
            loop.watch(found.fileno(), lambda mask: called.append(f"{mask & READABLE}"))
            loop.soon(lambda: called.append("next turn"))

        loop.watch(pairs[0][0].fileno(), first)
        loop.watch(pairs[1][0].fileno(), second)
        for _, end in pairs:
            end.send(b"x")
        loop.after(0.02, loop.stop)
        loop.run()
        for one in fresh:
            stack.callback(one.close)
    # its own first event comes, that it can be written to
    assert called == ["next turn", "0"]


def test_dialling_a_name_and_a_number(loop: Loop) -> None:
    with closing(open_listener("127.0.0.1", "0", 5)) as server:
        port = str(server.getsockname()[1])
        connected: list[str] = []

        def dialled(name: str, stream: socket.socket) -> None:
            def ready(mask: int) -> None:
                if mask & WRITABLE and stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    connected.append(name)
                    loop.unwatch(stream.fileno())
                    stream.close()
                    if len(connected) == 2:
                        loop.stop()

            loop.watch(stream.fileno(), ready)

        for host in ("127.0.0.1", "localhost"):
            Dial(loop, host, port, lambda stream, host=host: dialled(host, stream), connected.append)  # type: ignore[misc]
        deadline = loop.after(20, loop.stop)
        loop.run()
        deadline.cancel()
    assert sorted(connected) == ["127.0.0.1", "localhost"]


def test_a_name_that_is_none_is_told(loop: Loop) -> None:
    told: list[str] = []

    def failed(why: str) -> None:
        told.append(why)
        loop.stop()

    Dial(loop, "x" * 70 + ".", "1", lambda stream: stream.close(), failed)
    loop.after(20, loop.stop)
    loop.run()
    assert len(told) == 1 and told[0].startswith("xxx")


def test_listening_at_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(OSError, match="no name of a host"):
        open_listener("x" * 70, "1", 5)


def test_any_address_takes_both_kinds() -> None:
    with closing(open_listener("", "0", 5)) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))):
            pass
        with pytest.raises(OSError, match="in use"):
            open_listener("", str(port), 5)

"""A router's loop run by a test: until something is so."""

from __future__ import annotations

from collections.abc import Callable

from knetsim.dataplane.skupper.router.loop import Loop


def run_until(loop: Loop, fact: Callable[[], bool], seconds: float) -> None:
    """Run the loop until `fact` is so; AssertionError after so many seconds."""
    deadline = loop.after(seconds, loop.stop)
    so = False

    def look() -> None:
        nonlocal so
        so = fact()
        if so:
            loop.stop()
        else:
            loop.after(0.002, look)

    loop.soon(look)
    loop.run()
    deadline.cancel()
    assert so

"""Descriptors below 1024, kept for C libraries that use select(2) and end the process when a number is larger.

A simulation has thousands of descriptors open, and the kernel gives the lowest number that is free. So the low
ones are taken at the start, before there are many, and given up one by one for who needs one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from knetsim.errors import KnetsimError

T = TypeVar("T")

#: FD_SETSIZE of glibc
LIMIT = 1024
_TRIES = 20


class LowDescriptors:
    """Numbers below `LIMIT`; until `reserve` the kernel's choice is taken as it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: set[int] = set()
        self._reserved = False

    def reserve(self) -> None:
        """Take all that are free now."""
        with self._lock:
            self._reserved = True
            self._take_free()

    def _take_free(self) -> None:
        while (fd := os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)) < LIMIT:
            self._kept.add(fd)
        os.close(fd)

    def open(self, make: Callable[[], T], has_opened: Callable[[int], bool]) -> T:
        """What `make` returns, which opens one descriptor: a low one.

        `has_opened` says whether that number is what was to be opened: another thread may have been quicker, and then
        it is tried again. KnetsimError when none is left.
        """
        for _ in range(_TRIES):
            with self._lock:
                if not self._reserved:
                    return make()
                self._take_free()  # a lower one would be given in place of ours
                if not self._kept:
                    break
                number = self._kept.pop()
            os.close(number)
            made = make()
            if has_opened(number):
                return made
        raise KnetsimError(
            "no low descriptor is left",
            why=f"libnftables needs one below {LIMIT} for every network namespace that it serves",
            hint="use fewer workers",
        )

    def give_back(self) -> None:
        """Who used a low one has closed it: keep it again, before others take it."""
        with self._lock:
            if self._reserved:
                self._take_free()


LOW_DESCRIPTORS = LowDescriptors()

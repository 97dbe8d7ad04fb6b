"""Follows running containers: what they write goes to their log files, their ends are told. One thread for all.

A log file has the lines of Kubernetes' container log format, as containerd writes them, so that whoever reads it knows
when and on which stream a line was written (`F`: a whole line, `P`: a part of one longer than 16 KiB):

    2025-01-31T10:00:00.123456789Z stdout F hello

Outputs are pipes and not the file itself, as with real runtimes: `echo x > /dev/stderr` in a container must not
truncate its log. A file that would grow beyond 10 MiB is set aside under its name and the time
(`0.log.20250131-100000`), and the oldest is deleted when there are five, as kubelets do (containerLogMaxSize,
containerLogMaxFiles), but uncompressed. A container that writes faster than about 5 MiB/s waits.

Others can look on: a `Listener` is told when a log has grown or ended, an `Attached` gets what is written itself, from
then on, and may have the container wait until it has dealt with it.
"""

from __future__ import annotations

import glob
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from knetsim.system.container import Process

LOG_MAX_BYTES = 10 * 1024 * 1024
LOG_MAX_FILES = 5
LINE_MAX_BYTES = 16 * 1024
_CHUNK = 64 * 1024
_PACE_SECONDS = 0.012


#: called, in the watching thread, when a log has grown or has ended
Listener = Callable[[], None]


class Attached(Protocol):
    """Somebody who gets what a container writes. Called in the watching thread."""

    def write(self, stream: str, chunk: bytes) -> bool:
        """Take a piece of a stream; False when no more is wanted until `ContainerWatch.resume`."""

    def end(self) -> None:
        """There will be no more."""


@dataclass(slots=True)
class _Stream:
    """One output of a container: its name in the log, and the part of a line that has no end yet."""

    name: str
    followed: _Followed
    rest: bytes = b""


@dataclass(slots=True)
class _Followed:
    """A container that is followed."""

    process: Process
    on_exit: Callable[[Process], None]
    log: int
    size: int
    streams: dict[int, _Stream] = field(default_factory=dict)
    attached: list[Attached] = field(default_factory=list)
    full: set[Attached] = field(default_factory=set)  # those who want no more for now

    def set_aside(self, stamp: str) -> None:
        """Begin a new log file."""
        path, full = self.process.log, self.log
        aside = sorted(glob.glob(f"{glob.escape(path)}.*"))
        for old in aside[: max(0, len(aside) - (LOG_MAX_FILES - 2))]:
            os.unlink(old)
        name = f"{path}.{stamp}"
        if aside and name <= aside[-1]:  # twice in a second, or the clock was set back
            name = aside[-1] + "+"
        os.replace(path, name)
        self.log, self.size = _open_log(path), 0
        os.close(full)


class ContainerWatch:
    """The thread; `add` processes to it, from any thread."""

    def __init__(self, *, log_max_bytes: int = LOG_MAX_BYTES, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` tells nanoseconds since 1970."""
        self._log_max_bytes, self._clock = log_max_bytes, clock
        self._epoll = select.epoll()
        self._followed: dict[int, _Followed] = {}
        self._streams: dict[int, _Stream] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._lock = threading.RLock()  # who looks on
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._watch, name="containers", daemon=True)
        self._thread.start()

    def add(self, process: Process, on_exit: Callable[[Process], None]) -> None:
        """Follow a process until it has ended and all that it wrote is in its log: then `on_exit(process)` is called,
        in the watching thread, and the watch has nothing to do with it any more."""
        log = _open_log(process.log)
        followed = _Followed(process, on_exit, log, os.fstat(log).st_size)
        for name, fd in process.streams.items():
            os.set_blocking(fd, False)
            followed.streams[fd] = self._streams[fd] = _Stream(name, followed)
            self._epoll.register(fd, select.EPOLLIN)
        self._followed[process.pidfd] = followed
        self._epoll.register(process.pidfd, select.EPOLLIN)

    # --- those who look on

    def listen(self, log: str, listener: Listener) -> None:
        """Have `listener` called whenever the log grows, and when its container has ended."""
        with self._lock:
            self._listeners.setdefault(log, []).append(listener)

    def forget(self, log: str, listener: Listener) -> None:
        """Call it no more."""
        with self._lock:
            listeners = self._listeners[log]
            listeners.remove(listener)
            if not listeners:
                del self._listeners[log]

    def follows(self, log: str) -> bool:
        """Whether a container that writes this log is followed."""
        return any(followed.process.log == log for followed in list(self._followed.values()))

    def attach(self, process: Process, attached: Attached) -> bool:
        """Give `attached` what the process writes from now on; False when it has ended."""
        with self._lock:
            followed = self._followed.get(process.pidfd)
            if followed is None or followed.process is not process:
                return False
            followed.attached.append(attached)
            return True

    def detach(self, process: Process, attached: Attached) -> None:
        """Give it no more; one that has never been attached is fine."""
        with self._lock:
            followed = self._followed.get(process.pidfd)
            if followed is not None and attached in followed.attached:
                self.resume(process, attached)
                followed.attached.remove(attached)

    def resume(self, process: Process, attached: Attached) -> None:
        """It wants more again."""
        with self._lock:
            followed = self._followed.get(process.pidfd)
            if followed is not None and attached in followed.full:
                followed.full.remove(attached)
                if not followed.full:
                    for fd in followed.streams:
                        self._epoll.modify(fd, select.EPOLLIN)

    def close(self) -> None:
        """Follow no more; processes go on, until their pipes are full."""
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for followed in self._followed.values():
            os.close(followed.log)
        self._followed.clear()
        self._epoll.close()
        os.close(self._wake)

    def _watch(self) -> None:
        while not self._closing.is_set():
            ready = [fd for fd, _ in self._epoll.poll()]
            chunks = [self._copy(fd, self._streams[fd]) for fd in ready if fd in self._streams]
            for fd in ready:  # the ends last: what on_exit closes may be opened anew, under the same number
                if fd in self._followed:
                    self._end(fd)
            if _CHUNK in chunks:
                self._closing.wait(_PACE_SECONDS)  # whoever floods its log waits: the pipe is full meanwhile

    def _copy(self, fd: int, stream: _Stream) -> int:
        """Move what a stream holds, one chunk at most, into the log; how much that was."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: nobody has the other side of a terminal open any more
            chunk = b""
        if not chunk:
            self._close_stream(fd, stream)
            return 0
        self._tell_attached(stream, chunk)
        stamp = _format_time(self._clock())
        *lines, stream.rest = (stream.rest + chunk).split(b"\n")
        records = [_build_records(stamp, stream.name, line) for line in lines]
        while len(stream.rest) > LINE_MAX_BYTES:
            records.append(_build_record(stamp, stream.name, b"P", stream.rest[:LINE_MAX_BYTES]))
            stream.rest = stream.rest[LINE_MAX_BYTES:]
        self._append(stream.followed, b"".join(records))
        return len(chunk)

    def _tell_attached(self, stream: _Stream, chunk: bytes) -> None:
        followed = stream.followed
        with self._lock:
            full = {one for one in followed.attached if not one.write(stream.name, chunk)}
            if full and not followed.full:
                for fd in followed.streams:
                    self._epoll.modify(fd, 0)
            followed.full |= full

    def _tell_listeners(self, log: str) -> None:
        with self._lock:
            for listener in self._listeners.get(log, ()):
                listener()

    def _close_stream(self, fd: int, stream: _Stream) -> None:
        """The stream has ended: nobody holds its other end any more."""
        with self._lock:
            self._epoll.unregister(fd)
            del self._streams[fd]
            del stream.followed.streams[fd]
        if stream.rest:
            self._append(stream.followed, _build_records(_format_time(self._clock()), stream.name, stream.rest))

    def _append(self, followed: _Followed, records: bytes) -> None:
        try:
            if followed.size and followed.size + len(records) > self._log_max_bytes:
                followed.set_aside(time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._clock() // 1_000_000_000)))
            followed.size += os.write(followed.log, records)
            self._tell_listeners(followed.process.log)
        except OSError:
            pass  # the disk is full, or somebody removed the directory: the output is lost, not the container

    def _end(self, pidfd: int) -> None:
        """The process has ended, and with it all of its pid namespace."""
        self._epoll.unregister(pidfd)
        followed = self._followed[pidfd]
        for fd, stream in list(followed.streams.items()):
            while self._copy(fd, stream):
                pass
            if fd in self._streams:
                self._close_stream(fd, stream)
        os.close(followed.log)
        with self._lock:
            del self._followed[pidfd]
            for attached in followed.attached:
                attached.end()
        self._tell_listeners(followed.process.log)
        followed.process.wait()
        followed.on_exit(followed.process)


def read_log(path: str, tail_bytes: int | None = None) -> str:
    """What a container wrote, both streams in order, without the times; of its last `tail_bytes` only when given.

    Empty when there is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            if tail_bytes is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail_bytes))
                if file.tell():
                    file.readline()
            records = file.read().splitlines()
    except FileNotFoundError:
        return ""
    text = []
    for record in records:
        _, _, tag, content = (record + b"   ").split(b" ", 3)
        text.append(content[:-3] + (b"\n" if tag == b"F" else b""))
    return b"".join(text).decode(errors="replace")


def _open_log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _build_record(stamp: bytes, stream: str, tag: bytes, content: bytes) -> bytes:
    return b"%s %s %s %s\n" % (stamp, stream.encode(), tag, content)


def _build_records(stamp: bytes, stream: str, line: bytes) -> bytes:
    """The records of one whole line."""
    parts = [line[start : start + LINE_MAX_BYTES] for start in range(0, max(len(line), 1), LINE_MAX_BYTES)]
    tags = [b"P"] * (len(parts) - 1) + [b"F"]
    return b"".join(_build_record(stamp, stream, tag, part) for tag, part in zip(tags, parts, strict=True))


def _format_time(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest

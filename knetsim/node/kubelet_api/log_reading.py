"""The part of a container's log that somebody asks for; pure but for reading the file.

A record of the file is `TIME STREAM F|P TEXT`, with times that sort as text (`container_watch`). As with a real
kubelet, `tail` counts records of the file, before `since` and `stream` choose among them; `limitBytes` counts what is
sent; only the newest file of a log that was set aside is shown. Source: k8s.io/kubernetes/pkg/kubelet/kuberuntime/logs.
"""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass

from multidict import MultiMapping

from knetsim.errors import InputError

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogWish:
    """What of a log is wanted; `since` as the time of a record is written, `stream` "" for both."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    since: bytes = b""
    stream: str = ""


def read_log_wish(query: MultiMapping[str], now: float) -> LogWish:
    """From the query of a request. InputError with a kubelet's words."""
    tail, limit = _read_number(query, "tailLines"), _read_number(query, "limitBytes")
    if limit is not None and limit < 1:
        raise InputError(f'PodLogOptions "" is invalid: limitBytes: Invalid value: {limit}: must be greater than 0')
    stream = query.get("stream", "All")
    if stream not in ("All", "Stdout", "Stderr"):
        raise InputError(f'PodLogOptions "" is invalid: stream: Unsupported value: "{stream}"')
    return LogWish(
        follow=_is_true(query, "follow"),
        previous=_is_true(query, "previous"),
        timestamps=_is_true(query, "timestamps"),
        tail=tail,
        limit=limit,
        since=_read_since(query, now),
        stream="" if stream == "All" else stream.lower(),
    )


def _is_true(query: MultiMapping[str], name: str) -> bool:
    return query.get(name, "") in ("true", "1")


def _read_number(query: MultiMapping[str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InputError(f'PodLogOptions "" is invalid: {name}: Invalid value: "{text}": must be a whole number')
    return int(text)


def _read_since(query: MultiMapping[str], now: float) -> bytes:
    if seconds := _read_number(query, "sinceSeconds"):
        return _format(datetime.datetime.fromtimestamp(max(0.0, now - seconds), datetime.UTC), 0)
    text = query.get("sinceTime", "")
    if not text:
        return b""
    whole, _, fraction = text.replace(" ", "+").partition(".")
    digits = "".join(one for one in fraction[: len(fraction) - len(fraction.lstrip("0123456789"))])
    zone = fraction[len(digits) :]
    try:
        moment = datetime.datetime.fromisoformat(whole + zone)
    except ValueError as error:
        raise InputError(f'PodLogOptions "" is invalid: sinceTime: Invalid value: "{text}": {error}') from error
    return _format(moment.astimezone(datetime.UTC), int(digits.ljust(9, "0")[:9] or 0))


def _format(moment: datetime.datetime, nanoseconds: int) -> bytes:
    return moment.strftime("%Y-%m-%dT%H:%M:%S").encode() + b".%09dZ" % (nanoseconds or moment.microsecond * 1000)


class LogText:
    """Turns records into the text that is sent, until `limit` bytes have been."""

    def __init__(self, wish: LogWish) -> None:
        self._wish, self._left = wish, wish.limit
        self._within = False  # in a line whose beginning has been sent

    @property
    def full(self) -> bool:
        """Whether no more can be sent."""
        return self._left == 0

    def render(self, records: Iterable[bytes]) -> bytes:
        """The text of whole records, without their line ends."""
        text = b"".join(part for record in records for part in self._render(record))
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _render(self, record: bytes) -> tuple[bytes, ...]:
        fields = record.split(b" ", 3)
        if len(fields) != 4:
            return ()  # the disk was full when it was written
        time, stream, tag, content = fields
        if time < self._wish.since or (self._wish.stream and stream != self._wish.stream.encode()):
            return ()
        stamp = time + b" " if self._wish.timestamps and not self._within else b""
        self._within = tag == b"P"
        return (stamp, content, b"" if self._within else b"\n")


class LogFile:
    """A log that is read while it is written; records come whole. A file that was set aside is read to its end first,
    then the new one."""

    def __init__(self, path: str, tail: int | None = None) -> None:
        """From its beginning, or from `tail` records before its end. FileNotFoundError."""
        self._path, self._rest = path, b""
        self._file = io.FileIO(path)
        if tail is not None:
            self._file.seek(find_tail(self._file, tail))

    def read(self) -> list[bytes] | None:
        """Records that have come; None when there are no more for now."""
        chunk = self._file.read(_BLOCK)
        if not chunk:
            if not self._is_set_aside():
                return None
            following = io.FileIO(self._path)
            last = self._file.readall()  # what came before it was set aside and after the end was seen
            self._file.close()
            self._file, chunk = following, last
        *records, self._rest = (self._rest + chunk).split(b"\n")
        return records

    def _is_set_aside(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def find_tail(file: io.FileIO, count: int) -> int:
    """Where the last `count` records of a file begin. What follows the last line end is no record yet."""
    position = file.seek(0, io.SEEK_END)
    end = position
    if count == 0:
        return end
    found = -1  # the line end of the last record is not that of the one before
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        block = file.read(position - start)
        lines = block.count(b"\n")
        if found + lines >= count:
            cut = len(block)
            while found < count:
                cut = block.rindex(b"\n", 0, cut)
                found += 1
            return start + cut + 1
        found, position = found + lines, start
    return 0

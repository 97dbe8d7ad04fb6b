"""Requests to one API server, from any thread: repeated within a deadline while it is away or too busy.

A request whose answer was lost may have been carried out. It is sent again all the same, and its answer says so
(`Answer.uncertain`): only who knows what the request means can tell "exists already" from "done already".
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from urllib3 import Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from knetsim.api.http.connection import CONNECT_SECONDS, Answer, ApiPool, Channel, Dial
from knetsim.api.http.failures import TRY_AGAIN, Unserved, error_of, is_ok, is_unserved, words_of
from knetsim.api.objects import Object
from knetsim.errors import KnetsimError, NotReady, ObjectError, StoreUnavailable

_log = logging.getLogger(__name__)

#: seconds that a request may take unless told
DEADLINE: Final = 15.0
#: seconds that one attempt may take: the server may have asked an etcd member that hangs, and asks another one then
ATTEMPT_SECONDS: Final = 6.0
#: seconds of pause before a request is sent again
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
JSON: Final = "application/json"
#: so many connections are kept; more are made when more threads ask at once
_KEPT = 64
_PROBE_SECONDS = 2.0
_DEFINED = "kubectl get customresourcedefinitions shows which kinds are defined"
_SHORTEST_ATTEMPT = 0.1
#: bytes that etcd takes in one request
_LARGEST = 1536 * 1024


class _Lost(Exception):
    """An attempt without an answer; `heard`: the request may have arrived."""

    def __init__(self, why: str, *, heard: bool = True) -> None:
        super().__init__(why)
        self.why, self.heard = why, heard


class ApiClient:
    """The API server at `host`:`port`, which must show a certificate of `ca` for `host`.

    `certificate` and `key` are who asks (PEM files, as `ca`). `dial` makes the connections, when not this process's own
    network leads there. A request takes `deadline` seconds at most and then raises StoreUnavailable. `closing` is set
    from `close` on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ca: Path,
        certificate: Path | None = None,
        key: Path | None = None,
        dial: Dial | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self.host, self.port, self.deadline = host, port, deadline
        self.where = f"https://{host}:{port}"
        self._dial = dial
        self._context = _tls(ca, certificate, key)
        self._pool = ApiPool(host, port, maxsize=_KEPT, block=False, ssl_context=self._context, dial=dial)
        self.closing = threading.Event()
        #: beginnings of paths that the server is about to serve: a request there waits for it
        self.awaited: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._channels: weakref.WeakSet[Channel] = weakref.WeakSet()

    def close(self) -> None:
        """End all streams and connections."""
        with self._lock:
            self.closing.set()
            channels = list(self._channels)
        for channel in channels:
            channel.cut()
        self._pool.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: nothing will be answered any more."""
        return self.closing.is_set()

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = JSON, where: str = "") -> Object:
        """The object that is answered; every other answer is raised as what it stands for. `where` names the object."""
        answer = self.send(method, path, body, content_type=content_type, where=where)
        if not is_ok(answer):
            raise error_of(answer, where or path)
        obj: Object = answer.json
        return obj

    def raw(self, path: str) -> Answer:
        """Whatever is answered to a GET, also when it is no object: `/readyz?verbose`, `/version`, `/metrics`."""
        return self._attempt("GET", path, None, {}, self.deadline)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = JSON,
        where: str = "",
        try_again: Collection[int] = TRY_AGAIN,
    ) -> Answer:
        """The first answer that another attempt would not better (its code is not in `try_again`); StoreUnavailable
        when the deadline has passed."""
        payload = None if body is None else _encode(body, where or path)
        if payload and len(payload) > _LARGEST:
            # etcd would refuse it, which the server tells as an error of its own, worth another attempt.
            raise ObjectError("is too large", where or path, hint="etcd stores at most 1.5 MiB in one request")
        headers = {"Accept": JSON} if payload is None else {"Accept": JSON, "Content-Type": content_type}
        end, pause, uncertain = time.monotonic() + self.deadline, FIRST_PAUSE, False
        failure: KnetsimError
        while True:
            wait = pause
            try:
                answer = self._attempt(method, path, payload, headers, end - time.monotonic())
            except _Lost as lost:
                failure, uncertain = self._unavailable(where, lost.why), uncertain or lost.heard
            else:
                if self.is_awaited(path, answer):
                    failure = Unserved("the API server does not serve this kind", where or path, hint=_DEFINED)
                elif answer.code not in try_again:
                    return answer._replace(uncertain=uncertain)
                else:
                    failure, uncertain = error_of(answer, where or path), uncertain or answer.code != 429
                    wait = max(pause, _retry_after(answer.headers))
            if time.monotonic() + wait >= end or self.closing.wait(wait):
                raise self._unavailable(where, "closed") if self.closed else failure
            pause = min(pause * 2, LONGEST_PAUSE)

    def is_awaited(self, path: str, answer: Answer) -> bool:
        """Whether what is not served here soon will be."""
        return path.startswith(self.awaited) and is_unserved(answer)

    def channel(self) -> Channel:
        """A connection of one's own, for streams; it ends with the client."""
        channel = Channel(self.host, self.port, self._context, self._dial)
        with self._lock:
            if self.closing.is_set():
                channel.cut()
            self._channels.add(channel)
        return channel

    def wait_ready(self, deadline: float, stop: threading.Event | None = None) -> None:
        """Until `/readyz` says so by its code (a server that is not ready answers too); NotReady names what fails."""
        end, pause, stop = time.monotonic() + deadline, FIRST_PAUSE, stop or self.closing
        while why := self.explain_unready():
            left = end - time.monotonic()
            if left <= 0 or stop.wait(min(pause, left)):
                raise NotReady(f"the API server is not ready after {deadline:g} s", self.where, why)

    def explain_unready(self) -> str:
        """Which checks of the server fail, or that it does not answer; "" when it is ready."""
        try:
            answer = self._attempt("GET", "/readyz?verbose", None, {}, _PROBE_SECONDS)
        except _Lost as lost:
            return lost.why
        except StoreUnavailable as error:
            return error.why
        if answer.code == 200:
            return ""
        checks = [line for line in answer.body.decode(errors="replace").splitlines() if line.startswith("[-]")]
        return "; ".join(line.removeprefix("[-]") for line in checks) or words_of(answer)

    def _attempt(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        if self.closed:
            raise self._unavailable("", "closed")
        seconds = min(max(seconds, _SHORTEST_ATTEMPT), ATTEMPT_SECONDS)
        timeout = Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
        try:
            response = self._pool.urlopen(
                method, path, body, headers, retries=False, timeout=timeout, assert_same_host=False
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _Lost(_words(error), heard=False) from error
        except SSLError as error:
            if _is_refusal(error):
                raise self._unavailable("", f"TLS: {_words(error)}") from error
            raise _Lost(_words(error)) from error
        except ReadTimeoutError as error:
            raise _Lost("no answer") from error
        except (HTTPError, OSError) as error:
            raise _Lost(_words(error)) from error
        for warning in response.headers.getlist("Warning"):
            _log.warning("the API server warns (%s): %s", path.partition("?")[0], _warning_text(warning))
        return Answer(response.status, response.data, response.headers)

    def _unavailable(self, where: str, why: str) -> StoreUnavailable:
        return StoreUnavailable("the API server does not answer", where or self.where, why, "is C0cp up?")


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encode(body: Any, where: str) -> bytes:
    try:
        return _encoder.encode(body).encode()
    except (TypeError, ValueError) as error:  # a set, a date, NaN, a loop, half of a surrogate pair
        raise ObjectError("cannot be written as JSON", where, str(error)) from error


def _tls(ca: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(str(certificate), str(key) if key else None)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(path) for path in (ca, certificate, key) if path)
        raise KnetsimError("the API server's certificates cannot be read", files, str(error)) from error
    return context


def _retry_after(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _words(error: BaseException) -> str:
    """The innermost reason, as the kernel or TLS says it: `Connection refused`."""
    while isinstance(error.__cause__ or error.__context__, Exception):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _is_refusal(error: SSLError) -> bool:
    """Whether one side did not take the other's certificate or TLS version, which no other attempt would better."""
    inner = error.args[0] if error.args else None
    return isinstance(inner, ssl.SSLError) and not isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _warning_text(header: str) -> str:
    """The text of a Warning header, `299 - "text"`."""
    return header.partition('"')[2].rpartition('"')[0].replace('\\"', '"') or header

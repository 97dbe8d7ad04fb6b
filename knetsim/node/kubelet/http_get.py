"""One GET as a kubelet sends it for probes and hooks: certificates are not verified, redirects are followed as long as
they stay at the host, and what goes wrong is said in the words of Go's net/http, which Events show.

Sources: Kubernetes' pkg/probe/http.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self
from urllib.parse import quote, urljoin, urlsplit

from knetsim.node.kubelet.dialing import Dialer, explain_dial, join_host_port

_AGENT = "kube-{}/1.36"
_LONGEST_BODY = 10 * 1024
_REDIRECTS = 10
_TIMEOUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask, and whom."""

    scheme: str
    host: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def build(
        cls, scheme: str, host: str, port: int, path: str, headers: Sequence[tuple[str, str]], agent: str
    ) -> Self:
        """With the headers of a kubelet unless they are given; an empty Accept takes that header away."""
        names = {name.lower() for name, _ in headers}
        every = [(name, value) for name, value in headers if name.lower() != "accept" or value]
        if "host" not in names:
            every.insert(0, ("Host", join_host_port(host, port)))
        if "user-agent" not in names:
            every.append(("User-Agent", _AGENT.format(agent)))
        if "accept" not in names:
            every.append(("Accept", "*/*"))
        whole = path if path.startswith("/") else f"/{path}"
        return cls(scheme.lower(), host, port, quote(whole, safe="/?&=%+,;:@!$'()*~#-._[]"), tuple(every))

    @property
    def url(self) -> str:
        """The address as it is shown."""
        return f"{self.scheme}://{join_host_port(self.host, self.port)}{self.path}"

    def encode(self) -> bytes:
        """The request's text. What cannot stand in a header line is dropped."""
        lines = [f"GET {self.path.partition('#')[0]} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        clean = [line.replace("\r", "").replace("\n", "") for line in (*lines, "Connection: close")]
        return "".join(f"{line}\r\n" for line in (*clean, "")).encode("latin-1", "replace")


class Answer(NamedTuple):
    """An HTTP status with the begin of the body, or why there is none; `location` is where a redirect leads."""

    status: int = 0
    body: str = ""
    error: str = ""
    location: str = ""


async def fetch(dialer: Dialer, request: Request, timeout: float | None, *, follow: bool = True) -> Answer:
    """Ask within `timeout` seconds, redirects at the same host included."""
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_REDIRECTS + 1):
                answer = await _ask(dialer, request)
                onward = _follow(request, answer) if follow else None
                if onward is None:
                    return answer
                request = onward
            return Answer(error=f'Get "{request.url}": stopped after {_REDIRECTS} redirects')
    except TimeoutError:
        return Answer(error=f'Get "{request.url}": {_TIMEOUT}')


def _follow(request: Request, answer: Answer) -> Request | None:
    """The request to which a redirect leads; None when there is none, or when it leads to another host."""
    if not 300 <= answer.status < 400 or not answer.location:
        return None
    goal = urlsplit(urljoin(request.url, answer.location))
    if goal.hostname != request.host.strip("[]") or goal.scheme not in ("http", "https"):
        return None
    port = goal.port or (443 if goal.scheme == "https" else 80)
    path = (goal.path or "/") + (f"?{goal.query}" if goal.query else "")
    headers = tuple((name, value) for name, value in request.headers if name.lower() != "host")
    host = ("Host", join_host_port(request.host, port))
    return replace(request, scheme=goal.scheme, port=port, path=path, headers=(host, *headers))


async def _ask(dialer: Dialer, request: Request) -> Answer:
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            connection = await dialer.connect(request.host, request.port)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            return Answer(error=f'Get "{request.url}": {explain_dial(error, request.host, request.port)}')
        try:
            reader, writer = await _open(connection, request)
        except BaseException:
            connection.close()
            raise
        writer.write(request.encode())
        return await _read(reader, request)
    except ssl.SSLError as error:
        plain = "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error)
        why = "http: server gave HTTP response to HTTPS client" if plain else f"remote error: tls: {error.reason}"
        return Answer(error=f'Get "{request.url}": {why}')
    except (asyncio.IncompleteReadError, EOFError):
        return Answer(error=f'Get "{request.url}": EOF')
    except (ValueError, asyncio.LimitOverrunError) as error:
        return Answer(error=f'Get "{request.url}": net/http: HTTP/1.x transport connection broken: {error}')
    except OSError as error:  # a ConnectionError, or that there is no way to the host any more
        if isinstance(error, TimeoutError):
            raise
        return Answer(error=f'Get "{request.url}": read: {str(error.strerror or error).lower()}')
    finally:
        if writer is not None:
            writer.close()


async def _open(connection: socket.socket, request: Request) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if request.scheme != "https":
        return await asyncio.open_connection(sock=connection)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection(sock=connection, ssl=context, server_hostname=request.host)


async def _read(reader: asyncio.StreamReader, request: Request) -> Answer:
    status, location = 100, ""
    while 100 <= status < 200:
        line = (await reader.readuntil(b"\n")).decode("latin-1").strip()
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/") or not rest[:3].isdigit():
            raise ValueError(f'malformed HTTP response "{line[:80]}"')
        status, location = int(rest[:3]), ""
        while header := (await reader.readuntil(b"\n")).decode("latin-1").strip():
            name, _, value = header.partition(":")
            if name.strip().lower() == "location":
                location = value.strip()
    try:
        body = await reader.read(_LONGEST_BODY) if status >= 300 else b""
    except ConnectionError:
        body = b""
    return Answer(status, body.decode(errors="replace"), "", location)

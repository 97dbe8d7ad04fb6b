"""What probes and lifecycle hooks do to a container: run a command, ask by HTTP or gRPC, connect, sleep.

Reality: a kubelet has a goroutine for each probe of each container. Ours: one thread with an event loop for all workers
of a cluster, begun with the first container that has a probe or a hook. Sockets are made inside the worker's network
namespace, as a kubelet's are, and used from the loop: an HTTP, TCP or gRPC probe costs no process and no thread. A
command is started as `kubectl exec` starts one, as the container's user and in its namespaces.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from knetsim.errors import KnetsimError
from knetsim.node.kubelet.dialing import Dialer, explain_dial
from knetsim.node.kubelet.environment import expand
from knetsim.node.kubelet.grpc_health import check_health
from knetsim.node.kubelet.http_get import Request, fetch
from knetsim.system.exec_session import ExecSession

_LONGEST_OUTPUT = 10 * 1024
_PIPE_BYTES = 64 * 1024  # as much as a pipe holds


class Result(Enum):
    """What came of an action; UNKNOWN: it could not be done, which says nothing of the container."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """What came of an action, and in which words."""

    result: Result
    text: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is meant: its spec, the address of its pod, who connects from its worker, and how a command
    is started in it."""

    container: Mapping[str, Any]
    ip: str
    dialer: Dialer
    start: Callable[[Sequence[str]], ExecSession]

    def port(self, given: Any) -> int:
        """A port given as a number or by its name. ValueError."""
        if isinstance(given, int):
            number = given
        elif str(given).isdigit():
            number = int(given)
        else:
            ports = self.container.get("ports") or ()
            number = next((port["containerPort"] for port in ports if port.get("name") == given), 0)
            if not number:
                raise ValueError(f"couldn't find port: {given} in {self.container['name']}")
        if not 0 < number < 65536:
            raise ValueError(f"invalid port number: {number}")
        return number


class Actions:
    """The thread and its event loop. Any thread may ask; `close` ends all that is going on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Have `work` done by the thread; cancelling what is returned cancels it."""
        with self._lock:
            if self._closed:
                work.close()
                cancelled: Future[Any] = Future()
                cancelled.cancel()
                return cancelled
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="probes", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    def close(self) -> None:
        """End all that is going on. Twice is once."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()


async def act(handler: Mapping[str, Any], target: Target, timeout: float | None, agent: str) -> Outcome:
    """Carry out a handler of a probe (`agent` is "probe") or of a hook ("lifecycle"), within `timeout` seconds."""
    try:
        if command := handler.get("exec"):
            return await _run_command(command.get("command") or (), target, timeout)
        if get := handler.get("httpGet"):
            return await _get(get, target, timeout, agent)
        if connect := handler.get("tcpSocket"):
            return await _connect(connect.get("host") or target.ip, target.port(connect["port"]), target, timeout)
        if call := handler.get("grpc"):
            dialer, service = target.dialer, call.get("service") or ""
            why = await check_health(dialer, target.ip, target.port(call["port"]), service, timeout)
            return Outcome(Result.FAILURE, why) if why else Outcome(Result.SUCCESS, "service healthy")
    except (KnetsimError, ValueError, OSError) as error:  # OSError: no descriptor is left, the pod is just ending
        return Outcome(Result.UNKNOWN, str(error))
    if pause := handler.get("sleep"):
        await asyncio.sleep(pause.get("seconds", 0))
        return Outcome(Result.SUCCESS)
    return Outcome(Result.UNKNOWN, "missing probe handler" if agent == "probe" else f"invalid handler: {dict(handler)}")


async def _run_command(command: Sequence[str], target: Target, timeout: float | None) -> Outcome:
    """Run a command in the container. Of its environment only what is written as such is expanded, as by a kubelet."""
    plain = {one["name"]: one["value"] for one in target.container.get("env") or () if "value" in one}
    argv = [expand(word, plain) for word in command]
    session = target.start(argv)
    loop, ended, text = asyncio.get_running_loop(), asyncio.Event(), bytearray()
    outputs = list(session.outputs.values())
    try:
        loop.add_reader(session.pidfd, ended.set)
        for fd in outputs:
            loop.add_reader(fd, _take, fd, text, loop)
        async with asyncio.timeout(timeout):
            await ended.wait()
        code = session.reap()  # what it has left running in the container stays
    except TimeoutError:
        words = " ".join(argv)
        return Outcome(Result.FAILURE, f'command timed out: "{words}" timed out after {timeout:g}s')
    finally:
        for fd in outputs:
            _take(fd, text, loop)
            loop.remove_reader(fd)
        loop.remove_reader(session.pidfd)
        session.close()
    return Outcome(Result.SUCCESS if code == 0 else Result.FAILURE, text.decode(errors="replace"))


def _take(fd: int, text: bytearray, loop: asyncio.AbstractEventLoop) -> None:
    """Add what can be read to `text`, as long as there is room; what is too much is read and forgotten."""
    try:
        chunk = os.read(fd, _PIPE_BYTES)
    except BlockingIOError:
        return
    if not chunk:
        loop.remove_reader(fd)
    text += chunk[: max(_LONGEST_OUTPUT - len(text), 0)]


async def _get(get: Mapping[str, Any], target: Target, timeout: float | None, agent: str) -> Outcome:
    headers = [(one["name"], one.get("value", "")) for one in get.get("httpHeaders") or ()]
    host, port = get.get("host") or target.ip, target.port(get["port"])
    request = Request.build(get.get("scheme") or "http", host, port, get.get("path") or "", headers, agent)
    answer = await fetch(target.dialer, request, timeout, follow=agent == "probe")
    if answer.error:
        return Outcome(Result.FAILURE, answer.error)
    if agent != "probe" or 200 <= answer.status < 300:
        return Outcome(Result.SUCCESS, answer.body)
    if 300 <= answer.status < 400:
        return Outcome(Result.WARNING, f"Probe terminated redirects, Response body: {answer.body}")
    return Outcome(Result.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def _connect(host: str, port: int, target: Target, timeout: float | None) -> Outcome:
    try:
        async with asyncio.timeout(timeout):
            (await target.dialer.connect(host, port)).close()
    except OSError as error:  # a TimeoutError too
        return Outcome(Result.FAILURE, explain_dial(error, host, port))
    return Outcome(Result.SUCCESS)

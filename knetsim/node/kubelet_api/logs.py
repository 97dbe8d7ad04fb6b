"""containerLogs: what a container wrote, now and, when followed, until it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from aiohttp import web

from knetsim.api.objects import name_of
from knetsim.errors import InputError, NotFound
from knetsim.node.kubelet.access import ContainerAccess, container_names
from knetsim.node.kubelet_api.context import NODES
from knetsim.node.kubelet_api.log_reading import LogFile, LogText, LogWish, read_log_wish

#: how often a container is looked at that has no process whose end is told
_LOOK_SECONDS = 1.0


async def answer_logs(request: web.Request) -> web.StreamResponse:
    """The log as text. 404 without such a pod or container, 400 when it has no log yet; in a kubelet's words."""
    access, wish = _find(request)
    try:
        which = choose_previous(access.status(), name_of(access.pod), access.name, wish.previous)
    except NotFound as error:
        raise web.HTTPBadRequest(text=error.what) from error
    path = access.log_path(previous=which)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        await _send(response, access, path, wish)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has read enough
    return response


def _find(request: web.Request) -> tuple[ContainerAccess, LogWish]:
    nodes, pod, container = request.app[NODES], request.match_info["pod"], request.match_info["container"]
    try:
        wish = read_log_wish(request.query, time.time())
        if container not in container_names(nodes.find_pod(request)):
            raise NotFound(f'container "{container}" not found in pod "{pod}"')
    except InputError as error:
        raise web.HTTPUnprocessableEntity(text=f"{error.what}\n") from error
    except NotFound as error:
        raise web.HTTPNotFound(text=f"{error.what}\n") from error
    try:
        return nodes.find(request), wish
    except NotFound as error:
        raise web.HTTPBadRequest(text=f'container "{container}" in pod "{pod}" is not available') from error


def choose_previous(status: Mapping[str, Any], pod: str, container: str, previous: bool) -> bool:
    """Whether the log of the run before the last one is meant. NotFound, with the reason, when there is no log.

    While a container waits for its next run, its last one is its previous one.
    """
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    where = f'container "{container}" in pod "{pod}"'
    if not status:
        raise NotFound(f"{where} is not available")
    if previous:
        if not last:
            raise NotFound(f'previous terminated container "{container}" in pod "{pod}" not found')
        return "waiting" not in state
    if "running" in state or "terminated" in state or last:
        return False
    reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
    raise NotFound(f"{where} is waiting to start: {_WAITING.get(reason, reason)}")


_WAITING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


async def _send(response: web.StreamResponse, access: ContainerAccess, path: str, wish: LogWish) -> None:
    grown, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell() -> None:  # in the thread that writes the log
        if not grown.is_set():
            loop.call_soon_threadsafe(grown.set)

    access.watch.listen(path, tell)
    try:
        with closing(LogFile(path, wish.tail)) as log:
            await _copy(response, access, path, log, LogText(wish), grown if wish.follow else None)
    except FileNotFoundError:  # it only holds the pod's network: it never writes
        while wish.follow and access.holds and access.is_current():
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        access.watch.forget(path, tell)


async def _copy(
    response: web.StreamResponse,
    access: ContainerAccess,
    path: str,
    log: LogFile,
    text: LogText,
    grown: asyncio.Event | None,
) -> None:
    while not text.full:
        if grown is not None:
            grown.clear()
        goes_on = grown is not None and access.watch.follows(path)
        records = log.read()
        if records is not None:
            if rendered := text.render(records):
                await response.write(rendered)
        elif goes_on and grown is not None:
            await grown.wait()
        else:
            return

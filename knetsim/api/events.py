"""Events: how an agent tells a learner what it did and what failed (`kubectl describe`, `kubectl get events`).

An Event belongs to one object and lies in its namespace (`default` for a Node). The same thing said again, about the
same object by the same agent with the same words, is not a new Event but a higher `count` and a later `lastTimestamp`,
as in client-go. The store lets Events vanish after an hour. They are best effort, as in Kubernetes: when the store does
not answer, one is dropped.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from knetsim import names
from knetsim.api.objects import Object, format_time, name_of, namespace_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import KnetsimError, NotFound

_log = logging.getLogger(__name__)

NORMAL, WARNING = "Normal", "Warning"
#: so many different Events are remembered to be counted
_REMEMBERED = 4096
#: Kubernetes keeps the message of an Event below this length
_LONGEST_MESSAGE = 1024


def build_event(
    involved: Mapping[str, Any],
    reason: str,
    message: str,
    *,
    type: str = NORMAL,  # noqa: A002  (Kubernetes' word)
    component: str,
    host: str = "",
    now: float,
    serial: int = 0,
) -> Object:
    """A v1 Event about `involved` (any object). `reason` is one CamelCase word, `component` who says so, `host` where.

    The name holds the time in nanoseconds, as in client-go; `serial` tells apart what is said at one moment.
    """
    namespace = namespace_of(involved) or names.DEFAULT_NAMESPACE
    moment = format_time(now)
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": f"{name_of(involved)}.{int(now * 1e9) + serial:x}", "namespace": namespace},
        "involvedObject": _reference(involved),
        "reason": reason,
        "message": message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "...",
        "source": {"component": component, **({"host": host} if host else {})},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "type": type,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": host,
    }


def _reference(involved: Mapping[str, Any]) -> Object:
    metadata = involved["metadata"]
    reference = {
        "kind": involved["kind"],
        "namespace": namespace_of(involved),
        "name": name_of(involved),
        "uid": uid_of(involved),
        "apiVersion": involved["apiVersion"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
    return {field: value for field, value in reference.items() if value}


class EventRecorder:
    """Writes the Events of one agent. `record` may be called from any thread and never raises for the store's sake."""

    def __init__(self, store: Store, component: str, *, host: str = "", clock: Callable[[], float] = time.time) -> None:
        self._store, self._component, self._host, self._clock = store, component, host, clock
        self._lock = threading.Lock()
        self._serial = itertools.count()
        self._known: OrderedDict[tuple[str, ...], Object] = OrderedDict()

    def record(
        self,
        involved: Mapping[str, Any],
        reason: str,
        message: str,
        *,
        type: str = NORMAL,  # noqa: A002  (Kubernetes' word)
        host: str = "",
        field_path: str = "",
    ) -> None:
        """Say that something happened to `involved`, or to the part of it at `field_path`; `host` is the Node on
        which, when the agent serves several."""
        event = build_event(
            involved,
            reason,
            message,
            type=type,
            component=self._component,
            host=host or self._host,
            now=self._clock(),
            serial=next(self._serial) % 1_000_000,
        )
        if field_path:
            event["involvedObject"]["fieldPath"] = field_path
        same = _sameness(event)
        with self._lock:  # one write at a time: two threads that say the same thing count two
            try:
                self._known[same] = self._write(self._known.get(same), event)
            except KnetsimError as error:
                self._known.pop(same, None)
                _log.warning("an Event is lost: %s %s: %s (%s)", reason, same[3], message, error)
                return
            self._known.move_to_end(same)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _write(self, known: Object | None, event: Object) -> Object:
        if known is not None:
            counted = {**known, "count": known["count"] + 1, "lastTimestamp": event["lastTimestamp"]}
            counted["metadata"] = {
                field: value for field, value in known["metadata"].items() if field != "resourceVersion"
            }
            try:
                return self._store.update(counted)
            except NotFound:
                pass  # an hour has passed
        return self._store.create(event)


def _sameness(event: Object) -> tuple[str, ...]:
    involved = event["involvedObject"]
    return (
        event["source"]["component"],
        event["source"].get("host", ""),
        involved["kind"],
        f"{involved.get('namespace', '')}/{involved['name']}",
        involved.get("uid", ""),
        involved.get("fieldPath", ""),
        event["type"],
        event["reason"],
        event["message"],
    )

"""A client of a whole etcd cluster: every call and every watch moves to another member when one is lost.

python-etcd3's own client speaks to one member and its watch neither resumes nor asks for a leader, so only its generated gRPC
stubs (`etcd3.etcdrpc`) are used. What this adds:

- Calls try one member after the other until the deadline; StoreUnavailable then says which members do not answer and which
  have no leader. The leader itself is asked first where it is known: a follower would only pass a write on (measured: 0.9 ms
  a put at the leader, 1.2 to 1.4 ms at a follower).
- Every request carries `hasleader`: a member that is cut off from the others says so at once instead of waiting for 7 s,
  and ends its watches.
- A write whose answer was lost may have happened. Reads are repeated blindly; a write is repeated too, but as a transaction that
  compares the revision it was built on, so it happens once: the repetition finds its own value in place (`swap`). Only `put` has
  nothing to compare and may be written twice, with the same value.
- A watch resumes at the revision after the last change it told, on any member: etcd keeps the history of all revisions, so there
  are no gaps and no repetitions, until that revision is compacted (`Compacted`: list again).

All methods may be called from any thread. gRPC's threads do not survive a fork: children must execute a program at once, as
`subprocess` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from etcd3 import etcdrpc

from knetsim.errors import KnetsimError, NotFound, ObjectError, StoreUnavailable

#: seconds a call may take with all its repetitions: longer than an election of a new leader (1 to 2 s)
DEADLINE = 5.0
#: seconds one member may take to answer before the next is asked
ATTEMPT = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_LEADER_REQUIRED = (("hasleader", "true"),)

_CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A member that comes back is used within half a second; gRPC's own back-off would grow to two minutes. The smallest
    # back-off is also how long one attempt to connect may take (20 s unless said).
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A member that hangs, or whose host vanished without closing the connection, ends its watches after 15 s.
    # etcd closes connections that ping more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Ten thousand pods are one answer of 15 MB; etcd itself bounds requests (1.5 MiB).
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The members are neighbours: a proxy from the environment must not be asked for them.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Compacted(KnetsimError):
    """The history from the wanted revision on is gone; list again and watch from there. `revision`: the oldest kept."""

    def __init__(self, where: str, revision: int) -> None:
        self.revision = revision
        super().__init__("etcd has compacted the wanted revision", where, f"history begins at revision {revision}")


class Stored(NamedTuple):
    """A key's value, the revision of its last change, and the lease it hangs on (0: none)."""

    value: bytes
    revision: int
    lease: int = 0


class Entry(NamedTuple):
    """One key of a listing: see `Stored`."""

    key: str
    value: bytes
    revision: int


class KeyChange(NamedTuple):
    """One step of a watch: the new value, or None when the key was deleted (or its lease ended), in `revision`."""

    key: str
    value: bytes | None
    revision: int


class Swap(NamedTuple):
    """How a conditional write ended. When not `done`: what stands at the key (`current`) and at the guards now."""

    done: bool
    revision: int
    current: Stored | None = None
    guards: Mapping[str, Stored | None] = {}


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What a member says of itself; `error` is empty when it is healthy (it answers and has a leader)."""

    name: str
    target: str
    error: str = ""
    version: str = ""
    leader: bool = False
    revision: int = 0
    raft_term: int = 0
    database_bytes: int = 0


class _Member:
    """One member: its gRPC channel, and its calls as functions (request, timeout=, metadata=) → answer."""

    def __init__(self, name: str, target: str) -> None:
        self.name, self.target = name, target
        self.channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        kv, lease = etcdrpc.KVStub(self.channel), etcdrpc.LeaseStub(self.channel)
        maintenance = etcdrpc.MaintenanceStub(self.channel)
        self.range, self.put, self.delete_range = kv.Range, kv.Put, kv.DeleteRange
        self.txn, self.compact = kv.Txn, kv.Compact
        self.lease_grant, self.lease_revoke = lease.LeaseGrant, lease.LeaseRevoke
        self._lease_keep_alive = lease.LeaseKeepAlive
        self.status, self.watch = maintenance.Status, etcdrpc.WatchStub(self.channel).Watch

    def lease_keep_alive(self, request: Any, timeout: float, metadata: Any) -> Any:
        """The stream of renewals, used for one: at a renewal every few seconds a lasting stream would only be more to lose."""
        return next(self._lease_keep_alive(iter((request,)), timeout=timeout, metadata=metadata))


class Etcd:
    """An etcd cluster by its members' gRPC targets (`unix:/tmp/knetsim/C0e1/client:0`, `10.1.0.1:2379`)."""

    def __init__(self, targets: Sequence[str], *, deadline: float = DEADLINE) -> None:
        if not targets:
            raise ValueError("an etcd cluster has at least one member")
        self.deadline = deadline
        self._members = [_Member(member_name(target), target) for target in targets]
        self._preferred = 0
        self._leader_sought = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._keeper = _LeaseKeeper(self)

    def close(self) -> None:
        """End all watches, renewals and connections. Leases that were granted run out by themselves unless revoked."""
        self._closed.set()
        self._keeper.close()
        for member in self._members:
            member.channel.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: nothing will be answered any more."""
        return self._closed.is_set()

    # --- reads ----------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Stored | None:
        """The value of a key with its revision, or None."""
        answer = self._call("range", etcdrpc.RangeRequest(key=key.encode()))
        return _stored(answer.kvs)

    def prefix(self, prefix: str, *, stop: threading.Event | None = None) -> tuple[list[Entry], int]:
        """All keys that begin with `prefix`, sorted, and the revision of which this is the state. `stop` gives it up."""
        start = prefix.encode()
        answer = self._call("range", etcdrpc.RangeRequest(key=start, range_end=_prefix_end(start)), stop=stop)
        entries = [Entry(kv.key.decode(), kv.value, kv.mod_revision) for kv in answer.kvs]
        return entries, answer.header.revision

    # --- writes ---------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes | str, *, lease: int = 0) -> int:
        """Set a key, whatever it holds; returns the revision. For values with one writer: it may be written twice."""
        request = etcdrpc.PutRequest(key=key.encode(), value=_as_bytes(value), lease=lease)
        return int(self._call("put", request).header.revision)

    def create(self, key: str, value: bytes | str, *, lease: int = 0) -> int | None:
        """Set a key that does not exist; returns the revision, or None when it exists (with another value)."""
        swap = self.swap(key, _as_bytes(value), 0, lease=lease)
        return swap.revision if swap.done else None

    def compare_and_swap(self, key: str, value: bytes | str, revision: int, *, lease: int = 0) -> int | None:
        """Set a key if its last change is still `revision`; returns the new revision, or None when it changed or is gone."""
        swap = self.swap(key, _as_bytes(value), revision, lease=lease)
        return swap.revision if swap.done else None

    def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Delete a key, if `revision` is given only when that is its last change. Whether it is gone now because of this call
        or because nothing was there any more (False: it has changed, or there was nothing to delete)."""
        if revision is not None:
            return self.swap(key, None, revision).done
        return bool(self._call("delete_range", etcdrpc.DeleteRangeRequest(key=key.encode())).deleted)

    def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with `prefix`; returns how many there were."""
        start = prefix.encode()
        request = etcdrpc.DeleteRangeRequest(key=start, range_end=_prefix_end(start))
        return int(self._call("delete_range", request).deleted)

    def swap(
        self,
        key: str,
        value: bytes | None,
        expected: int,
        *,
        lease: int = 0,
        guards: Mapping[str, int | None] | None = None,
    ) -> Swap:
        """Set `key` (None: delete it) if its last change is still revision `expected` (0: it does not exist) and each guard key stands
        at its revision too (None: just exists), in one transaction and, when refused, with what stands there instead.

        Repeated after a lost answer it recognises its own work: the key holds exactly this value, or is gone as wanted.
        """
        guards = guards or {}
        name = key.encode()
        if value is None:
            write = etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=name))
        else:
            write = etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=name, value=value, lease=lease))
        request = etcdrpc.TxnRequest(
            compare=[_compare(name, expected), *(_compare(guard.encode(), at) for guard, at in guards.items())],
            success=[write],
            failure=[_read(name), *(_read(guard.encode()) for guard in guards)],
        )
        answer, again = self._exchange("txn", request)
        if answer.succeeded:
            return Swap(True, int(answer.header.revision))
        found = [_stored(response.response_range.kvs) for response in answer.responses]
        current = found[0]
        if again and current is None and value is None:
            return Swap(True, int(answer.header.revision))
        if again and current is not None and current.value == value and current.revision > expected:
            return Swap(True, current.revision)
        return Swap(False, int(answer.header.revision), current, dict(zip(guards, found[1:], strict=True)))

    # --- leases ---------------------------------------------------------------------------------------------------------

    def lease_grant(self, seconds: int) -> int:
        """A new lease: keys put under it vanish when it is not renewed for `seconds`. If the answer is lost a second one is made;
        the first has no keys and runs out."""
        return int(self._call("lease_grant", etcdrpc.LeaseGrantRequest(TTL=seconds)).ID)

    def lease_keepalive(self, lease: int) -> int:
        """Renew a lease once; returns the seconds it lives from now. NotFound when it has run out."""
        seconds = int(self._call("lease_keep_alive", etcdrpc.LeaseKeepAliveRequest(ID=lease)).TTL)
        if seconds <= 0:
            raise NotFound("the etcd lease has run out", f"lease {lease:x}")
        return seconds

    def lease_revoke(self, lease: int) -> None:
        """End a lease now: its keys vanish. Fine when it has run out already."""
        self._keeper.forget(lease)
        try:
            self._call("lease_revoke", etcdrpc.LeaseRevokeRequest(ID=lease))
        except NotFound:
            pass  # run out, or revoked by a first attempt whose answer was lost: what was wanted

    def keep_alive(self, lease: int, seconds: int, on_lost: Callable[[int], None] | None = None) -> None:
        """Renew a lease of `seconds` until it is revoked, in one thread for all leases. `on_lost(lease)` when it ran out all the same."""
        self._keeper.keep(lease, seconds, on_lost)

    # --- watch and upkeep -----------------------------------------------------------------------------------------------

    def watch_prefix(self, prefix: str, from_revision: int) -> PrefixWatch:
        """Follow all keys that begin with `prefix`, from the changes of `from_revision` on (a listing's revision + 1)."""
        return PrefixWatch(self._members, prefix, from_revision, self._closed)

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`; fine when it is forgotten already."""
        try:
            self._call("compact", etcdrpc.CompactionRequest(revision=revision))
        except Compacted:
            pass

    def status(self, timeout: float = 1.0) -> list[MemberStatus]:
        """What each member says of itself, in the order of the targets; takes `timeout` seconds at most for each that hangs."""
        return [_member_status(member, timeout) for member in self._members]

    # --- one call, several members --------------------------------------------------------------------------------------

    def _call(self, method: str, request: Any, *, stop: threading.Event | None = None) -> Any:
        """The answer to a request that may be repeated."""
        return self._exchange(method, request, stop)[0]

    def _exchange(self, method: str, request: Any, stop: threading.Event | None = None) -> tuple[Any, bool]:
        """The answer of the first member that gives one, and whether an earlier attempt may have been carried out too."""
        if not self._leader_sought:
            self._prefer_leader()
        end = time.monotonic() + self.deadline
        stop = stop or self._closed
        failures: dict[str, str] = {}
        pause, again = _FIRST_PAUSE, False
        while not (stop.is_set() or self._closed.is_set()):
            index = self._preferred
            member = self._members[index]
            timeout = min(ATTEMPT, end - time.monotonic())
            try:
                answer = getattr(member, method)(request, timeout=max(timeout, 0.1), metadata=_LEADER_REQUIRED)
            except grpc.RpcError as error:
                failures[member.name] = _retriable(error, member)
                again = again or not _certainly_unheard(error)
            except ValueError as error:  # gRPC's way to say that the channel was closed meanwhile
                raise self._unavailable({}) from error
            else:
                if failures:
                    self._prefer_leader()
                return answer, again
            if self._preferred == index:  # else another thread has moved on already
                self._preferred = (index + 1) % len(self._members)
            if time.monotonic() >= end:
                raise self._unavailable(failures)
            if len(failures) >= len(self._members):
                stop.wait(min(pause, max(end - time.monotonic(), 0)))
                pause = min(pause * 2, _LONGEST_PAUSE)
        raise self._unavailable({})

    def _prefer_leader(self) -> None:
        """Ask the members who leads, and that one first from now on; no matter when nobody knows."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is asking
        try:
            self._leader_sought = True
            for index, status in enumerate(self.status(0.5)):
                if status.leader:
                    self._preferred = index
        finally:
            self._lock.release()

    def _unavailable(self, failures: Mapping[str, str]) -> StoreUnavailable:
        total, silent = len(self._members), sorted(name for name, why in failures.items() if why == _SILENT)
        if not failures:
            return StoreUnavailable("etcd is not asked any more", self._where(), "the connection was closed")
        reasons = []
        if silent:
            reasons.append(f"{len(silent)} of {total} members do not answer: {', '.join(silent)}")
        reasons += [f"{name} says: {why}" for name, why in sorted(failures.items()) if why != _SILENT]
        return StoreUnavailable(
            f"etcd did not take the request within {self.deadline:g} s",
            self._where(),
            "; ".join(reasons),
            f"{total // 2 + 1} of {total} members must run and reach each other; nothing that was stored is lost",
        )

    def _where(self) -> str:
        return "etcd " + ", ".join(member.name for member in self._members)


def member_name(target: str) -> str:
    """What messages call a member: the host's name when its socket lies in the host's directory, else the target itself."""
    if target.startswith("unix:"):
        parts = target.removeprefix("unix:").split("/")
        return parts[-2] if len(parts) > 1 and parts[-2] else target
    return target


# --- watching -----------------------------------------------------------------------------------------------------------


class PrefixWatch:
    """An iterator of lists of changes, in order, each change once; moves to another member by itself, as long as it takes.

    Raises Compacted when the history it needs is gone. `close` ends it from any thread.
    """

    def __init__(
        self, members: Sequence[_Member], prefix: str, from_revision: int, client_closed: threading.Event
    ) -> None:
        self._members, self._prefix, self._next_revision = members, prefix, from_revision
        self._client_closed = client_closed
        self._closed = threading.Event()
        self._lock = threading.Lock()  # between `close` and the opening of the next stream
        self._stream: Any = None
        self._index, self._failures, self._pause = 0, 0, _FIRST_PAUSE

    def __iter__(self) -> Iterator[list[KeyChange]]:
        return self

    def __next__(self) -> list[KeyChange]:
        while True:
            try:
                stream = self._stream or self._open()
                if stream is None:
                    raise StopIteration
                answer = next(stream, None)
            except (grpc.RpcError, ValueError):  # ValueError: the channel is closed
                answer = None
            if answer is None:
                self._lose()
            elif changes := self._take(answer):
                return changes

    def close(self) -> None:
        """End the iteration, now and for good."""
        with self._lock:
            self._closed.set()
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def _open(self) -> Any:
        """A stream from the next revision on, or None when the watch is over."""
        start = self._prefix.encode()
        create = etcdrpc.WatchCreateRequest(key=start, range_end=_prefix_end(start), start_revision=self._next_revision)
        with self._lock:
            if self._closed.is_set() or self._client_closed.is_set():
                return None
            # The one request, and then this side is done: etcd keeps telling, and gRPC needs no thread to wait for more.
            request = iter((etcdrpc.WatchRequest(create_request=create),))
            self._stream = self._members[self._index].watch(request, metadata=_LEADER_REQUIRED)
            return self._stream

    def _lose(self) -> None:
        """The stream has ended: go on with the next member, after a pause once all have failed in a row."""
        self._stream = None
        self._index = (self._index + 1) % len(self._members)
        self._failures += 1
        if self._failures >= len(self._members):
            self._closed.wait(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _take(self, answer: Any) -> list[KeyChange]:
        if answer.compact_revision:
            self.close()
            raise Compacted(self._prefix, int(answer.compact_revision))
        if answer.canceled:
            self._lose()
            return []
        self._failures, self._pause = 0, _FIRST_PAUSE
        changes = [
            KeyChange(event.kv.key.decode(), event.kv.value if event.type == 0 else None, event.kv.mod_revision)
            for event in answer.events
            if event.kv.mod_revision >= self._next_revision
        ]
        if changes:
            # Not the answer's own revision: while etcd catches up with the past, that is ahead of what it has told.
            # One revision's changes always come in one answer.
            self._next_revision = changes[-1].revision + 1
        return changes


# --- leases -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    seconds: int
    due: float
    ends: float
    on_lost: Callable[[int], None] | None


class _LeaseKeeper:
    """Renews leases at a third of their time, in one thread that runs only while there is a lease to keep."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._wake = threading.Condition()
        self._leases: dict[int, _Kept] = {}
        self._thread: threading.Thread | None = None

    def keep(self, lease: int, seconds: int, on_lost: Callable[[int], None] | None) -> None:
        now = time.monotonic()
        with self._wake:
            self._leases[lease] = _Kept(seconds, now + seconds / 3, now + seconds, on_lost)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="etcd leases", daemon=True)
                self._thread.start()
            self._wake.notify()

    def forget(self, lease: int) -> None:
        with self._wake:
            self._leases.pop(lease, None)

    def close(self) -> None:
        with self._wake:
            self._leases.clear()
            self._wake.notify()

    def _run(self) -> None:
        while (lease := self._next_due()) is not None:
            self._renew(lease)

    def _next_due(self) -> int | None:
        """Waits for the first lease that is due; None, and no thread any more, when none is left."""
        with self._wake:
            while self._leases:
                lease, kept = min(self._leases.items(), key=lambda item: item[1].due)
                pause = kept.due - time.monotonic()
                if pause <= 0:
                    return lease
                self._wake.wait(pause)
            self._thread = None
            return None

    def _renew(self, lease: int) -> None:
        lost = False
        try:
            seconds = self._etcd.lease_keepalive(lease)
        except NotFound:
            lost = True
        except StoreUnavailable:
            seconds = 0  # etcd without a leader ends no lease, so it is worth trying again and again
        with self._wake:
            kept = self._leases.get(lease)
            if kept is None:
                return
            now = time.monotonic()
            if lost:
                del self._leases[lease]
            elif seconds:
                kept.due, kept.ends = now + seconds / 3, now + seconds
            else:
                kept.due = now + min(1.0, kept.seconds / 10)
        if lost and kept.on_lost is not None:
            kept.on_lost(lease)


# --- the wire -----------------------------------------------------------------------------------------------------------

_SILENT = "no answer"


def _retriable(error: grpc.RpcError, member: _Member) -> str:
    """Why another member should be asked (`_SILENT`: this one does not answer); raises what no member would answer otherwise."""
    code, details = error.code(), error.details() or ""
    text = details.removeprefix("etcdserver: ")
    if code == grpc.StatusCode.OUT_OF_RANGE and "compacted" in text:
        raise Compacted(member.name, 0) from error
    if code == grpc.StatusCode.NOT_FOUND:
        raise NotFound(text, member.name) from error
    if "too large" in text or "larger than max" in text:
        raise ObjectError("too large for etcd", member.name, text, "etcd takes 1.5 MiB at most") from error
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE):
        raise KnetsimError("etcd refused the request", member.name, text) from error
    if not details.startswith("etcdserver: ") and code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    ):
        return _SILENT
    return text or code.name


def _certainly_unheard(error: grpc.RpcError) -> bool:
    """Whether the request was refused before anything was done with it: never sent, or stopped at etcd's door."""
    details = error.details() or ""
    return details.startswith("failed to connect") or details == "etcdserver: no leader"


def _member_status(member: _Member, timeout: float) -> MemberStatus:
    try:
        answer = member.status(etcdrpc.StatusRequest(), timeout=timeout)
    except (grpc.RpcError, ValueError) as error:
        why = error.details() if isinstance(error, grpc.RpcError) else "closed"
        return MemberStatus(member.name, member.target, error=why or "no answer")
    return MemberStatus(
        member.name,
        member.target,
        error="" if answer.leader else "no leader",
        version=answer.version,
        leader=answer.leader == answer.header.member_id,
        revision=answer.header.revision,
        raft_term=answer.raftTerm,
        database_bytes=answer.dbSize,
    )


def _compare(key: bytes, revision: int | None) -> Any:
    if revision is None:
        return etcdrpc.Compare(
            key=key, target=etcdrpc.Compare.CREATE, result=etcdrpc.Compare.GREATER, create_revision=0
        )
    return etcdrpc.Compare(key=key, target=etcdrpc.Compare.MOD, result=etcdrpc.Compare.EQUAL, mod_revision=revision)


def _read(key: bytes) -> Any:
    return etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key))


def _stored(kvs: Iterable[Any]) -> Stored | None:
    for kv in kvs:
        return Stored(kv.value, kv.mod_revision, kv.lease)
    return None


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix` (etcd's convention; a byte 0xff cannot end UTF-8 text)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))

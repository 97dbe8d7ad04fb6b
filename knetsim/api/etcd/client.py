"""Calls to an etcd cluster, and which member gets them. What is promised stands in the package's docstring."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from etcd3 import etcdrpc

from knetsim.api.etcd.leases import LeaseKeeper, LostFunction
from knetsim.api.etcd.members import (
    LEADER_REQUIRED,
    SILENT,
    Compacted,
    Member,
    MemberStatus,
    explain_failure,
    is_certainly_unheard,
    read_status,
)
from knetsim.api.etcd.watch import FIRST_PAUSE, LONGEST_PAUSE, PrefixWatch, prefix_end
from knetsim.errors import NotFound, StoreUnavailable

#: seconds a call may take with all its repetitions: longer than an election of a new leader (1 to 2 s)
DEADLINE = 6.0
#: seconds one member may take to answer before the next is asked, the first time; then twice as long, and so on. A
#: follower whose leader has died takes a write and answers never, so this is also what a killed leader costs.
ATTEMPT = 1.0
#: keys in one answer of a listing, as client-go has it
PAGE = 500


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


class Swap(NamedTuple):
    """How a conditional write ended. When not `done`: what stands at the key (`current`) and at the guards now."""

    done: bool
    revision: int
    current: Stored | None = None
    guards: Mapping[str, Stored | None] = {}


class Etcd:
    """An etcd cluster by its members' gRPC targets (`unix:/tmp/knetsim/C0e1/client:0`, `10.1.0.1:2379`).

    A call takes `deadline` seconds at most and then raises StoreUnavailable.
    """

    def __init__(self, targets: Sequence[str], *, deadline: float = DEADLINE) -> None:
        if not targets:
            raise ValueError("an etcd cluster has at least one member")
        self.deadline = deadline
        self._members = [Member(target) for target in targets]
        self._preferred = 0
        self._asked_for_leader = False
        self._asking = threading.Lock()
        self._closed = threading.Event()
        self._keeper = LeaseKeeper(self.lease_keepalive)

    def close(self) -> None:
        """End all watches, renewals and connections. Leases that were granted run out by themselves unless revoked."""
        self._closed.set()
        self._keeper.close()
        for member in self._members:
            member.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: nothing will be answered any more."""
        return self._closed.is_set()

    # --- reads --------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Stored | None:
        """The value of a key with its revision, or None."""
        return _stored(self._call("range", etcdrpc.RangeRequest(key=key.encode())).kvs)

    def prefix(self, prefix: str, *, stop: threading.Event | None = None) -> tuple[list[Entry], int]:
        """All keys that begin with `prefix`, sorted, and the revision whose state this is. `stop` gives it up."""
        while True:
            try:
                return self._pages(prefix.encode(), stop)
            except Compacted:
                continue  # between two pages, by a hair; begin again at the present revision

    def _pages(self, start: bytes, stop: threading.Event | None) -> tuple[list[Entry], int]:
        """A listing in pieces, none of which takes long, all of the first one's revision."""
        end, revision = prefix_end(start), 0
        entries: list[Entry] = []
        while True:
            request = etcdrpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            answer = self._call("range", request, stop)
            revision = revision or int(answer.header.revision)
            entries += [Entry(kv.key.decode(), kv.value, kv.mod_revision) for kv in answer.kvs]
            if not answer.more:
                return entries, revision
            start = answer.kvs[-1].key + b"\0"

    # --- writes -------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes | str, *, lease: int = 0) -> int:
        """Set a key, whatever it holds; returns the revision. For keys with one writer: it may be written twice."""
        request = etcdrpc.PutRequest(key=key.encode(), value=_as_bytes(value), lease=lease)
        return int(self._call("put", request).header.revision)

    def create(self, key: str, value: bytes | str, *, lease: int = 0) -> int | None:
        """Set a key that does not exist; returns the revision, or None when it exists."""
        swap = self.swap(key, _as_bytes(value), 0, lease=lease)
        return swap.revision if swap.done else None

    def compare_and_swap(self, key: str, value: bytes | str, revision: int, *, lease: int = 0) -> int | None:
        """Set a key if its last change is still `revision`; returns the new revision, or None when it is not."""
        swap = self.swap(key, _as_bytes(value), revision, lease=lease)
        return swap.revision if swap.done else None

    def delete(self, key: str, *, revision: int | None = None) -> bool:
        """Delete a key, when `revision` is given only if that is its last change; whether there was one to delete.

        After a lost answer that may be unknown: then False without a revision, True with one.
        """
        if revision is not None:
            return self.swap(key, None, revision).done
        return bool(self._call("delete_range", etcdrpc.DeleteRangeRequest(key=key.encode())).deleted)

    def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with `prefix`; returns how many there were."""
        start = prefix.encode()
        request = etcdrpc.DeleteRangeRequest(key=start, range_end=prefix_end(start))
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
        """Set `key` (None: delete it) if its last change is still revision `expected` (0: it does not exist) and each
        guard key stands at its revision too (None: it exists); in one transaction, which else tells what stands there.

        A repetition after a lost answer recognises its own work: the key holds this very value, or is gone as wanted.
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
        answer, again = self._exchange("txn", request, None)
        revision = int(answer.header.revision)
        if answer.succeeded:
            return Swap(True, revision)
        found = [_stored(response.response_range.kvs) for response in answer.responses]
        current = found[0]
        if again and current is None and value is None:
            return Swap(True, revision)
        if again and current is not None and current.value == value and current.revision > expected:
            return Swap(True, current.revision)
        return Swap(False, revision, current, dict(zip(guards, found[1:], strict=True)))

    # --- leases -------------------------------------------------------------------------------------------------------

    def lease_grant(self, seconds: int) -> int:
        """A new lease: keys put under it vanish when it is not renewed for `seconds`.

        When the answer is lost a second one is made; the first has no keys and runs out.
        """
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

    def keep_alive(self, lease: int, seconds: int, on_lost: LostFunction | None = None) -> None:
        """Renew a lease of `seconds` until it is revoked, by one thread for all; `on_lost(lease)`: it ran out."""
        self._keeper.keep(lease, seconds, on_lost)

    # --- watch and upkeep ---------------------------------------------------------------------------------------------

    def watch_prefix(self, prefix: str, from_revision: int) -> PrefixWatch:
        """Follow all keys that begin with `prefix`, from `from_revision` on (a listing's revision + 1)."""
        return PrefixWatch(self._members, self._preferred, prefix, from_revision, self._closed)

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`; fine when it is forgotten already."""
        try:
            self._call("compact", etcdrpc.CompactionRequest(revision=revision))
        except Compacted:
            pass

    def status(self, timeout: float = 1.0) -> list[MemberStatus]:
        """What each member says of itself, in the order of the targets; `timeout` seconds at most for all."""
        return read_status(self._members, timeout)

    # --- one call, several members ------------------------------------------------------------------------------------

    def _call(self, method: str, request: Any, stop: threading.Event | None = None) -> Any:
        """The answer to a request that may be repeated."""
        return self._exchange(method, request, stop)[0]

    def _exchange(self, method: str, request: Any, stop: threading.Event | None) -> tuple[Any, bool]:
        """The answer of the first member that gives one, and whether an earlier attempt may have been heard too."""
        if not self._asked_for_leader:
            self._prefer_leader()
        end = time.monotonic() + self.deadline
        failures: dict[str, str] = {}
        attempt, pause, heard = ATTEMPT, FIRST_PAUSE, False
        while not (self._closed.is_set() or (stop is not None and stop.is_set())):
            index = self._preferred
            member = self._members[index]
            timeout = max(min(attempt, end - time.monotonic()), 0.1)
            try:
                answer = getattr(member, method)(request, timeout=timeout, metadata=LEADER_REQUIRED)
            except grpc.RpcError as error:
                failures[member.name] = explain_failure(error, member)
                heard = heard or not is_certainly_unheard(error)
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    attempt *= 2  # perhaps it is only slow
            except ValueError:  # gRPC's way to say that the channel was closed meanwhile
                break
            else:
                if failures:
                    self._prefer_leader()
                return answer, heard
            if self._preferred == index:  # else another thread has moved on already
                self._preferred = (index + 1) % len(self._members)
            if time.monotonic() >= end:
                raise self._unavailable(failures)
            if len(failures) == len(self._members):
                (stop or self._closed).wait(min(pause, max(end - time.monotonic(), 0.0)))
                pause = min(pause * 2, LONGEST_PAUSE)
        raise StoreUnavailable("etcd is not asked any more", self._where(), "the connection was closed")

    def _prefer_leader(self) -> None:
        """Ask who leads, and ask that member first from now on; when nobody knows, any will do."""
        if not self._asking.acquire(blocking=False):
            return  # another thread is at it
        try:
            self._asked_for_leader = True
            for index, status in enumerate(self.status(0.5)):
                if status.leader:
                    self._preferred = index
        finally:
            self._asking.release()

    def _unavailable(self, failures: Mapping[str, str]) -> StoreUnavailable:
        total = len(self._members)
        silent = sorted(name for name, why in failures.items() if why == SILENT)
        reasons = [f"{len(silent)} of {total} members do not answer: {', '.join(silent)}"] if silent else []
        reasons += [f"{name} says: {why}" for name, why in sorted(failures.items()) if why != SILENT]
        return StoreUnavailable(
            f"etcd did not take the request within {self.deadline:g} s",
            self._where(),
            "; ".join(reasons),
            f"{total // 2 + 1} of {total} members must run and reach each other; nothing that was stored is lost",
        )

    def _where(self) -> str:
        return "etcd " + ", ".join(member.name for member in self._members)


# --- the wire ---------------------------------------------------------------------------------------------------------


def _compare(key: bytes, revision: int | None) -> Any:
    compare = etcdrpc.Compare
    if revision is None:
        return compare(key=key, target=compare.CREATE, result=compare.GREATER, create_revision=0)
    return compare(key=key, target=compare.MOD, result=compare.EQUAL, mod_revision=revision)


def _read(key: bytes) -> Any:
    return etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key))


def _stored(kvs: Sequence[Any]) -> Stored | None:
    return Stored(kvs[0].value, kvs[0].mod_revision, kvs[0].lease) if kvs else None


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value

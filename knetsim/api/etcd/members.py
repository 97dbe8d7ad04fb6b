"""One member of an etcd cluster: how it is reached, what it says of itself, what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from etcd3 import etcdrpc

from knetsim.errors import KnetsimError, NotFound, ObjectError

# A connection that is being made gets on only while somebody waits for an answer on that channel, or at this interval,
# and while it failed the last time nobody waits: calls fail at once. Unless told, before its first channel, gRPC looks
# every 5 s: a member that had accepted connections before it was ready to serve them came back seconds late.
os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "100")

#: gRPC metadata that has a member refuse what it could not decide: it is cut off, or an election is going on
LEADER_REQUIRED = (("hasleader", "true"),)
#: why another member is asked: this one does not answer
SILENT: Final = "no answer"

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A member that comes back is used within half a second; gRPC's own back-off would grow to two minutes. The smallest
    # back-off is also how long one attempt to connect may take (20 s unless said).
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A member that hangs, or whose host vanished without closing the connection, ends its watches after 9 s.
    # etcd closes connections that ping more often than every 5 s.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Ten thousand pods are one answer of 15 MB; etcd itself bounds requests (1.5 MiB).
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The members are neighbours: a proxy from the environment must not be asked for them.
    ("grpc.enable_http_proxy", 0),
    # Connections, and the back-off after a failed one, are this client's own, not shared by target in the whole
    # process.
    ("grpc.use_local_subchannel_pool", 1),
)


class Compacted(KnetsimError):
    """The history from the wanted revision on is gone; list again and watch from there. `revision`: the oldest kept."""

    def __init__(self, where: str, revision: int = 0) -> None:
        self.revision = revision
        why = f"history begins at revision {revision}" if revision else ""
        super().__init__("etcd has compacted the wanted revision", where, why)


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


class Member:
    """One member: its gRPC channel, and its calls as functions (request, timeout=, metadata=) → answer."""

    def __init__(self, target: str) -> None:
        self.name, self.target = member_name(target), target
        self._channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        kv, lease = etcdrpc.KVStub(self._channel), etcdrpc.LeaseStub(self._channel)
        self.range, self.put, self.delete_range = kv.Range, kv.Put, kv.DeleteRange
        self.txn, self.compact = kv.Txn, kv.Compact
        self.lease_grant, self.lease_revoke = lease.LeaseGrant, lease.LeaseRevoke
        self._lease_keep_alive = lease.LeaseKeepAlive
        self.watch = etcdrpc.WatchStub(self._channel).Watch
        self.status = etcdrpc.MaintenanceStub(self._channel).Status

    def lease_keep_alive(self, request: Any, timeout: float, metadata: Any) -> Any:
        """The stream of renewals, used for one: with seconds between two, a lasting stream is only more to lose."""
        return next(self._lease_keep_alive(iter((request,)), timeout=timeout, metadata=metadata))

    def close(self) -> None:
        """End the connection and what runs over it."""
        self._channel.close()


def member_name(target: str) -> str:
    """What messages call a member: the directory of its socket, named after the host, or else the target itself."""
    path, slash, _ = target.removeprefix("unix:").rpartition("/")
    return path.rpartition("/")[2] if slash and target.startswith("unix:") else target


def read_status(members: Sequence[Member], timeout: float) -> list[MemberStatus]:
    """What each member says of itself, all asked at once; `timeout` seconds at most."""
    try:
        calls = [member.status.future(etcdrpc.StatusRequest(), timeout=timeout) for member in members]
    except ValueError:  # gRPC's way to say that the channel was closed
        return [MemberStatus(member.name, member.target, error="closed") for member in members]
    return [_status(member, call) for member, call in zip(members, calls, strict=True)]


def _status(member: Member, call: Any) -> MemberStatus:
    try:
        answer = call.result()
    except grpc.RpcError as error:
        return MemberStatus(member.name, member.target, error=error.details() or SILENT)
    except grpc.FutureCancelledError:  # the client is being closed
        return MemberStatus(member.name, member.target, error="closed")
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


# --- what an error means ----------------------------------------------------------------------------------------------

_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE)
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def explain_failure(error: grpc.RpcError, member: Member) -> str:
    """Why another member should be asked (SILENT: this one is away); raises what every member would answer alike.

    etcd's errors are gRPC codes with a text that begins with `etcdserver: ` (api/v3rpc/rpctypes/error.go); a text
    without it is gRPC's own: the connection failed or the time was up.
    """
    code, details = error.code(), error.details() or ""
    text = details.removeprefix("etcdserver: ")
    if "compacted" in text:
        raise Compacted(member.name) from error
    if code == grpc.StatusCode.NOT_FOUND:
        raise NotFound(text, member.name) from error
    if "too large" in text or "larger than max" in text:
        raise ObjectError("is too large", member.name, text, "etcd stores at most 1.5 MiB in one request") from error
    if code in _REFUSED:
        raise KnetsimError("etcd refused the request", member.name, text) from error
    if code in _LOST and not details.startswith("etcdserver: "):
        return SILENT
    return text or code.name


def is_certainly_unheard(error: grpc.RpcError) -> bool:
    """Whether nothing can have been done with the request: it was never sent, or stopped at etcd's door."""
    details = error.details() or ""
    return details.startswith("failed to connect") or details == "etcdserver: no leader"

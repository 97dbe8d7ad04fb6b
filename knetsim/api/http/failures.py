"""An answer that says no, as one of our errors: by HTTP code, `reason` and `causes` of Kubernetes' Status object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.http.connection import Answer
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, ObjectError, StoreUnavailable

#: answers that another attempt may better: too busy, or not well
TRY_AGAIN = frozenset((429, 500, 502, 503, 504))
_GONE = 410
_TOO_LARGE = 413

#: reasons by which an object (or what is asked of it) is refused
_REFUSED = frozenset(
    ("Invalid", "BadRequest", "Forbidden", "MethodNotAllowed", "NotAcceptable", "UnsupportedMediaType")
)


class Expired(KnetsimError):
    """The history from the wanted revision on is gone; list again and watch from there."""


class Unserved(StoreUnavailable):
    """A kind that knetsim defines is not served: its definition is not there, or has just been written."""


def status_of(answer: Answer) -> Mapping[str, Any]:
    """The Status object of an answer that says no, or an empty one."""
    body = answer.json
    return body if isinstance(body, Mapping) and body.get("kind") == "Status" else {}


def is_ok(answer: Answer) -> bool:
    """Whether it says yes."""
    return 200 <= answer.code < 300


def is_unserved(answer: Answer) -> bool:
    """Whether nothing at all is at this path: a kind that is not defined, or is not served yet."""
    return answer.code == 404 and not status_of(answer)


def words_of(answer: Answer) -> str:
    """What it says, for a human: the message, or the beginning of the body."""
    text = status_of(answer).get("message") or answer.body[:200].decode(errors="replace").strip()
    return f"{answer.code}: {text}" if text else f"HTTP {answer.code}"


def error_of(answer: Answer, where: str) -> KnetsimError:
    """The error that an answer stands for; `where` names the object: `Pod default/c1`."""
    return status_error(status_of(answer), answer.code, where, words_of(answer))


def status_error(status: Mapping[str, Any], code: int, where: str, words: str = "") -> KnetsimError:
    """The error that a Status object, or the code when there is none, stands for."""
    reason, message = status.get("reason") or "", status.get("message") or words
    if reason == "NotFound" or (not reason and code == 404):
        return NotFound("does not exist", where)
    if reason == "AlreadyExists":
        return AlreadyExists("exists already", where, hint="delete it first, or take another name")
    if reason == "Conflict":
        return Conflict("somebody else has changed it", where, message, "read it again and change that")
    if reason in ("Expired", "Gone") or code == _GONE:
        return Expired("the API server does not keep the wanted history any more", where, message)
    if reason == "RequestEntityTooLarge" or code == _TOO_LARGE:
        return ObjectError("is too large", where, message, "etcd stores at most 1.5 MiB in one request")
    if reason == "Unauthorized" or code == 401:
        return KnetsimError("the API server does not know who asks", where, message, "is the certificate of its CA?")
    if reason in _REFUSED or (400 <= code < 500 and code not in TRY_AGAIN):
        return _refused(status, message, where)
    return StoreUnavailable("the API server cannot answer", where, message, "trying again later may work")


def refusal_of(answer: Answer, where: str) -> ObjectError:
    """An answer that stands for a refused object, whatever its code."""
    return _refused(status_of(answer), words_of(answer), where)


def causes_of(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The mistakes that the server found, as (field, what)."""
    causes = (status.get("details") or {}).get("causes") or ()
    return [(cause.get("field") or "", cause.get("message") or "") for cause in causes]


def has_cause(status: Mapping[str, Any], reason: str) -> bool:
    """Whether one of the causes has this reason: `NamespaceTerminating`."""
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == reason for cause in causes)


def _refused(status: Mapping[str, Any], words: str, where: str) -> ObjectError:
    message = status.get("message") or words
    problems = [(field, text) for field, text in causes_of(status) if field]
    count = len(problems)
    return ObjectError(
        "is refused" if count < 2 else f"is refused for {count} mistakes",
        where,
        "; ".join(f"{field}: {text}" for field, text in problems) or message,
        field=problems[0][0] if problems else "",
        problems=problems or [("", message)],
    )

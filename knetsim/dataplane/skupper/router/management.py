"""`$management`: what skstat and skmanage ask, and change, while the router runs (AMQP Management, working draft 9)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from knetsim.dataplane.skupper.router import inventory
from knetsim.dataplane.skupper.router.addresses import read_address
from knetsim.dataplane.skupper.router.codec import Symbol
from knetsim.dataplane.skupper.router.config import Section, check_section
from knetsim.dataplane.skupper.router.errors import ConfigError, DecodeError, RequestError, RouterError
from knetsim.dataplane.skupper.router.message import Annotations, Head, Properties, build_message, read_body
from knetsim.dataplane.skupper.router.schema import ENTITIES, PREFIX, describe_entities
from knetsim.dataplane.skupper.router.streams import ACCEPTED, REJECTED, Incoming

if TYPE_CHECKING:
    from knetsim.dataplane.skupper.router.router import Router

_LOG = logging.getLogger("AGENT")
_AGENT = "org.amqp.management"
_WORDS = {200: "OK", 201: "Created", 204: "No Content"}
#: what is the agent's own: operation → what it lists
_LISTS = ("QUERY", "GET-TYPES", "GET-ATTRIBUTES", "GET-OPERATIONS", "GET-MGMT-NODES", "GET-LOG", "GET-SCHEMA")

Answer = tuple[int, Any]


class Management:
    """The agent of one router; it takes messages to `$management`."""

    def __init__(self, router: Router) -> None:
        self.router = router
        router.core.own["$management"] = self.take

    def take(self, incoming: Incoming) -> None:
        """A request, from a client of this router or of another one."""
        head, octets = incoming.head, bytes(incoming.octets)
        assert head is not None
        if not head.properties.reply_to:
            return incoming.settle(REJECTED)
        incoming.settle(ACCEPTED)
        try:
            status, body = self.answer(head.application, read_body(octets, head))
            words = _WORDS[status]
        except RequestError as error:
            status, body, words = error.status, {}, str(error)
            _LOG.info("management: %s %s: %s", head.application.get("operation"), status, words)
        except DecodeError as error:
            status, body, words = 400, {}, str(error)
        return self._reply(head, status, words, body)

    def answer(self, application: Mapping[Any, Any], body: Any) -> Answer:
        """Status and body for a request. RequestError."""
        operation = str(application.get("operation") or "").upper()
        if operation in _LISTS:
            return 200, self._list(operation, application, body)
        change = _OPERATIONS.get(operation)
        if change is None:
            raise RequestError(501, f"there is no operation {operation!r} here")
        if body is not None and not isinstance(body, dict):
            raise RequestError(400, "a map was expected as body")
        attributes = {str(key): value for key, value in (body or {}).items()}
        asked = {key: application.get(key) or attributes.get(key) for key in ("type", "name", "identity")}
        return change(self, {key: str(value) for key, value in asked.items() if value is not None}, attributes)

    def _reply(self, head: Head, status: int, words: str, body: Any) -> None:
        core = self.router.core
        to, correlation = head.properties.reply_to or "", head.properties.correlation
        if correlation is None:
            correlation = head.properties.message_id
        properties = Properties(to=to, correlation=correlation)
        application = {"statusCode": status, "statusDescription": words}
        own = f"0/{core.router}"
        octets = build_message(Annotations(ingress=own, trace=(own,)), properties, application, _plain(body))
        target = read_address(to)
        if target.router == core.router:
            core.answer_own(target.text, octets)
        elif not core.send(target.router, octets):
            _LOG.warning("management: there is no way to %s for an answer", to)

    # --- lists --------------------------------------------------------------------------------------------------------

    def _list(self, operation: str, application: Mapping[Any, Any], body: Any) -> Any:
        if operation == "GET-MGMT-NODES":
            return self._nodes()
        if operation == "GET-LOG":
            return self.router.recent_log(_number(application.get("limit"), 100))
        if operation == "GET-SCHEMA":
            return {"prefix": PREFIX.rstrip("."), "entityTypes": describe_entities()}
        kinds = self._kinds(application.get("entityType"))
        if operation == "QUERY":
            return self._query(kinds, application, body)
        return {_full(kind): _describe(operation, self.router, kind) for kind in kinds}

    def _nodes(self) -> list[str]:
        routers = [self.router.name, *sorted(self.router.core.topology.routes.next_hops)]
        return [f"amqp:/_topo/0/{name}/$management" for name in routers]

    @staticmethod
    def _kinds(asked: Any) -> list[str]:
        if not asked:
            return list(inventory.kinds())
        return [_short(str(asked))]

    def _query(self, kinds: list[str], application: Mapping[Any, Any], body: Any) -> dict[str, Any]:
        rows = [row for kind in kinds for row in inventory.read_rows(self.router, kind)]
        wanted = body.get("attributeNames") if isinstance(body, dict) else None
        if wanted is not None and not isinstance(wanted, list):
            raise RequestError(400, "attributeNames: a list was expected")
        names = [str(name) for name in wanted] if wanted else _names_of(rows, kinds)
        first = _number(application.get("offset"), 0)
        last = first + _number(application.get("count"), len(rows))
        return {"attributeNames": names, "results": [[row.get(name) for name in names] for row in rows[first:last]]}

    # --- single entities ----------------------------------------------------------------------------------------------

    def _read(self, asked: Mapping[str, str], _attributes: Mapping[str, Any]) -> Answer:
        return 200, self._find(asked)

    def _find(self, asked: Mapping[str, str]) -> dict[str, Any]:
        kinds = self._kinds(asked.get("type"))
        key = "identity" if "identity" in asked else "name"
        if key not in asked:
            raise RequestError(400, "an identity or a name is needed")
        for kind in kinds:
            for row in inventory.read_rows(self.router, kind):
                if row[key] == asked[key]:
                    return row
        raise RequestError(404, f"there is no {asked.get('type', 'entity')} of {key} {asked[key]!r}")

    def _create(self, asked: Mapping[str, str], attributes: Mapping[str, Any]) -> Answer:
        entity = self._changeable(asked, "CREATE")
        given = {key: value for key, value in attributes.items() if key not in ("type", "identity")}
        if "name" in asked:
            given["name"] = asked["name"]
        try:
            section = check_section(entity, given, self.router.sections)
            self.router.add(section)
        except ConfigError as error:
            raise RequestError(400, "; ".join(error.problems)) from error
        except RouterError as error:
            raise RequestError(400, str(error)) from error
        return 201, self._find({"type": asked["type"], "name": section.name})

    def _update(self, asked: Mapping[str, str], attributes: Mapping[str, Any]) -> Answer:
        entity = self._changeable(asked, "UPDATE")
        section = self._section(entity, asked)
        given = {key: value for key, value in attributes.items() if key not in ("type", "identity", "name")}
        for key, value in given.items():
            if key not in ENTITIES[entity].changeable and section.attributes.get(key, value) != value:
                raise RequestError(400, f"{entity} '{section.name}': attribute '{key}' cannot be changed")
        others = [one for one in self.router.sections if one is not section]
        kept = {key: value for key, value in section.attributes.items() if value is not None}
        try:
            self.router.change(section, check_section(entity, kept | given, others))
        except ConfigError as error:
            raise RequestError(400, "; ".join(error.problems)) from error
        return 200, self._find(asked)

    def _delete(self, asked: Mapping[str, str], _attributes: Mapping[str, Any]) -> Answer:
        entity = self._changeable(asked, "DELETE")
        section = self._section(entity, asked)
        users = [one for one in self.router.sections if one.attributes.get("sslProfile") == section.name]
        if entity == "sslProfile" and users:
            used = f"{users[0].entity} '{users[0].name}'"
            raise RequestError(400, f"sslProfile '{section.name}': {used} needs it")
        self.router.remove(section)
        return 204, {}

    def _changeable(self, asked: Mapping[str, str], operation: str) -> str:
        """The configuration's name of what is asked for."""
        if "type" not in asked:
            raise RequestError(400, "a type is needed")
        entity = inventory.entity_of(_short(asked["type"]))
        if entity is None or operation not in ENTITIES[entity].operations:
            raise RequestError(501 if entity is None else 403, f"{asked['type']}: no {operation}")
        return entity

    def _section(self, entity: str, asked: Mapping[str, str]) -> Section:
        name = self._find(asked)["name"]
        return next(one for one in self.router.sections if one.entity == entity and one.name == name)


_OPERATIONS: Mapping[str, Callable[[Management, Mapping[str, str], Mapping[str, Any]], Answer]] = {
    "READ": Management._read,
    "CREATE": Management._create,
    "UPDATE": Management._update,
    "DELETE": Management._delete,
}


def _full(kind: str) -> str:
    return _AGENT if kind == "management" else PREFIX + kind


def _short(kind: str) -> str:
    """A kind as this router calls it. RequestError if it has none."""
    short = "management" if kind == _AGENT else kind.removeprefix(PREFIX)
    if short not in inventory.kinds():
        raise RequestError(404, f"there is no entity type {kind!r}")
    return short


def _describe(operation: str, router: Router, kind: str) -> list[str]:
    entity = inventory.entity_of(kind)
    if operation == "GET-ATTRIBUTES":
        return _names_of(inventory.read_rows(router, kind), [kind])
    if operation == "GET-OPERATIONS":
        return ["READ", *(ENTITIES[entity].operations if entity else ())]
    return [f"{PREFIX}{'configurationEntity' if entity else 'operationalEntity'}", f"{PREFIX}entity"]


def _names_of(rows: list[dict[str, Any]], kinds: list[str]) -> list[str]:
    """All attributes that the rows have; of a kind without rows, those that can be configured."""
    names = dict.fromkeys(["type", "name", "identity"])
    for kind in kinds:
        entity = inventory.entity_of(kind)
        names |= dict.fromkeys(ENTITIES[entity].attributes if entity else ())
    for row in rows:
        names |= dict.fromkeys(row)
    return list(names)


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _plain(value: Any) -> Any:
    """Without types that AMQP does not have."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(element) for element in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return str(value) if isinstance(value, str) and not isinstance(value, Symbol) else value
    return str(value)

"""A running router asked, and changed, by AMQP Management: skrouterd and the embedded router in the same words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from knetsim.dataplane.skupper.amqp_client import AmqpRequests, ConnectionLost, Dial
from knetsim.dataplane.skupper.router.errors import RouterError
from knetsim.dataplane.skupper.router.message import Properties, build_message, read_body, read_head
from knetsim.errors import NotReady, RouterRefusal

_PREFIX = "io.skupper.router."
#: rows of one answer, as skmanage asks for them
_PAGE = 500


class ManagementClient:
    """One AMQP connection to one router, made when it is first used, and again after it was lost; for one thread.

    Every method raises NotReady when the router does not answer, and RouterRefusal when it does not want to.
    """

    def __init__(self, name: str, dial: Dial, timeout: float = 5.0) -> None:
        """`name` is the router's in errors, `dial` connects to a listener of its within so many seconds, or raises
        OSError; a socket of TLS shows the router a certificate. `timeout`: seconds for a request and its answer."""
        self.name, self._dial, self._timeout = name, dial, timeout
        self._connection: AmqpRequests | None = None
        self._numbers = itertools.count(1)

    def query(self, entity: str, attributes: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All entities of a kind, as `connection` or `router.node`, with these attributes or all that they have."""
        rows: list[dict[str, Any]] = []
        asked = {"operation": "QUERY", "type": "org.amqp.management", "name": "self", "entityType": _PREFIX + entity}
        while True:
            page = {"offset": len(rows), "count": _PAGE}
            body = self._ask(f"{entity} cannot be listed", asked | page, {"attributeNames": list(attributes)})
            try:
                names, results = body["attributeNames"], body["results"]
                rows += [{str(key): value for key, value in zip(names, row, strict=True)} for row in results]
            except (TypeError, KeyError, ValueError) as error:
                raise self._is_silent("its answer makes no sense") from error
            if len(results) < _PAGE:
                return rows

    def create(self, entity: str, name: str, attributes: Mapping[str, Any]) -> None:
        """One more entity."""
        asked = {"operation": "CREATE", "type": _PREFIX + entity, "name": name}
        self._ask(f"{entity} '{name}' cannot be created", asked, dict(attributes))

    def delete(self, entity: str, name: str) -> None:
        """One entity less."""
        asked = {"operation": "DELETE", "type": _PREFIX + entity, "name": name}
        self._ask(f"{entity} '{name}' cannot be deleted", asked, {})

    @property
    def version(self) -> str:
        """What the router says it is: its version, empty when it did not say or was not asked anything yet."""
        return self._connection.version if self._connection else ""

    def close(self) -> None:
        """End the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, failure: str, application: Mapping[str, Any], body: Any) -> Any:
        number = str(next(self._numbers))
        try:
            connection = self._connected()
            properties = Properties(to="$management", reply_to=connection.reply_to, correlation=number)
            answer = connection.request(build_message(None, properties, application, body), self._timeout)
            head = read_head(answer, complete=True)
            said = read_body(answer, head)
        except ConnectionLost as error:
            self.close()
            raise self._is_silent(str(error)) from error
        except RouterError as error:
            self.close()
            raise self._is_silent(f"its answer makes no sense: {error}") from error
        status, words = (head.application.get(name) for name in ("statusCode", "statusDescription"))
        if head.properties.correlation != number or not isinstance(status, int):
            self.close()
            raise self._is_silent("its answer is to another question")
        if not 200 <= status < 300:
            raise RouterRefusal(failure, where=self.name, why=f"{words} ({status})")
        return said

    def _connected(self) -> AmqpRequests:
        if self._connection is not None and not self._connection.is_usable:
            self.close()
        if self._connection is None:
            self._connection = AmqpRequests(self._dial, self._timeout)
        return self._connection

    def _is_silent(self, why: str) -> NotReady:
        return NotReady("the router does not answer", where=self.name, why=why)

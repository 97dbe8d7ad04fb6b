"""What can go wrong in a router, as exceptions.

RouterError
├── ConfigError       the configuration: every mistake, each with entity and attribute
├── DecodeError       bytes of a peer that are no AMQP, or not what they should be
│   └── Incomplete    … or not yet: more bytes may make sense of them
└── RequestError      a management request that is answered by an error, with its status code
"""

from __future__ import annotations

from collections.abc import Sequence


class RouterError(Exception):
    """The base of all."""


class ConfigError(RouterError):
    """A configuration that skrouterd would refuse too."""

    def __init__(self, problems: Sequence[str]) -> None:
        """`problems`: a line each, as `tcpListener 'web': attribute 'port': …`."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class DecodeError(RouterError):
    """Bytes that mean nothing."""


class Incomplete(DecodeError):
    """The bytes end before the value does."""


class RequestError(RouterError):
    """What a management client asks for cannot be done."""

    def __init__(self, status: int, words: str) -> None:
        """`status`: as in HTTP; 400, 403, 404 and 501 are used."""
        super().__init__(words)
        self.status = status

"""What a connection is opened with, and whom it tells what happens on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from proton import Link, SSLDomain


@dataclass(frozen=True, slots=True)
class Terms:
    """What this side says and wants when a connection opens."""

    container: str
    max_frame: int = 65536
    channels: int = 32768
    #: seconds; half of it is what the peer is told
    idle: float = 16
    #: SASL mechanisms, as in `EXTERNAL ANONYMOUS`; empty: whatever there is
    mechanisms: str = ""
    require_authentication: bool = False
    require_encryption: bool = False
    domain: SSLDomain | None = None
    #: the name that the peer's certificate must bear; None: any
    peer_name: str | None = None
    hostname: str = ""
    capabilities: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)


class Conversation(Protocol):
    """What a connection is for."""

    def opened(self) -> None:
        """Both sides have said who they are."""

    def attached(self, link: Link) -> None:
        """The peer wants a link that this side did not open."""

    def delivered(self, link: int, delivery: Any) -> None:
        """Something of a delivery has come, or its state has changed; `link` is its address."""

    def credited(self, link: int) -> None:
        """A link may carry more than before."""

    def detached(self, link: Link) -> None:
        """The peer has ended a link."""

    def ended(self, session: int) -> None:
        """The peer has ended a session, by address, and so all links of it that it has not ended before."""

    def closed(self, why: str) -> None:
        """The connection is over; called once."""

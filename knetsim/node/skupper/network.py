"""What the clusters' sites know of each other beside what their routers tell.

Routers tell each other who serves a routing key. Which sites there are, what they are called, and who only listens,
real Skupper learns from its routers' VanFlow records. Here the controllers of all clusters live in one engine: each
publishes a view of its site, and is told when another's has changed. Tokens are redeemed here, too, by the controller
whose worker has the address in the token's URL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from knetsim.errors import NotFound
from knetsim.node.skupper.grants import Redeemed
from knetsim.node.skupper.views import SiteView


class Granting(Protocol):
    """A controller, as tokens of other clusters meet it."""

    def redeem(self, grant: str, code: str, subject: str) -> Redeemed:
        """What a token for `grant` (uid, or namespace/name) is worth to the site `subject`. KnetsimError."""


@dataclass(slots=True)
class _Member:
    """A cluster's controller."""

    granting: Granting
    changed: Callable[[], None]
    view: SiteView | None = None


class SkupperNetwork:
    """The sites of one simulation. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}
        self._addresses: dict[str, str] = {}

    def join(self, cluster: str, address: str, granting: Granting, changed: Callable[[], None]) -> None:
        """Take in a cluster's controller, whose tokens name `address`; `changed` is called, in any thread, when
        another site's view has."""
        with self._lock:
            self._members[cluster] = _Member(granting, changed)
            self._addresses[address] = cluster

    def leave(self, cluster: str) -> None:
        """The cluster's controller has ended. Twice is once."""
        self.publish(cluster, None)
        with self._lock:
            self._members.pop(cluster, None)

    def publish(self, cluster: str, view: SiteView | None) -> None:
        """Tell the others what the cluster's site is now; None: there is none."""
        with self._lock:
            member = self._members.get(cluster)
            if member is None or member.view == view:
                return
            member.view = view
            others = [each.changed for name, each in self._members.items() if name != cluster]
        for changed in others:
            changed()

    def others(self, cluster: str) -> list[SiteView]:
        """The sites of all other clusters, in the clusters' order."""
        with self._lock:
            found = sorted((name, each.view) for name, each in self._members.items() if each.view is not None)
        return [view for name, view in found if name != cluster and view is not None]

    def redeem(self, url: str, code: str, subject: str) -> Redeemed:
        """What the token `url` with `code` is worth to the site `subject`. NotFound when no cluster has that address;
        what the grant's controller says."""
        host, grant = _split(url)
        with self._lock:
            member = self._members.get(self._addresses.get(host, ""))
            known = ", ".join(sorted(self._addresses))
        if member is None:
            hint = f"tokens are redeemed at the sites' workers: {known}"
            raise NotFound(f"nobody redeems tokens at {host or url!r}", hint=hint)
        return member.granting.redeem(grant, code, subject)


def _split(url: str) -> tuple[str, str]:
    """Host and path of a URL; nothing of one that is none."""
    try:
        place = urlsplit(url)
        return place.hostname or "", place.path.strip("/")
    except ValueError:
        return "", ""

"""A site as its controller found it: what is planned, what its router says, what of it is still on its way. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from knetsim.dataplane.skupper import RouterState
from knetsim.node.skupper.plan import SitePlan
from knetsim.node.skupper.views import SiteView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was found at the last look, for the status of the simulation."""

    plan: SitePlan
    state: RouterState | None
    others: Sequence[SiteView]
    #: why the router does not answer, or is not as it shall be; empty when it is
    error: str
    #: AccessTokens that are still to be redeemed, and may be
    tokens: tuple[str, ...] = ()
    #: when this look began, by the monotonic clock
    moment: float = 0.0


def find_missing(found: Snapshot) -> str:
    """What of a site is still on its way, in words: tokens that may become Links, Links, ports."""
    plan, state = found.plan, found.state
    if plan.router is None:
        return ""
    if state is None:
        return found.error or "the router does not answer"
    if found.tokens:
        return f"AccessToken {found.tokens[0]} is not redeemed"
    down = [link.name for link in plan.router.links if link.name not in state.links or not state.links[link.name].up]
    if down:
        return f"Link {down[0]} is not up"
    reached = [view.connectors for view in found.others if view.router in state.nodes]
    served = {each.routing_key for each in plan.router.served}.union(*reached)
    open_ports = {name.removeprefix("listener/") for name in state.listening}
    closed = [each.name for each in plan.router.offered if each.routing_key in served and each.name not in open_ports]
    return f"Listener {closed[0]} is not open" if closed else ""

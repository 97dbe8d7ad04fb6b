"""What `/metrics` says, in Prometheus' format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knetsim.dataplane.skupper.router import inventory

if TYPE_CHECKING:
    from knetsim.dataplane.skupper.router.router import Router

#: names of routerMetrics → names in Prometheus, and whether they only grow
_NAMES = {
    "connectionCount": ("qdr_connections_total", False),
    "linkCount": ("qdr_links_total", False),
    "addrCount": ("qdr_addresses_total", False),
    "nodeCount": ("qdr_routers_total", False),
    "presettledDeliveries": ("qdr_presettled_deliveries_total", True),
    "droppedPresettledDeliveries": ("qdr_dropped_presettled_deliveries_total", True),
    "acceptedDeliveries": ("qdr_accepted_deliveries_total", True),
    "releasedDeliveries": ("qdr_released_deliveries_total", True),
    "rejectedDeliveries": ("qdr_rejected_deliveries_total", True),
    "modifiedDeliveries": ("qdr_modified_deliveries_total", True),
    "deliveriesIngress": ("qdr_deliveries_ingress_total", True),
    "deliveriesEgress": ("qdr_deliveries_egress_total", True),
    "deliveriesTransit": ("qdr_deliveries_transit_total", True),
    "residentMemoryUsage": ("qdr_resident_memory_bytes", False),
    "uptimeSeconds": ("qdr_uptime_seconds", False),
}


def build_metrics(router: Router) -> str:
    """The whole page."""
    row = inventory.read_rows(router, "routerMetrics")[0]
    lines = []
    for attribute, (name, grows) in _NAMES.items():
        lines += [f"# TYPE {name} {'counter' if grows else 'gauge'}", f"{name} {row[attribute]}"]
    return "\n".join(lines) + "\n"

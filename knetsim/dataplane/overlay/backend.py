"""Which backend a network configuration names."""

from __future__ import annotations

from knetsim.dataplane.overlay.hostgw import HostGateway
from knetsim.dataplane.overlay.lease import VXLAN, Backend
from knetsim.dataplane.overlay.state import OverlayBackend
from knetsim.dataplane.overlay.vxlan import Vxlan


def choose_backend(options: Backend) -> OverlayBackend:
    """The backend with its options."""
    return Vxlan(options) if options.type == VXLAN else HostGateway()

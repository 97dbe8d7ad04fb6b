"""Skupper: Services of one cluster used from another, through routers that speak AMQP to each other.

What Skupper does. Each site runs a router, skrouterd. A listener at one site opens a port, a connector at another leads
to a backend; both name a routing key. A client's TCP connection becomes two streams of AMQP, one each way, which the
routers between the sites pass on while they are coming, along the cheapest way. Pod networks may overlap: no packet of
one ever appears in the other.
What ours does, where skrouterd cannot be had: the program in router/ reads the same configuration and speaks the same
protocol, so both kinds form one network.
How it differs: interior mode only, no edges; TCP without TLS at its ends, TLS between routers; no policies; nothing for
Skupper's network observer (VanFlow); one thread.

    config.py        what a site's router is to do → its configuration, as JSON      router/   the embedded router
    certificates.py  who believes whom: authorities and what they sign, as Secrets' data
    management.py    a running router asked and told, by AMQP (amqp_client.py)
    state.py         what it says of the network      changes.py  it does as a configuration says, without a restart

Commands, on a router's worker: `cat /tmp/knetsim/skupper/0.json`, `ps aux | grep skupper`, `ss -tnp`, `skstat -n`,
`skmanage query --type tcpListener`, `curl localhost:9090/metrics`; anywhere: `knetsim link status`, and
`python -m knetsim.dataplane.skupper.router -c 0.json` is a router of its own.
Cost: about 30 MB a router; `knetsim bench skupper` holds throughput and latency against skrouterd's.
"""

from knetsim.dataplane.skupper.config import (
    Certificates,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    ServedService,
    build_router_config,
)
from knetsim.dataplane.skupper.state import AddressState, LinkState, NodeState, RouterState

__all__ = [
    "AddressState",
    "Certificates",
    "LinkState",
    "NeighbourLink",
    "NeighbourPort",
    "NodeState",
    "OfferedService",
    "RouterPlan",
    "RouterState",
    "ServedService",
    "build_router_config",
]

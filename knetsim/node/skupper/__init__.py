"""Skupper's objects (skupper.io/v2alpha1) carried out: what a cluster's router is to do, and what became of it.

What Skupper's controller does: for each namespace with a Site it runs a router, writes the router's configuration from
Links, RouterAccesses, Listeners and Connectors, has a Service for each host of a Listener, issues certificates and
redeems tokens. What ours does: the same for one Site a cluster, whose router runs on a worker.
How it differs: the oldest Site's namespace counts, and objects in others are told so in their status; a Service leads
to the worker, where the router has a port for it; tokens are redeemed within the engine, not by HTTPS; one interior
router a site, neither edge sites nor pairs; TCP only, without TLS between clients and routers.

    objects.py   how the objects are read            plan.py      objects → router, Services, what cannot be
    backends.py  Connector → who serves              services.py  Listener → Service, EndpointSlice, port of the worker
    statuses.py  plan and router's state → statuses  grants.py    certificates; AccessGrant, AccessToken → Link
    agent.py     the controller, one a cluster       router.py    the router's files, daemon, changes while it runs
    network.py   what sites know of each other       snapshot.py  what was found at the last look
    followed.py  its informers                       writer.py    the objects that it writes

Commands: `kubectl get sites,links,listeners,connectors`, `knetsim link status`, `cat /tmp/knetsim/skupper/0.json`.
"""

"""A router of a Skupper network, as a program: `python -m knetsim.dataplane.skupper.router -c FILE`.

It speaks the protocol of skrouterd 3.5 and reads its configuration; the two form one network. It imports nothing of
knetsim but itself, and needs Python's standard library and qpid-proton (Debian: python3-qpid-proton; PyPI's, which must
be compiled, will do as well).

From bytes to meaning (pure, tested without a socket):

    codec.py      AMQP's types                  message.py   sections, router annotations, heads of streams
    control.py    what routers tell each other  paths.py     shortest ways          topology.py  who is there
    mobile.py     who serves what               addresses.py what an address means  distribution.py which backend
    schema.py, config.py   what may be configured

From sockets to streams:

    loop.py       one thread for all            sockets.py   listening, dialling    tls.py       certificates
    amqp.py, conversation.py   proton and a socket   links.py  deliveries of a link   streams.py   sources and sinks
    tcp.py        a TCP connection              flows.py     … as two streams       services.py  listeners, connectors

And together:

    peers.py      a neighbour                   clients.py   a management client    connections.py  dial again and again
    core.py       what goes where               router.py    the whole              __main__.py  the program
    management.py, inventory.py, http.py, metrics.py, logs.py   to be looked at and changed while it runs

A byte's way: a client's socket → `TcpEnd.read` → `Outgoing.pull` → proton's session → the neighbour's socket → proton
there → `Incoming.read` → `TcpEnd.pull` → the backend's socket. Each pulls from the one before when it has room, so a
backend that does not read stops its client, and what waits between them is at most a megabyte a stream.
"""

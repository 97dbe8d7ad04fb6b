"""Services: from a VIP to one of its pods, by one nft table `knetsim-services` per worker, as kube-proxy does it.

What kube-proxy does, in its mode nftables (pkg/proxy/nftables/README.md). It rewrites the address of a connection's
first packet and leaves the rest to connection tracking:

    hook          priority  why there
    prerouting, output  dstnat - 10, -110   whom a load balancer's address does not let in, before it is rewritten
    prerouting    dstnat    from pods and from other machines: before routing, since the backend decides the way
    output        -100      from the worker's own processes
    postrouting   srcnat    masquerade: only now it is known by which interface the packet leaves
    input, forward, output  filter   after the VIPs with backends were rewritten: what still goes to a VIP is refused

A map leads from address, protocol and port to the chain of the Service's port, which draws a backend by lot. A
connection is masqueraded when the answer would not come back by itself: from outside the pod network, a pod that
reaches itself, NodePorts. Nobody answers for a Service without backends, or for a port it does not have, so both are
refused at once; an address that no Service has is dropped.

What ours does: the same hooks, priorities, maps and decisions (`choose.py` has its choice of backends, with traffic
policies, hints and endings), so that workers with either serve one cluster.
How it differs: what has a ClusterIP and nothing else, as most Services, has no chain. The first map leads to a chain
that all Services with as many backends share, a second one from the lot it draws to the backend (rules.py has more):

    service-ips   100.64.0.9 . tcp . 80 : goto pick-2       pick-2: a lot, 0 or 1
    backends      100.64.0.9 . tcp . 80 . 0 : 11.15.64.2 . 8080, 100.64.0.9 . tcp . 80 . 1 : 11.15.80.2 . 8080

After any change of a rule, or of what leads to one, the kernel walks through the whole table for loops and rules out of
place (nf_tables_api.c: nft_table_validate), chain by chain: with chains for each Service 1 ms at 1 000 and 50 ms at
10 000. An element of `backends` leads to no rule. What has more than a ClusterIP has chains of its own, as
kube-proxy's: with NodePorts, external addresses, or sessionAffinity. There a rule for each backend draws the lot, where
kube-proxy has a map for each Service (10 000 such maps take the kernel a minute), and each backend has a chain, which
counts its connections and which kube-proxy has for sessionAffinity only. Names are readable, without a hash, in chains
and in the elements' comments. A pod that reaches itself is recognised by a set of all backends, where kube-proxy has
the worker's, or in its backend's chain, so that all workers have the same text; the mark 0x4000 is the same. What two
Services claim is the older one's, and the other is told by an Event; kube-proxy serves whichever it came to last.

    ports.py   what a Service is, as data          rules.py   its chains and elements       (pure)
    choose.py  which backends a worker uses (pure)  table.py   the table, and changes of it  (pure)
    worker.py  one worker's kernel: one transaction per change   drift.py  was it changed by hand?
    host.py    bridged frames, a route             counters.py  connections per Service and backend
    stale.py   UDP clients of backends that are gone (pure)    kube_proxy.py  the real one's configuration (pure)

What load balancers and others ask by HTTP (health check ports) is answered by node/service_health.py.

Commands: `C0w1 nft list table ip knetsim-services`, `C0w1 nft list map ip knetsim-services service-ips`,
`C0w1 nft list map ip knetsim-services backends`, `C0w1 nft list chain ip knetsim-services pick-2`,
`knetsim status services`.
Cost on two cores (`knetsim bench services`): a Service with two backends is six elements and about 0.07 ms of a
worker's first full table. A change is encoded once for all workers, in 0.04 ms, and takes 0.1 ms in each one's kernel;
at 10 000 Services 1.3 ms, for the walk through the elements that lead to chains. When a Service goes, or as many
backends come as go, nothing is walked through.
"""

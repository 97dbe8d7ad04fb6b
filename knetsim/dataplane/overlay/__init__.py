"""The pod network between workers: Flannel, real or embedded, in one etcd and one VXLAN.

The question. Every worker has a part of the pod network, 11.15.64.0/20 say, and its pods have addresses out of it.
How does a worker learn which part another one has, and how does a packet get there, over an underlay that knows
nothing of pods?

What flannel does. Etcd holds the answer to the first question: one key per worker, under a lease that its agent renews
(`lease.py`). Each agent follows these keys and turns them into kernel state, the answer to the second: with `vxlan`
packets are wrapped in UDP (`vxlan.py`), with `host-gw` the other workers are gateways (`hostgw.py`). The agent is no
part of the path of a packet; it can be ended, and packets still flow.

What ours does. A worker runs the real flanneld (`flanneld.py`: a daemon of its own) or is served by the embedded agent
(`agent.py`: one for all workers of a cluster). Both speak through the same keys, in the same bytes, and leave the
same kernel state, so they can be mixed in one cluster and a worker can change its agent under traffic. What the tests
hold them to is one and the same description of what the kernel shall have (`state.py`, `readiness.py`).

How they differ. The embedded agent repairs what is deleted or changed in the kernel, and takes a lost lease again;
flanneld trusts the kernel (host-gw: adds missing routes every 10 s) and ends when its lease is lost. Not done by the
embedded agent, and refused: IPv6, GBP, direct routing, flannel's other backends. Neither sets nft or iptables rules:
`masquerade.py` does.

    etcd keys ──> lease.py ──> snapshot.py ──> vxlan.py / hostgw.py ──> state.py ──> netlink ──> kernel
      bytes        a lease      all leases       state wanted          difference    requests

Files by what they are. Pure: lease, snapshot, vxlan, hostgw, drift, masquerade, flanneld; state but for `read_state`.
The agent: agent (threads), lease_holder (takes and renews leases), worker (one worker's kernel), flannel_log,
subnet_file. From outside: lease_store (what is asked of etcd), readiness.

To see it: `C0e1 etcdctl get /coreos.com/network --prefix`, `C0w1 ip -d link show flannel.100`, `C0w1 ip route`,
`C0w1 ip neighbour show dev flannel.100`, `C0w1 bridge fdb show dev flannel.100`, `C0w1 cat
/tmp/knetsim/C0w1/flannel.log`.
Cost, of a worker among a hundred: embedded 25 KB and 3 ms at the start, flanneld 51 MB; in both cases three kernel
entries for each other worker.
"""

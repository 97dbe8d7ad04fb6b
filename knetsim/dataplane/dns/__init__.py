"""DNS: how pods find each other by name. The first stop of a packet, which has no address yet.

What CoreDNS does. Two pods of the Deployment `coredns` answer at the ClusterIP of the Service `kube-dns`, the tenth
address of the range; the kubelet writes it into every pod's /etc/resolv.conf, with the search path and `ndots:5`. Names
of the cluster come from watched Services and EndpointSlices, all others are asked of the node's own name server.
What ours does, where CoreDNS does not run: the same names by the same Service, from one thread of the engine that
listens on the control plane's host at port 1053. Hosts have a name server of their own in any case, at port 53 there:
it knows the hosts' names, says of all others at once that there are none (nothing leads out of a simulation), and is
whom CoreDNS forwards to.
How it differs: no Corefile and no cache; pods' own names are answered without looking whether there is such a pod, as
with kubeadm's Corefile (`pods insecure`); nothing but the kernel's buffer holds questions that come while it is busy.

    names.py    what there is: Services, endpoints, hosts            zones.py   a question's answer
    answers.py  messages: read, answered, cut to a datagram's size   server.py  UDP and TCP, in a host's namespace
    probe.py    which hosts get an answer

Commands: `py C0w1.exec_container("c1", "cat /etc/resolv.conf")`,
`py C0w1.exec_container("c1", "nslookup kube-dns.kube-system")`,
`C0w1 dig @100.64.0.10 kube-dns.kube-system.svc.cluster.local`, `C0w1 dig C0w2`.
Cost: some kB a Service; an answer takes about 0.3 ms of one core.
"""

from knetsim.dataplane.dns.answers import answer_bytes, answer_query
from knetsim.dataplane.dns.names import HostNames, NamedEndpoint, NamedService, PortName, ServiceNames
from knetsim.dataplane.dns.probe import find_unanswered
from knetsim.dataplane.dns.server import NameServer
from knetsim.dataplane.dns.zones import SPECIFICATION, ClusterZone, HostZone, Zone

__all__ = [
    "SPECIFICATION",
    "ClusterZone",
    "HostNames",
    "HostZone",
    "NameServer",
    "NamedEndpoint",
    "NamedService",
    "PortName",
    "ServiceNames",
    "Zone",
    "answer_bytes",
    "answer_query",
    "find_unanswered",
]

"""How packets of pods leave the pod network: with the worker's address as their source, by one nft table of our own;
pure.

What flannel does. With `-ip-masq` flanneld puts rules after routing (table `ip flannel-ipv4`, or iptables'
FLANNEL-POSTRTG): what goes from the pod network to the outside, multicast excepted, gets the address of the interface
by which it leaves; what stays inside, or carries kube-proxy's mark 0x4000, is left alone.
What ours does: the same, in the table `ip knetsim-masquerade` of every worker, whichever agent runs there. flanneld is
started with `-ip-masq=false`, so that a packet is not looked at twice, both agents give the same path, and no iptables
program is needed.
How it differs: flannel names the worker's own subnet in its rules, so that they change with the lease; the pod network
alone says the same, and the table is known before there is a lease. In iptables mode flannel also gives packets from
the worker itself to pods elsewhere the VTEP's address when they have another one; in nft mode, and here, they keep
it.
Command: `C0w1 nft list table ip knetsim-masquerade`. Cost: three rules per worker, seen by the first packet of a
connection.
"""

from __future__ import annotations

from ipaddress import IPv4Network

TABLE = "knetsim-masquerade"
#: set by kube-proxy on what it masquerades itself
KUBE_PROXY_MARK = 0x4000


def build_masquerade(network: IPv4Network, *, fresh: bool = False) -> str:
    """The nft text that makes the table, or makes it anew, in one transaction.

    In a `fresh` network namespace nothing has to be made anew, and a transaction that deletes nothing spares waiting
    15 ms for the kernel.
    """
    anew = "" if fresh else build_no_masquerade()
    return f"""\
{anew}table ip {TABLE} {{
	comment "pods leave the pod network with their worker's address"
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & {KUBE_PROXY_MARK:#x} == {KUBE_PROXY_MARK:#x} return comment "kube-proxy does it"
		ip saddr {network} ip daddr {{ {network}, 224.0.0.0/4 }} return comment "inside the pod network, multicast"
		ip saddr {network} masquerade fully-random comment "pod to outside"
	}}
}}
"""


def build_no_masquerade() -> str:
    """The nft text that takes the table away; also where there is none."""
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n"

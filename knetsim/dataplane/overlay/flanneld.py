"""The real agent, one process per worker: how it is started; pure.

What it needs: Go's flanneld v0.28, etcd's client port reachable from the worker, the network configuration in etcd, and
either `/proc/sys/net/bridge` (br_netfilter) or, with `EnableNFTables` in the configuration, the programs iptables,
ip6tables and nft (it cleans up after the kind it does not use, and ends when it cannot). With the flags below it sets
no rules at all: masquerading is `masquerade.py`'s, and a worker's FORWARD policy is accept.

What to know of it. Its health endpoint answers from its start on and says nothing about leases: readiness is the
subnet file, the VTEP and the routes to all leases (`readiness.py`). Two flanneld that pick the same free subnet at
the same moment do not try again: the later one ends and has to be started anew, as it has to be when its lease is
deleted (it ends with 0) or, on an IPv4 network, its VTEP (it fails in reCreateVxlan). Ending it leaves device, routes
and lease in place.
Cost: a process with 51 MB resident per worker, 7 MB of them its own (the program's pages are shared).
Source: flannel v0.28.4, main.go, pkg/subnet/etcd, pkg/backend/vxlan.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from knetsim.dataplane.overlay.lease import PREFIX
from knetsim.dataplane.overlay.subnet_file import NAME

HEALTHZ_PORT = 8470


def build_argv(
    program: str,
    *,
    endpoints: Sequence[str],
    address: IPv4Address,
    directory: Path,
    prefix: str = PREFIX,
    healthz_port: int = HEALTHZ_PORT,
) -> list[str]:
    """The command line of the flanneld of one worker.

    `endpoints` are the client URLs of all etcd members, `address` the worker's in the underlay, by which flanneld
    finds the interface; the subnet file goes into `directory`. The log goes to standard error.
    """
    return [
        program,
        f"-etcd-endpoints={','.join(endpoints)}",
        f"-etcd-prefix={prefix}",
        f"-iface={address}",
        f"-subnet-file={directory / NAME}",
        "-ip-masq=false",
        "-iptables-forward-rules=false",
        "-healthz-ip=127.0.0.1",
        f"-healthz-port={healthz_port}",
    ]

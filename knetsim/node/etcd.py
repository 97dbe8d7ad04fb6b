"""The etcd of a cluster: real members on Mininet hosts `C0e1`…, supervised.

Reality: three or five etcd members hold all objects of a Kubernetes cluster and elect a leader among them. Ours are the
same programs on hosts of the underlay; their peers and flanneld reach them by TCP. The agents, which live in one
process outside the underlay, use the member's UNIX socket beside it (`names.etcd_socket`), so nothing of the simulator
needs an address on the learner's network. Without fsync: the data dies with the simulation anyway.

Commands that show it: `C0e1 /tmp/knetsim/etcdctl cluster-health`, `C0e1 etcdctl get / --prefix --keys-only`.
Cost: about 45 MB a member.
"""

from __future__ import annotations

import platform
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from knetsim import names
from knetsim.dataplane.underlay import HostNode
from knetsim.system.daemon import DaemonSpec
from knetsim.system.netns import netns_socket

#: etcd 3.4 starts on ARM only when told that this is known to be unsupported
_ARM_CONSENT = {"aarch64": {"ETCD_UNSUPPORTED_ARCH": "arm64"}}

CLIENT_PORT = 2379
PEER_PORT = 2380


def client_url(address: str) -> str:
    """Where clients on the underlay reach a member."""
    return f"http://{address}:{CLIENT_PORT}"


def build_etcd_argv(
    program: str, host: str, address: str, members: Mapping[str, str], token: str, data: str
) -> list[str]:
    """The command line of the member `host`; `members` maps all member hosts to their addresses.

    The client socket's URL has no path since etcd 3.4 refuses one: the file `client:0` is made in its working
    directory.
    """
    cluster = ",".join(f"{name}=http://{member}:{PEER_PORT}" for name, member in members.items())
    return [
        program,
        f"--name={host}",
        f"--data-dir={data}",
        f"--initial-cluster={cluster}",
        "--initial-cluster-state=new",
        f"--initial-cluster-token={token}",
        f"--initial-advertise-peer-urls=http://{address}:{PEER_PORT}",
        f"--listen-peer-urls=http://{address}:{PEER_PORT}",
        f"--advertise-client-urls={client_url(address)}",
        f"--listen-client-urls=http://0.0.0.0:{CLIENT_PORT},unix://client:0",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=30m",
        "--max-wals=2",
        # While nothing of a kind changes, the API server's cache of it learns by this how far the store is. kubeadm has
        # 5 s, and today's etcd is asked besides (3.4.25 on; Debian's is not); a watch from now on waits for 3 s at most
        # and is refused then: "Too large resource version".
        "--experimental-watch-progress-notify-interval=1s",
        "--unsafe-no-fsync",
        # All members advancing their first election at once split the votes, and the next one is a second later: the
        # first member alone hurries.
        f"--initial-election-tick-advance={'true' if host == next(iter(members)) else 'false'}",
        "--logger=zap",
        "--log-outputs=stderr",
    ]


def install_etcdctl(directory: Path) -> None:
    """Put `etcdctl` as the slides have it into the simulation's directory: today's program, the old words too."""
    target = directory / "etcdctl"
    shutil.copyfile(Path(__file__).with_name("etcdctl.sh"), target)
    target.chmod(0o755)


def read_health(path: str, timeout: float = 5.0) -> str:
    """What keeps the member behind the UNIX socket `path` from serving; empty when it serves and knows a leader.

    Asked at /health in plain HTTP: a member listens long before it serves, and then answers what has been waiting,
    whereas a gRPC client that was kept waiting gives up and takes seconds until it tries again.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return _ask(connection, path, "/health", timeout)


def _ask(connection: socket.socket, address: str | tuple[str, int], path: str, timeout: float) -> str:
    """Empty when an HTTP server answers 200 within `timeout` seconds; otherwise what it says, or why it does not."""
    connection.settimeout(timeout)
    try:
        connection.connect(address)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    except OSError as error:
        return f"it does not answer yet ({error.strerror or error})"
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " in head.split(b"\r\n")[0] + b" ":
        return ""
    return f"it says {body.decode(errors='replace').strip() or 'nothing'}"


class EtcdMember(HostNode):
    """The Mininet host of one etcd member."""

    def __init__(self, name: str, ip: str, cluster: str, **params: Any) -> None:
        super().__init__(name, ip, **params)
        self.cluster = cluster
        self.address = ip.split("/", maxsplit=1)[0]

    @property
    def daemon_name(self) -> str:
        """Its name at the supervisor."""
        return f"{self.name}/etcd"

    def read_peer_health(self, timeout: float = 0.1) -> str:
        """What keeps the member from serving its peers; empty when it does, with or without a leader.

        A connection that was made before it serves gets no answer at all on this port, so ask again rather than wait.
        """
        with netns_socket(self.place, socket.AF_INET, socket.SOCK_STREAM) as connection:
            return _ask(connection, (self.address, PEER_PORT), "/version", timeout)

    def build_spec(self, program: str, members: Sequence[EtcdMember], token: str) -> DaemonSpec:
        """How the member is started, among `members`."""
        directory = Path(names.host_directory(self.name))
        addresses = {member.name: member.address for member in members}
        return DaemonSpec(
            name=self.daemon_name,
            argv=build_etcd_argv(
                program, self.name, self.address, addresses, token, f"{names.MEMORY_DISK}/{self.name}"
            ),
            log=directory / "etcd.log",
            place=self.place,
            cwd=str(directory),
            stale=[Path(names.etcd_socket(self.name))],
            env={"PATH": "/usr/bin:/bin", **_ARM_CONSENT.get(platform.machine(), {})},
        )

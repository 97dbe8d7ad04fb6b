"""The subnet file, by which the network of a worker reaches the CNI plugin: what flanneld writes, read and written.

    FLANNEL_NETWORK=11.0.0.0/8         the pod network of the cluster
    FLANNEL_SUBNET=11.15.64.1/20       the worker's subnet, as the address of its pods' bridge
    FLANNEL_MTU=1450
    FLANNEL_IPMASQ=false               whether flanneld masquerades; when false, flannel's CNI plugin has the bridge
                                       plugin do so, unless the delegate says `"ipMasq": false` as knetsim's does

Source: flannel v0.28, pkg/subnet/subnet.go (WriteSubnetFile).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from knetsim.errors import ObjectError

NAME = "flannel-subnet.env"
_REMEDY = "delete the file and start the worker's agent again: it writes it anew"


@dataclass(frozen=True, slots=True)
class SubnetFile:
    """What the file says. `gateway` is the first usable address of the subnet, with the subnet's length."""

    network: IPv4Network
    gateway: IPv4Interface
    mtu: int
    ip_masq: bool = False

    @property
    def subnet(self) -> IPv4Network:
        """The worker's part of the pod network."""
        return self.gateway.network


def build_subnet_file(content: SubnetFile) -> str:
    """The file's text."""
    return (
        f"FLANNEL_NETWORK={content.network}\n"
        f"FLANNEL_SUBNET={content.gateway}\n"
        f"FLANNEL_MTU={content.mtu}\n"
        f"FLANNEL_IPMASQ={'true' if content.ip_masq else 'false'}\n"
    )


def parse_subnet_file(text: str, where: str = NAME) -> SubnetFile:
    """What the text says; ObjectError names the line that is missing or wrong."""
    lines = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    try:
        return SubnetFile(
            IPv4Network(lines["FLANNEL_NETWORK"]),
            IPv4Interface(lines["FLANNEL_SUBNET"]),
            int(lines["FLANNEL_MTU"]),
            lines.get("FLANNEL_IPMASQ", "false") == "true",
        )
    except KeyError as error:
        raise ObjectError(f"{error.args[0]} is missing", where, hint=_REMEDY) from error
    except ValueError as error:
        raise ObjectError("not a subnet file", where, str(error), _REMEDY) from error


def read_subnet_file(directory: Path) -> SubnetFile | None:
    """What the file in a worker's directory says; None when there is none."""
    path = directory / NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return parse_subnet_file(text, str(path))


def write_subnet_file(directory: Path, content: SubnetFile) -> None:
    """Put the file into a worker's directory, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    hidden = directory / f".{NAME}"
    hidden.write_text(build_subnet_file(content))
    os.replace(hidden, directory / NAME)

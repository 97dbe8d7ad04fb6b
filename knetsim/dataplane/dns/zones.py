"""What is answered to a question: the cluster's zone after the Kubernetes DNS specification 1.1, and the hosts' zone.

A zone is asked for a name and a type and returns what it `Found`, or None: the name is not its business, ask the next.
Names of the cluster's zone (`svc` and `pod` below the domain), and what they are answered by:

    web.default.svc                A, AAAA of the ClusterIP, or of all ready endpoints; CNAME of an external name
    _http._tcp.web.default.svc     SRV: the port, at the Service's name or at each endpoint's
    db-0.web.default.svc           A, AAAA of the endpoint that is called so (hostname, or 11-16-0-2)
    11-16-0-2.default.pod          A: that address, whether or not a pod has it (CoreDNS: `pods insecure`)
    dns-version                    TXT: the specification's version
    2.0.16.11.in-addr.arpa         PTR

A name that is there but has no record of the type is answered without one (NODATA), a name that is not there with
NXDOMAIN; a headless Service without ready endpoints is not there. Sources: github.com/kubernetes/dns,
docs/specification.md; where that leaves a choice, what CoreDNS' plugin `kubernetes` does (handler.go, parse.go,
reverse.go).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from knetsim.dataplane.dns.names import HostNames, NamedService, PortName, ServiceNames

SPECIFICATION = "1.1.0"
#: seconds for which answers may be kept, as kubeadm's Corefile says it; the specification's version for eight hours
TTL, _VERSION_TTL = 30, 28800
_IN = dns.rdataclass.IN
_REVERSE = (dns.reversename.ipv4_reverse_domain, dns.reversename.ipv6_reverse_domain)
_WEIGHT = 100
#: what a record is made of depends on its type; dnspython checks it
_RECORDS: Mapping[dns.rdatatype.RdataType, Callable[..., dns.rdata.Rdata]] = {
    dns.rdatatype.A: A,
    dns.rdatatype.AAAA: AAAA,
    dns.rdatatype.CNAME: CNAME,
    dns.rdatatype.NS: NS,
    dns.rdatatype.PTR: PTR,
    dns.rdatatype.SOA: SOA,
    dns.rdatatype.SRV: SRV,
    dns.rdatatype.TXT: TXT,
}
_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)


@dataclass(slots=True)
class Found:
    """An answer: its code, and the record sets of the three sections. `target` is a name that is to be looked up next,
    for the answer is only that the one asked for is another name of it."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    answer: list[dns.rrset.RRset] = field(default_factory=list)
    authority: list[dns.rrset.RRset] = field(default_factory=list)
    additional: list[dns.rrset.RRset] = field(default_factory=list)
    target: dns.name.Name | None = None


class Zone(Protocol):
    """Someone who knows names."""

    def find(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Found | None:
        """What is known of a name, or None when it is none of the zone's."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a Service's name leads: an address, the name that it has itself, and the port there."""

    name: dns.name.Name
    address: str
    port: int | None


#: the name is there, and leads nowhere
_EMPTY: tuple[_Place, ...] = ()


class ClusterZone:
    """The names of a cluster below `domain`; `address` is its name server's own, the Service kube-dns."""

    def __init__(self, domain: str, services: ServiceNames, address: str) -> None:
        self.domain = dns.name.from_text(domain)
        self._services = services
        self._address = address
        self._server = self._name("ns.dns")

    def find(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Found | None:
        """See Zone."""
        if any(name.is_subdomain(reverse) for reverse in _REVERSE):
            names = [self._name(text) for text in self._services.find_address(read_reverse(name))]
            return find_names(name, kind, names) if names else None
        if not name.is_subdomain(self.domain):
            return None
        if name == self.domain and kind in (dns.rdatatype.SOA, dns.rdatatype.NS):
            return self._find_apex(name, kind)
        labels = [label.decode("ascii", "replace").lower() for label in name.relativize(self.domain).labels]
        if labels == ["dns-version"]:
            return self._find_version(name, kind)
        service = self._find_service(labels)
        if service is not None and service.external_name:
            return self._find_external(name, kind, service)
        places = self._find_places(labels, service)
        if places is None:
            return self._nothing(dns.rcode.NXDOMAIN)
        return self._find_records(name, kind, places) or self._nothing(dns.rcode.NOERROR)

    # --- what a name leads to

    def _find_service(self, labels: Sequence[str]) -> NamedService | None:
        if len(labels) < 3 or labels[-1] != "svc":
            return None
        return self._services.get(labels[-2], labels[-3])

    def _find_places(self, labels: Sequence[str], service: NamedService | None) -> Sequence[_Place] | None:
        """Where the name leads; None when there is no such name."""
        match labels:
            case [] | ["svc"] | ["pod"]:
                return _EMPTY
            case ["ns", "dns"]:
                return [_Place(self._server, self._address, None)]
            case [namespace, "svc" | "pod"]:
                return _EMPTY if namespace in self._services.namespaces else None
            case [dashed, namespace, "pod"]:
                return self._find_pod(dashed, namespace)
        if service is None:
            return None
        match labels:
            case [_, _, "svc"]:
                return self._places_of(service, "", "", "")
            case [label, _, _, "svc"]:
                return self._places_of(service, label, "", "")
            case [port, protocol, _, _, "svc"]:
                return self._places_of(service, "", port.removeprefix("_"), protocol.removeprefix("_"))
        return None

    def _find_pod(self, dashed: str, namespace: str) -> Sequence[_Place] | None:
        is_four = dashed.count("-") == 3 and "--" not in dashed
        try:
            address = str(ipaddress.ip_address(dashed.replace("-", "." if is_four else ":")))
        except ValueError:
            return None
        if namespace not in self._services.namespaces:
            return None
        return [_Place(self._name(f"{dashed}.{namespace}.pod"), address, None)]

    def _places_of(self, service: NamedService, label: str, port: str, protocol: str) -> Sequence[_Place] | None:
        if service.addresses and not label:
            name, ports = self._name(service.labels), _choose_ports(service.ports, port, protocol)
            return [_Place(name, address, one.number) for one in ports for address in service.addresses] or None
        endpoints = service.find_endpoints(label) if label else service.endpoints
        return [
            _Place(self._name(f"{endpoint.label}.{service.labels}"), endpoint.address, one.number)
            for endpoint in endpoints
            for one in _choose_ports(endpoint.ports, port, protocol)
        ] or None

    def _name(self, text: str) -> dns.name.Name:
        return dns.name.from_text(text, self.domain)

    # --- records

    def _find_records(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, places: Sequence[_Place]
    ) -> Found | None:
        if kind in _ADDRESS_TYPES:
            addresses = find_addresses(name, (place.address for place in places), kind)
            return Found(answer=[addresses]) if addresses else None
        if kind != dns.rdatatype.SRV:
            return None
        ports = dict.fromkeys((place.name, place.port) for place in places if place.port is not None)
        if not ports:
            return None
        weight = max(1, _WEIGHT // len(ports))
        records = [build_record(kind, 0, weight, port, target) for target, port in ports]
        additional = []
        for target in dict.fromkeys(target for target, _ in ports):
            own = [place.address for place in places if place.name == target]
            additional += [found for kind in _ADDRESS_TYPES if (found := find_addresses(target, own, kind))]
        return Found(answer=[build_records(name, records)], additional=additional)

    def _find_external(self, name: dns.name.Name, kind: dns.rdatatype.RdataType, service: NamedService) -> Found:
        if name != self._name(service.labels):
            return self._nothing(dns.rcode.NXDOMAIN)
        if kind not in (*_ADDRESS_TYPES, dns.rdatatype.CNAME):
            return self._nothing(dns.rcode.NOERROR)
        target = dns.name.from_text(service.external_name)
        answer = [build_records(name, [build_record(dns.rdatatype.CNAME, target)])]
        return Found(answer=answer, target=target if kind in _ADDRESS_TYPES else None)

    def _find_version(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Found:
        if kind != dns.rdatatype.TXT:
            return self._nothing(dns.rcode.NXDOMAIN)
        return Found(answer=[build_records(name, [build_record(kind, [SPECIFICATION.encode()])], _VERSION_TTL)])

    def _find_apex(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Found:
        if kind == dns.rdatatype.SOA:
            return Found(answer=[self._authority()])
        server = build_records(name, [build_record(kind, self._server)])
        addresses = find_addresses(self._server, [self._address], dns.rdatatype.A)
        return Found(answer=[server], additional=[addresses] if addresses else [])

    def _nothing(self, rcode: dns.rcode.Rcode) -> Found:
        return Found(rcode, authority=[self._authority()])

    def _authority(self) -> dns.rrset.RRset:
        return build_authority(self.domain, self._server, self._services.serial)


def _choose_ports(ports: Iterable[PortName], name: str, protocol: str) -> list[PortName]:
    """The ports that a question means; an empty word means every one."""
    return [
        port
        for port in ports
        if (not name or port.name.lower() == name) and (not protocol or port.protocol.lower() == protocol)
    ]


class HostZone:
    """The names of the simulation's hosts, and all others there are: none."""

    def __init__(self, hosts: HostNames) -> None:
        self._hosts = hosts

    def find(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Found:
        """See Zone; every name is its business."""
        if any(name.is_subdomain(reverse) for reverse in _REVERSE):
            hosts = self._hosts.find_address(read_reverse(name))
            if hosts:
                return find_names(name, kind, [dns.name.from_text(host) for host in hosts])
        elif len(name.labels) == 2 and (address := self._hosts.find(name.labels[0].decode("ascii", "replace"))):
            records = find_addresses(name, [address], kind) if kind in _ADDRESS_TYPES else None
            return Found(answer=[records]) if records else self._nothing(dns.rcode.NOERROR)
        elif name == dns.name.root:
            return self._nothing(dns.rcode.NOERROR)
        return self._nothing(dns.rcode.NXDOMAIN)

    def _nothing(self, rcode: dns.rcode.Rcode) -> Found:
        return Found(rcode, authority=[build_authority(dns.name.root, dns.name.root, 1)])


# --- parts of answers


def read_reverse(name: dns.name.Name) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa stands for; empty when it stands for none."""
    try:
        return dns.reversename.to_address(name)
    except (ValueError, dns.exception.DNSException):
        return ""


def find_names(name: dns.name.Name, kind: dns.rdatatype.RdataType, names: Sequence[dns.name.Name]) -> Found:
    """An address that has these names."""
    if kind != dns.rdatatype.PTR:
        return Found()
    return Found(answer=[build_records(name, [build_record(kind, one) for one in names])])


def find_addresses(
    name: dns.name.Name, addresses: Iterable[str], kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    """Those of the addresses that are of the kind, A or AAAA, each once; None when there is none."""
    chosen = [one for one in dict.fromkeys(addresses) if (":" in one) == (kind == dns.rdatatype.AAAA)]
    return build_records(name, [build_record(kind, one) for one in chosen]) if chosen else None


def build_record(kind: dns.rdatatype.RdataType, *fields: object) -> dns.rdata.Rdata:
    """A record of one of the types that there are here, of its fields in their order."""
    return _RECORDS[kind](_IN, kind, *fields)


def build_records(name: dns.name.Name, records: Sequence[dns.rdata.Rdata], ttl: int = TTL) -> dns.rrset.RRset:
    """A record set of one name and type."""
    return dns.rrset.from_rdata_list(name, ttl, records)


def build_authority(zone: dns.name.Name, server: dns.name.Name, serial: int) -> dns.rrset.RRset:
    """The zone's SOA, from which a resolver learns how long it may remember that there is nothing."""
    mail = dns.name.from_text("hostmaster", zone)
    soa = build_record(dns.rdatatype.SOA, server, mail, serial & 0xFFFFFFFF, 7200, 1800, 86400, TTL)
    return build_records(zone, [soa])

"""What is known by name: Services with their endpoints, and hosts; looked up, and backwards by address. No DNS message.

`ServiceNames` is changed by one thread and read by another: a Service is replaced as a whole, never changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: namespace and name of a Service
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PortName:
    """A port of a Service or of its endpoints. `number` is None for endpoints that have no port."""

    name: str
    protocol: str
    number: int | None


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An address behind a Service: ready, or published although it is not. `hostname` is its own, or empty."""

    address: str
    ports: tuple[PortName, ...]
    hostname: str = ""

    @property
    def label(self) -> str:
        """What it is called below its Service: its hostname, else its address with dashes (`11-16-0-2`)."""
        if self.hostname:
            return self.hostname.lower()
        dashed = self.address.replace(".", "-").replace(":", "-")
        return f"{dashed}0" if dashed.endswith("-") else dashed  # 2001:db8:: would end in a dash


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedService:
    """A Service as DNS sees it. Without `addresses`, its ClusterIPs, it is headless, or has an `external_name`."""

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    ports: tuple[PortName, ...] = ()
    endpoints: tuple[NamedEndpoint, ...] = ()
    external_name: str = ""

    @property
    def key(self) -> Key:
        """By which it is found."""
        return self.namespace, self.name

    @property
    def labels(self) -> str:
        """Its name within the cluster's domain."""
        return f"{self.name}.{self.namespace}.svc"

    def find_endpoints(self, label: str) -> list[NamedEndpoint]:
        """The endpoints of that name; several addresses may have one."""
        return [endpoint for endpoint in self.endpoints if endpoint.label == label]


class ServiceNames:
    """All Services and namespaces of a cluster."""

    def __init__(self) -> None:
        self.namespaces: set[str] = set()
        self._services: dict[Key, NamedService] = {}
        self._addresses: dict[str, dict[Key, tuple[str, ...]]] = {}
        #: counts the changes: the zone's serial number
        self.serial = 1

    def __len__(self) -> int:
        return len(self._services)

    def get(self, namespace: str, name: str) -> NamedService | None:
        """The Service, or None."""
        return self._services.get((namespace, name))

    def put(self, key: Key, service: NamedService | None) -> bool:
        """Have the Service `key` be so, or be none; whether that is a change."""
        before = self._services.get(key)
        if before == service:
            return False
        old, new = _read_addresses(before), _read_addresses(service)
        if service is None:
            self._services.pop(key, None)
        else:
            self._services[key] = service
        for address in old.keys() | new.keys():
            self._replace(address, key, new.get(address, ()))
        self.serial += 1
        return True

    def _replace(self, address: str, key: Key, names: tuple[str, ...]) -> None:
        owners = {other: kept for other, kept in self._addresses.get(address, {}).items() if other != key}
        if names:
            owners[key] = names
        if owners:
            self._addresses[address] = owners
        else:
            self._addresses.pop(address, None)

    def find_address(self, address: str) -> list[str]:
        """The names of an address within the cluster's domain: of the Service whose ClusterIP it is, else of all
        Services of which it is an endpoint."""
        owners = self._addresses.get(address, {})
        for key, names in owners.items():
            service = self._services.get(key)
            if service is not None and address in service.addresses:
                return list(names)
        return list(dict.fromkeys(name for names in owners.values() for name in names))


def _read_addresses(service: NamedService | None) -> dict[str, tuple[str, ...]]:
    """Every address of a Service with its names there."""
    if service is None:
        return {}
    found = {
        endpoint.address: tuple(
            f"{same.label}.{service.labels}" for same in service.endpoints if same.address == endpoint.address
        )
        for endpoint in service.endpoints
    }
    return {**found, **dict.fromkeys(service.addresses, (service.labels,))}


class HostNames:
    """The hosts of the simulation by name; case does not count."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """`addresses` are those of the hosts: name → address."""
        self._addresses = {name.lower(): address for name, address in addresses.items()}
        self._names = {address: name for name, address in addresses.items()}

    def find(self, name: str) -> str | None:
        """The address of a host, or None."""
        return self._addresses.get(name.lower())

    def find_address(self, address: str) -> list[str]:
        """The names of an address."""
        return [self._names[address]] if address in self._names else []

"""What the nginx of a worker is to serve: doors (ports), in each of them sites (hosts), in each of them paths. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Kubernetes' pathType: by whole elements, the very path, or nginx's own prefix
Match = Literal["Prefix", "Exact", "ImplementationSpecific"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go: `default.web.80`, and the addresses that share them. Without any the answer is 503."""

    name: str
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What an Ingress's annotations say of all its paths. `rewrite` takes the place of the whole path; `regex`: paths
    are regular expressions; `redirect`: from HTTP to HTTPS; `body_size` is nginx's client_max_body_size."""

    rewrite: str = ""
    regex: bool = False
    redirect: bool = True
    body_size: str = ""

    @property
    def by_expression(self) -> bool:
        """Whether its paths are looked for as regular expressions."""
        return self.regex or bool(self.rewrite)


@dataclass(frozen=True, slots=True)
class Route:
    """One path of an Ingress `owner` (`default/web`)."""

    path: str
    match: Match
    upstream: Upstream
    owner: str
    options: Options = Options()


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files with the chain and the key, as PEM."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Site:
    """What one host serves: `www.example.com`, `*.example.com`, or any (empty). `default` takes what no path does;
    without it the answer is 404. Without a certificate of its own it has the common one."""

    host: str
    routes: tuple[Route, ...] = ()
    default: Route | None = None
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """A port for HTTP, one for HTTPS (0: none), and the hosts that are served there."""

    http: int
    https: int
    sites: tuple[Site, ...]

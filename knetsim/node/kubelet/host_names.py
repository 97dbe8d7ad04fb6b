"""What a pod is called: its host name, its domain, and what uname(2) says in it; pure.

Sources: Kubernetes' pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain), pkg/kubelet/util/util.go
(GetNodenameForKernel).
"""

from __future__ import annotations

from dataclasses import dataclass

from knetsim.api.objects import Object
from knetsim.errors import KnetsimError

_LONGEST, _LONGEST_KERNEL = 63, 64


@dataclass(frozen=True, slots=True)
class HostName:
    """A host name, and the domain that makes it a full one, or ""."""

    name: str
    domain: str = ""

    @property
    def full(self) -> str:
        """With the domain."""
        return f"{self.name}.{self.domain}" if self.domain else self.name


def build_host_name(pod: Object, domain: str = "cluster.local") -> HostName:
    """What a pod is called in a cluster whose names end with `domain`."""
    spec, metadata = pod["spec"], pod["metadata"]
    if override := spec.get("hostnameOverride"):
        return HostName(_shorten(override))
    name = _shorten(spec.get("hostname") or metadata["name"])
    if subdomain := spec.get("subdomain"):
        return HostName(name, f"{subdomain}.{metadata['namespace']}.svc.{domain}")
    return HostName(name)


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST else name[:_LONGEST].rstrip("-.")


def build_kernel_name(pod: Object, name: HostName) -> str:
    """What `uname -n` says in the pod. KnetsimError, in the kubelet's words, when that is too long for the kernel."""
    if not name.domain or not pod["spec"].get("setHostnameAsFQDN"):
        return name.name
    if len(name.full) > _LONGEST_KERNEL:
        raise KnetsimError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name.full} is too long"
            f" ({_LONGEST_KERNEL} characters is the max, {len(name.full)} characters requested)"
        )
    return name.full

"""As whom a container runs, from the security contexts of its pod and its own; pure.

Sources: Kubernetes' pkg/securitycontext/util.go (DetermineEffectiveSecurityContext, AddNoNewPrivileges),
pkg/kubelet/kuberuntime/security_context.go (and its messages), pkg/kubelet/sysctl.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.api.objects import Object, name_of, namespace_of, uid_of
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.environment import ConfigError
from knetsim.system.identity import CAPABILITIES, DEFAULT_CAPABILITIES, ProcessIdentity

SYSCTL_FORBIDDEN = "SysctlForbidden"
#: sysctls that hold for one pod alone and harm no other
SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)


class SysctlForbidden(KnetsimError):
    """A pod asks for a sysctl that it may not have: it is rejected, with the reason SysctlForbidden."""


def build_identity(pod: Object, container: Mapping[str, Any], image_user: str) -> ProcessIdentity:
    """As whom a container's processes run; `image_user` is what its image says. ConfigError for a root that must not be
    one."""
    shared, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    effective = {**{name: shared.get(name) for name in ("runAsUser", "runAsGroup", "runAsNonRoot")}, **own}
    for name in ("runAsUser", "runAsGroup", "runAsNonRoot"):
        if own.get(name) is None:
            effective[name] = shared.get(name)
    user = image_user if effective["runAsUser"] is None else str(effective["runAsUser"])
    if effective["runAsNonRoot"]:
        _check_non_root(pod, container, effective["runAsUser"], image_user)
    groups = [shared["fsGroup"]] if shared.get("fsGroup") is not None else []
    return ProcessIdentity(
        user=user,
        group=effective["runAsGroup"],
        groups=(*groups, *(shared.get("supplementalGroups") or ())),
        strict_groups=shared.get("supplementalGroupsPolicy") == "Strict",
        capabilities=_build_capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        privileged=bool(own.get("privileged")),
    )


def _check_non_root(pod: Object, container: Mapping[str, Any], user: int | None, image_user: str) -> None:
    where = f'(pod: "{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})", container: {container["name"]})'
    image_name = image_user.partition(":")[0]
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if user is not None:
        return
    if image_name and not image_name.isdecimal():
        what = f"image has non-numeric user ({image_name}), cannot verify user is non-root"
        raise ConfigError(f"container has runAsNonRoot and {what} {where}")
    if not int(image_name or 0):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _build_capabilities(wanted: Mapping[str, Any]) -> frozenset[str]:
    add, drop = (_read_names(wanted.get(field) or ()) for field in ("add", "drop"))
    base = frozenset(CAPABILITIES) if "all" in add else DEFAULT_CAPABILITIES
    if "all" in drop:
        base = frozenset()
    return (base - drop) | (add - {"all"})


def _read_names(names: Any) -> frozenset[str]:
    found = frozenset(str(name).lower().removeprefix("cap_") for name in names)
    for name in found - {"all"}:
        if name not in CAPABILITIES:
            raise ConfigError(f'unknown capability "CAP_{name.upper()}"')
    return found


def read_sysctls(spec: Mapping[str, Any]) -> dict[str, str]:
    """The sysctls that a pod asks for. SysctlForbidden, in the kubelet's words."""
    found: dict[str, str] = {}
    for one in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = one["name"].replace("/", ".")
        if name not in SAFE_SYSCTLS:
            raise SysctlForbidden(f'forbidden sysctl: "{name}" not allowlisted')
        shared, field = ("net", "hostNetwork") if name.startswith("net.") else ("ipc", "hostIPC")
        if spec.get(field):
            raise SysctlForbidden(f'forbidden sysctl: "{name}" not allowed with host {shared} enabled')
        found[name] = str(one["value"])
    return found

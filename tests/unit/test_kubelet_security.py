"""As whom containers run, and what the pod may ask of the kernel; nothing here needs a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from knetsim.api.objects import Object
from knetsim.node.kubelet.environment import ConfigError
from knetsim.node.kubelet.security import SysctlForbidden, build_identity, read_sysctls
from knetsim.system.identity import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    ProcessIdentity,
    User,
    build_setpriv,
)


def identity(own: Object, image_user: str = "", **shared: Any) -> ProcessIdentity:
    metadata = {"name": "c1", "namespace": "default", "uid": "0-1"}
    pod = {"kind": "Pod", "metadata": metadata, "spec": {"securityContext": shared}}
    return build_identity(pod, {"name": "main", "securityContext": own}, image_user)


def test_a_container_without_a_word_about_it() -> None:
    assert identity({}) == ProcessIdentity()
    assert identity({}, "nginx").user == "nginx"


def test_a_containers_own_words_come_before_its_pods() -> None:
    shared = {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000]}
    found = identity({"runAsUser": 1001, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}, **shared)
    assert (found.user, found.group, found.groups) == ("1001", 2000, (3000, 4000))
    assert found.no_new_privileges
    assert found.read_only_root
    assert identity({}, "nginx", **shared).user == "1000"
    assert not identity({"allowPrivilegeEscalation": True}).no_new_privileges


@pytest.mark.parametrize(
    ("own", "image_user", "why"),
    [
        ({"runAsUser": 0}, "", "container's runAsUser breaks non-root policy"),
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0:5", "container has runAsNonRoot and image will run as root"),
        ({}, "nginx", r"image has non-numeric user \(nginx\), cannot verify user is non-root"),
    ],
)
def test_who_must_not_be_root(own: Object, image_user: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why + r' \(pod: "c1_default\(0-1\)", container: main\)$'):
        identity(own, image_user, runAsNonRoot=True)
    assert identity({"runAsNonRoot": False, **own}, image_user, runAsNonRoot=True)


def test_who_is_not_root() -> None:
    assert identity({"runAsUser": 5}, "", runAsNonRoot=True).user == "5"
    assert identity({}, "101:101", runAsNonRoot=True).user == "101:101"


def test_capabilities() -> None:
    def found(**words: list[str]) -> frozenset[str]:
        return identity({"capabilities": words}).capabilities

    assert found(add=["NET_ADMIN"]) == DEFAULT_CAPABILITIES | {"net_admin"}
    assert found(drop=["ALL"], add=["CAP_CHOWN"]) == {"chown"}
    assert found(add=["ALL"], drop=["SYS_ADMIN"]) == frozenset(CAPABILITIES) - {"sys_admin"}
    assert found(drop=["NET_RAW", "KILL"]) == DEFAULT_CAPABILITIES - {"net_raw", "kill"}
    with pytest.raises(ConfigError, match='unknown capability "CAP_FLY"'):
        found(add=["FLY"])


def test_words_of_setpriv() -> None:
    root, user = User(0, 0, (0,), "/root"), User(1000, 5, (5, 6), "/")
    assert build_setpriv(ProcessIdentity(privileged=True), root) == []
    assert build_setpriv(ProcessIdentity(capabilities=frozenset(CAPABILITIES)), root) == [
        "--clear-groups",
        "--bounding-set=+all",
        "--inh-caps=-all",
    ]
    limited = ProcessIdentity(capabilities=frozenset(("chown", "kill")), no_new_privileges=True)
    assert build_setpriv(limited, user) == [
        "--reuid=1000",
        "--regid=5",
        "--groups=5,6",
        "--bounding-set=-all,+chown,+kill",
        "--inh-caps=-all",
        "--no-new-privs",
    ]
    almost_all = ProcessIdentity(capabilities=frozenset(CAPABILITIES) - {"sys_admin"})
    assert "--bounding-set=-sys_admin" in build_setpriv(almost_all, root)


def sysctls(*names: str, **spec: Any) -> Object:
    return {**spec, "securityContext": {"sysctls": [{"name": name, "value": 1} for name in names]}}


def test_sysctls() -> None:
    asked = sysctls("net/ipv4/tcp_syncookies", "kernel.shm_rmid_forced")
    assert read_sysctls(asked) == {"net.ipv4.tcp_syncookies": "1", "kernel.shm_rmid_forced": "1"}
    assert read_sysctls({}) == {}
    with pytest.raises(SysctlForbidden, match=r'forbidden sysctl: "kernel\.msgmax" not allowlisted'):
        read_sysctls(sysctls("kernel.msgmax"))
    with pytest.raises(SysctlForbidden, match="not allowed with host net enabled"):
        read_sysctls(sysctls("net.ipv4.tcp_syncookies", hostNetwork=True))

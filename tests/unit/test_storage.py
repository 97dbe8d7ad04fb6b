"""Claims: what is made for one, when it is taken away, and which directory a pod's kubelet finds for it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from knetsim import names
from knetsim.api.objects import Object
from knetsim.control.kubernetes.storage import build_volume, is_given_back, wants_volume
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.volumes.claims import find_claimed

CLAIM: Object = {
    "metadata": {
        "namespace": "default",
        "name": "www-web-0",
        "uid": "8a6e",
        "annotations": {"volume.kubernetes.io/storage-provisioner": names.VOLUME_DRIVER},
    },
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "standard",
    },
}
POD: Object = {"metadata": {"namespace": "default", "name": "web-0"}}
VOLUME = {"name": "www", "persistentVolumeClaim": {"claimName": "www-web-0"}}


class Claims:
    """Sources that have one claim and its disk."""

    def __init__(self, disk: Object | None, phase: str = "Bound") -> None:
        self._disk = disk
        self._claim = copy.deepcopy(CLAIM) | {"status": {"phase": phase}}
        self._claim["spec"]["volumeName"] = "pv"

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._claim if (namespace, name) == ("default", "www-web-0") else None

    def disk(self, name: str) -> Object | None:
        return self._disk if name == "pv" else None


def find(sources: Claims, tree: str = "", volume: Object = VOLUME) -> str:
    return find_claimed(POD, volume, sources, tree).path  # type: ignore[arg-type]


def test_a_claim_gets_a_disk_once() -> None:
    assert wants_volume(CLAIM)
    bound = copy.deepcopy(CLAIM)
    bound["spec"]["volumeName"] = "pvc-8a6e"
    assert not wants_volume(bound)
    other = copy.deepcopy(CLAIM)
    other["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": "example.com/disks"}
    assert not wants_volume(other)


def test_the_disk_is_the_claims() -> None:
    volume = build_volume(CLAIM)
    assert volume["metadata"]["name"] == volume["spec"]["csi"]["volumeHandle"] == "pvc-8a6e"
    assert volume["spec"]["claimRef"]["uid"] == "8a6e"
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}


@pytest.mark.parametrize(
    ("phase", "policy", "expected"),
    [("Bound", "Delete", False), ("Released", "Retain", False), ("Released", "Delete", True)],
)
def test_a_disk_is_deleted_when_it_is_given_back_and_not_to_be_kept(phase: str, policy: str, expected: bool) -> None:
    volume = build_volume(CLAIM) | {"status": {"phase": phase}}
    volume["spec"]["persistentVolumeReclaimPolicy"] = policy
    assert is_given_back(volume) is expected


def test_somebody_elses_volume_is_left_alone() -> None:
    volume = build_volume(CLAIM) | {"status": {"phase": "Released"}}
    volume["metadata"]["annotations"] = {}
    assert not is_given_back(volume)


def test_a_host_path_is_the_workers(tmp_path: Path) -> None:
    found = find(Claims({"spec": {"hostPath": {"path": "/mnt/data"}}}), str(tmp_path / "host"))
    assert found == str(tmp_path / "host/mnt/data")


def test_a_local_volume_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(KnetsimError, match="/mnt/disk is not a directory"):
        find(Claims({"spec": {"local": {"path": "/mnt/disk"}}}), str(tmp_path / "host"))


@pytest.mark.parametrize("handle", ["../../etc", "/etc", "pvc-1/../..", "pvc-"])
def test_a_disk_is_never_outside_its_place(handle: str) -> None:
    disk = {"spec": {"csi": {"driver": names.VOLUME_DRIVER, "volumeHandle": handle}}}
    with pytest.raises(KnetsimError, match="does not simulate"):
        find(Claims(disk))


def test_other_storage_is_named() -> None:
    spec = {"capacity": {}, "accessModes": [], "nfs": {"server": "10.1.0.1", "path": "/"}, "volumeMode": "Filesystem"}
    with pytest.raises(KnetsimError, match="volumes of type nfs"):
        find(Claims({"spec": spec}))


def test_what_is_not_bound_is_waited_for() -> None:
    with pytest.raises(KnetsimError, match="PVC default/www-web-0 is not bound"):
        find(Claims(None, phase="Pending"))
    with pytest.raises(KnetsimError, match='persistentvolumeclaim "none" not found'):
        find(Claims(None), volume={"name": "www", "persistentVolumeClaim": {"claimName": "none"}})

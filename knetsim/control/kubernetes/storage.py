"""Volumes for claims: what stands in for a storage provisioner and its network disks.

Reality: a claim without a class gets the cluster's default StorageClass; the class's provisioner, which is no part of
Kubernetes, makes a disk and a PersistentVolume for it, the volume controller binds the two, and leaves a volume that
was given back to the provisioner to delete (kubernetes-csi/external-provisioner). Ours: the class `standard`, as
minikube and kind call theirs, whose disks are directories that all workers see, so that a pod which is moved finds its
files again: `ls /tmp/knetsim/volumes`.

How it differs: nothing is attached; sizes and access modes are not enforced. `kubectl get sc,pvc,pv` shows the rest.
"""

from __future__ import annotations

import logging
import shutil

from knetsim import names
from knetsim.api.http_store import HttpStore
from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of
from knetsim.errors import NotFound

_log = logging.getLogger(__name__)

_WANTED = "volume.kubernetes.io/storage-provisioner"  # on a claim, by the volume controller
_MADE = "pv.kubernetes.io/provisioned-by"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def build_storage_objects() -> list[Object]:
    """The class that claims without one get, and what says that its disks need not be attached."""
    driver = {"name": names.VOLUME_DRIVER}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": driver,
            "spec": {"attachRequired": False, "fsGroupPolicy": "File"},
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "standard", "annotations": {_DEFAULT: "true"}},
            "provisioner": names.VOLUME_DRIVER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
        },
    ]


def build_volume(claim: Object) -> Object:
    """The PersistentVolume of a claim's new disk."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE: names.VOLUME_DRIVER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{field: metadata[field] for field in ("namespace", "name", "uid")},
            },
            "csi": {"driver": names.VOLUME_DRIVER, "volumeHandle": name},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
        },
    }


def wants_volume(claim: Object) -> bool:
    """Whether a claim waits for a disk of ours."""
    wanted = (claim["metadata"].get("annotations") or {}).get(_WANTED) == names.VOLUME_DRIVER
    return wanted and not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]


def is_given_back(volume: Object) -> bool:
    """Whether a disk of ours is to be deleted: its claim is gone, and nobody said that it is to be kept."""
    ours = (volume["metadata"].get("annotations") or {}).get(_MADE) == names.VOLUME_DRIVER
    released = (volume.get("status") or {}).get("phase") == "Released"
    return ours and released and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"


class Provisioner:
    """Makes and deletes the disks of one cluster's claims."""

    def __init__(self, store: HttpStore) -> None:
        self._store = store
        self._claims, self._volumes = Informer(store, "PersistentVolumeClaim"), Informer(store, "PersistentVolume")
        self._loop = Loop("volumes", self._reconcile, self._note_failure, threads=1)

    def start(self) -> None:
        """Tell the cluster of its storage, and begin."""
        for obj in build_storage_objects():
            self._store.apply(obj)
        for informer in (self._claims, self._volumes):
            informer.on_change(lambda key, before, after: self._loop.add(key))
            informer.start()
        self._loop.start()

    def stop(self) -> None:
        """End the watches, then what they ask for."""
        for informer in (self._claims, self._volumes):
            informer.stop()
        self._loop.stop()

    def _reconcile(self, key: str) -> None:
        """A claim's key has a namespace, a volume's has none."""
        claim, volume = self._claims.by_key(key), self._volumes.by_key(key)
        if claim is not None and wants_volume(claim):
            self._store.apply(build_volume(claim))
        if volume is not None and is_given_back(volume):
            shutil.rmtree(f"{names.VOLUMES}/{key_of(volume)}", ignore_errors=True)
            try:
                self._store.delete_object(volume)
            except NotFound:
                pass  # somebody was faster, or it has not been told yet

    def _note_failure(self, key: str, error: Exception, pause: float) -> None:
        _log.warning("the volume of %s: %s; again in %.1f s", key, error, pause)

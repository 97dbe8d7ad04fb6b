"""What a pod's claim has got: the directory that its PersistentVolume stands for.

Reality: the scheduler binds a pod only when its claims are bound to volumes; the kubelet reads claim and volume and
mounts what the volume says. Sources: Kubernetes' pkg/kubelet/volumemanager (createVolumeSpec), and its messages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from knetsim import names
from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.sources import Sources
from knetsim.node.kubelet.volumes.host_tree import HostSource, find_host_path

#: volumes that are claims: named, or made for the pod by the controllers
CLAIMS = ("persistentVolumeClaim", "ephemeral")
_NOT_SOURCES = frozenset(
    ("accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy")
) | {"storageClassName", "volumeAttributesClassName", "volumeMode"}
_HANDLE = re.compile(r"pvc-[0-9a-f-]+")


def find_claimed(pod: Object, volume: Mapping[str, Any], sources: Sources, tree: str) -> HostSource:
    """The directory of a claim; `tree` is the worker's own. KnetsimError in the kubelet's words."""
    namespace = pod["metadata"]["namespace"]
    named = volume.get("persistentVolumeClaim") or {}
    name = named.get("claimName") or f"{pod['metadata']['name']}-{volume['name']}"
    claim = sources.claim(namespace, name)
    if claim is None:
        raise KnetsimError(f'persistentvolumeclaim "{name}" not found')
    bound = claim["spec"].get("volumeName")
    if not bound or (claim.get("status") or {}).get("phase") != "Bound":
        raise KnetsimError(f"PVC {namespace}/{name} is not bound")
    disk = sources.disk(bound)
    if disk is None:
        raise KnetsimError(f'persistentvolume "{bound}" not found')
    return _find_directory(disk["spec"], tree)


def _find_directory(spec: Mapping[str, Any], tree: str) -> HostSource:
    if host := spec.get("hostPath"):
        return find_host_path(tree, host["path"], host.get("type") or "")
    if local := spec.get("local"):
        return find_host_path(tree, local["path"], "Directory")
    disk = spec.get("csi") or {}
    handle = str(disk.get("volumeHandle"))
    if disk.get("driver") != names.VOLUME_DRIVER or not _HANDLE.fullmatch(handle):
        kind = next((field for field in spec if field not in _NOT_SOURCES), "unknown")
        what = f"{kind} ({disk['driver']})" if disk else kind
        raise KnetsimError(f"knetsim's kubelet does not simulate volumes of type {what}")
    path = f"{names.VOLUMES}/{handle}"
    os.makedirs(path, exist_ok=True)
    if not os.listdir(path):
        os.chmod(path, 0o777)
    return HostSource(path, read_only=bool(disk.get("readOnly")), owned=True)

"""Static pods: manifests in a folder of a worker, `/tmp/knetsim/C0w1/manifests/*.yaml`, that run unasked.

Reality: the kubelet runs what lies in its folder, whether there is an API server or not, and shows each such pod there
as a mirror pod, which has the node's name behind its own; deleting the mirror deletes only the mirror, which comes
back, and the containers do not notice. Ours runs the mirror itself, so a store is needed; the rest holds: the run
belongs to the manifest, by its hash, and is taken over by each mirror of it. The folder is read every two seconds.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from knetsim.api.informer import Informer
from knetsim.api.loop import Clock, Loop
from knetsim.api.objects import Object, format_time, key_of, name_of, namespace_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import AlreadyExists, Conflict, KnetsimError, NotFound, ObjectError
from knetsim.names import DEFAULT_NAMESPACE

SOURCE, MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"
_HASH, _SEEN = "kubernetes.io/config.hash", "kubernetes.io/config.seen"
_LOOK_SECONDS = 2.0
_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(slots=True)
class _Folder:
    """One worker's folder, and what was wrong in it at the last look."""

    path: Path
    node: Callable[[], Object]
    wrong: frozenset[str] = frozenset()
    wanted: dict[str, Object] = field(default_factory=dict)
    seen: bool = False


class StaticPods:
    """The static pods of all workers of a cluster. `tell(node, reason, message)` becomes an Event of the Node."""

    def __init__(self, store: Store, pods: Informer, tell: Callable[[str, str, str], None], wall: Clock) -> None:
        self._store, self._pods, self._tell, self._wall = store, pods, tell, wall
        self._folders: dict[str, _Folder] = {}
        self._lock = threading.Lock()
        self._loop = Loop("static pods", self._look, self._note_failure, threads=1)

    def add(self, node: str, directory: str, read_node: Callable[[], Object]) -> None:
        """Look into a worker's folder, too."""
        with self._lock:
            self._folders[node] = _Folder(Path(directory, "manifests"), read_node)
        self._loop.add(node)

    def start(self) -> None:
        """Begin to look."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more; what runs goes on."""
        self._loop.stop()

    def wants(self, key: str, digest: str) -> bool:
        """Whether a manifest with this hash is to run under this key."""
        with self._lock:
            folders = list(self._folders.values())
        return any(digest == hash_of(folder.wanted[key]) for folder in folders if key in folder.wanted)

    def _note_failure(self, node: str, error: Exception, pause: float) -> None:
        self._tell(node, "FailedStaticPods", f"trying again in {pause:g} s: {error}")

    def _look(self, node: str) -> float:
        folder, wrong = self._folders[node], set()
        wanted: dict[str, Object] = {}
        for path in _files(folder.path):
            try:
                for pod in read_static_pods(path, folder.node(), self._wall()):
                    wanted[key_of(pod)] = pod
            except (KnetsimError, OSError, ValueError, yaml.YAMLError) as error:
                wrong.add(f"{path.name}: {' '.join(str(error).split())}")
        gone, folder.wanted = folder.wanted.keys() - wanted.keys(), wanted
        if wanted or gone or not folder.seen:
            wrong |= self._ensure(node, wanted)
        for words in sorted(wrong - folder.wrong):
            self._tell(node, "FailedValidation", words)
        folder.wrong, folder.seen = frozenset(wrong), True
        return _LOOK_SECONDS

    def _ensure(self, node: str, wanted: dict[str, Object]) -> set[str]:
        """Have the store show what is wanted and nothing else; which pods it refuses, and why."""
        for pod in self._pods.items():
            here = pod["spec"].get("nodeName") == node and is_mirror(pod)
            if here and key_of(pod) not in wanted and not pod["metadata"].get("deletionTimestamp"):
                self._delete(pod, None)
        wrong = set()
        for key, pod in wanted.items():
            stored = self._pods.by_key(key)
            if stored is not None and is_mirror(stored) and hash_of(stored) != hash_of(pod):
                self._delete(stored, 0)
                stored = None
            if stored is None:
                try:
                    self._store.create(pod)
                except AlreadyExists:
                    pass  # the informer is about to say so
                except (ObjectError, NotFound) as error:  # no pod, or of a namespace that there is not
                    wrong.add(f"{key}: {' '.join(str(error).split())}")
        return wrong

    def _delete(self, pod: Object, grace: int | None) -> None:
        try:
            self._store.delete("Pod", name_of(pod), namespace_of(pod), grace_seconds=grace, uid=uid_of(pod))
        except (NotFound, Conflict):
            pass  # it is gone already


def is_mirror(pod: Object) -> bool:
    """Whether a pod shows what lies in a worker's folder."""
    return (pod["metadata"].get("annotations") or {}).get(SOURCE) == "file"


def hash_of(pod: Object) -> str:
    """What identifies the manifest of a mirror pod; "" for any other."""
    return str((pod["metadata"].get("annotations") or {}).get(MIRROR, ""))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_static_pods(path: Path, node: Object, now: float) -> Iterator[Object]:
    """The mirror pods of a file. ValueError says what is wrong with it."""
    for document in yaml.safe_load_all(path.read_text()):
        if document is None:
            continue
        if not isinstance(document, dict) or document.get("kind") != "Pod" or document.get("apiVersion") != "v1":
            raise ValueError("a static pod is a v1 Pod")
        _check(document)
        yield build_mirror(document, node, now)


def _check(pod: dict[str, Any]) -> None:
    """Whether a mirror can be made of a manifest; all else is the store's to say. ValueError."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    shapes: list[tuple[str, Any, type]] = [("metadata", metadata, dict), ("spec", spec, dict)]
    if isinstance(metadata, dict):
        shapes += [(f"metadata.{name}", metadata.get(name) or {}, dict) for name in ("labels", "annotations")]
    if isinstance(spec, dict):
        shapes += [(f"spec.{name}", spec.get(name) or [], list) for name in ("containers", "tolerations")]
    for path, value, shape in shapes:
        if not isinstance(value, shape):
            raise ValueError(f"{path} must be a {'mapping' if shape is dict else 'list'}")
    if not metadata.get("name") or not spec.get("containers"):
        raise ValueError("a static pod needs metadata.name and spec.containers")


def build_mirror(pod: dict[str, Any], node: Object, now: float) -> Object:
    """The pod by which the store shows a manifest."""
    digest = hashlib.sha256(f"{name_of(node)}\0{yaml.safe_dump(pod, sort_keys=True)}".encode()).hexdigest()[:32]
    metadata = pod["metadata"]
    notes = {_HASH: digest, MIRROR: digest, SOURCE: "file", _SEEN: format_time(now)}
    owner = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node), "controller": True}
    tolerations = [*(pod["spec"].get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            **{field: metadata[field] for field in ("labels", "annotations") if metadata.get(field)},
            "name": f"{metadata['name']}-{name_of(node)}",
            "namespace": metadata.get("namespace") or DEFAULT_NAMESPACE,
            "annotations": {**(metadata.get("annotations") or {}), **notes},
            "ownerReferences": [owner],
        },
        "spec": {**pod["spec"], "nodeName": name_of(node), "tolerations": tolerations},
    }

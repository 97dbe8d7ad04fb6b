"""All volumes of one pod: made before its containers, kept up to date, mounted, taken away."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from knetsim.api.objects import Object
from knetsim.dataplane.pod import WorkerPlace
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.environment import ConfigError, expand_all
from knetsim.node.kubelet.quantities import parse_quantity
from knetsim.node.kubelet.sources import Sources
from knetsim.node.kubelet.volumes.claims import CLAIMS, find_claimed
from knetsim.node.kubelet.volumes.host_tree import HostSource, find_host_path
from knetsim.node.kubelet.volumes.ownership import give_to_group
from knetsim.node.kubelet.volumes.payload import BUILDERS, Projection, build_payload
from knetsim.node.kubelet.volumes.tokens import Tokens
from knetsim.node.kubelet.volumes.writer import write_payload
from knetsim.system import rootfs
from knetsim.system.netns import entered
from knetsim.system.rootfs import Mount

#: the volume sources that are carried out
SIMULATED = frozenset((*BUILDERS, "emptyDir", "hostPath", *CLAIMS))
_CONTAINER_FIELDS = ("initContainers", "containers", "ephemeralContainers")


class MountError(KnetsimError):
    """Volumes that cannot be made yet; `messages` are those of Events with the reason FailedMount."""

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.messages = [f'MountVolume.SetUp failed for volume "{name}" : {why}' for name, why in failures]
        super().__init__("; ".join(self.messages))


class PodVolumes:
    """One pod's volumes; used by one thread at a time."""

    def __init__(
        self, directory: str, worker: WorkerPlace, pod: Object, sources: Sources, wall: Callable[[], float]
    ) -> None:
        """`directory` is the pod's own, on its worker."""
        self._directory, self._worker, self._sources = f"{directory}/volumes", worker, sources
        self._pod = pod
        self._tokens = Tokens(pod, sources, wall)
        self._made: dict[str, HostSource] = {}

    # --- making

    def prepare(self, pod: Object, *, looked_at: bool = True) -> None:
        """Make what is missing, and have what there is show what it is made of by now. MountError while that fails.

        When nobody looks at files (the pod only holds its network), no token is asked for.
        """
        failures = []
        self._pod = pod
        used = _used_names(pod["spec"])
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            if name not in used or (not looked_at and _holds_token(volume)):
                continue
            try:
                self._prepare(pod, volume)
            except KnetsimError as error:
                failures.append((name, str(error)))
            except OSError as error:
                failures.append((name, f"{error.filename or ''}: {os.strerror(error.errno or 0)}".lstrip(": ")))
        if failures:
            raise MountError(failures)

    def next_look(self) -> float | None:
        """Seconds until a token of it is to be replaced."""
        return self._tokens.next_replacement()

    def _prepare(self, pod: Object, volume: Mapping[str, Any]) -> None:
        name = volume["name"]
        kind = next((kind for kind in volume if kind != "name" and volume[kind] is not None), "emptyDir")
        if kind not in SIMULATED:
            raise KnetsimError(f"knetsim's kubelet does not simulate volumes of type {kind}")
        if kind in BUILDERS:
            self._write(pod, volume)
        elif name not in self._made and kind == "hostPath":
            source = volume[kind]
            self._made[name] = find_host_path(
                f"{self._worker.directory}/host", source["path"], source.get("type") or ""
            )
        elif name not in self._made and kind in CLAIMS:
            self._made[name] = found = find_claimed(pod, volume, self._sources, f"{self._worker.directory}/host")
            group = _group(pod)
            if group is not None and found.owned:
                give_to_group(found.path, group, read_only=False)
        elif name not in self._made:
            self._make_empty(pod, volume)

    def _write(self, pod: Object, volume: Mapping[str, Any]) -> None:
        path = self._path(volume["name"])
        payload = build_payload(volume, Projection(pod, self._sources, self._tokens.get, _user_of_all(pod["spec"])))
        _make_directory(path)
        if _is_secret(volume):
            rootfs.mount_memory(self._worker.namespaces, path, 0)  # no secret is ever on a disk
        group = _group(pod)

        def set_permissions() -> None:
            if group is not None:
                give_to_group(path, group, read_only=True)

        with entered(self._worker.namespaces):  # where file systems in memory are seen
            os.chmod(path, 0o777)
            for nested in _nested_mounts(pod["spec"], volume["name"]):
                os.makedirs(f"{path}/{nested}", 0o755, exist_ok=True)
            write_payload(path, payload, set_permissions)
        self._made[volume["name"]] = HostSource(path, read_only=True)

    def _make_empty(self, pod: Object, volume: Mapping[str, Any]) -> None:
        """An emptyDir: a directory; with a limit, or in memory, a file system of its own, seen on the worker too."""
        path, limit, group = self._path(volume["name"]), _memory_limit(volume), _group(pod)
        _make_directory(path)
        if limit is not None:
            rootfs.mount_memory(self._worker.namespaces, path, limit)
        if group is not None:
            with entered(self._worker.namespaces):
                give_to_group(path, group, read_only=False)
        self._made[volume["name"]] = HostSource(path)

    def _path(self, volume: str) -> str:
        return f"{self._directory}/{volume}"

    # --- mounting

    def mounts(self, container: Mapping[str, Any], env: Mapping[str, str]) -> list[Mount]:
        """A container's volumes at its mount paths. ConfigError for a path below a volume that cannot be had."""
        mounts = []
        for mount in container.get("volumeMounts") or ():
            made = self._made.get(mount["name"])
            if made is None:
                raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            source = made.path
            if below := _read_sub_path(mount, env):
                with entered(self._worker.namespaces):  # where file systems in memory are seen
                    source = _find_below(source, below, mount["name"], container["name"])
            target = mount["mountPath"] if mount["mountPath"].startswith("/") else f"/{mount['mountPath']}"
            mounts.append(Mount(source, target, mount.get("readOnly", False) or made.read_only))
        return mounts

    def remove(self) -> None:
        """Take everything away, but for what lies in the worker's own tree. Twice is once."""
        for volume in self._pod["spec"].get("volumes") or ():
            if _memory_limit(volume) is not None or _is_secret(volume):
                rootfs.unmount_memory(self._worker.namespaces, self._path(volume["name"]))
        shutil.rmtree(self._directory, ignore_errors=True)
        self._made.clear()


def _make_directory(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path)
        os.chmod(path, 0o777)


def _read_sub_path(mount: Mapping[str, Any], env: Mapping[str, str]) -> str:
    path: str = mount.get("subPath") or ""
    if mount.get("subPathExpr"):
        path = expand_all(mount["subPathExpr"], env)
    if path.startswith("/"):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _find_below(volume: str, path: str, name: str, container: str) -> str:
    """What is at a subPath of a volume, a directory if nothing is; a container may have put a link there that leads
    elsewhere."""
    root, source = os.path.realpath(volume), os.path.realpath(f"{volume}/{path}")
    if os.path.commonpath((root, source)) != root:
        raise ConfigError(f'failed to prepare subPath for volumeMount "{name}" of container "{container}"')
    if not os.path.exists(source):
        try:
            mode = stat.S_IMODE(os.stat(root).st_mode)
            made = root
            for part in os.path.relpath(source, root).split("/"):
                made = f"{made}/{part}"
                if not os.path.isdir(made):
                    os.mkdir(made)
                    os.chmod(made, mode)
        except OSError as error:
            message = f'failed to create subPath directory for volumeMount "{name}" of container "{container}"'
            raise ConfigError(message) from error
    return source


def _used_names(spec: Mapping[str, Any]) -> set[str]:
    """Volumes that a container mounts: others are not made."""
    return {mount["name"] for container in _containers(spec) for mount in container.get("volumeMounts") or ()}


def _nested_mounts(spec: Mapping[str, Any], volume: str) -> Iterator[str]:
    """Where below a volume, which its container cannot write, other volumes are mounted."""
    for container in _containers(spec):
        mounts = container.get("volumeMounts") or ()
        for outer in mounts:
            if outer["name"] != volume or outer.get("subPath") or outer.get("subPathExpr"):
                continue
            root = outer["mountPath"].rstrip("/") + "/"
            yield from (one["mountPath"][len(root) :] for one in mounts if one["mountPath"].startswith(root))


def _containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for field in _CONTAINER_FIELDS:
        yield from spec.get(field) or ()


def _is_secret(volume: Mapping[str, Any]) -> bool:
    """Whether a volume is a Secret, or made from one or from a token among others."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    held = any("secret" in source or "serviceAccountToken" in source for source in sources)
    return held or volume.get("secret") is not None


def _holds_token(volume: Mapping[str, Any]) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any("serviceAccountToken" in source for source in sources)


def _group(pod: Object) -> int | None:
    group: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return group


def _user_of_all(spec: Mapping[str, Any]) -> int | None:
    """The user as whom all containers run, if the spec says so."""
    default = (spec.get("securityContext") or {}).get("runAsUser")
    users = {(container.get("securityContext") or {}).get("runAsUser", default) for container in _containers(spec)}
    return users.pop() if len(users) == 1 else None


def _memory_limit(volume: Mapping[str, Any]) -> int | None:
    """The bytes that a volume of its own file system may hold, 0 for no limit; None for a plain directory."""
    options = volume.get("emptyDir") or {}
    limit = parse_quantity(options.get("sizeLimit") or 0)
    return limit if limit or options.get("medium") == "Memory" else None

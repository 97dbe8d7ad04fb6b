"""Kubernetes manifests of a scenario: found, read with positions, checked as far as that goes without a store.

An entry of `spec.manifests` is a file or a folder. Of a folder every *.yaml, *.yml and *.json in it and below is read,
in the order of their names, hidden ones left out; Namespaces come first. A folder called as a cluster holds what is for
that cluster only; all else goes to every cluster. As with kubectl, a file holds any number of documents, and a List
stands for its items.

Checked here: YAML, apiVersion, kind and metadata.name, one object of a name, and that `spec.nodeName` of a Pod is a
worker of the cluster; it may be written as the Mininet host (C0w1) or as the Node (c0w1) and becomes the latter.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knetsim import names
from knetsim.errors import ObjectError, Problem, ScenarioError
from knetsim.scenario.document import Document, KeyPath, read_documents
from knetsim.scenario.files import read_text
from knetsim.scenario.spec import KIND, ClusterSpec, ManifestRef
from knetsim.scenario.wording import explain_value, quote

#: raises ObjectError for what would not be accepted: (object, the `controlPlane` of the cluster that it is for)
ObjectCheck = Callable[[dict[str, Any], str], object]

_SUFFIXES = (".yaml", ".yml", ".json")
_CLUSTER_LIKE = re.compile(r"[Cc][0-9]+")
_SURROGATE_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a manifest file, and where it begins."""

    object: dict[str, Any]
    file: str
    line: int
    column: int
    document: Document = field(repr=False, compare=False)
    path: KeyPath = field(default=(), repr=False, compare=False)

    def problem(self, where: str, what: str, hint: str = "") -> Problem:
        """A mistake at a field, named as in `spec.containers[0].image` or `metadata.labels[example.com/zone]`."""
        words = re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", where)
        keys = [int(inner) if inner.isdecimal() else inner or outer for outer, inner in words]
        return self.document.problem((*self.path, *keys), what, hint)


@dataclass(frozen=True, slots=True)
class ClusterNodes:
    """What manifests need to know of a cluster; `nodes` is None where the workers are not known."""

    name: str
    nodes: frozenset[str] | None
    control_plane: str = "auto"

    @classmethod
    def of(cls, cluster: ClusterSpec) -> ClusterNodes:
        """From the scenario."""
        nodes = frozenset(cluster.node_of(worker) for worker in cluster.workers)
        return cls(cluster.name, nodes, cluster.control_plane)


def collect_manifests(
    refs: Sequence[ManifestRef], clusters: Sequence[ClusterNodes], check_object: ObjectCheck | None
) -> tuple[dict[str, list[Manifest]], list[Problem]]:
    """The objects of each cluster, and every mistake; an entry that is not there is left to the scenario's checks."""
    collector = _Collector(clusters, check_object)
    for path in dict.fromkeys(ref.path for ref in refs):  # one that is listed twice is the scenario's problem
        collector.collect(next(ref for ref in refs if ref.path == path))
    for manifests in collector.manifests.values():
        manifests.sort(key=lambda manifest: manifest.object["kind"] != "Namespace")  # others live in them
    return collector.manifests, collector.problems


@dataclass(slots=True)
class _Collector:
    clusters: Sequence[ClusterNodes]
    check_object: ObjectCheck | None
    problems: list[Problem] = field(default_factory=list)
    manifests: dict[str, list[Manifest]] = field(default_factory=dict)
    defined: dict[tuple[str, ...], Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifests = {cluster.name: [] for cluster in self.clusters}

    def collect(self, ref: ManifestRef) -> None:
        known = len(self.problems)
        files = list(self._files(ref.path, Path(ref.written).parts, ()))
        if os.path.isdir(ref.path) and not files and len(self.problems) == known:
            self.problems.append(Problem(str(ref.path), 0, 0, "no *.yaml, *.yml or *.json in this folder"))
        for file, folders in files:
            for manifest in self._read(file):
                self._assign(manifest, folders)

    def _files(
        self, path: Path, folders: tuple[str, ...], above: tuple[str, ...]
    ) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """The files of an entry, each with the folders that lead to it, as the user wrote them and below.

        `above` holds the real paths that the search went through: a link to one of them would lead in a circle.
        """
        if not os.path.isdir(path):
            if os.path.exists(path):
                yield path, folders[:-1]
            return
        real = os.path.realpath(path)
        if real in above or not self._check_folder(path, folders):
            return
        try:
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            self.problems.append(Problem(str(path), 0, 0, f"cannot be read: {error.strerror}"))
            return
        for entry in entries:
            if os.path.isdir(entry):
                yield from self._files(entry, (*folders, entry.name), (*above, real))
            elif entry.suffix in _SUFFIXES:
                yield entry, folders

    def _check_folder(self, path: Path, folders: tuple[str, ...]) -> bool:
        """Whether a folder is not one that seems meant for a cluster which is not there; it would go to all of them."""
        name = folders[-1] if folders else ""
        known = [cluster.name for cluster in self.clusters]
        lower = {cluster.lower() for cluster in known}
        if name in known or not (name.lower() in lower or _CLUSTER_LIKE.fullmatch(name)):
            return True
        what = f"the folder {quote(name)} looks like a cluster's, but the scenario has no cluster of that name"
        self.problems.append(Problem(str(path), 0, 0, what, names.did_you_mean(name, known)))
        return False

    def _read(self, file: Path) -> list[Manifest]:
        """The objects of a file, those that have what each object has."""
        shown = os.fspath(file)
        try:
            text = read_text(shown)
        except ScenarioError as error:
            self.problems += error.problems
            return []
        if file.suffix == ".json":
            text, problem = _check_json(text, shown)
            if problem:
                self.problems.append(problem)
                return []
        documents, problems = read_documents(text, shown)
        self.problems += problems
        return [manifest for document in documents for manifest in self._objects(document, ())]

    def _objects(self, document: Document, path: KeyPath) -> Iterator[Manifest]:
        value = document.value
        for key in path:
            value = value[key]
        if not isinstance(value, dict):
            what = f"a manifest must be a mapping, but is {explain_value(value)}"
            self.problems.append(document.problem(path, what, "it begins with 'apiVersion: v1' and 'kind: Pod', say"))
            return
        problems = list(_find_object_problems(document, path, value))
        if problems:
            self.problems += problems
        elif value["kind"] == "List":
            items = value.get("items")
            if not isinstance(items, list):
                self.problems.append(document.problem((*path, "items"), "the items of a List must be a list"))
                return
            for index in range(len(items)):
                yield from self._objects(document, (*path, "items", index))
        else:
            yield Manifest(value, document.file, *document.where(path), document, path)

    def _assign(self, manifest: Manifest, folders: tuple[str, ...]) -> None:
        """Give each cluster that the manifest is for an object of its own."""
        named = [cluster for folder in folders for cluster in self.clusters if cluster.name == folder]
        chosen = named[-1:] or self.clusters
        for cluster in chosen:
            self._place(manifest, cluster, shared=len(chosen) > 1)
        if self.check_object:
            for control_plane in sorted({cluster.control_plane for cluster in chosen}):
                try:
                    self.check_object(_without_node(manifest.object), control_plane)
                except ObjectError as error:
                    refusals = _explain_refusal(error, manifest)
                    self.problems += [refusal for refusal in refusals if refusal not in self.problems]

    def _place(self, manifest: Manifest, cluster: ClusterNodes, shared: bool) -> None:
        """The manifest as it goes to one cluster."""
        value = copy.deepcopy(manifest.object)
        own = Manifest(value, manifest.file, manifest.line, manifest.column, manifest.document, manifest.path)
        first = self._first_of(own, cluster)
        if first is not own:
            name = quote(value["metadata"]["name"])
            what = f"a second {value['kind']} {name} for cluster {cluster.name} (first in {first.file}:{first.line})"
            self.problems.append(own.problem("metadata.name", what, "remove or rename one"))
            return
        problem = _bind(own, cluster, self.clusters, shared) if value["kind"] == "Pod" else None
        if problem:
            self.problems.append(problem)
        self.manifests[cluster.name].append(own)

    def _first_of(self, manifest: Manifest, cluster: ClusterNodes) -> Manifest:
        """The first manifest of this kind and name for the cluster; each with a generateName is the first."""
        metadata = manifest.object["metadata"]
        if "name" not in metadata:
            return manifest
        namespace = str(metadata.get("namespace", names.DEFAULT_NAMESPACE))
        key = (cluster.name, manifest.object["apiVersion"], manifest.object["kind"], namespace, metadata["name"])
        return self.defined.setdefault(key, manifest)


def _without_node(value: dict[str, Any]) -> dict[str, Any]:
    """A copy of an object for the store's check; a Pod's nodeName has been looked at with more knowledge here."""
    value = copy.deepcopy(value)
    if value["kind"] == "Pod" and isinstance(value.get("spec"), dict):
        value["spec"].pop("nodeName", None)
    return value


def _explain_refusal(error: ObjectError, manifest: Manifest) -> Iterator[Problem]:
    """Each mistake for which the store would refuse an object, at its field."""
    if error.problems == ((error.field, error.what),):
        what = f"{error.what}: {error.why}" if error.why else error.what
        yield manifest.problem(error.field, what, error.hint)
        return
    for where, text in error.problems:
        yield manifest.problem(where, f"{where}: {text}", error.hint)


def _find_object_problems(document: Document, path: KeyPath, value: dict[str, Any]) -> Iterator[Problem]:
    """What every object has: apiVersion, kind, metadata.name."""
    for key, example in (("apiVersion", "v1"), ("kind", "Pod")):
        if key not in value:
            yield document.problem(path, f"the manifest lacks '{key}'", _missing_hint(value, key, f"{key}: {example}"))
        elif not isinstance(value[key], str) or not value[key]:
            yield document.problem((*path, key), f"{key} must be text, but is {explain_value(value[key])}")
    if value.get("kind") == KIND:
        hint = "scenarios do not hold scenarios; keep manifests in a folder of their own"
        yield document.problem((*path, "kind"), "this is a scenario, not a Kubernetes manifest", hint)
        return
    if value.get("kind") == "List":
        return
    metadata = value.get("metadata")
    if "metadata" not in value:
        hint = _missing_hint(value, "metadata", "metadata: {name: …}")
        yield document.problem(path, "the manifest lacks 'metadata'", hint)
    elif not isinstance(metadata, dict):
        yield document.problem((*path, "metadata"), f"metadata must be a mapping, but is {explain_value(metadata)}")
    elif "name" not in metadata:
        if not metadata.get("generateName"):
            hint = _missing_hint(metadata, "name", "name: …")
            yield document.problem((*path, "metadata"), "metadata lacks 'name'", hint)
    elif not isinstance(metadata["name"], str) or not metadata["name"]:
        what = f"metadata.name must be text, but is {explain_value(metadata['name'])}"
        hint = "put it in quotes" if isinstance(metadata["name"], bool | int | float) else ""
        yield document.problem((*path, "metadata", "name"), what, hint)


def _missing_hint(value: dict[str, Any], key: str, example: str) -> str:
    near = names.nearest_word(key, value)
    return f"is {quote(near)} meant to be '{key}'?" if near else f"add '{example}'"


def _bind(manifest: Manifest, cluster: ClusterNodes, clusters: Sequence[ClusterNodes], shared: bool) -> Problem | None:
    """Turn the Pod's nodeName into the name of a Node of the cluster."""
    spec = manifest.object.get("spec")
    if not isinstance(spec, dict) or spec.get("nodeName") is None:
        return None
    written = spec["nodeName"]
    if not isinstance(written, str):
        return manifest.problem("spec.nodeName", f"nodeName must be text, but is {explain_value(written)}")
    node = names.node_name(written)
    if cluster.nodes is None or node in cluster.nodes:
        spec["nodeName"] = node
        return None
    what = f"nodeName {quote(written)} is no worker of cluster {cluster.name}"
    owners = [other.name for other in clusters if other.nodes and node in other.nodes]
    if owners and shared:
        hint = f"the manifest goes to every cluster; for {owners[0]} alone, move it to a folder called {owners[0]}"
    elif owners:
        hint = f"it is one of {owners[0]}, but the folder is for {cluster.name}"
    else:
        hint = names.did_you_mean(node, cluster.nodes)
    return manifest.problem("spec.nodeName", what, hint)


def _check_json(text: str, file: str) -> tuple[str, Problem | None]:
    """JSON by its own rules, which are stricter than YAML's; the text is then fit to be read as YAML."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return text, Problem(file, error.lineno, error.colno, f"not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        return text, Problem(file, 1, 1, f"JSON that cannot be read: {error}")
    # JSON writes characters beyond U+FFFF as two escapes, which YAML does not know
    return _SURROGATE_PAIR.sub(lambda match: str(json.loads(f'"{match[0]}"')), text), None

"""From a path or a text to a `Scenario`, or to every mistake at once.

The stages, each of which goes on where the one before found nothing wrong: text → values with positions (`document`) →
structure (`structure`, the JSON schema) → dataclasses (`resolve`, defaults) → meaning (`checks`) → `manifests`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from knetsim.errors import Problem, ScenarioError
from knetsim.names import did_you_mean, nearest_word
from knetsim.scenario.checks import find_semantic_problems
from knetsim.scenario.document import Document, read_documents
from knetsim.scenario.draft import Draft, cluster_path, cut_out
from knetsim.scenario.files import read_text
from knetsim.scenario.manifests import ClusterNodes, Manifest, ObjectCheck, collect_manifests
from knetsim.scenario.multicluster import find_clashes
from knetsim.scenario.resolve import build_scenario
from knetsim.scenario.spec import API_VERSION, KIND, Scenario
from knetsim.scenario.structure import find_structure_problems
from knetsim.scenario.wording import explain_value


def read_scenario(path: str | os.PathLike[str]) -> Scenario:
    """The scenario in a file, manifests only looked for, not read; ScenarioError with every mistake."""
    file = os.fspath(path)
    return parse_scenario(read_text(file), file)


def parse_scenario(text: str, file: str = "scenario.yaml") -> Scenario:
    """The scenario in a text; `file` stands in messages, and paths of manifests are relative to its folder."""
    draft, problems = _draft(text, file)
    if draft is None or problems:
        raise ScenarioError(problems)
    return draft.scenario


def validate(path: str | os.PathLike[str], check_object: ObjectCheck | None = None) -> Scenario:
    """Check all that can be without starting, the scenario and every manifest; ScenarioError with every mistake.

    `check_object` is called with each object and its cluster's `controlPlane`, and raises ObjectError for what would
    not be accepted; it is given by the caller because scenarios know nothing of the store.
    """
    file = os.fspath(path)
    draft, problems = _draft(read_text(file), file)
    if draft is not None:
        manifests, found = collect_manifests(draft.scenario.manifests, _nodes(draft), check_object)
        problems += found
        if not problems:  # otherwise it is not known what is made
            problems += find_clashes(draft.scenario, manifests)
    if draft is None or problems:
        raise ScenarioError(problems)
    return draft.scenario


def read_manifests(scenario: Scenario, cluster_name: str, check_object: ObjectCheck | None = None) -> list[Manifest]:
    """The objects that go to a cluster, in the order of their files; NotFound, or ScenarioError with every mistake."""
    return read_all_manifests(scenario, check_object)[scenario.cluster(cluster_name).name]


def read_all_manifests(scenario: Scenario, check_object: ObjectCheck | None = None) -> dict[str, list[Manifest]]:
    """The objects of each cluster, each file read once. Every cluster has objects of its own, free to be changed."""
    clusters = [ClusterNodes.of(cluster) for cluster in scenario.clusters]
    manifests, problems = collect_manifests(scenario.manifests, clusters, check_object)
    problems = problems or list(find_clashes(scenario, manifests))
    if problems:
        raise ScenarioError(problems)
    return manifests


def _draft(text: str, file: str) -> tuple[Draft | None, list[Problem]]:
    """What can be made of a text, and what is wrong with it; no draft where there is nothing to go on with."""
    documents, problems = read_documents(text, file)
    if not documents:
        empty = Problem(file, 1, 1, "an empty file", f"a scenario begins with 'apiVersion: {API_VERSION}'")
        return None, problems or [empty]
    document = documents[0]
    foreign = _explain_foreign(document)
    if foreign:
        return None, [*problems, foreign]
    if len(documents) > 1:
        what = "a second document; a scenario is one"
        problems.append(documents[1].problem((), what, "put it into a file of its own, or remove the line '---'"))
    findings = find_structure_problems(document)
    problems += [problem for _, problem in findings if problem]
    spoilt = frozenset(path for path, _ in findings)
    sound = cut_out(document.value, spoilt)
    draft = Draft(document, build_scenario(document, sound if isinstance(sound, dict) else {}), spoilt)
    return draft, problems + find_semantic_problems(draft)


def _explain_foreign(document: Document) -> Problem | None:
    """A file that is something else gets one message about that, not fifty about what a scenario has."""
    value: Any = document.value
    if not isinstance(value, dict):
        return None
    kind, version = value.get("kind"), value.get("apiVersion")
    if "kind" in value and kind != KIND:
        what = f"kind must be '{KIND}', but is {explain_value(kind)}"
        hint = "Kubernetes manifests are listed in the spec.manifests of a scenario"
        if isinstance(kind, str) and nearest_word(kind, [KIND]):
            hint = did_you_mean(kind, [KIND])
        return document.problem(("kind",), what, hint)
    if "apiVersion" in value and version != API_VERSION:
        what = f"apiVersion must be '{API_VERSION}', but is {explain_value(version)}"
        return document.problem(("apiVersion",), what, "this is the version that this knetsim reads")
    return None


def _nodes(draft: Draft) -> list[ClusterNodes]:
    """The clusters as far as they are known: a cluster whose workers are wrong takes every nodeName."""
    clusters: list[ClusterNodes] = []
    for cluster in draft.scenario.clusters:
        if draft.sound(cluster_path(cluster, "name")) and cluster.name not in [other.name for other in clusters]:
            known = draft.sound(cluster_path(cluster, "workers"))
            nodes = ClusterNodes.of(cluster)
            clusters.append(nodes if known else replace(nodes, nodes=None))
    return clusters

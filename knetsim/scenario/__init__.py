"""Scenario files: YAML in, frozen dataclasses out, and every mistake with file, line, column and remedy.

    spec.py         what a scenario says: the dataclasses, and the addressing plan of the underlay
    read.py         the way from a path to a Scenario, and `validate`; files.py brings the text
    document.py     text → values with positions; syntax.py has YAML's syntax errors in words
    structure.py    values against ../scenario.schema.json; wording.py shows a user's values in messages
    resolve.py      values → dataclasses, defaults on the way; and back
    checks.py       what a schema cannot say: naming.py, addressing.py, outside.py and sites.py, over a draft.py
    manifests.py    the Kubernetes manifests of a scenario
    multicluster.py and the Skupper objects that its `multicluster` stands for; skupper_objects.py builds each of them

Try `knetsim validate scenarios/default.yaml`, with `-o json` to see every default filled in.
"""

from knetsim.scenario.manifests import Manifest
from knetsim.scenario.multicluster import build_multicluster
from knetsim.scenario.read import parse_scenario, read_all_manifests, read_manifests, read_scenario, validate
from knetsim.scenario.resolve import scenario_to_json
from knetsim.scenario.spec import (
    ClusterSpec,
    DnsSpec,
    EtcdSpec,
    HostGwBackend,
    ManifestRef,
    MulticlusterSpec,
    PodNetworkSpec,
    Scenario,
    ServicesSpec,
    SiteSpec,
    UnderlaySpec,
    VxlanBackend,
    WorkerSpec,
)
from knetsim.scenario.structure import schema

__all__ = [
    "ClusterSpec",
    "DnsSpec",
    "EtcdSpec",
    "HostGwBackend",
    "Manifest",
    "ManifestRef",
    "MulticlusterSpec",
    "PodNetworkSpec",
    "Scenario",
    "ServicesSpec",
    "SiteSpec",
    "UnderlaySpec",
    "VxlanBackend",
    "WorkerSpec",
    "build_multicluster",
    "parse_scenario",
    "read_all_manifests",
    "read_manifests",
    "read_scenario",
    "scenario_to_json",
    "schema",
    "validate",
]

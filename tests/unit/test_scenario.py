"""Scenario files: defaults, addresses, the published schema, manifests, and that no input ends in a traceback."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from knetsim import names, scenario
from knetsim.errors import EXIT_USAGE, NotFound, ObjectError, Problem, ScenarioError
from knetsim.scenario import HostGwBackend, Scenario, SiteSpec, VxlanBackend, parse_scenario, scenario_to_json
from knetsim.scenario.naming import PROMPT_WORDS

_SCENARIOS = Path(__file__).parents[2] / "scenarios"
_FILES = sorted(_SCENARIOS.glob("*.yaml"))


def text_of(*clusters: dict[str, Any], **spec: Any) -> str:
    """A scenario file with these clusters."""
    return json.dumps(
        {
            "apiVersion": "knetsim.io/v1",
            "kind": "Scenario",
            "metadata": {"name": "lab"},
            "spec": {"clusters": list(clusters), **spec},
        }
    )


def parsed(*clusters: dict[str, Any], **spec: Any) -> Scenario:
    return parse_scenario(text_of(*clusters, **spec))


def mistakes(*clusters: dict[str, Any], **spec: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parsed(*clusters, **spec)
    return [problem.what for problem in caught.value.problems]


# --- the scenarios that come along ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_scenarios_are_valid(file: Path) -> None:
    loaded = scenario.validate(file)
    assert loaded.name == file.stem
    for cluster in loaded.clusters if loaded.manifests else ():
        pods = scenario.read_manifests(loaded, cluster.name)
        assert any(pod.object["kind"] == "Pod" for pod in pods), f"{cluster.name} has no pods"


def test_default_scenario() -> None:
    loaded = scenario.validate(_SCENARIOS / "default.yaml")
    manifests = scenario.read_all_manifests(loaded)
    placed = {
        name: {
            each.object["metadata"]["name"]: each.object["spec"]["nodeName"]
            for each in objects
            if each.object["kind"] == "Pod"
        }
        for name, objects in manifests.items()
    }
    backends = {"ic0": "c0w2", "ic1": "c0w3", "ic2": "c0w2", "ic3": "c0w3"}
    assert placed == {
        "C0": {"c1": "c0w1", "c2": "c0w2", "c3": "c0w3", "c4": "c0w3", **backends},
        "C1": {"c1": "c1w1", "c2": "c1w2", "c3": "c1w3"},
    }
    first, second = loaded.clusters
    assert first.pod_network == second.pod_network, "the point of it: both clusters have the same pod network"
    assert [worker.name for worker in first.workers] == ["w1", "w2", "w3"]


def test_mixed_agents() -> None:
    (cluster,) = scenario.validate(_SCENARIOS / "mixed-agents.yaml").clusters
    assert [worker.agent for worker in cluster.workers] == ["flanneld", "flanneld", "embedded", "embedded"]


def test_host_gw() -> None:
    (cluster,) = scenario.validate(_SCENARIOS / "host-gw.yaml").clusters
    assert cluster.pod_network.backend == HostGwBackend()


# --- defaults ---------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    loaded = parsed({"name": "C0", "workers": 3}, {"name": "C1", "workers": 1})
    cluster = loaded.clusters[0]
    network = cluster.pod_network
    assert cluster.subnet == IPv4Network("10.1.0.0/16")
    assert cluster.etcd.subnet == IPv4Network("10.1.0.0/24")
    assert (network.network, network.subnet_len) == (IPv4Network("11.0.0.0/8"), 20)
    assert (network.subnet_min, network.subnet_max) == (IPv4Address("11.10.0.0"), IPv4Address("11.99.0.0"))
    assert network.backend == VxlanBackend(vni=100, port=8472)
    assert network.subnet_count == 89 * 16 + 1
    assert cluster.services.cidr == IPv4Network("100.64.0.0/16")
    assert (cluster.control_plane, cluster.dns.server, network.agent, network.cni) == ("auto",) * 4
    assert loaded.clusters[1].subnet == IPv4Network("10.2.0.0/16")
    assert loaded.underlay.network == IPv4Network("10.0.0.0/8")


def test_workers_inherit_from_their_cluster() -> None:
    workers = [{"name": "w1"}, {"name": "w2", "agent": "flanneld", "cni": "plugins", "labels": {"zone": "a"}}]
    loaded = parsed({"name": "C0", "workers": workers, "podNetwork": {"agent": "embedded", "cni": "native"}})
    first, second = loaded.clusters[0].workers
    assert (first.agent, first.cni, first.proxy, dict(first.labels)) == ("embedded", "native", "emulator", {})
    assert (second.agent, second.cni, dict(second.labels)) == ("flanneld", "plugins", {"zone": "a"})


@pytest.mark.parametrize(
    ("network", "first", "last", "length"),
    [
        ("11.0.0.0/8", "11.10.0.0", "11.99.0.0", 20),
        ("10.244.0.0/16", "10.244.16.0", "10.244.240.0", 20),  # flannel's own rule: not the first subnet
        ("10.244.0.0/24", "10.244.0.64", "10.244.0.192", 26),
    ],
)
def test_pod_network_range(network: str, first: str, last: str, length: int) -> None:
    pods = parsed({"name": "C0", "workers": 1, "podNetwork": {"network": network}}).clusters[0].pod_network
    assert (str(pods.subnet_min), str(pods.subnet_max), pods.subnet_len) == (first, last, length)


def test_specs_are_frozen() -> None:
    loaded = parsed({"name": "C0", "workers": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.clusters[0].workers[0].name = "w2"  # type: ignore[misc]


def test_names_find_clusters_and_workers() -> None:
    loaded = parsed({"name": "C0", "workers": 12})
    cluster = loaded.cluster("C0")
    assert cluster.worker("w12") is cluster.worker("C0w12") is cluster.worker("c0w12") is cluster.workers[11]
    with pytest.raises(NotFound, match="w13") as caught:
        cluster.worker("w13")
    assert "did you mean" in caught.value.hint
    with pytest.raises(NotFound):
        loaded.cluster("C1")


# --- addresses --------------------------------------------------------------------------------------------------------


def test_addressing_plan() -> None:
    first, second = parsed({"name": "C0", "workers": 300}, {"name": "C1", "workers": 1}).clusters
    assert [str(address) for address in first.etcd_addresses()] == ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
    assert str(first.control_plane_address()) == "10.1.0.10"
    assert [str(first.worker_address(index)) for index in (0, 1, 299)] == ["10.1.1.1", "10.1.1.2", "10.1.2.44"]
    assert {name: str(address) for name, address in second.host_addresses().items()} == {
        "C1e1": "10.2.0.1",
        "C1e2": "10.2.0.2",
        "C1e3": "10.2.0.3",
        "C1cp": "10.2.0.10",
        "C1w1": "10.2.1.1",
    }


@given(
    counts=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=4),
    underlay=st.sampled_from(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "10.5.0.0/18"]),
)
def test_addresses_are_unique_and_inside(counts: list[tuple[int, int]], underlay: str) -> None:
    clusters = [
        {"name": f"C{index}", "workers": workers, "etcd": {"members": members}}
        for index, (workers, members) in enumerate(counts)
    ]
    loaded = parsed(*clusters, underlay={"network": underlay})
    every = [address for cluster in loaded.clusters for address in cluster.host_addresses().values()]
    assert len(set(every)) == len(every)
    for cluster in loaded.clusters:
        assert all(address in cluster.subnet for address in cluster.host_addresses().values())
        assert cluster.subnet.broadcast_address not in cluster.host_addresses().values()
        assert cluster.subnet.subnet_of(loaded.underlay.network)


# --- what may be the same, and what may not ---------------------------------------------------------------------------


def test_clusters_may_share_pod_network_services_vni_and_port() -> None:
    same = {"podNetwork": {"network": "11.0.0.0/8", "backend": {"vni": 7, "port": 4789}}}
    loaded = parsed({"name": "C0", "workers": 2, **same}, {"name": "C1", "workers": 2, **same})
    assert loaded.clusters[0].pod_network == loaded.clusters[1].pod_network


def test_pod_network_may_lie_in_the_underlay_beside_all_hosts() -> None:
    assert parsed({"name": "C0", "workers": 2, "podNetwork": {"network": "10.244.0.0/16", "subnetLen": 24}}).clusters


def test_even_numbers_of_etcd_members_are_what_the_user_wants() -> None:
    assert len(parsed({"name": "C0", "workers": 1, "etcd": {"members": 4}}).clusters[0].etcd_addresses()) == 4


def test_every_mistake_at_once_and_none_twice() -> None:
    found = mistakes(
        {"name": "C0", "workers": "three", "podNetwork": {"subnetLen": 99}},
        {"name": "C0", "wokers": 3, "subnet": "10.8.0.0/16"},
        {"name": "C2", "workers": 3, "subnet": "10.8.0.0/20"},
        underlay={"typ": "switch"},
    )
    assert len(found) == 6, found
    assert len(set(found)) == len(found)


def test_exit_code_of_bad_input() -> None:
    assert ScenarioError([]).exit_code == EXIT_USAGE


def test_words_of_the_prompt_are_no_names() -> None:
    """Each command of the prompt that could be the name of a host is refused as one."""
    longest = names.INTERFACE_NAME_MAX - len("-eth0")
    shell = ast.parse((Path(scenario.__file__).parents[1] / "cli" / "shell.py").read_text())
    ours = {node.name for node in ast.walk(shell) if isinstance(node, ast.FunctionDef)}
    mininets = set(dir(pytest.importorskip("mininet.cli").CLI))
    commands = {name.removeprefix("do_") for name in ours | mininets if name.startswith("do_")}
    assert commands
    assert {name for name in commands if len(name) <= longest and name.islower()} - PROMPT_WORDS == set()


# --- the published schema ---------------------------------------------------------------------------------------------


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(scenario.schema())


def _objects(node: Any) -> list[dict[str, Any]]:
    """Every sub-schema in a schema, itself included."""
    found = []
    if isinstance(node, dict):
        found = [node] if "properties" in node else []
        for child in node.values():
            found += _objects(child)
    elif isinstance(node, list):
        for child in node:
            found += _objects(child)
    return found


def test_schema_describes_every_key_and_is_closed() -> None:
    document = scenario.schema()
    for node in _objects(document):
        assert node["additionalProperties"] is False
        for key, rules in node["properties"].items():
            target = document["$defs"].get(rules.get("$ref", "").removeprefix("#/$defs/"), {})
            assert rules.get("description") or target.get("description"), f"{key} is not described"


def test_schema_and_names_agree() -> None:
    definitions = scenario.schema()["$defs"]
    assert definitions["clusterName"]["pattern"] == names.CLUSTER_NAME.pattern
    assert definitions["workerName"]["pattern"] == names.WORKER_NAME.pattern
    assert definitions["dnsLabel"]["pattern"] == names.DNS_LABEL.pattern


def _properties(pointer: str) -> dict[str, Any]:
    properties: dict[str, Any] = scenario.schema()["$defs"][pointer]["properties"]
    return properties


def test_schema_and_dataclasses_agree() -> None:
    """What is written out is what the schema knows, key by key, and is valid by it."""
    written = scenario_to_json(parsed({"name": "C0", "workers": 1}))
    jsonschema.Draft202012Validator(scenario.schema()).validate(written)
    spec = written["spec"]
    cluster = spec["clusters"][0]
    assert spec.keys() == scenario.schema()["properties"]["spec"]["properties"].keys()
    assert cluster.keys() == _properties("cluster").keys()
    assert cluster["workers"][0].keys() == _properties("worker").keys()
    assert spec["underlay"].keys() == _properties("underlay").keys()
    for key in ("etcd", "podNetwork", "services", "dns"):
        assert cluster[key].keys() == _properties(key).keys()
    assert cluster["podNetwork"]["backend"].keys() == _properties("podNetwork")["backend"]["properties"].keys()
    sites = _FULL["spec"]["multicluster"]
    assert sites.keys() == _properties("multicluster").keys()
    assert sites["sites"][0].keys() == _properties("site").keys()
    assert sites["links"][0].keys() == _properties("siteLink").keys()
    [service] = sites["services"]
    assert service.keys() == _properties("sharedService").keys()
    assert {key for one in service["connectors"] for key in one} == _properties("connector").keys()
    assert service["listeners"][0].keys() == _properties("listener").keys()


def test_schema_and_defaults_agree() -> None:
    """Each `default` in the schema is the value that a scenario without the key gets."""
    spec = scenario_to_json(parsed({"name": "C0", "workers": [{"name": "w1"}]}))["spec"]
    cluster = spec["clusters"][0]
    pairs = [
        (_properties("cluster"), cluster),
        (_properties("worker"), cluster["workers"][0]),
        (_properties("etcd"), cluster["etcd"]),
        (_properties("podNetwork"), cluster["podNetwork"]),
        (_properties("podNetwork")["backend"]["properties"], cluster["podNetwork"]["backend"]),
        (_properties("services"), cluster["services"]),
        (_properties("dns"), cluster["dns"]),
        (_properties("underlay"), spec["underlay"]),
        (_properties("multicluster"), spec["multicluster"]),
        (scenario.schema()["properties"]["spec"]["properties"], spec),
    ]
    checked = 0
    for properties, values in pairs:
        for key, rules in properties.items():
            if "default" in rules:
                assert values[key] == rules["default"], key
                checked += 1
    assert checked >= 15


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_what_is_written_out_reads_back(file: Path) -> None:
    loaded = scenario.read_scenario(file)
    assert parse_scenario(json.dumps(scenario_to_json(loaded)), str(file)) == loaded


# --- no input ends in a traceback -------------------------------------------------------------------------------------


def outcome(text: str) -> Scenario | tuple[Problem, ...]:
    """What comes of a text; any other exception than ScenarioError fails the test."""
    try:
        return parse_scenario(text)
    except ScenarioError as error:
        return error.problems


def accepts_or_explains(text: str) -> None:
    """A text gives a scenario, or problems that lie in the text and say something in one line."""
    result = outcome(text)
    if isinstance(result, Scenario):
        assert result.clusters
        return
    assert result
    for problem in result:
        assert problem.what
        assert 1 <= problem.line <= len(text.splitlines()) + 1
        assert problem.column >= 1
        assert "\n" not in str(problem)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_WORDS = st.sampled_from(
    ["spec", "clusters", "workers", "C0", "w1", "10.1.0.0/24", "11.0.0.0", "vxlan", "on", "~", "-1", "3", "0x1f", "1e9"]
)
_YAML_PIECES = st.lists(
    _WORDS
    | st.sampled_from([": ", "- ", "\n", "  ", "\t", "{", "}", "[", "]", "&a ", "*a", "!!x ", "'", '"', "|", ", "])
)


@given(st.text())
def test_any_text(text: str) -> None:
    accepts_or_explains(text)


@given(_YAML_PIECES.map("".join))
def test_any_pieces_of_yaml(text: str) -> None:
    accepts_or_explains(text)


@given(_JSON)
def test_any_value(value: Any) -> None:
    accepts_or_explains(yaml.safe_dump(value, allow_unicode=True))


_SITES = {
    "sites": [{"cluster": "C0", "name": "west", "worker": "w2"}, {"cluster": "C1", "router": "embedded"}],
    "links": [{"from": "C1", "to": "C0", "cost": 2}],
    "services": [
        {
            "routingKey": "backend",
            "connectors": [
                {"cluster": "C0", "selector": {"app": "web"}, "port": 80},
                {"cluster": "C1", "host": "C1w1", "port": 81},
            ],
            "listeners": [{"cluster": "C1", "host": "0.0.0.0", "port": 1028}],
        }
    ],
}
_FULL = scenario_to_json(parsed({"name": "C0", "workers": 2}, {"name": "C1", "workers": 1}, multicluster=_SITES))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@given(st.lists(st.tuples(st.sampled_from(_paths(_FULL)), _JSON | _WORDS), min_size=1, max_size=3))
def test_any_value_in_any_place(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    value = _FULL
    for path, new in changes:
        try:
            value = _replaced(value, path, new)
        except (KeyError, IndexError, TypeError, AttributeError):
            pass  # an earlier change took the place away
    accepts_or_explains(yaml.safe_dump(value, allow_unicode=True))


_NETWORKS = st.builds(
    lambda address, length: str(IPv4Network((address, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(
    subnet=st.none() | _NETWORKS,
    etcd=st.none() | _NETWORKS,
    pods=st.none() | _NETWORKS,
    services=st.none() | _NETWORKS,
    underlay=st.none() | _NETWORKS,
    length=st.none() | st.integers(4, 30),
    workers=st.integers(1, 1000),
)
def test_any_networks(workers: int, length: int | None, **networks: str | None) -> None:
    """Whatever the networks: an explanation, or a scenario that has room for everything and no overlaps."""
    given_ = {key: value for key, value in networks.items() if value is not None}
    cluster: dict[str, Any] = {"name": "C0", "workers": workers, "podNetwork": {}}
    if "subnet" in given_:
        cluster["subnet"] = given_["subnet"]
    if "etcd" in given_:
        cluster["etcd"] = {"subnet": given_["etcd"]}
    if "pods" in given_:
        cluster["podNetwork"]["network"] = given_["pods"]
    if length is not None:
        cluster["podNetwork"]["subnetLen"] = length
    if "services" in given_:
        cluster["services"] = {"cidr": given_["services"]}
    spec = {"underlay": {"network": given_["underlay"]}} if "underlay" in given_ else {}
    text = text_of(cluster, **spec)
    accepts_or_explains(text)
    result = outcome(text)
    if not isinstance(result, Scenario):
        return
    (loaded,) = result.clusters
    hosts = set(loaded.host_addresses().values())
    assert len(hosts) == workers + loaded.etcd.members + 1
    assert all(address in loaded.subnet for address in hosts)
    assert loaded.pod_network.subnet_count >= workers
    three = [loaded.subnet, loaded.pod_network.network, loaded.services.cidr]
    assert not any(one.overlaps(other) for one in three for other in three if one is not other)


# --- files ------------------------------------------------------------------------------------------------------------


def test_missing_file_suggests_a_neighbour() -> None:
    with pytest.raises(ScenarioError, match=r"defalt\.yaml: no such file \(did you mean .*default\.yaml"):
        scenario.read_scenario(_SCENARIOS / "defalt.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: 1\nb: \xe9\n", b"\x00" * 10])
def test_files_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as caught:
        scenario.read_scenario(file)
    assert len(caught.value.problems) == 1


def test_folders_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="Is a directory"):
        scenario.read_scenario(tmp_path)
    with pytest.raises(ScenarioError, match="16 MiB"):
        scenario.read_scenario("/dev/zero")
    with pytest.raises(ScenarioError, match="cannot be read"):
        scenario.read_scenario("a\0b")


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    lines = ["apiVersion: knetsim.io/v1", "kind: Scenario", "metadata: {name: lab}"]
    lines += ["spec: {clusters: [{name: C0, workers: 1}]}", ""]
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert scenario.read_scenario(file).name == "lab"


# --- manifests --------------------------------------------------------------------------------------------------------


def pod(name: str, node: str | None = None, **metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "pause", "image": "pause"}]} | ({"nodeName": node} if node else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def lab(folder: Path, files: dict[str, Any]) -> Scenario:
    """A scenario of two clusters whose manifests are these files; a value that is no text is written as YAML."""
    for name, content in files.items():
        file = folder / "lab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True))
    file = folder / "lab.yaml"
    file.write_text(text_of({"name": "C0", "workers": 2}, {"name": "C1", "workers": 2}, manifests=["lab/"]))
    return scenario.read_scenario(file)


def named(manifests: list[scenario.Manifest]) -> list[str]:
    return [manifest.object["metadata"]["name"] for manifest in manifests]


def test_folders_of_clusters(tmp_path: Path) -> None:
    files = {
        "b.yml": pod("b"),
        "a.yaml": pod("a"),
        "C0/c.yaml": pod("c"),
        "C0/deep/d.yaml": pod("d"),
        "common/C1/e.yaml": pod("e"),
        "notes.txt": "[",
        ".hidden/x.yaml": "[",
        ".hidden.yaml": "[",
    }
    manifests = scenario.read_all_manifests(lab(tmp_path, files))
    assert named(manifests["C0"]) == ["c", "d", "a", "b"]
    assert named(manifests["C1"]) == ["a", "b", "e"]


def test_a_folder_of_a_cluster_as_entry(tmp_path: Path) -> None:
    lab(tmp_path, {"C0/a.yaml": pod("a")})
    text = text_of({"name": "C0", "workers": 1}, {"name": "C1", "workers": 1}, manifests=["lab/C0"])
    loaded = parse_scenario(text, str(tmp_path / "lab.yaml"))
    assert named(scenario.read_manifests(loaded, "C0")) == ["a"]
    assert named(scenario.read_manifests(loaded, "C1")) == []


def test_node_names_in_either_form(tmp_path: Path) -> None:
    loaded = lab(tmp_path, {"C0/a.yaml": pod("a", "C0w1"), "C0/b.yaml": pod("b", "c0w2"), "C0/c.yaml": pod("c")})
    nodes = [manifest.object["spec"].get("nodeName") for manifest in scenario.read_manifests(loaded, "C0")]
    assert nodes == ["c0w1", "c0w2", None]


def test_lists_documents_and_namespaces_first(tmp_path: Path) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}}
    both = {"apiVersion": "v1", "kind": "List", "items": [pod("a", namespace="web"), space]}
    files = {
        "C0/a.yaml": both,
        "C0/b.yaml": f"---\n---\n{yaml.safe_dump(pod('b'))}---\n{yaml.safe_dump(pod('c'))}---\n",
    }
    assert named(scenario.read_manifests(lab(tmp_path, files), "C0")) == ["web", "a", "b", "c"]


def test_each_cluster_has_objects_of_its_own(tmp_path: Path) -> None:
    manifests = scenario.read_all_manifests(lab(tmp_path, {"a.yaml": pod("a", labels={"app": "x"})}))
    manifests["C0"][0].object["metadata"]["labels"]["app"] = "changed"
    assert manifests["C1"][0].object["metadata"]["labels"]["app"] == "x"


def test_json_with_what_yaml_does_not_know(tmp_path: Path) -> None:
    text = json.dumps(pod("a", annotations={"face": "\U0001f600", "path": "a/b"}), indent="\t").replace("a/b", "a\\/b")
    manifest = scenario.read_manifests(lab(tmp_path, {"C0/a.json": text}), "C0")[0]
    assert manifest.object["metadata"]["annotations"] == {"face": "\U0001f600", "path": "a/b"}


def test_names_in_other_namespaces_and_generated_names_do_not_clash(tmp_path: Path) -> None:
    generated = pod("")
    generated["metadata"] = {"generateName": "c-"}
    files = {"a.yaml": pod("a"), "b.yaml": pod("a", namespace="web"), "c.yaml": generated, "d.yaml": generated}
    assert len(scenario.read_manifests(lab(tmp_path, files), "C0")) == 4


def test_links_in_a_circle(tmp_path: Path) -> None:
    loaded = lab(tmp_path, {"C0/a.yaml": pod("a")})
    (tmp_path / "lab" / "C0" / "again").symlink_to(tmp_path / "lab")
    assert named(scenario.read_manifests(loaded, "C0")) == ["a"]


def test_unknown_cluster(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="C2"):
        scenario.read_manifests(lab(tmp_path, {"a.yaml": pod("a")}), "C2")


def test_what_the_store_would_refuse_has_a_position(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    x.y/z: '!'\nspec:\n  containers:\n    - {}\n"
    )
    loaded = lab(tmp_path, {"C0/a.yaml": text, "b.yaml": pod("b")})

    def check(obj: dict[str, Any], control_plane: str) -> None:
        assert control_plane == "auto"
        if obj["metadata"]["name"] == "b":
            raise ObjectError("no kind Pod here", "Pod b", "it is Tuesday", "wait", field="kind")
        problems = [("metadata.labels[x.y/z]", "is no label"), ("spec.containers[0].name", "is missing")]
        raise ObjectError("is refused", "Pod a", problems=problems)

    with pytest.raises(ScenarioError) as caught:
        scenario.validate(loaded.file, check)
    found = [(problem.line, problem.column, problem.what) for problem in caught.value.problems]
    assert found == [
        (6, 12, "metadata.labels[x.y/z]: is no label"),
        (9, 7, "spec.containers[0].name: is missing"),
        (2, 7, "no kind Pod here: it is Tuesday"),
    ]


@given(st.text() | _YAML_PIECES.map("".join) | _JSON.map(lambda value: yaml.safe_dump(value, allow_unicode=True)))
def test_any_manifest(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    for name in ("a.yaml", "a.json"):
        file = folder / "lab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="replace")
        (folder / "lab.yaml").write_text(text_of({"name": "C0", "workers": 1}, manifests=[f"lab/{name}"]))
        with contextlib.suppress(ScenarioError):
            scenario.validate(folder / "lab.yaml")


# --- the network of sites ---------------------------------------------------------------------------------------------


def test_sites_without_and_with_multicluster() -> None:
    clusters = {"name": "C0", "workers": 2}, {"name": "C1", "workers": 1}
    without = parsed(*clusters).multicluster
    assert without.sites == ()
    assert without.site("C1") == SiteSpec("C1", "c1", "w1", "auto")
    every = parsed(*clusters, multicluster={"router": "embedded"}).multicluster
    assert [site.cluster for site in every.sites] == ["C0", "C1"]
    some = parsed(*clusters, multicluster={"router": "embedded", "sites": [{"cluster": "C0", "worker": "w2"}]})
    assert some.multicluster.sites == (SiteSpec("C0", "c0", "w2", "embedded"),)
    assert some.multicluster.site("C1") == SiteSpec("C1", "c1", "w1", "embedded")
    assert parsed(*clusters, multicluster={"sites": []}).multicluster == without


def test_each_link_has_a_code_of_its_own() -> None:
    links = [{"from": "C0", "to": "C1"}, {"from": "C1", "to": "C2"}, {"from": "C0", "to": "C2", "cost": 3}]
    clusters = [{"name": f"C{number}", "workers": 1} for number in range(3)]
    loaded = parsed(*clusters, multicluster={"links": links})
    codes = iter(range(1, 9))
    objects = scenario.build_multicluster(loaded, lambda: str(next(codes)))
    grants = {obj["metadata"]["name"]: obj["spec"]["code"] for obj in objects["C2"] if obj["kind"] == "AccessGrant"}
    tokens = {obj["metadata"]["name"]: obj["spec"] for obj in objects["C0"] if obj["kind"] == "AccessToken"}
    assert grants == {"from-c1": "2", "from-c0": "3"}
    assert {name: (spec["code"], spec["linkCost"]) for name, spec in tokens.items()} == {
        "to-c1": ("1", 1),
        "to-c2": ("3", 3),
    }
    assert tokens["to-c2"]["url"] == "https://10.3.1.1:9090/default/from-c0"
    access = {name: made[0]["spec"] for name, made in objects.items()}
    assert access == {"C0": {}, "C1": {"linkAccess": "default"}, "C2": {"linkAccess": "default"}}


def test_listeners_that_differ_by_address_may_share_a_port() -> None:
    listeners = [{"cluster": "C0", "host": host, "port": 80} for host in ("web", "other", "10.1.1.1", "127.0.0.1")]
    ingress = {"name": "C0", "workers": 1, "ingress": {"httpPort": 8001}}
    loaded = parsed(ingress, multicluster={"services": [{"routingKey": "web", "listeners": listeners}]})
    made = scenario.build_multicluster(loaded, str)["C0"]
    assert [obj["metadata"]["name"] for obj in made] == ["c0", "web", "web.2", "web.3", "web.4"]

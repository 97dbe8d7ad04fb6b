"""NetworkPolicies as data: what is read from objects, whom selectors mean, what changes reach which worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.dataplane.policy.counters import ChainCounter, add_up, parse_counters
from knetsim.dataplane.policy.drift import compare_table
from knetsim.dataplane.policy.policies import PodPeer, Policy, Port
from knetsim.dataplane.policy.rules import build_chain_name, build_peer_name, build_pods_name, build_policy
from knetsim.dataplane.policy.selectors import EVERYTHING, Requirement, Selector, build_selector
from knetsim.dataplane.policy.table import ISOLATED, NOTHING, PolicyTable, build_changes
from knetsim.errors import ObjectError
from knetsim.node.policy_objects import PolicyPod, build_stand_in, reach_stand_ins, read_pod, read_policy
from knetsim.node.policy_selection import PolicySelection
from knetsim.system.nfnetlink import TableContent


def policy(name: str = "p", *, namespace: str = "default", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace}
    return {"kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": {}, **spec}}


def pod(
    name: str = "c1", ip: str = "11.1.0.2", *, namespace: str = "default", node: str = "c0w1", **labels: str
) -> Any:
    metadata = {"name": name, "namespace": namespace, "uid": name, "labels": labels}
    spec: dict[str, Any] = {"nodeName": node, "containers": [{"name": "main"}]}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": ip}}


def place(obj: Any) -> PolicyPod:
    found = read_pod(obj)
    assert found is not None
    return found


# --- objects ----------------------------------------------------------------------------------------------------------


def test_a_direction_is_isolated_when_the_policy_says_so_or_has_rules_for_it() -> None:
    def directions(**spec: Any) -> tuple[bool, bool]:
        read = read_policy(policy(**spec))
        return read.ingress is not None, read.egress is not None

    assert directions() == (True, False)
    assert directions(egress=[{}]) == (True, True)
    assert directions(policyTypes=["Egress"]) == (False, True)
    assert directions(policyTypes=["Ingress"], egress=[{}]) == (True, False)
    assert directions(policyTypes=["Ingress", "Egress"]) == (True, True)


def test_an_empty_list_of_peers_is_everybody_and_an_empty_selector_all_pods() -> None:
    (nobody_named,) = read_policy(policy(ingress=[{"from": []}])).ingress or ()
    assert nobody_named.peers is None
    (all_pods,) = read_policy(policy(ingress=[{"from": [{"podSelector": {}}]}])).ingress or ()
    assert all_pods.peers == (PodPeer("default"),)
    (anywhere,) = read_policy(policy(ingress=[{"from": [{"namespaceSelector": {}}]}])).ingress or ()
    assert anywhere.peers == (PodPeer("", EVERYTHING),)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"ingress": [{"from": [{}]}]}, "names nobody"),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}, "10.0.0.0/33"),
        ({"ingress": [{"ports": [{"port": 70000}]}]}, "70000"),
        ({"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}, "90-80"),
        ({"ingress": [{"ports": [{"port": 90, "protocol": "ICMP"}]}]}, "ICMP"),
        ({"ingress": [{"ports": [{"port": "a; drop"}]}]}, "no name"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}, "Near"),
        ({"podSelector": {"matchLabels": {"a": 'x" drop'}}}, "no part of a label"),
    ],
)
def test_what_no_server_lets_in_is_an_error_that_names_it(spec: Any, word: str) -> None:
    with pytest.raises(ObjectError, match=word):
        read_policy(policy(**spec))


def test_pods_that_count() -> None:
    assert read_pod(pod()) == PolicyPod("c1", "default/c1", "default", "c0w1", "11.1.0.2", {})
    without_ip = pod(ip="")
    host, ended, unplaced = pod(), pod(), pod(node="")
    host["spec"]["hostNetwork"] = True
    ended["status"]["phase"] = "Succeeded"
    assert [read_pod(each) for each in (without_ip, host, ended, unplaced, pod(ip="fd00::1"))] == [None] * 5
    wired = read_pod(without_ip, "11.1.0.9")
    assert wired is not None
    assert wired.address == "11.1.0.9"
    assert read_pod(pod(), "") is None, "it is unwired, whatever its status says"


def test_named_ports_are_those_of_containers_that_run() -> None:
    obj = pod()
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 81}]
    obj["spec"]["containers"][0]["ports"] = ports
    obj["spec"]["initContainers"] = [
        {"name": "a", "ports": [{"name": "init", "containerPort": 1}]},
        {"name": "b", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2, "protocol": "UDP"}]},
    ]
    assert place(obj).ports == (("udp", "side", 2), ("tcp", "http", 80))


def test_what_stands_in_for_pods_is_reached_by_their_port() -> None:
    server = build_stand_in("kube-system/kube-dns", {"k8s-app": "kube-dns"}, "10.1.0.10", {53: 1053})
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    rules = [{"to": peers, "ports": [{"port": 53, "protocol": "UDP"}]}, {"to": peers}, {"ports": [{"port": 80}]}]
    written = read_policy(policy(policyTypes=["Egress"], egress=rules))
    dns, anything, web = reach_stand_ins(written, [server]).egress or ()
    assert dns.ports == (Port("udp", 53, 53), Port("udp", name="53"))
    assert (anything.ports, web.ports) == ((), (Port("tcp", 80, 80),))
    assert reach_stand_ins(written, []) == written
    known = PolicySelection()
    known.put_namespace("kube-system", {"kubernetes.io/metadata.name": "kube-system"})
    known.put_pod(server.uid, server)
    known.put_pod("c1", place(pod()))
    known.put_policy("default/p", reach_stand_ins(written, [server]))
    table = known.build("c0w1")
    (everybody,) = (name for name in table.sets if name.startswith("namespaces/"))
    assert table.sets[everybody].elements == {"10.1.0.10"}
    assert table.sets["ports/udp/53"].elements == {"10.1.0.10 . 1053"}
    assert (
        f"ip daddr @{everybody} ip daddr . udp dport @ports/udp/53 counter accept" in table.chains["egress/default/p"]
    )


# --- selectors --------------------------------------------------------------------------------------------------------

_KEYS, _VALUES = ("app", "team"), ("a", "b", "")
_labels = st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES))
_requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(_KEYS),
        st.sampled_from(("In", "NotIn")),
        st.lists(st.sampled_from(_VALUES), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(Requirement, st.sampled_from(_KEYS), st.sampled_from(("Exists", "DoesNotExist"))),
)
_selectors = st.lists(_requirements, max_size=3).map(build_selector)


@given(_selectors, _labels)
def test_a_selector_means_what_the_api_says(selector: Selector, labels: Mapping[str, str]) -> None:
    expected = all(
        {
            "In": each.key in labels and labels[each.key] in each.values,
            "NotIn": each.key not in labels or labels[each.key] not in each.values,
            "Exists": each.key in labels,
            "DoesNotExist": each.key not in labels,
        }[each.operator]
        for each in selector.requirements
    )
    assert selector.matches(labels) == expected


@given(_selectors, _selectors, _selectors)
def test_different_peers_have_different_sets(first: Selector, second: Selector, third: Selector) -> None:
    peers = {PodPeer("default", None, first), PodPeer("", first, second), PodPeer("", second, first)}
    peers |= {PodPeer("", EVERYTHING, third), PodPeer("other", None, first)}
    assert len({build_peer_name(peer) for peer in peers}) == len(peers)


def test_names_of_labels_with_a_prefix_are_told_apart() -> None:
    def labels(**pairs: str) -> Selector:
        return build_selector([Requirement(key.replace("__", "/"), "In", (value,)) for key, value in pairs.items()])

    left = PodPeer("", labels(pods__a="b"), labels(c="d"))
    right = PodPeer("", EVERYTHING, labels(a="b", pods__c="d"))
    assert build_peer_name(left) == "namespaces/pods/a_b/__pods/c_d"
    assert build_peer_name(right) == "namespaces/__pods/a_b/pods/c_d"


def test_names_that_are_too_long_end_in_a_hash() -> None:
    long = [Policy("default", f"a-policy-with-a-rather-long-name-{number}", EVERYTHING, ()) for number in range(5)]
    chains = [build_policy(each, "ingress") for each in long]
    names = {build_pods_name(chains[:count]) for count in range(1, 6)}
    assert len(names) == 5
    assert max(map(len, names)) <= 128
    assert len(build_chain_name("ingress", Policy("n" * 63, "p" * 253, EVERYTHING, ()))) <= 128


# --- changes ----------------------------------------------------------------------------------------------------------


def selection(*policies: Any, pods: tuple[Any, ...] = (), **namespaces: Mapping[str, str]) -> PolicySelection:
    made = PolicySelection()
    for name, labels in ({"default": {}} | namespaces).items():
        made.put_namespace(name, labels)
    for obj in pods:
        made.put_pod(obj["metadata"]["uid"], read_pod(obj))
    for obj in policies:
        made.put_policy(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}", read_policy(obj))
    made.take_changes()
    return made


FROM_CLIENTS = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]


def test_a_pods_birth_concerns_who_has_a_set_that_it_is_in() -> None:
    web = policy(podSelector={"matchLabels": {"app": "web"}}, ingress=FROM_CLIENTS)
    known = selection(web, pods=(pod("s1", app="web"),))
    known.put_pod("c2", place(pod("c2", "11.2.0.2", node="c0w2")))
    assert known.take_changes().nodes | known.take_changes().sets == set(), "nobody means it, nothing selects it"
    known.put_pod("c3", place(pod("c3", "11.2.0.3", node="c0w2", app="client")))
    changes = known.take_changes()
    assert changes.sets == {"pods/default/app_client"}
    assert changes.nodes == set(), "it is open itself"
    table = known.build("c0w1")
    assert table.sets["pods/default/app_client"].elements == {"11.2.0.3"}
    assert known.build("c0w2") == NOTHING, "a worker without isolated pods has nothing"
    known.put_pod("s2", place(pod("s2", "11.2.0.4", node="c0w2", app="web")))
    assert known.take_changes().nodes == {"c0w2"}
    assert known.build("c0w2").sets["pods/default/app_client"] is table.sets["pods/default/app_client"]


def test_a_policy_concerns_the_workers_of_the_pods_that_it_selects() -> None:
    known = selection(
        pods=(pod("s1", app="web"), pod("s2", "11.2.0.2", node="c0w2"), pod("s3", "11.3.0.2", node="c0w3"))
    )
    web = policy(podSelector={"matchLabels": {"app": "web"}})
    known.put_policy("default/p", read_policy(web))
    assert known.take_changes().nodes == {"c0w1"}
    known.put_policy("default/p", read_policy(web))
    assert known.take_changes().nodes == set(), "nothing changed"
    known.put_policy("default/p", read_policy({**web, "spec": {**web["spec"], "ingress": FROM_CLIENTS}}))
    assert known.take_changes().nodes == {"c0w1"}, "another rule"
    known.put_policy("default/p", read_policy(policy(podSelector={"matchLabels": {"app": "other"}})))
    assert known.take_changes().nodes == {"c0w1"}, "selected no more"
    known.put_policy("default/p", read_policy(policy()))
    assert known.take_changes().nodes == {"c0w1", "c0w2", "c0w3"}
    known.put_policy("default/p", None)
    assert known.take_changes().nodes == {"c0w1", "c0w2", "c0w3"}
    assert len(known) == 0


def test_an_address_that_was_given_out_again_is_the_new_pods() -> None:
    known = selection(policy(podSelector={"matchLabels": {"app": "web"}}), pods=(pod("old", app="web"),))
    known.put_pod("new", place(pod("new")))
    assert not known.build("c0w1").pods
    known.put_pod("newer", place(pod("newer", app="web")))
    assert known.build("c0w1").pods[ISOLATED["ingress"], "11.1.0.2"][1] == "default/newer"


@dataclass
class World:
    """What there is after some changes."""

    pods: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, Any] = field(default_factory=dict)
    namespaces: dict[str, Any] = field(default_factory=dict)


_NAMES = ("x", "y", "z")
_selector_objects = st.one_of(
    st.just({}),
    st.builds(lambda pairs: {"matchLabels": pairs}, _labels),
    st.builds(
        lambda key, operator: {"matchExpressions": [{"key": key, "operator": operator}]},
        st.sampled_from(_KEYS),
        st.sampled_from(("Exists", "DoesNotExist")),
    ),
)
_peer_objects = st.one_of(
    st.builds(lambda one: {"podSelector": one}, _selector_objects),
    st.builds(lambda one, two: {"namespaceSelector": one, "podSelector": two}, _selector_objects, _selector_objects),
    st.just({"ipBlock": {"cidr": "10.0.0.0/8"}}),
)
_rule_objects = st.builds(
    lambda peers, ports: {"from": peers, "to": peers, "ports": ports},
    st.lists(_peer_objects, max_size=2),
    st.lists(st.sampled_from(({"port": 80}, {"port": "http"})), max_size=2),
)
_steps = st.one_of(
    st.tuples(st.just("namespace"), st.sampled_from(_NAMES[:2]), st.one_of(st.none(), _labels)),
    st.tuples(
        st.just("pod"),
        st.sampled_from(_NAMES),
        st.one_of(st.none(), st.tuples(st.sampled_from(_NAMES[:2]), st.sampled_from(("c0w1", "c0w2")), _labels)),
    ),
    st.tuples(
        st.just("policy"),
        st.sampled_from(_NAMES),
        st.one_of(
            st.none(),
            st.tuples(
                st.sampled_from(_NAMES[:2]),
                _selector_objects,
                st.lists(_rule_objects, max_size=2),
                st.sampled_from((["Ingress"], ["Egress"], ["Ingress", "Egress"])),
            ),
        ),
    ),
)


@settings(max_examples=40)
@given(st.lists(_steps, max_size=25))
def test_what_changes_lead_to_is_what_is_made_at_once_and_every_worker_hears_of_it(steps: list[Any]) -> None:
    known, world = PolicySelection(), World()
    tables = {node: known.build(node) for node in ("c0w1", "c0w2")}
    for number, (kind, name, what) in enumerate(steps):
        _take(known, world, kind, name, what, number)
        changes = known.take_changes()
        for node, table in tables.items():
            if node in changes.nodes or table.sets.keys() & changes.sets:
                tables[node] = known.build(node)
    afresh = _build_afresh(world)
    for node, table in tables.items():
        assert _tidy(table) == _tidy(afresh.build(node)), node
        _check_members(table, world)


def _take(known: PolicySelection, world: World, kind: str, name: str, what: Any, number: int) -> None:
    if kind == "namespace":
        world.namespaces[name] = what
        known.put_namespace(name, what)
    elif kind == "pod":
        obj = None
        if what is not None:
            obj = pod(name, f"11.1.{number}.2", namespace=what[0], node=what[1], **what[2])
            obj["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8000 + number}]
        world.pods[name] = obj
        known.put_pod(name, place(obj) if obj else None)
    else:
        for namespace in _NAMES[:2]:  # a policy does not move: one that comes elsewhere is another one
            made = what is not None and what[0] == namespace
            rules = (
                {"podSelector": what[1], "ingress": what[2], "egress": what[2], "policyTypes": what[3]} if made else {}
            )
            obj = policy(name, namespace=namespace, **rules) if made else None
            world.policies[f"{namespace}/{name}"] = obj
            known.put_policy(f"{namespace}/{name}", read_policy(obj) if obj else None)


def _build_afresh(world: World) -> PolicySelection:
    known = PolicySelection()
    for name, labels in world.namespaces.items():
        if labels is not None:
            known.put_namespace(name, labels)
    for key, obj in world.policies.items():
        if obj is not None:
            known.put_policy(key, read_policy(obj))
    for uid, obj in world.pods.items():
        if obj is not None:
            known.put_pod(uid, place(obj))
    return known


def _tidy(table: PolicyTable) -> Any:
    return dict(sorted(table.chains.items())), table.sets, table.pods


def _check_members(table: PolicyTable, world: World) -> None:
    """The sets hold exactly the pods that the API means."""
    policies = [read_policy(obj) for obj in world.policies.values() if obj is not None]
    for peer in {peer for each in policies for peer in each.pod_peers() if build_peer_name(peer) in table.sets}:
        expected = set()
        for obj in world.pods.values():
            if obj is None:
                continue
            namespace, labels = obj["metadata"]["namespace"], obj["metadata"]["labels"]
            if peer.namespaces is None:
                there = namespace == peer.namespace
            else:
                spaces = world.namespaces.get(namespace)
                there = spaces is not None and peer.namespaces.matches(spaces)
            if there and peer.pods.matches(labels):
                expected.add(obj["status"]["podIP"])
        assert table.sets[build_peer_name(peer)].elements == expected


@settings(max_examples=40)
@given(st.lists(_steps, max_size=12), st.lists(_steps, max_size=12))
def test_a_change_names_nothing_that_is_not_there(first: list[Any], second: list[Any]) -> None:
    known, world = PolicySelection(), World()
    for number, step in enumerate(first):
        _take(known, world, *step, number)
    before = known.build("c0w1")
    for number, step in enumerate(second, len(first)):
        _take(known, world, *step, number)
    after = known.build("c0w1")
    text = build_changes(before, after)
    for line in text.splitlines():
        words = line.split()
        if words[:2] in (["flush", "chain"], ["delete", "set"]):
            there: Any = before.chains if words[1] == "chain" else before.sets
            assert words[4] in there
    for rules in after.chains.values():
        for rule in rules:
            words = rule.split()
            assert all(word[1:] in after.sets for word in words if word.startswith("@")), rule
            assert words[0] != "jump" or words[1] in after.chains


# --- what nft shows ---------------------------------------------------------------------------------------------------


def _rule(chain: str, packets: int) -> Any:
    return {"rule": {"chain": chain, "expr": [{"counter": {"packets": packets, "bytes": 0}}]}}


def test_drops_count_for_every_policy_that_could_have_allowed_it() -> None:
    found = [_rule("ingress/default/web", 3), _rule("ingress/default/web", 4), _rule("to/default/deny_web", 2)]
    found += [{"rule": {"chain": "forward-egress", "expr": []}}, _rule("egress/default/web", 1)]
    counters = parse_counters(found)
    assert counters == [
        ChainCounter("egress/default/web", "egress", False, 1),
        ChainCounter("ingress/default/web", "ingress", False, 7),
        ChainCounter("to/default/deny_web", "ingress", True, 2),
    ]
    chains = {"to/default/deny_web": ("jump ingress/default/deny", "jump ingress/default/web", "counter drop")}
    assert add_up(counters, PolicyTable(chains)) == {
        "egress/default/web": (1, 0),
        "ingress/default/web": (7, 2),
        "ingress/default/deny": (0, 2),
    }


def test_a_table_that_is_not_there_has_drifted() -> None:
    known = selection(policy(), pods=(pod(),))
    table = known.build("c0w1")
    assert compare_table(TableContent({}, set(), set()), table, ()) == "chain forward-egress is gone, and 3 more"


def test_a_rule_without_anybody_is_none_and_one_for_everybody_has_no_condition() -> None:
    only_ipv6 = read_policy(policy(ingress=[{"from": [{"ipBlock": {"cidr": "::/0"}}]}]))
    assert build_policy(only_ipv6, "ingress").rules == ()
    everything = read_policy(policy(ingress=[{}]))
    assert build_policy(everything, "ingress").rules == ("counter accept",)

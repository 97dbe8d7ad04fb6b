"""One worker's table kept as wanted, and the agent: what it changes, repairs, and lets start."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import pytest

from knetsim.dataplane.policy.messages import encode_changes
from knetsim.dataplane.policy.policies import PodPeer, Policy, Port, Rule
from knetsim.dataplane.policy.rules import (
    IsolatedPod,
    build_peer_name,
    build_peer_set,
    build_policy,
    build_port_name,
    build_port_set,
    build_table,
)
from knetsim.dataplane.policy.selectors import EVERYTHING
from knetsim.dataplane.policy.table import NOTHING, PolicyTable, build_whole
from knetsim.dataplane.policy.worker import RETIRED_SECONDS, WorkerPolicies
from knetsim.errors import CommandError, KernelError, NotReady
from knetsim.system.nfnetlink import UnknownForm
from knetsim.system.nft import Nft
from knetsim.system.sysctl import write_sysctl
from tests.kernel.pods import PodMaker
from tests.kernel.policy.lab import PolicyLab, labels, policy, wait_repaired

pytestmark = pytest.mark.usefixtures("no_leaks")

LIST = "list table ip knetsim-policy"


# --- one worker


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """It stands still."""
    return Clock()


@pytest.fixture
def kernel(pod_maker: PodMaker, clock: Clock) -> Iterator[WorkerPolicies]:
    """A worker's table."""
    policies = WorkerPolicies(pod_maker.host("C0w1", {}), clock)
    yield policies
    policies.close()


@pytest.fixture
def hand(kernel: WorkerPolicies) -> Iterator[Nft]:
    """Somebody else at the same worker."""
    with Nft(kernel.namespaces) as nft:
        yield nft


def table(**pods: str) -> PolicyTable:
    """Pods by the last part of their address, and the names of the policies that select them for ingress."""
    return build_table(
        [
            IsolatedPod(
                f"11.15.64.{last.removeprefix('c')}",
                f"default/{last}",
                tuple(build_policy(Policy("default", name, EVERYTHING, ()), "ingress") for name in names.split()),
            )
            for last, names in pods.items()
        ],
        {},
    )


def read_rules(nft: Nft) -> dict[str, list[int]]:
    """The handles of each chain's rules: one that was not written again keeps them."""
    found: dict[str, list[int]] = {}
    for entry in nft.read_json(LIST):
        if "chain" in entry:
            found.setdefault(entry["chain"]["name"], [])
        elif "rule" in entry:
            found[entry["rule"]["chain"]].append(entry["rule"]["handle"])
    return found


def test_a_worker_has_a_table_only_while_a_policy_selects_a_pod_of_its_own(kernel: WorkerPolicies, hand: Nft) -> None:
    assert kernel.apply(NOTHING) is None
    assert hand.read_tables() == set()
    kernel.apply(table(c2="a"))
    assert hand.read_tables() == {("ip", "knetsim-policy")}
    kernel.apply(NOTHING)
    assert hand.read_tables() == set()
    assert kernel.transactions == 2


def test_a_transaction_carries_only_what_changed(kernel: WorkerPolicies, hand: Nft) -> None:
    kernel.apply(table(c2="a b", c3="a"))
    before = read_rules(hand)
    kernel.apply(table(c2="a b", c3="a", c4="a", c5="a c"))
    after = read_rules(hand)
    assert {name for name in after if after[name] != before.get(name)} == {"to/default/a_c", "ingress/default/c"}
    assert kernel.transactions == 2
    kernel.apply(table(c2="a b", c3="a", c4="a", c5="a c"))
    assert kernel.transactions == 2, "twice is once"
    assert kernel.find_drift() == ""


def selecting(pods: dict[str, str], clients: list[str]) -> PolicyTable:
    """As `table`, for policies that let the pods of one set in, at a port with a name."""
    peer, port = PodPeer("default"), Port("tcp", name="http")
    chains = {
        name: build_policy(Policy("default", name, EVERYTHING, (Rule((peer,), (port,)),)), "ingress") for name in "ab"
    }
    isolated = [
        IsolatedPod(f"11.15.64.{pod[1:]}", f"default/{pod}", tuple(chains[name] for name in names.split()))
        for pod, names in pods.items()
    ]
    sets = {build_peer_name(peer): build_peer_set(peer, clients)}
    sets[build_port_name(port)] = build_port_set(port, [(client, 8080) for client in clients])
    return build_table(isolated, sets)


CHANGES = (
    selecting({"c2": "a"}, ["11.1.0.1"]),
    selecting({"c2": "a", "c3": "a"}, ["11.1.0.1", "11.1.0.2"]),
    selecting({"c2": "a b", "c3": "a"}, ["11.1.0.2"]),
    selecting({"c3": "b"}, [f"11.1.{number // 250}.{number % 250}" for number in range(1200)]),
    selecting({"c3": "b"}, []),
    selecting({"c3": "b", "c2": "a b"}, ["11.1.0.1"]),
)


def test_what_messages_say_is_what_the_text_says(kernel: WorkerPolicies, hand: Nft) -> None:
    kernel.apply(CHANGES[0])
    said = 0
    for before, after in pairwise(CHANGES):
        with suppress(UnknownForm):
            said += bool(encode_changes(before, after))
        kernel.apply(after)
        by_change = read_content(hand)
        assert kernel.find_drift() == ""
        hand.apply(build_whole(after))
        assert by_change == read_content(hand)
        kernel.find_drift()  # another table is there now
        kernel.apply(after)
    assert said == 3, "a policy that is new to the worker is said by nft"


def read_content(nft: Nft) -> Any:
    """What the table has, without what is empty and whatever tells two equal tables apart."""
    found: dict[tuple[str, str], Any] = {}
    for entry in nft.read_json(LIST):
        if rule := entry.get("rule"):
            found.setdefault(("chain", rule["chain"]), []).append((rule["expr"], rule.get("comment")))
        elif stored := entry.get("set") or entry.get("map"):
            elements = sorted(json.dumps(element) for element in stored.get("elem", ()))
            found["set", stored["name"]] = (stored["type"], elements)
    return found


def test_chains_that_nothing_leads_to_go_later(kernel: WorkerPolicies, hand: Nft, clock: Clock) -> None:
    kernel.apply(table(c2="a", c3="b"))
    assert kernel.apply(table(c2="a")) == RETIRED_SECONDS
    assert read_rules(hand)["to/default/b"] == []
    assert kernel.find_drift() == ""
    kernel.apply(table(c2="a", c3="b"))
    assert read_rules(hand)["to/default/b"] != [], "it is wanted again"
    kernel.apply(table(c2="a"))
    clock.now += RETIRED_SECONDS
    assert kernel.apply(table(c2="a")) is None
    assert "to/default/b" not in read_rules(hand)
    assert "ingress/default/b" not in read_rules(hand)
    assert kernel.find_drift() == ""


@pytest.mark.parametrize(
    "damage",
    [
        "delete table ip knetsim-policy",
        "flush chain ip knetsim-policy forward-ingress",
        "flush chain ip knetsim-policy to/default/a",
        "delete element ip knetsim-policy ingress-pods { 11.15.64.2 }",
        "add element ip knetsim-policy pods-themselves { 1.2.3.4 . 1.2.3.4 }",
        "add chain ip knetsim-policy mine",
        "add set ip knetsim-policy mine { type ipv4_addr; }",
    ],
)
def test_what_was_changed_by_hand_is_found_and_mended(kernel: WorkerPolicies, hand: Nft, damage: str) -> None:
    kernel.apply(table(c2="a"))
    whole = hand.read(LIST)
    hand.apply("table ip mine { chain c { accept; }; }")
    assert kernel.find_drift() == "", "a table that is not ours"
    hand.apply(damage)
    assert kernel.find_drift() != ""
    kernel.apply(table(c2="a"))
    assert hand.read(LIST) == whole
    assert kernel.find_drift() == ""


def test_a_table_without_policies_is_taken_away(kernel: WorkerPolicies, hand: Nft) -> None:
    hand.apply("table ip knetsim-policy { chain c { accept; }; }")
    assert kernel.find_drift() != ""
    kernel.apply(NOTHING)
    assert hand.read_tables() == set()


def test_a_failed_transaction_is_followed_by_a_whole_table(kernel: WorkerPolicies, hand: Nft) -> None:
    kernel.apply(table(c2="a"))
    hand.apply("delete table ip knetsim-policy")
    with pytest.raises(KernelError):
        kernel.apply(table(c2="a", c3="b"))
    kernel.apply(table(c2="a", c3="b"))
    assert kernel.find_drift() == ""
    assert "to/default/b" in read_rules(hand)


# --- the agent


def test_what_was_changed_by_hand_is_back_within_the_resync(pod_maker: PodMaker) -> None:
    with ExitStack() as stack:
        lab = PolicyLab(pod_maker, stack, resync_seconds=0.1)
        server, client = lab.labelled("s1", lab.w1, "tcp"), lab.labelled("c1", lab.w2)
        lab.put(policy("deny", ingress=[]))
        with Nft(lab.w1.place) as hand:
            hand.apply("delete table ip knetsim-policy")
        wait_repaired(lab, 1)
        lab.policies.wait_ready()
        assert not lab.opens(client, server.ip)
        assert lab.told == [("C0w1", "PoliciesRepaired", "the table is gone")]


def test_without_repair_it_stays_broken(pod_maker: PodMaker) -> None:
    with ExitStack() as stack:
        lab = PolicyLab(pod_maker, stack, resync_seconds=0.1, repair=False)
        server, client = lab.labelled("s1", lab.w1, "tcp"), lab.labelled("c1", lab.w2)
        lab.put(policy("deny", ingress=[]))
        with Nft(lab.w1.place) as hand:
            hand.apply("delete table ip knetsim-policy")
        lab.policies.wait_ready()
        assert lab.opens(client, server.ip)
        assert lab.told == []


def test_a_pod_is_wired_only_once_its_policies_hold(lab: PolicyLab) -> None:
    """The agent's thread is held up, so nothing can be applied: the wiring waits."""
    lab.put(policy("deny", labels(app="web"), ingress=[]))
    lab.put(_pod_object("s1", app="web"))
    lab.put(_pod_object("s2", app="other"))
    assert lab.w1.worker is not None
    lab.pod("s2", lab.w1)  # no policy selects it: it waits for nothing
    asked, applied, wired = threading.Event(), threading.Event(), threading.Event()
    kernel = lab.policies._workers["C0w1"].kernel
    apply_table = kernel.apply

    def apply_later(desired: PolicyTable) -> float | None:
        asked.set()
        applied.wait(10)
        return apply_table(desired)

    kernel.apply = apply_later  # type: ignore[method-assign]
    place = lab._maker.pod(lab.w1.worker, "s1")
    thread = threading.Thread(target=lambda: (lab._wiring.add(lab.w1.worker, place), wired.set()))  # type: ignore[arg-type]
    thread.start()
    try:
        assert asked.wait(10)
        assert not wired.is_set(), "it has an address, and its policies are not in the kernel"
    finally:
        applied.set()
        thread.join(20)
    assert wired.is_set()
    assert kernel.applied.pods
    with Nft(lab.w1.place) as nft:
        assert "default/s1" in nft.read("list map ip knetsim-policy ingress-pods")


def test_a_pod_whose_policies_cannot_be_applied_is_not_wired(lab: PolicyLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knetsim.node.policy_agent.ADMIT_SECONDS", 0.2)
    lab.put(policy("deny", ingress=[]))
    lab.put(_pod_object("s1"))
    assert lab.w1.worker is not None
    kernel = lab.policies._workers["C0w1"].kernel

    def refuse(desired: PolicyTable) -> float | None:
        raise CommandError(["nft"], 1, "no")

    healthy, kernel.apply = kernel.apply, refuse  # type: ignore[method-assign]
    place = lab._maker.pod(lab.w1.worker, "s1")
    with pytest.raises(NotReady, match="s1"):
        lab._wiring.add(lab.w1.worker, place)
    assert lab._wiring.check(lab.w1.worker, place) != [], "nothing of it is left"
    assert lab.policies.problems()[0][0] == "NetworkPolicies on C0w1"
    kernel.apply = healthy  # type: ignore[method-assign]
    assert lab._wiring.add(lab.w1.worker, place).ip in kernel.applied.addresses()
    assert lab.policies.problems() == []
    assert {reason for _, reason, _ in lab.told} == {"PoliciesFailed"}


def test_a_policy_that_cannot_be_read_is_told_and_holds_up_nothing(lab: PolicyLab) -> None:
    server, client = lab.labelled("s1", lab.w1, "tcp"), lab.labelled("c1", lab.w2)
    broken = policy("broken", ingress=[{"from": [{"ipBlock": {"cidr": "nonsense"}}]}])
    lab.put(broken)
    lab.put(policy("deny", ingress=[]))
    assert not lab.opens(client, server.ip)
    ((name, what),) = lab.policies.problems()
    assert name == "NetworkPolicy default/broken"
    assert "nonsense" in what
    assert [(key, reason) for key, reason, _ in lab.told] == [("default/broken", "PolicyNotEnforced")]
    lab.put(policy("broken", ingress=[{}]))
    assert lab.opens(client, server.ip)
    assert lab.policies.problems() == []


def test_bridged_frames_that_are_hidden_from_the_rules_are_a_problem(lab: PolicyLab) -> None:
    lab.install_all()
    server, client = lab.labelled("s1", lab.w1, "tcp"), lab.labelled("c1", lab.w1)
    lab.put(policy("deny", ingress=[]))
    assert lab.policies.problems() == []
    assert not lab.opens(client, server.ip)
    write_sysctl(lab.w1.place, {"net.bridge.bridge-nf-call-iptables": "0"})
    assert lab.opens(client, server.ip), "as the problem says"
    ((name, what),) = lab.policies.problems()
    assert name == "NetworkPolicies on C0w1"
    assert "br_netfilter" in what


def test_a_hundred_policies_and_pods_are_few_transactions(lab: PolicyLab) -> None:
    for number in range(100):
        peer = {"podSelector": labels(app=f"a{number % 7}")}
        lab.write(policy(f"p{number}", labels(app=f"a{number % 10}"), ingress=[{"from": [peer]}]))
    for number in range(100):
        obj = _pod_object(f"c{number}", app=f"a{number % 10}")
        obj["status"] = {"phase": "Running", "podIP": f"11.15.65.{number}"}
        lab.write(obj)
    lab.settle()
    row = lab.policies.status()[0]
    assert row.pods == 100
    assert row.transactions <= 60, f"{row.transactions} transactions for 200 changes"
    with Nft(lab.w1.place) as nft:
        used = [name for name, rules in read_rules(nft).items() if name.startswith("to/") and rules]
    assert len(used) == 10, "one for all that are alike"


def _pod_object(name: str, **pairs: str) -> Any:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": pairs}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {"nodeName": "c0w1", "containers": [{"name": "main", "image": "busybox"}]},
    }

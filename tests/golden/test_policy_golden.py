"""The nft text of NetworkPolicies, whole and as changes: what the slides show, and what nft takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim.dataplane.policy.messages import encode_deletion
from knetsim.dataplane.policy.policies import DIRECTIONS, Policy
from knetsim.dataplane.policy.rules import (
    IsolatedPod,
    build_peer_name,
    build_peer_set,
    build_policy,
    build_port_name,
    build_port_set,
    build_table,
)
from knetsim.dataplane.policy.table import (
    NOTHING,
    PolicyTable,
    build_changes,
    build_whole,
    find_retired,
)
from knetsim.node.policy_objects import read_policy

DIRECTORY = Path(__file__).parent / "policy"
CASES: dict[str, Any] = yaml.safe_load((DIRECTORY / "cases.yaml").read_text())
Golden = Callable[[Path, str], None]
#: the pods of every peer, and of every named port
ADDRESSES = ("11.15.64.9", "11.15.80.4")


def read_case(case: str) -> Policy:
    """The policy of a case."""
    return read_policy(
        {"kind": "NetworkPolicy", "metadata": {"name": case, "namespace": "default"}, "spec": CASES[case]}
    )


def build(pods: Mapping[str, tuple[str, ...]], addresses: tuple[str, ...] = ADDRESSES) -> PolicyTable:
    """The table of a worker whose pods, by address, are selected by these cases."""
    isolated = []
    policies = {case: read_case(case) for cases in pods.values() for case in cases}
    for address, cases in pods.items():
        ingress, egress = (
            tuple(build_policy(policies[case], each) for case in cases if policies[case].isolates(each))
            for each in DIRECTIONS
        )
        isolated.append(IsolatedPod(address, f"default/c{address[-1]}", ingress, egress))
    sets = {}
    for policy in policies.values():
        sets |= {build_peer_name(peer): build_peer_set(peer, addresses) for peer in policy.pod_peers()}
        ends = [(address, 8080) for address in addresses]
        sets |= {build_port_name(port): build_port_set(port, ends) for port in policy.named_ports()}
    return build_table(isolated, sets)


@pytest.mark.parametrize("case", CASES)
def test_the_chains_of_a_policy(golden: Golden, case: str) -> None:
    policy, lines = read_case(case), []
    for direction in DIRECTIONS:
        if not policy.isolates(direction):
            lines.append(f"# {direction}: as before")
            continue
        chain = build_policy(policy, direction)
        lines += [f"chain {chain.name} {{", *(f"\t{rule}" for rule in chain.rules), "}"]
        lines += [f"# {name}" for name in chain.sets]
    golden(DIRECTORY / f"{case}.nft", "\n".join([*lines, ""]))


TWO_PODS = {"11.15.64.2": ("deny-all", "from-pods"), "11.15.64.3": ("deny-all",)}


def test_a_whole_table(golden: Golden) -> None:
    golden(DIRECTORY / "table.nft", build_whole(build(TWO_PODS)))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("pod-comes", build(TWO_PODS), build({**TWO_PODS, "11.15.64.4": ("deny-all",)})),
        ("pod-goes", build(TWO_PODS), build({"11.15.64.2": TWO_PODS["11.15.64.2"]})),
        ("client-comes", build(TWO_PODS), build(TWO_PODS, (*ADDRESSES, "11.15.96.2"))),
        ("client-goes", build(TWO_PODS), build(TWO_PODS, ADDRESSES[:1])),
        ("policy-goes", build(TWO_PODS), build({"11.15.64.2": ("from-pods",)})),
        ("last-pod-goes", build(TWO_PODS), NOTHING),
    ],
)
def test_what_a_change_says(golden: Golden, name: str, before: PolicyTable, after: PolicyTable) -> None:
    text = build_changes(before, after) if after else build_whole(after)
    later = [request.text() for request in encode_deletion(find_retired(before, after))] if after else []
    golden(DIRECTORY / f"change-{name}.nft", "\n".join([f"{text}# later", *later, ""]) if later else text)


def test_what_is_the_same_is_not_said_again() -> None:
    assert build_changes(build(TWO_PODS), build(TWO_PODS)) == ""

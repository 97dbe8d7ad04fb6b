"""What `knetsim status policies` shows: NetworkPolicies, the pods they select, what they allow, what was counted."""

from __future__ import annotations

from collections.abc import Mapping

from knetsim.api.objects import split_key
from knetsim.assembly import ClusterAssembly
from knetsim.dataplane.policy.explain import explain_rule, explain_selector
from knetsim.dataplane.policy.policies import DIRECTIONS, Direction
from knetsim.node.policy_agent import NetworkPolicies, PolicyReport
from knetsim.status import ClusterPolicies, PolicyDirectionState, PolicyState


def read_policies(cluster: ClusterAssembly) -> ClusterPolicies:
    """The cluster's policies as they are now; none while the cluster is starting."""
    agents = [addon for addon in cluster.addons if isinstance(addon, NetworkPolicies)]
    policies = [build_policy_state(report) for agent in agents for report in agent.report()]
    return {"cluster": cluster.name, "policies": policies}


def build_policy_state(report: PolicyReport) -> PolicyState:
    """One policy; pure."""
    namespace, name = split_key(report.key)
    policy = report.policy
    return {
        "namespace": namespace or "",
        "name": name,
        "selects": explain_selector(policy.selector) if policy is not None else "",
        "pods": [path.rpartition("/")[2] for path in report.pods],
        "problem": report.problem,
        "directions": [
            _build_direction(direction, [explain_rule(rule) for rule in policy.rules(direction) or ()], report.counts)
            for direction in DIRECTIONS
            if policy is not None and policy.isolates(direction)
        ],
    }


def _build_direction(
    direction: Direction, allows: list[str], counts: Mapping[Direction, tuple[int, int]]
) -> PolicyDirectionState:
    passed, dropped = counts.get(direction, (0, 0))
    return {"direction": direction, "allows": allows, "passed": passed, "dropped": dropped}

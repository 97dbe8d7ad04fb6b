"""Which policies select which pods, and which pods their peers are; what each worker shall have. No thread, no kernel.

Cost follows the change: a pod is compared with the policies of its namespace and with the distinct peers of all
policies, a policy with the pods of its namespace; sets are made anew only where a member came or went, and are one
object for all workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from knetsim.dataplane.policy.policies import DIRECTIONS, Direction, PodPeer, Policy, Port
from knetsim.dataplane.policy.rules import (
    IsolatedPod,
    PolicyChain,
    build_peer_name,
    build_peer_set,
    build_policy,
    build_port_name,
    build_port_set,
    build_table,
)
from knetsim.dataplane.policy.table import AddressSet, PolicyTable
from knetsim.node.policy_objects import PolicyPod

#: the keys of the policies that select a pod, sorted, for each direction; none where it is open
_Selecting = tuple[tuple[str, ...], ...]
_OPEN: _Selecting = ((),) * len(DIRECTIONS)
#: what a pod has in a set: its address, with a number where the set is of ports
_Ends = tuple[tuple[str, int], ...]


@dataclass(slots=True)
class _Members:
    """Who the set of a peer, or of a named port, holds, by the pod's uid; `users` counts the policies that name it."""

    means: PodPeer | Port
    users: int = 0
    by_uid: dict[str, _Ends] = field(default_factory=dict)
    built: AddressSet | None = None

    def put(self, uid: str, ends: _Ends) -> bool:
        """Have this of the pod in it; whether that changed it."""
        if self.by_uid.get(uid, ()) == ends:
            return False
        if ends:
            self.by_uid[uid] = ends
        else:
            del self.by_uid[uid]
        self.built = None
        return True

    def build(self) -> AddressSet:
        """The set as it is now: the same object until a member comes or goes."""
        if self.built is None:
            ends = (end for ends in self.by_uid.values() for end in ends)
            if isinstance(self.means, Port):
                self.built = build_port_set(self.means, ends)
            else:
                self.built = build_peer_set(self.means, (address for address, _ in ends))
        return self.built


@dataclass(slots=True)
class Changes:
    """Since the last time: the Nodes whose own pods or policies changed, and the sets that have other members."""

    nodes: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)


class PolicySelection:
    """All policies, pods and namespaces of a cluster; used under one lock."""

    def __init__(self) -> None:
        self._policies: dict[str, Policy] = {}
        self._chains: dict[str, dict[Direction, PolicyChain]] = {}
        self._by_namespace: dict[str, dict[str, Policy]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._pods: dict[str, PolicyPod] = {}
        self._on_node: dict[str, dict[str, PolicyPod]] = {}
        self._in_namespace: dict[str, dict[str, PolicyPod]] = {}
        self._selecting: dict[str, _Selecting] = {}
        self._sets: dict[str, _Members] = {}
        self._changes = Changes()

    def __len__(self) -> int:
        return len(self._policies)

    def take_changes(self) -> Changes:
        """What has changed since this was asked last."""
        changes, self._changes = self._changes, Changes()
        return changes

    def chains(self) -> dict[str, tuple[str, Direction]]:
        """Every policy's chains: name → (key, direction)."""
        return {
            chain.name: (key, direction) for key, chains in self._chains.items() for direction, chain in chains.items()
        }

    def list_selected(self) -> dict[str, list[str]]:
        """The pods that each policy selects, sorted, by the policy's key; for either direction."""
        found: dict[str, list[str]] = {key: [] for key in self._policies}
        for uid, selecting in self._selecting.items():
            for key in {key for keys in selecting for key in keys}:
                found[key].append(self._pods[uid].path)
        return {key: sorted(pods) for key, pods in found.items()}

    def get(self, key: str) -> Policy | None:
        """A policy, or None."""
        return self._policies.get(key)

    def is_isolated(self, uid: str) -> bool:
        """Whether a policy selects the pod."""
        return self._selecting.get(uid, _OPEN) != _OPEN

    # --- what comes in

    def put_policy(self, key: str, policy: Policy | None) -> None:
        """The policy `key` is this now, or is gone."""
        before = self._policies.get(key)
        if before == policy:
            return
        if policy is not None:
            self._policies[key] = policy
            self._chains[key] = {each: build_policy(policy, each) for each in DIRECTIONS if policy.isolates(each)}
            self._by_namespace.setdefault(policy.namespace, {})[key] = policy
            self._use(policy)
        if before is not None:
            if policy is None:
                del self._policies[key], self._chains[key], self._by_namespace[before.namespace][key]
            self._disuse(before)
        for uid, pod in self._in_namespace.get(key.partition("/")[0], {}).items():
            self._select(uid, pod)
            if any(key in keys for keys in self._selecting.get(uid, _OPEN)):
                self._changes.nodes.add(pod.node)

    def put_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """The namespace has these labels now, or is gone."""
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        pods = self._in_namespace.get(name, {})
        for each, members in self._sets.items():
            if isinstance(members.means, PodPeer) and members.means.namespaces is not None:
                for uid, pod in pods.items():
                    self._put_member(each, members, uid, pod)

    def put_pod(self, uid: str, pod: PolicyPod | None) -> None:
        """The pod is this now, or has no address any more."""
        before = self._pods.get(uid)
        if before == pod:
            return
        if before is not None:
            del self._pods[uid], self._on_node[before.node][uid], self._in_namespace[before.namespace][uid]
            self._note_node(before)
        if pod is not None:
            self._pods[uid] = pod
            self._on_node.setdefault(pod.node, {})[uid] = pod
            self._in_namespace.setdefault(pod.namespace, {})[uid] = pod
        self._select(uid, pod)
        if pod is not None:
            self._note_node(pod)
        for name, members in self._sets.items():
            self._put_member(name, members, uid, pod)

    # --- who is selected

    def _select(self, uid: str, pod: PolicyPod | None) -> None:
        before = self._selecting.get(uid, _OPEN)
        after = self._find_selecting(pod) if pod is not None else _OPEN
        if before == after:
            return
        if after == _OPEN:
            del self._selecting[uid]
        else:
            self._selecting[uid] = after
        if pod is not None:
            self._changes.nodes.add(pod.node)

    def _find_selecting(self, pod: PolicyPod) -> _Selecting:
        policies = self._by_namespace.get(pod.namespace)
        if not policies:
            return _OPEN
        keys = sorted(key for key, policy in policies.items() if policy.selector.matches(pod.labels))
        return tuple(tuple(key for key in keys if direction in self._chains[key]) for direction in DIRECTIONS)

    def _note_node(self, pod: PolicyPod) -> None:
        if self.is_isolated(pod.uid):
            self._changes.nodes.add(pod.node)

    # --- who is meant

    def _use(self, policy: Policy) -> None:
        for name, means in _name_sets(policy):
            members = self._sets.get(name)
            if members is None:
                members = self._sets[name] = _Members(means)
                for uid, pod in self._pods.items():
                    self._put_member(name, members, uid, pod)
            members.users += 1

    def _disuse(self, policy: Policy) -> None:
        for name, _ in _name_sets(policy):
            self._sets[name].users -= 1
            if not self._sets[name].users:
                del self._sets[name]

    def _put_member(self, name: str, members: _Members, uid: str, pod: PolicyPod | None) -> None:
        if members.put(uid, self._find_ends(members.means, pod) if pod is not None else ()):
            self._changes.sets.add(name)

    def _find_ends(self, means: PodPeer | Port, pod: PolicyPod) -> _Ends:
        if isinstance(means, Port):
            return tuple(
                (pod.address, number)
                for protocol, name, number in pod.ports
                if (protocol, name) == (means.protocol, means.name)
            )
        if means.namespaces is None:
            there = means.namespace == pod.namespace
        else:
            labels = self._namespaces.get(pod.namespace)
            there = labels is not None and means.namespaces.matches(labels)
        return ((pod.address, 0),) if there and means.pods.matches(pod.labels) else ()

    # --- what comes out

    def build(self, node: str) -> PolicyTable:
        """What the worker of a Node shall have."""
        pods = [self._build_pod(pod) for uid, pod in self._on_node.get(node, {}).items()]
        used = {name for pod in pods for chain in (*pod.ingress, *pod.egress) for name in chain.sets}
        return build_table(pods, {name: self._sets[name].build() for name in used})

    def _build_pod(self, pod: PolicyPod) -> IsolatedPod:
        selecting = self._selecting.get(pod.uid, _OPEN)
        ingress, egress = (
            tuple(self._chains[key][direction] for key in keys)
            for direction, keys in zip(DIRECTIONS, selecting, strict=True)
        )
        return IsolatedPod(pod.address, pod.path, ingress, egress)


def _name_sets(policy: Policy) -> list[tuple[str, PodPeer | Port]]:
    """Every set that a policy names, as often as it does."""
    peers: list[tuple[str, PodPeer | Port]] = [(build_peer_name(peer), peer) for peer in policy.pod_peers()]
    return peers + [(build_port_name(port), port) for port in policy.named_ports()]

"""The agent for NetworkPolicies of a cluster's workers: policies, pods and namespaces in, every worker's table kept.

What a network plugin's agent does: a daemon on every node watches policies, pods and namespaces, and the CNI plugin
lets no container of a pod start before its policies are in the kernel, as the API demands of every implementation.
What ours does: the same with one watch of each kind and one thread for all workers of a cluster; who wires a pod asks
`admit` before any container runs.
How it differs: what a pod's birth changes for other workers is put off while the workers are many, so that this thread
has time for what matters first, a pod that waits to start; see `_PATIENCE`. A table that was changed by hand is made
whole again within `RESYNC_SECONDS`.

    Store ──watch──> informers ──> PolicySelection ──PolicyTable──> WorkerPolicies, one per worker
                     admit(pod) ──────^
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from knetsim.api.informer import Informer
from knetsim.api.loop import Loop
from knetsim.api.objects import Object, key_of, split_key, uid_of
from knetsim.api.store import Store
from knetsim.dataplane.pod import PodPlace, WorkerPlace
from knetsim.dataplane.policy.counters import add_up, read_counters
from knetsim.dataplane.policy.policies import DIRECTIONS, Direction, Policy
from knetsim.dataplane.policy.worker import WorkerPolicies
from knetsim.dataplane.services.host import shows_bridged_frames
from knetsim.errors import NotFound, NotReady, ObjectError
from knetsim.node.policy_objects import PolicyPod, reach_stand_ins, read_pod, read_policy
from knetsim.node.policy_selection import PolicySelection
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft

#: seconds between two looks at a worker of which nothing was heard
RESYNC_SECONDS = 15.0
DEADLINE = 60.0
#: seconds that a pod waits at most for its policies to be in the kernel
ADMIT_SECONDS = 10.0
#: what other workers' pods change is put off by so many times what a change takes, for all workers together
_PATIENCE = 10.0
_LONGEST_PAUSE = 1.0
_FIRST_COST = 0.001
#: how much the last change counts in the average
_WEIGHT = 0.2
_UNSEEN = (
    "its pods reach each other past all policies: br_netfilter is missing, or net.bridge.bridge-nf-call-iptables is 0"
)

#: called with (worker, reason, message) when something failed or had to be repaired
TellHost = Callable[[str, str, str], None]
#: called with (object, reason, message): an Event on the object
Tell = Callable[[Object, str, str], None]


@dataclass(frozen=True, slots=True)
class PolicyWorker:
    """A worker: the Mininet host `name`, the Node `node`."""

    name: str
    node: str
    namespaces: Namespaces


@dataclass
class _Worker:
    """A worker while policies are served. `wanted` counts the reasons to change its table, `applied` how many of them
    are in the kernel."""

    worker: PolicyWorker
    kernel: WorkerPolicies
    wanted: int = 1
    applied: int = 0
    uses: Set[str] = frozenset()
    repairs: int = 0
    error: str = ""
    checked: float = 0.0


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """How far a worker is: isolated pods in its kernel, transactions and repairs so far, what failed last."""

    worker: str
    pods: int
    transactions: int
    repairs: int
    error: str


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """A policy by its key, the pods that it selects, what was counted for each direction (allowed, dropped), and why it
    is not enforced."""

    key: str
    policy: Policy | None
    pods: Sequence[str]
    counts: Mapping[Direction, tuple[int, int]]
    problem: str


class NetworkPolicies:
    """Policies on the workers of one cluster; an add-on, and who guards pods."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        pods: Informer,
        workers: Iterable[PolicyWorker],
        *,
        stand_ins: Sequence[PolicyPod] = (),
        repair: bool = True,
        resync_seconds: float = RESYNC_SECONDS,
        tell: Tell = lambda obj, reason, message: None,
        tell_host: TellHost = lambda worker, reason, message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pods` is a running informer; `stand_ins` serve in hosts what elsewhere pods do."""
        self.cluster, self.pods = cluster, pods
        self._store = store
        self.policies, self.namespaces = Informer(store, "NetworkPolicy"), Informer(store, "Namespace")
        self._repair, self._tell, self._tell_host, self._clock = repair, tell, tell_host, clock
        self._changed = threading.Condition(threading.RLock())
        self._selection, self._stand_ins = PolicySelection(), tuple(stand_ins)
        for stand_in in stand_ins:
            self._selection.put_pod(stand_in.uid, stand_in)
        self._wired: dict[str, str] = {}  # a pod's uid → its address; "" once it is unwired
        self._problems: dict[str, str] = {}
        self._workers = {one.name: _Worker(one, WorkerPolicies(one.namespaces, clock)) for one in workers}
        self._nodes = {each.worker.node: each for each in self._workers.values()}
        self._resync_seconds = resync_seconds
        self._cost = _FIRST_COST
        self._stopped = False
        self._loop = Loop(
            f"policies {cluster}",
            self._reconcile,
            self._failed,
            threads=1,
            keys=lambda: list(self._workers),
            resync_seconds=resync_seconds if repair else None,
        )

    # --- for the cluster

    def start(self) -> None:
        """Read all policies and begin; returns before they are in the kernels. NotReady when they cannot be read."""
        self.policies.on_change(self._note_policy)
        self.namespaces.on_change(self._note_namespace)
        for informer in (self.policies, self.namespaces):
            informer.start()
        for informer in (self.policies, self.namespaces):
            informer.wait_synced(DEADLINE)
        self.pods.on_change(self._note_pod)
        self._loop.start()

    def wait_ready(self) -> None:
        """Wait until every policy that is stored by now is in all kernels; NotReady says where it is not."""
        for policy in self._store.list("NetworkPolicy").items:
            self._wait_known(policy)
        with self._changed:
            for each in self._workers.values():
                self._loop.add(each.worker.name)
            if not self._changed.wait_for(lambda: not self._behind(), DEADLINE):
                raise NotReady(f"the NetworkPolicies of {self.cluster}", why="; ".join(self._behind()))

    def _wait_known(self, policy: Object) -> None:
        """Wait until this object was heard of, or a later one of its name."""
        key, generation = key_of(policy), policy["metadata"].get("generation", 0)

        def is_known(informer: Informer) -> bool:
            found = informer.by_key(key)
            if found is None:
                return False
            return uid_of(found) != uid_of(policy) or found["metadata"].get("generation", 0) >= generation

        try:
            self.policies.wait_for(is_known, DEADLINE, f"NetworkPolicy {key}")
        except NotReady:
            namespace, name = split_key(key)
            try:
                self._store.get("NetworkPolicy", name, namespace)
            except NotFound:
                return  # it was deleted meanwhile
            raise

    def _behind(self) -> list[str]:
        return [
            f"{each.worker.name}: {each.error or 'not in its kernel yet'}"
            for each in self._workers.values()
            if each.applied < each.wanted
        ]

    def problems(self) -> list[tuple[str, str]]:
        """Policies that cannot be read, and workers on which policies do not hold."""
        with self._changed:
            found = [(f"NetworkPolicy {key}", what) for key, what in sorted(self._problems.items())]
            found += [
                (f"NetworkPolicies on {each.worker.name}", each.error) for each in self._workers.values() if each.error
            ]
            serving = [each for each in self._workers.values() if each.kernel.applied]
        return found + [
            (f"NetworkPolicies on {each.worker.name}", _UNSEEN)
            for each in serving
            if not shows_bridged_frames(each.worker.namespaces)
        ]

    def status(self) -> list[PolicyStatus]:
        """How far each worker is."""
        with self._changed:
            return [
                PolicyStatus(
                    each.worker.name,
                    len(each.kernel.applied.addresses()),
                    each.kernel.transactions,
                    each.repairs,
                    each.error,
                )
                for each in self._workers.values()
            ]

    def report(self) -> list[PolicyReport]:
        """Every policy, sorted, with what was counted for it. CommandError."""
        counts = self.read_counts()
        with self._changed:
            selected, problems = self._selection.list_selected(), dict(self._problems)
            return [
                PolicyReport(
                    key,
                    self._selection.get(key),
                    selected.get(key, []),
                    {each: counts[key, each] for each in DIRECTIONS if (key, each) in counts},
                    problems.get(key, ""),
                )
                for key in sorted(selected.keys() | problems.keys())
            ]

    def read_counts(self) -> dict[tuple[str, Direction], tuple[int, int]]:
        """Packets (allowed, dropped) on all workers by the key of the policy and direction. What was dropped counts for
        every policy that selects the pod: each of them could have allowed it. CommandError."""
        with self._changed:
            tables = [(each.worker, each.kernel.applied) for each in self._workers.values()]
            chains = self._selection.chains()
        totals: dict[tuple[str, Direction], tuple[int, int]] = {}
        for worker, table in tables:
            if not table:
                continue
            with Nft(worker.namespaces) as nft:
                found = add_up(read_counters(nft), table)
            for chain, (allowed, dropped) in found.items():
                if chain in chains:
                    before = totals.get(chains[chain], (0, 0))
                    totals[chains[chain]] = (before[0] + allowed, before[1] + dropped)
        return totals

    def stop(self) -> None:
        """End the watches; the tables stay. Twice is once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self.pods.forget(self._note_pod)
        for informer in (self.policies, self.namespaces):
            informer.stop()
        self._loop.stop()
        for each in self._workers.values():
            each.kernel.close()

    # --- for who wires pods

    def admit(self, worker: WorkerPlace, pod: PodPlace, address: str) -> None:
        """Have the policies that select a pod in its worker's kernel, before anything runs in it. NotReady."""
        obj = self.pods.get(pod.namespace, pod.pod)
        if obj is None or uid_of(obj) != pod.uid or worker.name not in self._workers:
            return  # it is gone already: nothing will run in it
        each = self._workers[worker.name]
        with self._changed:
            self._wired[pod.uid] = address
            self._selection.put_pod(pod.uid, read_pod(obj, address))
            self._pass_on()
            if not self._selection.is_isolated(pod.uid):
                return
            wanted = each.wanted
            self._loop.add(worker.name)
            self._changed.wait_for(lambda: each.applied >= wanted or self._stopped, ADMIT_SECONDS)
            if each.applied < wanted:
                why = each.error or f"not seen within {ADMIT_SECONDS:g} s"
                raise NotReady(f"the NetworkPolicies of pod {pod}", worker.name, why)

    def release(self, pod: PodPlace) -> None:
        """The pod is unwired: its address may be another's from now on."""
        with self._changed:
            self._selection.put_pod(pod.uid, None)
            self._pass_on()
            obj = self.pods.get(pod.namespace, pod.pod)
            if obj is not None and uid_of(obj) == pod.uid:
                self._wired[pod.uid] = ""  # its status goes on telling an address
            else:
                self._wired.pop(pod.uid, None)

    # --- what is heard

    def _note_policy(self, key: str, before: Object | None, after: Object | None) -> None:
        problem, policy = "", None
        if after is not None:
            try:
                policy = reach_stand_ins(read_policy(after), self._stand_ins)
            except ObjectError as error:
                problem = str(error)
        with self._changed:
            if problem:
                self._problems[key] = problem
            else:
                self._problems.pop(key, None)
            self._selection.put_policy(key, policy)
            self._pass_on()
        if problem and after is not None:
            self._tell(after, "PolicyNotEnforced", problem)

    def _note_namespace(self, key: str, before: Object | None, after: Object | None) -> None:
        with self._changed:
            self._selection.put_namespace(key, None if after is None else after["metadata"].get("labels") or {})
            self._pass_on()

    def _note_pod(self, key: str, before: Object | None, after: Object | None) -> None:
        with self._changed:
            gone = uid_of(before) if before is not None else ""
            if gone and (after is None or uid_of(after) != gone):
                self._selection.put_pod(gone, None)
                self._wired.pop(gone, None)
            if after is not None:
                uid = uid_of(after)
                self._selection.put_pod(uid, read_pod(after, self._wired.get(uid)))
            self._pass_on()

    def _pass_on(self) -> None:
        """Have the workers looked at that a change concerns: at once for own pods, soon for those of others."""
        changes = self._selection.take_changes()
        if not changes.nodes and not changes.sets:
            return
        for each in self._workers.values():
            if each.worker.node in changes.nodes:
                each.wanted += 1
                self._loop.add(each.worker.name)
            elif changes.sets and not each.uses.isdisjoint(changes.sets):
                each.wanted += 1
                pause = min(_PATIENCE * self._cost * len(self._workers), _LONGEST_PAUSE)
                self._loop.add_after(each.worker.name, pause)

    # --- one worker

    def _reconcile(self, name: str) -> float | None:
        each = self._workers[name]
        if self._repair and (drift := each.kernel.find_drift(thorough=self._is_due(each))):
            with self._changed:
                each.repairs += 1
                each.wanted += 1  # who waits for it waits for the repair
            self._tell_host(name, "PoliciesRepaired", drift)
        with self._changed:
            wanted = each.wanted
            desired = self._selection.build(each.worker.node)
            each.uses = desired.sets.keys()
        begun, transactions = self._clock(), each.kernel.transactions
        again = each.kernel.apply(desired)
        if each.kernel.transactions != transactions:
            self._cost += _WEIGHT * (self._clock() - begun - self._cost)
        with self._changed:
            each.applied, each.error = wanted, ""
            self._changed.notify_all()
        return again

    def _is_due(self, each: _Worker) -> bool:
        """Whether it is time for the whole table to be read, if somebody has changed rules of the worker."""
        now = self._clock()
        if now < each.checked + self._resync_seconds / 2:
            return False
        each.checked = now
        return True

    def _failed(self, name: str, error: Exception, pause: float) -> None:
        with self._changed:
            self._workers[name].error = str(error)
            self._changed.notify_all()
        self._tell_host(name, "PoliciesFailed", f"{error}; the next attempt makes the whole table, in {pause:.1f} s")

"""One pod on its worker: brought to what its object says, step by step, and taken down again.

`sync` looks at the object and at what is there, does what can be done now and says when to look again. Nothing in it
waits for a process. Order of a life: network namespace and wiring → init containers, one after the other → containers
→ status. Order of an end: SIGTERM → grace period → SIGKILL → unwiring (CNI DEL) → namespace → terminal status → the
object.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace

from knetsim.api.events import NORMAL, WARNING
from knetsim.api.objects import Object, describe, name_of, namespace_of, parse_time, revision_of, uid_of
from knetsim.api.store import Store
from knetsim.errors import CommandError, Conflict, KnetsimError, NotFound
from knetsim.names import did_you_mean
from knetsim.node.kubelet.access import ContainerAccess
from knetsim.node.kubelet.container_set import ContainerSet, grace_of
from knetsim.node.kubelet.containers import Container
from knetsim.node.kubelet.launch import Launcher
from knetsim.node.kubelet.lifecycle import (
    ContainerView,
    Plan,
    Running,
    Terminated,
    Waiting,
    all_containers,
    plan_containers,
    read_containers,
)
from knetsim.node.kubelet.readiness import is_finished
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.static_pods import hash_of
from knetsim.node.kubelet.status import PodView, build_status, own_share, says_the_same
from knetsim.node.kubelet.surroundings import Surroundings
from knetsim.node.kubelet.volumes import MountError
from knetsim.system.container import Process
from knetsim.system.netns import Namespaces

_SANDBOX_FIRST_PAUSE, _SANDBOX_LONGEST_PAUSE = 0.5, 60.0
_KILL_SECONDS = 10.0
_DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class PodRun:
    """A pod (one uid) on one worker. `sync` and `destroy` are called by one thread at a time."""

    def __init__(
        self, pod: Object, sandbox: PodSandbox, around: Surroundings, store: Store, check_seconds: float | None
    ) -> None:
        """`check_seconds` at least are between two looks at the pod's wiring; None: nobody looks."""
        self.uid, self.key, self.sandbox = uid_of(pod), (namespace_of(pod), name_of(pod)), sandbox
        self.digest = hash_of(pod)  # of the manifest of a static pod
        self.gone = False  # its object has been deleted by us
        self.written = 0  # the revision of the status that was written last
        self._around, self._store, self._check_seconds = around, store, check_seconds
        self._status: Object | None = None
        self._since = around.wall()
        self._ip = ""
        self._known, self._online = pod, True
        self._first: str = pod["spec"]["containers"][0]["name"]
        self._launcher = Launcher(sandbox, around.sources, around.images, around.cgroups)
        self._containers = ContainerSet(pod, self._launcher, around)
        self._over = False  # nothing of it will run any more
        self._finished = False  # nothing of it is to run any more
        self._failure: tuple[str, str] | None = None  # why its kubelet has ended it
        self._retry_at, self._pause = 0.0, 0.0
        self._mount_failures: list[str] = []
        self._checked_at = 0.0
        self._commands = itertools.count(1)

    def restore(self, pod: Object) -> None:
        """Go on with a pod that a kubelet before this one started."""
        status = pod.get("status") or {}
        self._ip = status.get("podIP", "")
        if status.get("startTime"):
            self._since = parse_time(status["startTime"])
        self._containers.restore(pod)
        self._over = is_finished(pod)
        if not self._over and not self._adopt_sandbox():
            self._tell("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", NORMAL)

    def _tell(self, reason: str, message: str, kind: str = WARNING) -> None:
        self._around.tell(reason, message, kind, "")

    def _adopt_sandbox(self) -> bool:
        self._checked_at = self._around.steady()
        try:
            return self.sandbox.adopt()
        except (KnetsimError, OSError) as error:
            self._tell("FailedSync", f"the pod's network cannot be taken over: {explain(error)}")
            return False

    # --- towards what the object says

    def sync(self, pod: Object, *, online: bool = True) -> float | None:
        """Do what can be done now; the seconds until it is to be looked at again, if need be.

        While its worker is not `online`, it does not know what is stored: it goes on with what it knew, and tells
        nothing.
        """
        self._online = online
        if not online:
            pod = self._known
        self._known = pod
        self._containers.collect(pod)
        if pod["metadata"].get("deletionTimestamp"):
            return self._end(pod)
        if self._over:
            self._close_sandbox()
            self._write_status(pod, Plan(finished=True))
            return None
        left = self._check_deadline(pod)
        if self._finished:
            return self._wind_down(pod)
        if not self._prepare_volumes(pod) or (not self.sandbox.ready and not self._open_sandbox(pod)):
            return min(max(self._retry_at - self._around.steady(), 0.0), *left)
        self._check_sandbox()
        plan = self._plan(pod)
        started = self._containers.carry_out(pod, plan)
        looks = [*left, *self._containers.next_look(started)]
        if started or plan.stop:
            plan = self._plan(pod)
            if not set(plan.start) <= set(started):
                looks.append(0.0)  # a sidecar has started: what follows can begin
        if plan.finished and not plan.stop:
            self._finished = True
            return self._wind_down(pod)
        self._write_status(pod, plan)
        looks += [look for look in (plan.look_after, self.sandbox.volumes.next_look()) if look is not None]
        return min(looks, default=None)

    def _plan(self, pod: Object) -> Plan:
        return plan_containers(pod["spec"], self._containers.views(), self._around.steady())

    def _check_deadline(self, pod: Object) -> list[float]:
        """Fail the pod when its time is over; the seconds that are left, if it has a deadline."""
        allowed = pod["spec"].get("activeDeadlineSeconds")
        if allowed is None or self._finished:
            return []
        left = self._since + float(allowed) - self._around.wall()
        if left > 0:
            return [left]
        self._finished, self._failure = True, _DEADLINE
        self._tell(*_DEADLINE, NORMAL)
        return []

    def _wind_down(self, pod: Object) -> float | None:
        """Nothing of it is to run any more: end what still does, then tear down its place."""
        left = self._containers.wind_down(pod, grace_of(pod))
        if left is None:
            self._over = True
            self._close_sandbox()
        self._write_status(pod, Plan(finished=left is None))
        return left

    def _prepare_volumes(self, pod: Object) -> bool:
        """Make the pod's volumes, or have them show what they are made of by now. A pod that has its place already
        goes on with what was there before."""
        looked_at = not all(self._launcher.holds(one) for one in all_containers(pod["spec"]))
        try:
            self.sandbox.volumes.prepare(pod, looked_at=looked_at)
        except MountError as error:
            now = self._around.steady()
            if error.messages != self._mount_failures or now >= self._retry_at:
                self._pause = min(max(self._pause * 2, _SANDBOX_FIRST_PAUSE), _SANDBOX_LONGEST_PAUSE)
                self._retry_at, self._mount_failures = now + self._pause, error.messages
                for message in error.messages:
                    self._tell("FailedMount", message)
            if not self.sandbox.ready:
                self._write_status(pod, Plan())
            return self.sandbox.ready
        if self._mount_failures:
            self._mount_failures, self._pause, self._retry_at = [], 0.0, 0.0
        return True

    def _open_sandbox(self, pod: Object) -> bool:
        """Make the pod's place, unless the last failure was just now."""
        now = self._around.steady()
        if now < self._retry_at:
            return False
        try:
            self.sandbox.open()
        except (KnetsimError, OSError) as error:
            self._pause = min(max(self._pause * 2, _SANDBOX_FIRST_PAUSE), _SANDBOX_LONGEST_PAUSE)
            self._retry_at = now + self._pause
            why = explain(error)
            self._tell("FailedCreatePodSandBox", f"Failed to create pod sandbox: {why}")
            for container in self._containers:
                container.wait_for_sandbox(why)
            self._write_status(pod, Plan())
            return False
        self._pause, self._checked_at = 0.0, now
        self._note_address()
        return True

    def _note_address(self) -> None:
        if self.sandbox.wired is not None:
            self._ip = self.sandbox.wired.ip

    def _check_sandbox(self) -> None:
        """When it is time, look whether somebody has changed the pod's wiring; repair it and say so."""
        now = self._around.steady()
        if self._check_seconds is None or now < self._checked_at + self._check_seconds:
            return
        wrong = self.sandbox.check()
        if wrong:
            self.sandbox.repair()
            self._note_address()
            self._tell("NetworkRepaired", f"The pod's network was changed by hand: {'; '.join(wrong)}")
        self._checked_at = now

    # --- status

    def _write_status(self, pod: Object, plan: Plan) -> None:
        """Write the status if it differs from what is stored; one call to the store."""
        stored = pod.get("status") or {}
        # what we have written may not have come round yet; then it counts, not the copy that is older
        base = stored if self._status is None or revision_of(pod) >= self.written else self._status
        containers = {name: self._show(pod, view, plan) for name, view in self._containers.views().items()}
        host_ip, ready = self.sandbox.worker.address, self.sandbox.ready
        over = plan.finished and self._over
        view = PodView(containers, self._ip, host_ip, self._since, ready, terminal=over, failure=self._failure)
        status = build_status(pod, base, view, self._around.wall())
        if says_the_same(status, base) or not self._online:
            return
        try:
            written = self._store.update_status({**pod, "status": own_share(status, base)})
        except (NotFound, Conflict):
            return  # another pod of that name, or none: the watch is about to say so
        self._status, self.written = status, revision_of(written)

    def _show(self, pod: Object, view: ContainerView, plan: Plan) -> ContainerView:
        """How a container is shown: one that is held back waits in CrashLoopBackOff."""
        if view.name not in plan.held or not isinstance(view.state, Terminated):
            return view
        where = f"{name_of(pod)}_{namespace_of(pod)}({self.uid})"
        message = f"back-off {_duration(view.backoff.pause)} restarting failed container={view.name} pod={where}"
        return replace(view, state=Waiting("CrashLoopBackOff", message), last=view.state)

    # --- the end

    def _end(self, pod: Object) -> float | None:
        """Graceful deletion, one step."""
        grace = grace_of(pod)
        left = self._containers.wind_down(pod, grace)
        if left is not None and grace <= 0:
            self._containers.kill(_KILL_SECONDS)
            left = self._containers.wind_down(pod, grace)
        if left is not None:
            self._write_status(pod, Plan())
            return left
        self._over = True
        self._close_sandbox()
        if not self._online:
            return None  # nobody can be told; the worker is looked at again when it is back
        self._write_status(pod, Plan(finished=True))
        self.sandbox.remove_files()
        self.delete_object(pod)
        return None

    @property
    def over(self) -> bool:
        """Whether nothing of it will run any more."""
        return self._over

    def rebind(self, pod: Object) -> None:
        """Another object stands for it: the mirror of a static pod was deleted and made anew."""
        self.uid, self._known, self._status, self.written = uid_of(pod), pod, None, 0

    def delete_object(self, pod: Object) -> None:
        """The last step: nothing of the pod is left here."""
        self.gone = True
        try:
            self._store.delete("Pod", name_of(pod), namespace_of(pod), grace_seconds=0, uid=self.uid)
        except (NotFound, Conflict):
            pass  # somebody has forced it

    def destroy(self) -> None:
        """End everything at once: its object is gone, or another has its name. It can be repeated after an error."""
        self._containers.kill(_KILL_SECONDS)
        self._over = True
        self._close_sandbox()
        self.sandbox.remove_files()

    def release(self) -> None:
        """Let go of everything and leave it as it is."""
        self._containers.release()
        self.sandbox.release()

    def _close_sandbox(self) -> None:
        try:
            self.sandbox.close()
            self._around.cgroups.remove_pod(self.uid)
        except (KnetsimError, OSError) as error:
            self._tell("FailedKillPod", f"error killing pod: {explain(error)}")
            raise

    # --- ways in

    def exec_place(self, pod: Object, name: str | None = None) -> Namespaces:
        """Where commands run: in a container that is named, or the first that runs, or beside the pause container."""
        _, specs = read_containers(pod["spec"])
        wanted = self._named(pod, [name] if name else [one["name"] for one in specs])
        for container in wanted:
            process = container.process
            if process is not None:
                return self.sandbox.enter(process)
        holds = [one["name"] for one in specs if self._launcher.holds(one)]
        if any(container.name in holds for container in wanted):
            return self.sandbox.view()
        words = "; ".join(f"{container.name}: {_explain_state(container)}" for container in wanted)
        raise NotFound(f"no container of {describe(pod)} is running", why=words)

    def _named(self, pod: Object, names: Sequence[str]) -> list[Container]:
        found = {name: self._containers.get(name) for name in names}
        for name, container in found.items():
            if container is None:
                known = did_you_mean(name, self._containers.names())
                raise NotFound(f"no container '{name}' in {describe(pod)}", hint=known)
        return [container for container in found.values() if container is not None]

    def access(self, pod: Object, name: str) -> ContainerAccess:
        """One of the pod's containers, for who comes by the kubelet's API. NotFound when the pod has no such."""
        container = self._containers.get(name)
        if container is None:
            raise NotFound(f'container not found ("{name}")')
        return ContainerAccess(pod, name, container, self.sandbox, self._around.watch)

    def processes(self) -> dict[str, int]:
        """The first process of each container that runs one."""
        running = ((one.name, one.process) for one in self._containers)
        return {name: process.pid for name, process in running if process is not None}

    def start_command(self, pod: Object, argv: Sequence[str], name: str | None = None) -> Process:
        """Start a command beside the pod's containers; its output goes to `exec-N.log` in the pod's directory."""
        place = self.exec_place(pod, name)
        try:
            log = f"{self.sandbox.directory}/exec-{next(self._commands)}.log"
            return self.sandbox.start_command(place, argv, log)
        finally:
            place.close()

    def log_path(self, name: str | None, *, previous: bool) -> str:
        """The log of a container (the first, unless named)."""
        container = self._containers.get(name or self._first)
        path = container.log_path(previous) if container else ""
        if not path or not os.path.exists(path):
            known = did_you_mean(name, self._containers.names()) if name else ""
            raise NotFound(f"there is no log of {'/'.join(self.key)} {name or ''}".rstrip(), hint=known)
        return path


def explain(error: BaseException) -> str:
    """An error in one line; of a program, what it printed."""
    text = error.output.strip() if isinstance(error, CommandError) and error.output.strip() else str(error)
    return " ".join(text.split())


def _explain_state(container: Container) -> str:
    state = container.state
    if isinstance(state, Running):
        return "running"
    if isinstance(state, Terminated):
        return f"{state.reason} (exit code {state.exit_code})"
    return f"{state.reason} {state.message}".rstrip()


def _duration(seconds: float) -> str:
    """As Go writes durations: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

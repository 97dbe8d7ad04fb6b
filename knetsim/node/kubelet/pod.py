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
from knetsim.api.objects import Object, describe, name_of, namespace_of, parse_time, uid_of
from knetsim.api.store import Store
from knetsim.errors import CommandError, Conflict, KnetsimError, LeftoverError, NotFound
from knetsim.names import did_you_mean
from knetsim.node.kubelet.commands import Work, classify_container
from knetsim.node.kubelet.containers import Container, Surroundings
from knetsim.node.kubelet.lifecycle import (
    ALWAYS,
    ContainerView,
    Plan,
    Running,
    Terminated,
    Waiting,
    plan_containers,
    read_containers,
)
from knetsim.node.kubelet.readiness import is_finished
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.status import PodView, build_status
from knetsim.node.kubelet.volumes import MountError
from knetsim.system.container import Process
from knetsim.system.netns import Namespaces

_SANDBOX_FIRST_PAUSE, _SANDBOX_LONGEST_PAUSE = 0.5, 60.0
_KILL_SECONDS = 10.0
#: until a container whose configuration cannot be made is tried again, if nothing of it changes before
_CONFIG_PAUSE = 10.0


class PodRun:
    """A pod (one uid) on one worker. `sync` and `destroy` are called by one thread at a time."""

    def __init__(
        self, pod: Object, sandbox: PodSandbox, around: Surroundings, store: Store, check_seconds: float | None
    ) -> None:
        """`check_seconds` at least are between two looks at the pod's wiring; None: nobody looks."""
        self.uid, self.key, self.sandbox = uid_of(pod), (namespace_of(pod), name_of(pod)), sandbox
        self.gone = False  # its object has been deleted by us
        self.written = 0  # the revision of the status that was written last
        self._around, self._store, self._check_seconds = around, store, check_seconds
        self._status: Object | None = None
        self._since = around.wall()
        self._ip = ""
        init, containers = read_containers(pod["spec"])
        self._first: str = containers[0]["name"]
        self._containers = {one["name"]: Container(one["name"], sandbox, around) for one in (*init, *containers)}
        self._over = False  # nothing of it will run any more
        self._ending_since: float | None = None
        self._retry_at, self._pause = 0.0, 0.0
        self._mount_failures: list[str] = []
        self._checked_at = 0.0
        self._commands = itertools.count(1)

    def restore(self, pod: Object) -> None:
        """Go on with a pod that a kubelet before this one started."""
        status = pod.get("status") or {}
        self._ip = status.get("podIP", "")
        specs = {one["name"]: one for group in read_containers(pod["spec"]) for one in group}
        for field in ("initContainerStatuses", "containerStatuses"):
            for one in status.get(field) or ():
                if one["name"] in specs:
                    self._containers[one["name"]].restore(one, specs[one["name"]], parse_time)
        self._over = is_finished(pod)
        if not self._over and not self._adopt_sandbox():
            why = "Pod sandbox changed, it will be killed and re-created."
            self._around.tell("SandboxChanged", why, NORMAL)

    def _adopt_sandbox(self) -> bool:
        self._checked_at = self._around.steady()
        try:
            return self.sandbox.adopt()
        except (KnetsimError, OSError) as error:
            self._around.tell("FailedSync", f"the pod's network cannot be taken over: {explain(error)}", WARNING)
            return False

    # --- towards what the object says

    def sync(self, pod: Object) -> float | None:
        """Do what can be done now; the seconds until it is to be looked at again, if need be."""
        init, containers = read_containers(pod["spec"])
        specs = {one["name"]: one for one in (*init, *containers)}
        for name, container in self._containers.items():
            container.collect(specs[name])
        if pod["metadata"].get("deletionTimestamp"):
            return self._end(pod)
        if self._over:
            self._close_sandbox()
            self._write_status(pod, Plan(finished=True))
            return None
        if not self._prepare_volumes(pod) or (not self.sandbox.ready and not self._open_sandbox(pod)):
            return max(self._retry_at - self._around.steady(), 0.0)
        self._check_sandbox()
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        look = [container.adapt(specs[name], grace) for name, container in self._containers.items()]
        plan = self._plan(pod)
        for name in plan.start:
            self._containers[name].start(pod, specs[name])
        if plan.start:
            plan = self._plan(pod)
        for one in containers:
            self._containers[one["name"]].wait_for_start(bool(init))
        if plan.finished:
            self._over = True
            self._close_sandbox()
        self._write_status(pod, plan)
        if any(not isinstance(self._containers[name].state, Waiting) for name in plan.start):
            return 0.0  # it ended as soon as it was started
        look += [plan.look_after, self.sandbox.volumes.next_look(), _CONFIG_PAUSE if plan.start else None]
        return min((seconds for seconds in look if seconds is not None), default=None)

    def _plan(self, pod: Object) -> Plan:
        spec = pod["spec"]
        init, containers = ([self._containers[one["name"]].view() for one in group] for group in read_containers(spec))
        return plan_containers(spec.get("restartPolicy", ALWAYS), init, containers, self._around.steady())

    def _prepare_volumes(self, pod: Object) -> bool:
        """Make the pod's volumes, or have them show what they are made of by now. A pod that has its place already
        goes on with what was there before."""
        looked_at = any(classify_container(one) is not Work.HOLD for one in read_containers(pod["spec"])[1])
        try:
            self.sandbox.volumes.prepare(pod, looked_at=looked_at)
        except MountError as error:
            now = self._around.steady()
            if error.messages != self._mount_failures or now >= self._retry_at:
                self._pause = min(max(self._pause * 2, _SANDBOX_FIRST_PAUSE), _SANDBOX_LONGEST_PAUSE)
                self._retry_at, self._mount_failures = now + self._pause, error.messages
                for message in error.messages:
                    self._around.tell("FailedMount", message, WARNING)
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
            self._around.tell("FailedCreatePodSandBox", f"Failed to create pod sandbox: {why}", WARNING)
            for container in self._containers.values():
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
            self._around.tell("NetworkRepaired", f"The pod's network was changed by hand: {'; '.join(wrong)}", WARNING)
        self._checked_at = now

    # --- status

    def _write_status(self, pod: Object, plan: Plan) -> None:
        """Write the status if it differs from what is stored; one call to the store."""
        stored = pod.get("status") or {}
        # what we have written may not have come round yet; then it counts, not the copy that is older
        base = stored if self._status is None or revision_of(pod) >= self.written else self._status
        containers = {name: self._view(pod, container, plan) for name, container in self._containers.items()}
        host_ip, ready = self.sandbox.worker.address, self.sandbox.ready
        view = PodView(containers, self._ip, host_ip, self._since, ready, terminal=plan.finished)
        status = build_status(pod, base, view, self._around.wall())
        if status == base:
            return
        try:
            written = self._store.update_status({**pod, "status": status})
        except (NotFound, Conflict):
            return  # another pod of that name, or none: the watch is about to say so
        self._status, self.written = status, revision_of(written)

    def _view(self, pod: Object, container: Container, plan: Plan) -> ContainerView:
        """How a container is shown: one that is held back waits in CrashLoopBackOff."""
        view = container.view()
        if not plan.held or view.name not in plan.held or not isinstance(view.state, Terminated):
            return view
        where = f"{name_of(pod)}_{namespace_of(pod)}({self.uid})"
        message = f"back-off {_duration(view.backoff.pause)} restarting failed container={view.name} pod={where}"
        return replace(view, state=Waiting("CrashLoopBackOff", message), last=view.state)

    # --- the end

    def _end(self, pod: Object) -> float | None:
        """Graceful deletion, one step."""
        now = self._around.steady()
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if self._ending_since is None:
            self._ending_since = now
            for container in self._containers.values():
                if container.running:
                    self._around.tell("Killing", f"Stopping container {container.name}", NORMAL)
                container.terminate()
        running = [container for container in self._containers.values() if container.running]
        if running:
            left = self._ending_since + grace - now
            if left > 0:
                return left
            for container in running:
                container.kill()
            return _KILL_SECONDS  # its end is told earlier
        self._over = True
        self._close_sandbox()
        self._write_status(pod, Plan(finished=True))
        self.sandbox.remove_files()
        self.delete_object(pod)
        return None

    def delete_object(self, pod: Object) -> None:
        """The last step: nothing of the pod is left here."""
        self.gone = True
        try:
            self._store.delete("Pod", name_of(pod), namespace_of(pod), grace_seconds=0, uid=self.uid)
        except (NotFound, Conflict):
            pass  # somebody has forced it

    def destroy(self) -> None:
        """End everything at once: its object is gone, or another has its name. It can be repeated after an error."""
        running = [container for container in self._containers.values() if container.running]
        for container in running:
            container.kill()
        for container in running:
            if not container.wait_ended(_KILL_SECONDS):
                raise LeftoverError([KnetsimError(f"container {container.name} does not end", "/".join(self.key))])
            container.discard()
        self._over = True
        self._close_sandbox()
        self.sandbox.remove_files()

    def release(self) -> None:
        """Let go of everything and leave it as it is."""
        for container in self._containers.values():
            container.release()
        self.sandbox.release()

    def _close_sandbox(self) -> None:
        try:
            self.sandbox.close()
        except (KnetsimError, OSError) as error:
            self._around.tell("FailedKillPod", f"error killing pod: {explain(error)}", WARNING)
            raise

    # --- ways in

    def exec_place(self, pod: Object, name: str | None = None) -> Namespaces:
        """Where commands run: in a container that is named, or the first that runs, or beside the pause container."""
        _, specs = read_containers(pod["spec"])
        if name is not None and name not in self._containers:
            raise NotFound(f"no container '{name}' in {describe(pod)}", hint=did_you_mean(name, self._containers))
        wanted = [self._containers[name]] if name else [self._containers[one["name"]] for one in specs]
        for container in wanted:
            process = container.process
            if process is not None:
                return self.sandbox.enter(process)
        holds = [one["name"] for one in specs if classify_container(one) is Work.HOLD]
        if any(container.name in holds for container in wanted):
            return self.sandbox.view()
        words = "; ".join(f"{container.name}: {_explain_state(container)}" for container in wanted)
        raise NotFound(f"no container of {describe(pod)} is running", why=words)

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
            known = did_you_mean(name, self._containers) if name else ""
            raise NotFound(f"there is no log of {'/'.join(self.key)} {name or ''}".rstrip(), hint=known)
        return path


def revision_of(obj: Object) -> int:
    """An object's resourceVersion as a number: the later, the higher (Kubernetes promises so since 1.35)."""
    version = obj["metadata"].get("resourceVersion", "")
    return int(version) if version.isdigit() else 0


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

"""One container of a pod: started, followed, probed, ended, started again; what it has been through.

A container with a program is a process (system/container.py); one of the `pause` image is none, since the pod's network
is held by its sandbox. Nothing here waits: whatever takes time wakes the pod when it has come further.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knetsim.api.events import NORMAL, WARNING
from knetsim.api.objects import Object, uid_of
from knetsim.errors import CommandError, KnetsimError, NotFound
from knetsim.node.images import Image
from knetsim.node.kubelet.actions import Target
from knetsim.node.kubelet.dialing import Dialer
from knetsim.node.kubelet.ending import Ending, Signal
from knetsim.node.kubelet.exits import LOST, read_message, read_terminated
from knetsim.node.kubelet.hooks import Hook, hook_of
from knetsim.node.kubelet.launch import Launcher, StartRefused
from knetsim.node.kubelet.lifecycle import NO_END, ContainerView, CrashBackoff, Running, State, Terminated, Waiting
from knetsim.node.kubelet.probes import Probing
from knetsim.node.kubelet.resources import resize
from knetsim.node.kubelet.surroundings import Surroundings
from knetsim.system.cgroup import Cgroup
from knetsim.system.container import (
    DEFAULT_ENV,
    START_FAILED,
    ContainerProcess,
    ContainerSpec,
    Process,
    start_process,
)
from knetsim.system.exec_session import CommandSpec, ExecSession, start_session
from knetsim.system.identity import DEFAULT_IDENTITY

CREATING = Waiting("ContainerCreating")
INITIALIZING = Waiting("PodInitializing")


class Container:
    """A container over all its runs. Only its pod's reconcile may use it, but for `process` and `log_path`."""

    def __init__(self, name: str, launcher: Launcher, around: Surroundings, state: State = CREATING) -> None:
        self.name, self.state = name, state
        self.process: ContainerProcess | None = None
        self._launcher, self._around = launcher, around
        self._directory = f"{launcher.sandbox.directory}/{name}"
        self._exited = threading.Event()
        self._last: Terminated | None = None
        self._runs = 0
        self._backoff = CrashBackoff()
        self._ended = self._died = NO_END  # its last end, as its back-off counts it and as it was
        self._before: State = state  # that it was started from
        self._retry_at: float | None = None
        self._refused = False  # the last attempt to start it failed before there was anything to start
        self._image = ""  # as its object named it when it was started
        self._wanted = ""  # as its object names it now
        self._resources: Mapping[str, Any] = {}  # that hold for its present run
        self._unmet: Mapping[str, Any] | None = None  # that it was to have instead, and could not
        self._found: Image | None = None
        self._spec: ContainerSpec | None = None
        self._probing: Probing | None = None
        self._post_start: Hook | None = None
        self._ending: Ending | None = None
        self._anew = ""  # why it is started again after its end: "image" has changed, or a probe "failed"

    def restore(
        self, status: Mapping[str, Any], container: Mapping[str, Any], read_time: Callable[[str], float]
    ) -> None:
        """Go on from what a kubelet before this one wrote. Its processes are not known any more."""
        state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
        self._runs = status.get("restartCount", 0)
        self._last = read_terminated(last, read_time) if last else None
        self._ended = self._died = self._around.steady()
        self._image = self._wanted = container["image"]
        self._resources = container.get("resources") or {}
        if status.get("imageID"):
            self._found = self._launcher.known_image(container)
        if ended := state.get("terminated"):
            self.state = read_terminated(ended, read_time)
        elif running := state.get("running"):
            since, identity = read_time(running["startedAt"]), status.get("containerID", "")
            if self._launcher.holds(container):
                self.state = Running(since, identity)
            else:
                message = "The container's process is not known to this kubelet, which was started after it"
                now = self._around.wall()
                self.state = Terminated(LOST, "ContainerStatusUnknown", message, since, now, identity)
        elif self._last is not None:  # it waited for its back-off
            self.state, self._last = self._last, None
        if not isinstance(self.state, Waiting):
            self._runs += 1

    def view(self) -> ContainerView:
        """What it has been through, for decisions and for the status."""
        probing, found, starting = self._probing, self._found, self._post_start is not None
        return ContainerView(
            self.name,
            self._before if starting else self.state,  # it is not said to run before its hook is through
            self._last,
            max(self._runs - 1, 0),
            self._backoff,
            self._ended,
            self._retry_at,
            image=found.name if found else "",
            image_id=found.identity if found else "",
            started=probing is None or probing.started,
            ready=probing is None or probing.ready,
            ill=probing.ill if probing else "",
            starting=starting,
            busy=starting or self._ending is not None,
            changed=isinstance(self.state, Running) and self._image not in ("", self._wanted),
            resources=self._resources,
        )

    def wait_for_start(self, initializing: bool) -> None:
        """Say why it has not been started: because of init containers, or of what comes before any container."""
        if isinstance(self.state, Waiting) and self._runs == 0 and not self._refused:
            self.state = INITIALIZING if initializing else CREATING

    def wait_for_sandbox(self, why: str) -> None:
        """Say that the pod's place could not be made."""
        if isinstance(self.state, Waiting) and not self._refused:
            self.state = Waiting("CreatePodSandboxError", why)

    def log_path(self, previous: bool = False) -> str:
        """The log of the present run, or of the one before."""
        return f"{self._directory}/{max(self._runs - (2 if previous else 1), 0)}.log"

    def _tell(self, reason: str, message: str, kind: str = NORMAL) -> None:
        self._around.tell(reason, message, kind, self.name)

    # --- start

    def start(self, pod: Object, container: Mapping[str, Any]) -> None:
        """Start it, for the first time or again. What goes wrong is its state then."""
        run, self._image, self._wanted = self._runs, container["image"], container["image"]
        try:
            found = self._launcher.find_image(container, self._tell)
            spec = None if found.holds(container) else self._launcher.build(pod, container, found, self._directory, run)
        except StartRefused as refusal:
            self._refuse(refusal)
            return
        self._before = self.state
        if isinstance(self.state, Terminated):
            self._backoff = self._backoff.next(self._ended, self._around.steady())
            self._last, self._ended = self.state, self._died
        self._runs, self._found, self._spec = run + 1, found, spec
        self._resources, self._unmet = container.get("resources") or {}, None
        self._retry_at, self._refused = None, False
        now = self._around.wall()
        identity = "knetsim://" + hashlib.sha256(f"{uid_of(pod)}/{self.name}/{run}".encode()).hexdigest()
        if spec is not None:
            try:
                self._start_process(spec)
            except (KnetsimError, OSError) as error:
                self._fail(error, now, identity)
                return
        self.state = Running(now, identity)
        self._begin(container)

    def _refuse(self, refusal: StartRefused) -> None:
        """Something of it is not to be had: it waits, and is tried again."""
        if isinstance(self.state, Terminated):
            self._last = self.state
        state = Waiting(refusal.reason, refusal.message)
        if self.state != state and not refusal.told:
            self._tell("Failed", f"Error: {refusal.message}", WARNING)
        self.state, self._refused = state, True
        self._retry_at = None if refusal.retry_after is None else self._around.steady() + refusal.retry_after

    def _start_process(self, spec: ContainerSpec) -> None:
        process = start_process(spec)
        if process.read_only_root:
            why = f"container {self.name}: its root directory is read-only, since there is no {process.read_only_root}"
            self._tell("ReadOnlyRoot", why, WARNING)
        exited = threading.Event()

        def note(_: Process) -> None:
            """Its end is a reason to look at the pod."""
            exited.set()
            self._around.wake()

        self._exited = exited
        try:
            self._around.watch.add(process, note)
        except OSError:
            process.close()
            raise
        self.process = process
        self._tell("Created", "Container created")
        self._tell("Started", "Container started")

    def _fail(self, error: KnetsimError | OSError, now: float, identity: str) -> None:
        message = error.output if isinstance(error, CommandError) else str(error)
        if isinstance(error, KnetsimError) and error.hint:
            message += f" ({error.hint})"
        self._tell("Failed", f'Error: failed to start container "{self.name}": {message}', WARNING)
        self.state = Terminated(START_FAILED, "StartError", message, now, self._around.wall(), identity)
        self._ended = self._died = self._around.steady()

    # --- hooks and probes

    def _begin(self, container: Mapping[str, Any]) -> None:
        """It runs: its postStart hook first, then its probes."""
        if hook := hook_of(container, "postStart"):
            self._post_start = Hook(hook, self._target(container), self._around.actions, self._around.wake)
        else:
            self._probe(container)

    def _probe(self, container: Mapping[str, Any]) -> None:
        around = self._around

        def tell(reason: str, message: str, kind: str) -> None:
            around.tell(reason, message, kind, self.name)

        self._probing = Probing.of(container, self._target(container), tell, around.wake)
        if self._probing is not None:
            self._probing.begin(around.actions)

    def _target(self, container: Mapping[str, Any]) -> Target:
        sandbox = self._launcher.sandbox
        return Target(container, sandbox.ip, Dialer(sandbox.worker.place.namespaces), self.start_session)

    def start_session(self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False) -> ExecSession:
        """Start a command as if the container had started it: for kubectl exec, probes and hooks, by any thread.
        NotFound when it does not run; CommandError."""
        process, sandbox = self.process, self._launcher.sandbox
        if process is not None:
            spec = process.spec
            place, env, cwd, identity, group = sandbox.enter(process), spec.env, spec.cwd, spec.identity, spec.cgroup
        elif self.holding:
            place, cwd, identity, group = sandbox.view(), "/", DEFAULT_IDENTITY, None
            env = {**DEFAULT_ENV, "HOSTNAME": sandbox.hostname}
        else:
            raise NotFound(f'container not found ("{self.name}")')
        if tty:
            env = {"TERM": "xterm", **env}
        try:
            session = start_session(CommandSpec(place, argv, env, cwd, identity, stdin, tty))
        finally:
            place.close()
        try:
            if group is not None:
                group.add(session.pid)
        except OSError:  # its group goes, since it has just ended
            session.close()
            raise
        return session

    def _resize(self, container: Mapping[str, Any]) -> None:
        """Give it the resources that its object names now, while it runs."""
        wanted = container.get("resources") or {}
        if self.process is None or wanted in (self._resources, self._unmet):
            return
        if why := resize(self._cgroup, container):
            self._unmet = wanted
            self._tell("ResizeError", f"Container {self.name} keeps its resources: {why}", WARNING)
        else:
            self._resources = wanted

    # --- end

    def collect(self, container: Mapping[str, Any], grace: float) -> None:
        """Take note of what has come to pass: its end, the end of its hook, another image in its object."""
        self._wanted = container["image"]
        if self._image != self._wanted:
            self._retry_at = None  # it may be that only the image was wrong
        if self.process is not None and self._exited.is_set():
            self.note_exit(container)
        self._resize(container)
        hook = self._post_start
        if hook is not None and hook.done:
            self._post_start = None
            if hook.failed and isinstance(self.state, Running):
                self._tell("FailedPostStartHook", "PostStartHook failed", WARNING)
                self.stop(container, grace, "FailedPostStartHook")
            elif isinstance(self.state, Running):
                self._probe(container)

    def note_exit(self, container: Mapping[str, Any]) -> None:
        """Its process has ended: what came of it is its state."""
        process, cgroup, state = self.process, self._cgroup, self.state
        assert process is not None
        code, killed = process.wait(), cgroup is not None and cgroup.count_oom_kills() > 0
        assert code is not None
        message = read_message(container, f"{self._directory}/termination-log", process.log, code)
        self.process = None
        process.close()
        if cgroup is not None:
            cgroup.remove()
        started, identity = (state.started_at, state.container_id) if isinstance(state, Running) else (0.0, "")
        reason = "OOMKilled" if killed else "Completed" if code == 0 else "Error"
        self._end(Terminated(code, reason, message, started, self._around.wall(), identity))

    def _end(self, state: Terminated) -> None:
        """It has ended: whatever belonged to this run is over."""
        self._drop_work()
        self.state, self._ending, self._died = state, None, self._around.steady()
        if self._anew == "image":  # at once, whatever its policy and its back-off
            self._last, self._backoff, self.state = state, CrashBackoff(), CREATING
        elif not self._anew or self._backoff.remaining(self._ended, self._died):
            self._ended = self._died  # else, as with a kubelet, the end before counts: it is started anew at once
        self._anew = ""

    def _drop_work(self) -> None:
        """Neither probes nor hooks of this run are wanted any more."""
        ending = self._ending.hook if self._ending else None
        for work in (self._probing, self._post_start, ending):
            if isinstance(work, Probing | Hook):
                work.stop()
        self._probing = self._post_start = None

    @property
    def holding(self) -> bool:
        """Whether it runs without a process, as the pause container."""
        return isinstance(self.state, Running) and self._spec is None

    @property
    def running(self) -> bool:
        """Whether a process of it runs."""
        return self.process is not None

    @property
    def ending(self) -> bool:
        """Whether it is being brought to its end."""
        return self._ending is not None

    def stop(self, container: Mapping[str, Any], grace: float, message: str, *, anew: str = "") -> None:
        """Begin to end it: its preStop hook, SIGTERM, and SIGKILL when `grace` seconds are over. `anew` says why it is
        to be started again: its "image" has changed, or a "probe" has failed. Once begun, it can only be shortened."""
        deadline = self._around.steady() + grace
        if self._ending is not None:
            self._ending.shorten(deadline)
            return
        if not isinstance(self.state, Running):
            return
        hook, around = hook_of(container, "preStop"), self._around
        if self.running or hook:
            self._tell("Killing", message)
        if self._probing is not None:
            self._probing.quiet()
        begun = None
        if hook and grace > 0:
            begun = Hook(hook, self._target(container), around.actions, around.wake)
        self._ending, self._anew = Ending(deadline, begun), anew

    def go_on(self, *, turn: bool = True) -> float | None:
        """The next step towards its end, if it is to end; the seconds until the one after that."""
        ending = self._ending
        if ending is None:
            return None
        hook = ending.hook
        if isinstance(hook, Hook) and hook.done and hook.failed:
            self._tell("FailedPreStopHook", "PreStopHook failed", WARNING)
            ending.hook = None
        wanted, wait = ending.step(self._around.steady(), turn=turn)
        if wanted is Signal.TERM:
            self.terminate()
        elif wanted is Signal.KILL:
            self.kill()
        return wait if self._ending is not None else None

    def terminate(self) -> None:
        """Ask it to end; one without a process has ended by that."""
        if self.process is not None:
            self.process.terminate()
        elif isinstance(self.state, Running):
            since, identity = self.state.started_at, self.state.container_id
            self._end(Terminated(0, "Completed", "", since, self._around.wall(), identity))

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
        else:
            self.terminate()

    def wait_ended(self, timeout: float) -> bool:
        """Wait until it has ended; False when it did not within `timeout` seconds."""
        return self.process is None or self._exited.wait(timeout)

    @property
    def _cgroup(self) -> Cgroup | None:
        """The control group of its last run, if anything limits it."""
        return self._spec.cgroup if self._spec else None

    def abandon(self) -> None:
        """Nothing of it is wanted any more."""
        self._drop_work()

    def release(self) -> None:
        """Let go of its process, which runs on."""
        self._drop_work()
        if self.process is not None:
            self.process.release()

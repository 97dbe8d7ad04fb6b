"""One container of a pod: started, followed, ended, started again; what it has been through.

A container with a `command` is a process (system/container.py); one of the `pause` image is none, since the pod's
network is held by its sandbox; any other waits for an image that there is not.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knetsim.api.events import NORMAL, WARNING
from knetsim.api.objects import Object, uid_of
from knetsim.errors import CommandError, KnetsimError
from knetsim.node.kubelet.commands import Work, build_argv, classify_container, explain_pull
from knetsim.node.kubelet.downward import Addresses
from knetsim.node.kubelet.environment import ConfigError, build_env
from knetsim.node.kubelet.lifecycle import ContainerView, CrashBackoff, Running, State, Terminated, Waiting
from knetsim.node.kubelet.sandbox import PodSandbox
from knetsim.node.kubelet.security import build_identity
from knetsim.node.kubelet.sources import Sources
from knetsim.system.container import (
    DEFAULT_ENV,
    START_FAILED,
    ContainerProcess,
    ContainerSpec,
    Process,
    start_process,
)
from knetsim.system.container_watch import ContainerWatch, read_log
from knetsim.system.identity import ProcessIdentity
from knetsim.system.rootfs import Mount

CREATING = Waiting("ContainerCreating")
INITIALIZING = Waiting("PodInitializing")
CONFIG_ERROR = "CreateContainerConfigError"
_MESSAGE_BYTES = 4096
_LOG_MESSAGE_BYTES, _LOG_MESSAGE_LINES = 2048, 80
#: a container that runs when nobody knows its process: as if somebody had killed it
_LOST = 137


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What containers need of their kubelet: who follows them, clocks, whom to tell, what else is stored.

    `wall` is seconds since 1970, `steady` those of a clock that nobody sets. `tell` is called with (reason, message,
    type) and becomes an Event, `wake` when there is something to look at.
    """

    watch: ContainerWatch
    wall: Callable[[], float]
    steady: Callable[[], float]
    tell: Callable[[str, str, str], None]
    wake: Callable[[], None]
    sources: Sources


class Container:
    """A container over all its runs. Only its pod's reconcile may use it, but for `process` and `log_path`."""

    def __init__(self, name: str, sandbox: PodSandbox, around: Surroundings, state: State = CREATING) -> None:
        self.name, self.state = name, state
        self.process: ContainerProcess | None = None
        self._sandbox, self._around = sandbox, around
        self._directory = f"{sandbox.directory}/{name}"
        self._exited = threading.Event()
        self._last: Terminated | None = None
        self._runs = 0
        self._backoff = CrashBackoff()
        self._ended = 0.0
        self._image = ""  # that it was started with, or that cannot be pulled
        self._blocked = False
        self._replaced_at: float | None = None  # when it was asked to end because its image has changed

    def restore(
        self, status: Mapping[str, Any], container: Mapping[str, Any], read_time: Callable[[str], float]
    ) -> None:
        """Go on from what a kubelet before this one wrote. Its processes are not known any more."""
        state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
        self._runs = status.get("restartCount", 0)
        self._last = _read_terminated(last, read_time) if last else None
        self._ended = self._around.steady()
        if ended := state.get("terminated"):
            self.state = _read_terminated(ended, read_time)
        elif running := state.get("running"):
            since, identity = read_time(running["startedAt"]), status.get("containerID", "")
            if classify_container(container) is Work.HOLD:
                self.state = Running(since, identity)
            else:
                message = "The container's process is not known to this kubelet, which was started after it"
                now = self._around.wall()
                self.state = Terminated(_LOST, "ContainerStatusUnknown", message, since, now, identity)
        elif self._last is not None:  # it waited for its back-off
            self.state, self._last = self._last, None
        if not isinstance(self.state, Waiting):
            self._runs += 1

    def view(self) -> ContainerView:
        """What it has been through, for decisions and for the status."""
        return ContainerView(
            self.name,
            self.state,
            self._last,
            max(self._runs - 1, 0),
            self._backoff,
            self._ended,
            self._blocked,
        )

    def wait_for_start(self, initializing: bool) -> None:
        """Say why it has not been started: because of init containers, or of what comes before any container."""
        named = isinstance(self.state, Waiting) and self.state.reason == CONFIG_ERROR
        if isinstance(self.state, Waiting) and self._runs == 0 and not self._blocked and not named:
            self.state = INITIALIZING if initializing else CREATING

    def wait_for_sandbox(self, why: str) -> None:
        """Say that the pod's place could not be made."""
        if isinstance(self.state, Waiting) and not self._blocked:
            self.state = Waiting("CreatePodSandboxError", why)

    def log_path(self, previous: bool = False) -> str:
        """The log of the present run, or of the one before."""
        return f"{self._directory}/{max(self._runs - (2 if previous else 1), 0)}.log"

    # --- start

    def start(self, pod: Object, container: Mapping[str, Any]) -> None:
        """Start it, for the first time or again. What goes wrong is its state then."""
        work = classify_container(container)
        if work is Work.PULL:
            self._block(container["image"])
            return
        if isinstance(self.state, Terminated):
            self._backoff = self._backoff.next(self._ended, self._around.steady())
            self._last = self.state
        try:
            prepared = self._prepare(pod, container) if work is Work.RUN else None
        except ConfigError as error:
            self._wait_for_config(error)
            return
        run, self._runs, self._image = self._runs, self._runs + 1, container["image"]
        now = self._around.wall()
        identity = "knetsim://" + hashlib.sha256(f"{uid_of(pod)}/{self.name}/{run}".encode()).hexdigest()
        if prepared is not None:
            try:
                self._start_process(container, run, *prepared)
            except (KnetsimError, OSError) as error:
                self._fail(error, now, identity)
                return
            self._around.tell("Started", f"Started container {self.name}", NORMAL)
        self.state = Running(now, identity)

    def _prepare(
        self, pod: Object, container: Mapping[str, Any]
    ) -> tuple[dict[str, str], list[Mount], ProcessIdentity]:
        """Its environment as declared, its volumes, and as whom it runs. ConfigError."""
        sandbox = self._sandbox
        identity = build_identity(pod, container, "")
        env = build_env(pod, container, self._around.sources, Addresses(sandbox.ip, sandbox.worker.address))
        return env, sandbox.volumes.mounts(container, env), identity

    def _wait_for_config(self, error: ConfigError) -> None:
        """Something that it names is not there: it is tried again."""
        state = Waiting(CONFIG_ERROR, error.what)
        if self.state != state:
            self._around.tell("Failed", f"Error: {error.what}", WARNING)
        self.state = state

    def _start_process(
        self,
        container: Mapping[str, Any],
        run: int,
        declared: Mapping[str, str],
        volumes: list[Mount],
        identity: ProcessIdentity,
    ) -> None:
        scratch, message = f"{self._directory}/root", f"{self._directory}/termination-log"
        os.makedirs(scratch, exist_ok=True)
        Path(message).write_bytes(b"")
        for suffix in ("", ".1"):  # as a kubelet: the log of this run and of the one before are kept
            Path(f"{self._directory}/{run - 2}.log{suffix}").unlink(missing_ok=True)
        spec = ContainerSpec(
            name=self.name,
            place=self._sandbox.place,
            argv=build_argv(container, declared),
            log=f"{self._directory}/{run}.log",
            scratch=scratch,
            mounts=[
                *self._sandbox.files(),
                Mount(message, container.get("terminationMessagePath") or "/dev/termination-log"),
                *volumes,
            ],
            identity=identity,
            env={"PATH": DEFAULT_ENV["PATH"], "HOSTNAME": self._sandbox.hostname, **declared},
            cwd=container.get("workingDir") or "/",
        )
        process = start_process(spec)
        if process.read_only_root:
            why = f"container {self.name}: its root directory is read-only, since there is no {process.read_only_root}"
            self._around.tell("ReadOnlyRoot", why, WARNING)
        self._follow(process)

    def _follow(self, process: ContainerProcess) -> None:
        """Have the process followed; its end is a reason to look at the pod."""
        exited = threading.Event()

        def note(ended: Process) -> None:
            exited.set()
            self._around.wake()

        self._exited = exited
        try:
            self._around.watch.add(process, note)
        except OSError:
            process.close()
            raise
        self.process = process

    def _block(self, image: str) -> None:
        """Its image cannot be had, which is said once."""
        why = explain_pull(image)
        self._image, self._blocked, self.state = image, True, Waiting("ErrImagePull", why)
        self._around.tell("Failed", why, WARNING)

    def _fail(self, error: KnetsimError | OSError, now: float, identity: str) -> None:
        message = error.output if isinstance(error, CommandError) else str(error)
        if isinstance(error, KnetsimError) and error.hint:
            message += f" ({error.hint})"
        self._around.tell("Failed", f'Error: failed to start container "{self.name}": {message}', WARNING)
        self.state = Terminated(START_FAILED, "StartError", message, now, self._around.wall(), identity)
        self._ended = self._around.steady()

    def adapt(self, container: Mapping[str, Any], grace: float) -> float | None:
        """Follow a change of its image, the one thing that can change: it is ended and started again.

        The seconds until it is to be looked at again, if need be.
        """
        if self._blocked and self._image != container["image"]:
            self._blocked, self.state = False, CREATING
        if not isinstance(self.state, Running) or self._image in ("", container["image"]):
            return None
        now = self._around.steady()
        if self._replaced_at is None:
            self._around.tell("Killing", f"Container {self.name} definition changed, will be restarted", NORMAL)
            self._replaced_at = now
            self.terminate()
        if self.process is None:
            self._replaced()
            return None
        left = self._replaced_at + grace - now
        if left <= 0:
            self.process.kill()
        return max(left, 1.0)

    def _replaced(self) -> None:
        """It has ended to be started anew: at once, whatever its policy and its back-off."""
        if isinstance(self.state, Terminated):
            self._last = self.state
        self._replaced_at, self._backoff, self.state = None, CrashBackoff(), CREATING

    # --- end

    def collect(self, container: Mapping[str, Any]) -> None:
        """Take note of its end, when it has ended."""
        process, state = self.process, self.state
        if process is None or not self._exited.is_set():
            return
        code = process.wait()
        assert code is not None
        self.discard()
        started, identity = (state.started_at, state.container_id) if isinstance(state, Running) else (0.0, "")
        reason = "Completed" if code == 0 else "Error"
        message = self._read_message(container, process.log, code)
        self.state = Terminated(code, reason, message, started, self._around.wall(), identity)
        self._ended = self._around.steady()
        if self._replaced_at is not None:
            self._replaced()

    def _read_message(self, container: Mapping[str, Any], log: str, code: int) -> str:
        """What it left for its status at its terminationMessagePath, or at the end of its log."""
        with open(f"{self._directory}/termination-log", "rb") as file:
            message = file.read(_MESSAGE_BYTES).decode(errors="replace")
        if not message and code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = read_log(log, _LOG_MESSAGE_BYTES * 4).splitlines(keepends=True)[-_LOG_MESSAGE_LINES:]
            message = "".join(lines)[-_LOG_MESSAGE_BYTES:]
        return message

    @property
    def running(self) -> bool:
        """Whether a process of it runs."""
        return self.process is not None

    def terminate(self) -> None:
        """Ask it to end; one without a process has ended by that."""
        if self.process is not None:
            self.process.terminate()
        elif isinstance(self.state, Running):
            since, identity = self.state.started_at, self.state.container_id
            self.state = Terminated(0, "Completed", "", since, self._around.wall(), identity)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
        else:
            self.terminate()

    def wait_ended(self, timeout: float) -> bool:
        """Wait until it has ended; False when it did not within `timeout` seconds."""
        return self.process is None or self._exited.wait(timeout)

    def discard(self) -> None:
        """Let go of its process, which has ended."""
        process, self.process = self.process, None
        if process is not None:
            process.close()

    def release(self) -> None:
        """Let go of its process, which runs on."""
        if self.process is not None:
            self.process.release()


def _read_terminated(ended: Mapping[str, Any], read_time: Callable[[str], float]) -> Terminated:
    return Terminated(
        ended.get("exitCode", 0),
        ended.get("reason", ""),
        ended.get("message", ""),
        read_time(ended["startedAt"]) if ended.get("startedAt") else 0.0,
        read_time(ended["finishedAt"]) if ended.get("finishedAt") else 0.0,
        ended.get("containerID", ""),
    )

"""The router of one site: its files, its daemon, and a configuration that reaches it while it runs.

The configuration is always written to `<directory>/0.json` first, so that a router which dies comes back with the
present one. A router that runs is changed by management; only what management cannot change (its id, its log) ends it
and starts it anew. Certificates lie beside, in `<directory>/0/tls`, and only root reads their keys.

    /tmp/knetsim/skupper/0.json   what the router reads        0.log   what it says        0/   certificates

Commands, on the worker: `ps aux | grep skupper`, `skstat -n`, `skmanage query --type tcpListener`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from knetsim.dataplane.skupper.changes import apply_config, find_fixed
from knetsim.dataplane.skupper.config import Certificates, Entity, RouterPlan, build_entities, build_router_config
from knetsim.dataplane.skupper.management import ManagementClient
from knetsim.dataplane.skupper.state import RouterState, read_state
from knetsim.errors import MissingTool, NotReady
from knetsim.names import cluster_id
from knetsim.system.daemon import DaemonSpec, Supervisor
from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.programs import require_program

_T = TypeVar("_T")
RouterKind = Literal["skrouterd", "embedded"]

_EMBEDDED = "knetsim.dataplane.skupper.router"
#: what each kind's process is called among the daemons
_PROGRAMS: Mapping[RouterKind, str] = {"skrouterd": "skrouterd", "embedded": "skupper-router"}
_LOOPBACK = "127.0.0.1"
_LAST_BYTES = 4096


class SiteRouter:
    """Used by one thread, but for `stop`, which is called when that thread has ended."""

    def __init__(
        self, cluster: str, host: str, place: Namespaces, directory: Path, supervisor: Supervisor, kind: RouterKind
    ) -> None:
        """`host` is the worker on which it runs, in `place`; `directory` is the one of all routers."""
        own = cluster_id(cluster)
        self.kind, self.host = kind, host
        self.config, self.log, self.files = directory / f"{own}.json", directory / f"{own}.log", directory / own
        self._place, self._supervisor = place, supervisor
        self._daemon = f"{host}/{_PROGRAMS[kind]}"
        self._client = ManagementClient(self._daemon, self._dial)
        self._plan: RouterPlan | None = None
        #: what of the configuration was there when the router was started, and cannot be changed since
        self._fixed: list[Entity] = []
        #: sslProfiles whose files have changed since the router read them
        self._renewed: set[str] = set()

    def apply(self, plan: RouterPlan, files: Mapping[str, bytes]) -> list[str]:
        """Have the router do what is planned; what was done, in words.

        `files`, certificates that the plan names by relative paths, are put into its directory. A router that does not
        run yet is started and not waited for. NotReady while one that was started does not answer, RouterRefusal with
        what it does not want, MissingTool.
        """
        placed = replace(plan, certificates=tuple(map(self._placed, plan.certificates)))
        text, entities = build_router_config(placed), build_entities(placed)
        self._write_files(placed.certificates, files)
        self._write_config(text)
        self._plan = placed
        fixed = find_fixed(entities)
        if self._supervisor.get(self._daemon) is None:
            return [self._start(fixed)]
        if fixed != self._fixed:
            self._fixed = fixed
            self._client.close()
            self._supervisor.restart(self._daemon)
            return [f"{self._daemon}: restarted"]
        done = self._answered(lambda: apply_config(self._client, entities, self._renewed))
        self._renewed.clear()
        return done

    def read(self) -> RouterState:
        """What the router says of the network. NotReady when it does not answer, with why if that is known."""
        state = self._answered(lambda: read_state(self._client))
        if self._plan is None or state.router != self._plan.router:
            raise NotReady("the router does not answer", where=self._daemon, why="it is being started anew")
        return state

    def stop(self) -> None:
        """End the router; only its log stays. Twice is once."""
        self._client.close()
        self._supervisor.stop(self._daemon)
        self._plan, self._fixed = None, []
        self._renewed.clear()
        self.config.unlink(missing_ok=True)
        if self.files.exists():
            shutil.rmtree(self.files)

    # --- the daemon

    def _start(self, fixed: list[Entity]) -> str:
        # where the package lies, so that -m finds it however knetsim itself was started
        home = str(Path(__file__).resolve().parents[3])
        self._supervisor.start(DaemonSpec(self._daemon, self._build_argv(), self.log, self._place, cwd=home))
        self._fixed = fixed
        self._renewed.clear()
        return f"{self._daemon}: started"

    def _build_argv(self) -> Sequence[str]:
        if self.kind == "skrouterd":
            return [str(require_program("skrouterd")), "-c", str(self.config)]
        if importlib.util.find_spec("proton") is None:
            why, hint = "the embedded Skupper router speaks AMQP with it", "sudo apt-get install python3-qpid-proton"
            raise MissingTool("no Python module `proton` on this machine", where=self._daemon, why=why, hint=hint)
        return [sys.executable, "-m", _EMBEDDED, "-c", str(self.config)]

    def _answered(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except NotReady as error:
            why = self._find_trouble()
            if not why:
                raise
            raise NotReady("the router does not run", where=self._daemon, why=why) from error

    def _find_trouble(self) -> str:
        """Why there is no router to answer, in its own last words; empty when it runs."""
        daemon = self._supervisor.get(self._daemon)
        if daemon is None:
            return "it was not started"
        status = daemon.status()
        if status.running or not status.last_exit:
            return ""
        return f"{status.last_exit}; {_read_end(self.log)}"

    def _dial(self, seconds: float) -> socket.socket:
        port = self._plan.management_port if self._plan else RouterPlan("").management_port
        stream = netns_socket(self._place, socket.AF_INET, socket.SOCK_STREAM)
        try:
            stream.settimeout(seconds)
            stream.connect((_LOOPBACK, port))
        except OSError:
            stream.close()
            raise
        return stream

    # --- files

    def _placed(self, profile: Certificates) -> Certificates:
        paths = {name: str(self.files / getattr(profile, name)) for name in ("authority", "certificate", "key")}
        return replace(profile, **paths)

    def _write_files(self, profiles: Sequence[Certificates], files: Mapping[str, bytes]) -> None:
        """Have these files be there, and no others; note whose content has changed."""
        wanted = {self.files / path: content for path, content in files.items()}
        for path in [path for path in self.files.rglob("*") if path.is_file() and path not in wanted]:
            path.unlink()
        changed = set()
        for path, content in wanted.items():
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
                _replace(path, content, 0o600)
                changed.add(str(path))
        for profile in profiles:
            if changed & {profile.authority, profile.certificate, profile.key}:
                self._renewed.add(profile.name)

    def _write_config(self, text: str) -> None:
        content = text.encode()
        if not self.config.exists() or self.config.read_bytes() != content:
            self.config.parent.mkdir(parents=True, exist_ok=True)
            _replace(self.config, content, 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is never seen half written."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
    os.replace(new, path)


def _read_end(log: Path) -> str:
    """The last line of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "its log cannot be read"
    return next((line for line in reversed(lines) if line.strip()), "its log is empty")

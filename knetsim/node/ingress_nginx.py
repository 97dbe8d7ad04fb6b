"""The nginx of one worker: its files, its daemon, and a configuration that is checked, put in place, and seen to serve.

A new configuration is tried with `nginx -t` in the worker's namespaces before it takes the old one's place. A reload
(SIGHUP) keeps every connection: new worker processes take new ones, the old ones end when theirs have. It is over when
the status socket answers with the new version, and no old process takes connections any more.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from knetsim.dataplane.ingress.certificates import make_fallback_pair
from knetsim.dataplane.ingress.nginx import CONFIG, LOG, STATUS, build_nginx, version_of
from knetsim.dataplane.ingress.sites import Certificate, Door
from knetsim.errors import CommandError, NotReady
from knetsim.system.daemon import DaemonSpec, Supervisor, read_child_titles
from knetsim.system.netns import Namespaces
from knetsim.system.programs import require_program
from knetsim.system.run import run
from knetsim.system.wait import wait_until

NGINX = "nginx"
SERVING_DEADLINE = 20.0
_ANSWER_SECONDS = 2.0
_GLANCE_SECONDS = 2.0
#: how nginx calls a process that takes connections; one that ceases is a `worker process is shutting down`
_TAKING = "worker process"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_COMMON = Certificate(Path("tls/common.crt"), Path("tls/common.key"))
_LAST_LINES = 4096
_EMERGENCY = re.compile(r"\[emerg\] (?:\d+#\d+: )?(.*?)(?: in /\S+)?$")


class WorkerNginx:
    """Used by one thread."""

    def __init__(self, host: str, place: Namespaces, directory: Path, supervisor: Supervisor) -> None:
        """`directory` is nginx's own, on the worker `host`; nothing is there before the first Ingress."""
        self.host, self.directory = host, directory
        self._place, self._supervisor = place, supervisor
        self._daemon = f"{host}/{NGINX}"
        self._applied = ""

    def apply(self, doors: Sequence[Door], files: Mapping[str, bytes]) -> None:
        """Have nginx serve these doors, or end when there are none; `files` are certificates that they name.

        CommandError with nginx's words when it does not take the configuration, and nothing has changed then;
        NotReady when it does not serve it; MissingTool.
        """
        if not doors:
            self.stop()
            return
        text = build_nginx(self.directory, doors, _COMMON)
        if text == self._applied and self._is_served(text):
            return
        self._write_files(files)
        new = self._try(text)
        os.replace(new, self.directory / CONFIG)
        self._serve()
        self._wait_served(text, SERVING_DEADLINE)
        self._applied = text
        self._forget_files(text)

    def find_fault(self, doors: Sequence[Door], files: Mapping[str, bytes]) -> str:
        """Why nginx would not take these doors, in its own words; empty when it would."""
        self._write_files(files)
        try:
            self._try(build_nginx(self.directory, doors, _COMMON)).unlink()
        except CommandError as error:
            return _first_fault(error.output)
        return ""

    def stop(self) -> None:
        """End nginx. Twice is once."""
        self._applied = ""
        self._supervisor.stop(self._daemon)

    def read_version(self) -> str:
        """The version of the configuration that is served; empty when none is."""
        connection = http.client.HTTPConnection("localhost")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_ANSWER_SECONDS)
            sock.connect(str(self.directory / STATUS))
            connection.sock = sock
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()
            sock.close()

    # --- files

    def _write_files(self, files: Mapping[str, bytes]) -> None:
        folder = self.directory / "tls"
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            chain, key = make_fallback_pair()
            files = {**files, str(_COMMON.chain): chain, str(_COMMON.key): key}
        for name, content in files.items():
            path = self.directory / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _forget_files(self, text: str) -> None:
        for path in (self.directory / "tls").iterdir():
            if f"tls/{path.name};" not in text and path.name not in (_COMMON.chain.name, _COMMON.key.name):
                path.unlink()

    def _try(self, text: str) -> Path:
        """Write a configuration beside the one that is served, where nginx takes it; CommandError."""
        program = str(require_program(NGINX))
        path = self.directory / f"{CONFIG}.new"
        path.write_text(text)
        run([program, "-t", "-q", "-e", "stderr", "-c", str(path)], place=self._place, env=_ENVIRONMENT)
        return path

    # --- the daemon

    def _is_served(self, text: str) -> bool:
        """Whether what was applied still is. Not at the first glance: after a reload an old process may answer once
        more, and one that was killed is coming back."""
        try:
            self._wait_served(text, _GLANCE_SECONDS)
        except NotReady:
            return False
        return True

    def _wait_served(self, text: str, deadline: float) -> None:
        version = version_of(text)
        wait_until(self._daemon, lambda: self._lack(version), deadline, hint=f"see {self.directory / LOG}")

    def _serve(self) -> None:
        if self._supervisor.reload(self._daemon) or self._supervisor.get(self._daemon) is not None:
            return  # one that is down comes back with the new configuration
        program, config = str(require_program(NGINX)), str(self.directory / CONFIG)
        argv = [program, "-e", "stderr", "-c", config]
        stale = [self.directory / STATUS]
        log = self.directory / LOG
        self._supervisor.start(
            DaemonSpec(self._daemon, argv, log, place=self._place, env=_ENVIRONMENT, cwd="/", stale=stale)
        )

    def _lack(self, version: str) -> str:
        found = self.read_version()
        if found == version:
            return self._find_former()
        told = _first_fault(_read_end(self.directory / LOG)) if not found else ""
        return told or (f"it still serves version {found}" if found else "it does not answer")

    def _find_former(self) -> str:
        """Once a new process answers: those of the former configuration take connections for a moment more; when they
        cease they say so in their titles."""
        daemon = self._supervisor.get(self._daemon)
        titles = read_child_titles(daemon.status().pid or 0) if daemon is not None else []
        if sum(title.endswith(_TAKING) for title in titles) > 1:
            return "processes of the former configuration still take connections"
        return ""


def _first_fault(text: str) -> str:
    """nginx's own words for what is wrong, without where its configuration lies; all of them when it says none."""
    for line in text.splitlines():
        if found := _EMERGENCY.search(line):
            return found[1]
    return text.strip()


def _read_end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_LINES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""

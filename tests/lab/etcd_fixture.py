"""A real etcd cluster for tests: no network at all, members and clients speak over UNIX sockets in one directory.

    members = EtcdMembers(directory); members.start(); members.targets → Etcd; members.kill(1); members.stop()

A member dies with the test process (`setpriv --pdeathsig`), whatever becomes of that.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.api.etcd import Etcd
from knetsim.system.wait import wait_until

COUNT = 3


class EtcdMembers:
    """Members e1, e2, e3, called C0e1 … in messages, as their sockets' directories are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(1, COUNT + 1):
            # etcd makes a socket in its working directory only, and members must share that to find each other's.
            (directory / f"C0e{number}").mkdir()
            (directory / f"C0e{number}" / "client:0").symlink_to(f"../client{number}:0")

    @property
    def targets(self) -> list[str]:
        """Where gRPC reaches the members."""
        return [f"unix:{self.directory}/C0e{number}/client:0" for number in range(1, COUNT + 1)]

    def start(self, *numbers: int) -> None:
        """Start members (all unless said) and wait until every member that runs is healthy."""
        for number in numbers or range(1, COUNT + 1):
            for socket in (f"client{number}:0", f"peer{number}:0"):
                # etcd does not take over the socket file of one that was killed.
                (self.directory / socket).unlink(missing_ok=True)
            with (self.directory / f"e{number}.log").open("ab") as log:
                self._running[number] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *self._argv(number)],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        self.wait_healthy()

    def restore(self) -> None:
        """Start again what was killed."""
        missing = set(range(1, COUNT + 1)) - self._running.keys()
        if missing:
            self.start(*missing)

    def wait_healthy(self) -> None:
        """Wait until the running members answer and have a leader."""
        etcd = Etcd(self.targets)
        try:
            wait_until("etcd", lambda: self._lack(etcd), 20, where=str(self.directory))
        finally:
            etcd.close()

    def _lack(self, etcd: Etcd) -> str:
        running = [f"C0e{number}" for number in self._running]
        return "; ".join(
            f"{member.name}: {member.error}" for member in etcd.status() if member.name in running and member.error
        )

    @staticmethod
    def _argv(number: int) -> list[str]:
        cluster = ",".join(f"e{other}=unix://peer{other}:0" for other in range(1, COUNT + 1))
        return [
            "etcd",
            f"--name=e{number}",
            f"--data-dir=data{number}",
            f"--listen-client-urls=unix://client{number}:0",
            f"--advertise-client-urls=unix://client{number}:0",
            f"--listen-peer-urls=unix://peer{number}:0",
            f"--initial-advertise-peer-urls=unix://peer{number}:0",
            f"--initial-cluster={cluster}",
            # All at once would split the votes: the first one hurries.
            f"--initial-election-tick-advance={str(number == 1).lower()}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ]

    def leader(self) -> int:
        """The number of the member that leads."""
        etcd = Etcd(self.targets)
        try:
            return next(number for number, status in enumerate(etcd.status(), 1) if status.leader)
        finally:
            etcd.close()

    def kill(self, *numbers: int) -> None:
        """`kill -9`, and wait for the end."""
        for number in numbers:
            self.signal(number, signal.SIGKILL)
        for number in numbers:
            self._running.pop(number).wait()

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a member a signal."""
        self._running[number].send_signal(what)

    def stop(self) -> None:
        """End what runs."""
        self.kill(*self._running)


def needs_etcd() -> None:
    """Skip the test where there is no etcd."""
    for program in ("etcd", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"no program `{program}` on this machine")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMembers]:
    """One cluster for the tests of a module; a test that kills members starts them again."""
    needs_etcd()
    members = EtcdMembers(tmp_path_factory.mktemp("etcd"))
    try:
        members.start()
        yield members
    finally:
        members.stop()

"""The floor, built: batch files written first, then run as somebody at a shell would, and tried with pings.

It stands in a place of its own (network and mount namespace), inside whatever sandbox the caller is in: with it, or
with the place, everything is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from knetsim.bench.batches import NETNS, Stage, build_pods_stage, build_removal, build_stages
from knetsim.bench.layout import Layout, PodHost
from knetsim.errors import NotReady
from knetsim.system import netns
from knetsim.system.netns import Namespaces, entered
from knetsim.system.ping import ping
from knetsim.system.run import run

_STAGE_DEADLINE = 600.0


class Floor:
    """The kernel objects of `layouts`, made by hand. To be closed."""

    def __init__(self, layouts: Sequence[Layout], directory: Path) -> None:
        self.layouts = list(layouts)
        self._directory = directory
        self.place = netns.create_host("floor", {})
        self._later = 0  # stages that were prepared after the first ones

    def build(self) -> dict[str, float]:
        """Make everything; seconds of each stage. CommandError shows what `ip` or `nft` refused."""
        stages = build_stages(self.layouts)
        for stage in stages:
            self.prepare(stage)
        return {stage.name: self.run(stage) for stage in stages}

    def prepare(self, stage: Stage) -> None:
        """Write the files of a stage; not part of the floor's time."""
        directory = self._directory / stage.name
        directory.mkdir(parents=True)
        for name, text in stage.files.items():
            (directory / name).write_text(text)
        (directory / "run.sh").write_text(stage.script)

    def run(self, stage: Stage) -> float:
        """Run a prepared stage; its seconds."""
        began = time.monotonic()
        run(["sh", "-e", "run.sh"], place=self.place, cwd=str(self._directory / stage.name), timeout=_STAGE_DEADLINE)
        return time.monotonic() - began

    def prepare_pods(self, pods: Sequence[PodHost]) -> Stage:
        """The stage that adds pods, its files written."""
        self._later += 1
        stage = build_pods_stage(pods, f"pods{self._later}")
        self.prepare(stage)
        return stage

    def remove_pods(self, pods: Sequence[PodHost]) -> None:
        """Take pods away again."""
        self._later += 1
        stage = build_removal(pods, f"removal{self._later}")
        self.prepare(stage)
        self.run(stage)

    def open(self, name: str) -> Namespaces:
        """The network namespace called `name`; the caller closes it."""
        with entered(self.place):
            return Namespaces(name, net=os.open(f"{NETNS}/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def check_reach(self) -> float:
        """Have every pod answer a pod of another worker; the seconds this took. NotReady names those that do not."""
        began = time.monotonic()
        for layout in self.layouts:
            check_pods([(pod.name, pod.worker.name, str(pod.address)) for pod in layout.pod_hosts()], self.open)
        return time.monotonic() - began

    def close(self) -> None:
        """Let go of the place; the kernel frees the rest."""
        self.place.close()


#: seconds that a pod has for an answer, and how often it is asked
PATIENCE, ATTEMPTS = 1.0, 5


def require_answers(asker: Namespaces, addresses: Sequence[str]) -> None:
    """Have all addresses answer a ping from a place; NotReady names those that do not."""
    times = ping(asker, addresses, PATIENCE, ATTEMPTS)
    silent = [address for address, seconds in times.items() if seconds is None]
    if silent:
        raise NotReady(f"{len(silent)} of {len(times)} pods do not answer", asker.name, ", ".join(silent[:5]))


def check_pods(pods: Sequence[tuple[str, str, str]], open_pod: Callable[[str], Namespaces]) -> int:
    """Have every pod (name, worker, address) answer a ping from a pod of another worker; how many answered.

    The first pod asks all that are elsewhere, and the first of those asks the ones on the first's worker. With all pods
    on one worker, each is asked by its neighbour. NotReady names addresses that did not answer.
    """
    if len(pods) < 2:
        return 0
    first = pods[0]
    elsewhere = [pod for pod in pods if pod[1] != first[1]] or list(pods[1:])
    here = [pod for pod in pods if pod not in elsewhere]
    for asker, asked in ((first, elsewhere), (elsewhere[0], here)):
        place = open_pod(asker[0])
        try:
            require_answers(place, [address for _, _, address in asked])
        finally:
            place.close()
    return len(pods)

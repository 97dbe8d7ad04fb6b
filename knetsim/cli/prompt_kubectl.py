"""`kubectl` at the prompt: the real one, on the host of a cluster's control plane."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import click

from knetsim.cli.completion import complete_kubectl
from knetsim.cli.execute import build_environment
from knetsim.cluster import Cluster
from knetsim.control_planes import require_kubernetes
from knetsim.errors import KnetsimError
from knetsim.names import control_plane_host
from knetsim.simulation import Simulation
from knetsim.system.run import run, run_attached

#: a command that is typed may run as long as it likes
_COMMAND_SECONDS = 24 * 3600.0
#: within which Tab answers, or offers nothing
_PATIENCE = 2.0


class Kubectl:
    """The `kubectl [-c CLUSTER] …` of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def run(self, line: str, attached: bool, has_input: bool = True) -> int:
        """Run it on this terminal, or, not `attached`, print what it said; its exit code. KnetsimError."""
        cluster, rest = self._choose(line)
        nodes = {worker.name: worker.node_name for one in self._simulation.clusters for worker in one.workers}
        rest = re.sub(r"\S+", lambda match: nodes.get(match.group(), match.group()), rest)
        argv = ["bash", "-c", f"kubectl {rest}"]  # pipes and quotes are the shell's
        if attached:
            return run_attached(argv, **self._where(cluster), has_input=has_input)
        done = run(argv, **self._where(cluster), check=False, merge=True, timeout=_COMMAND_SECONDS)
        click.echo(done.output, nl=False)
        return done.code

    def complete(self, line: str, text: str) -> list[str]:
        """What Tab offers for `line`, up to the cursor, whose last part `text` is to be replaced."""
        words = line.split()
        if words[:1] == ["-c"] and len(words[1:]) <= (not line[-1:].isspace()):
            return [cluster.name for cluster in self._simulation.clusters if cluster.name.startswith(text)]
        try:
            cluster, rest = self._choose(line)
            where = self._where(cluster)
        except KnetsimError:
            return []  # it will be told when the line is run

        def ask(words: Sequence[str]) -> str:
            return run(["kubectl", *words], **where, timeout=_PATIENCE).output

        return complete_kubectl(rest, text, ask)

    def _choose(self, line: str) -> tuple[Cluster, str]:
        """The cluster that a line is about, and what is left of the line. KnetsimError."""
        words = line.split(maxsplit=2)
        name, rest = (words[1], "".join(words[2:])) if words[:1] == ["-c"] and len(words) > 1 else ("", line)
        cluster = self._simulation.get(name) if name else self._simulation.clusters[0]
        require_kubernetes(cluster.plane, cluster.name, "kubectl")
        return cluster, rest

    def _where(self, cluster: Cluster) -> dict[str, Any]:
        host = self._simulation.net[control_plane_host(cluster.name)]
        return {"place": host.place, "env": build_environment(host.name, host.environment), "cwd": os.getcwd()}

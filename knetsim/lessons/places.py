"""The places that a page names, held against its scenarios: a mistyped host is found before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from knetsim import names
from knetsim.errors import KnetsimError, Problem
from knetsim.lessons.block import PROMPT, SHELL, Block
from knetsim.lessons.lesson import NO_SCENARIO, Lesson
from knetsim.scenario import Scenario

ScenarioReader = Callable[[str], Scenario]
_VALUED = ("--name", "--exec", "-e", "--api-address", "--images")


def find_place_problems(lesson: Lesson, read: ScenarioReader) -> Iterator[Problem]:
    """What cannot be run where the page says; `read` finds a scenario by the word that a user gives."""
    scenario: Scenario | None = None
    if not lesson.starts_itself and lesson.scenario != NO_SCENARIO:
        try:
            scenario = read(lesson.scenario)
        except KnetsimError as error:
            yield Problem(lesson.file, 1, 1, f"the scenario '{lesson.scenario}' cannot be used: {error}", error.hint)
            return
    for block in lesson.blocks:
        line = block.steps[0].line if block.steps else block.line
        if block.kind == "start":
            try:
                scenario = read(find_scenario(block.steps[0].text))
            except KnetsimError as error:
                yield Problem(lesson.file, line, 1, f"nothing is started here: {error}", error.hint)
                return
        elif block.kind == "run" and block.place != SHELL:
            yield from _check_place(lesson.file, block, scenario)


def _check_place(file: str, block: Block, scenario: Scenario | None) -> Iterator[Problem]:
    if scenario is None:
        yield Problem(file, block.line, 1, "no simulation runs here", "before it: run: start, or scenario: default")
        return
    hosts, owners = find_hosts(scenario)
    first, _, pod = block.place.partition("/")
    known = owners if pod else hosts
    if block.place != PROMPT and first.lower() not in {name.lower() for name in known}:
        hint = names.did_you_mean(first, [PROMPT, SHELL, *known])
        yield Problem(file, block.line, 1, f"unknown place '{block.place}' in {scenario.name}", hint)


def find_hosts(scenario: Scenario) -> tuple[list[str], list[str]]:
    """The hosts and switches of a scenario; and what may stand before a pod: clusters and workers."""
    hosts, owners = [names.TOP_SWITCH], []
    for cluster in scenario.clusters:
        workers = [names.worker_host(cluster.name, worker.name) for worker in cluster.workers]
        members = [names.etcd_host(cluster.name, number + 1) for number in range(cluster.etcd.members)]
        hosts += [*workers, *members, names.control_plane_host(cluster.name), names.cluster_switch(cluster.name)]
        owners += [cluster.name, names.cluster_id(cluster.name), *workers]
    return hosts, owners


def find_scenario(line: str) -> str:
    """The scenario that a line like `sudo ./utils/run scenarios/services.yaml` starts. KnetsimError when it is none."""
    words = shlex.split(line, comments=True)
    calls = [number for number, word in enumerate(words) if word == "up" or word.endswith("utils/run")]
    if not calls:
        raise KnetsimError(
            "it is no start of a simulation", hint="sudo ./utils/run [SCENARIO], or: knetsim up [SCENARIO]"
        )
    arguments = iter(words[calls[0] + 1 :])
    found = ""
    for word in arguments:
        if word in ("--detach", "-d"):
            raise KnetsimError(f"{word} opens no prompt", hint="leave it out, or say: run: shell")
        if word in _VALUED:
            next(arguments, None)
        elif not word.startswith("-"):
            found = found or word
    return found or "default"

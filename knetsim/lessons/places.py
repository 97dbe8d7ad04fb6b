"""The places that a page names, held against its scenarios: a mistyped host is found before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from knetsim import names
from knetsim.errors import KnetsimError, Problem
from knetsim.lessons.block import PROMPT, SHELL, Block
from knetsim.lessons.lesson import DEFAULT_SCENARIO, NO_SCENARIO, Lesson
from knetsim.scenario import Scenario
from knetsim.system.invocation import as_typed, start_as_typed

ScenarioReader = Callable[[str], Scenario]
#: options of `knetsim up` whose value is the next word
_VALUED = ("--api-address", "--images")
#: options that a lesson cannot have, and why
_REFUSED = {
    "--detach": "opens no prompt", "-d": "opens no prompt",
    "--exec": "opens no prompt", "-e": "opens no prompt",
    "--name": "is the lesson's own to say: two of them may run at once",
}  # fmt: skip


def find_place_problems(lesson: Lesson, read: ScenarioReader) -> Iterator[Problem]:
    """What cannot be run where the page says; `read` finds a scenario by the word that a user gives."""
    scenario: Scenario | None = None
    if not lesson.starts_itself and lesson.scenario != NO_SCENARIO:
        try:
            scenario = read(lesson.scenario)
        except KnetsimError as error:
            yield Problem(lesson.file, 1, 1, f"the scenario '{lesson.scenario}' cannot be used: {error}", error.hint)
            return
        yield from _check_options(lesson)
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


def _check_options(lesson: Lesson) -> Iterator[Problem]:
    try:
        more = find_scenario_word(_split(lesson.options))
    except KnetsimError as error:
        yield Problem(lesson.file, 1, 1, f"the options cannot be used: {error}", "options: --no-repair")
        return
    if more:
        yield Problem(lesson.file, 1, 1, f"'{more}' is no option", "options: --no-repair")


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
    words = _split(line)
    calls = [number for number, word in enumerate(words) if word == "up" or word.endswith("utils/run")]
    if not calls:
        raise KnetsimError(
            "it is no start of a simulation", hint=f"{start_as_typed()} [SCENARIO], or: {as_typed('up [SCENARIO]')}"
        )
    return find_scenario_word(words[calls[0] + 1 :]) or DEFAULT_SCENARIO


def find_scenario_word(arguments: Sequence[str]) -> str:
    """The scenario among the arguments of `knetsim up`, empty when there is none. KnetsimError when they start what a
    lesson cannot use."""
    left = iter(arguments)
    found = ""
    for word in left:
        option = word.partition("=")[0] if word.startswith("--") else word[:2]
        if option in _REFUSED:
            raise KnetsimError(f"{option} {_REFUSED[option]}", hint="leave it out, or say: run: shell")
        if word in _VALUED:
            next(left, None)
        elif not word.startswith("-"):
            found = found or word
    return found


def _split(line: str) -> list[str]:
    """The words of a shell's line. KnetsimError."""
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise KnetsimError(f"`{line}` is no line of a shell", why=str(error), hint="end what is quoted") from error

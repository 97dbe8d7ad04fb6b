"""What a person reads: status tables, the list of simulations, errors, the doctor's report; as a pipe gets them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim import errors
from knetsim.cli import doctor, links, policies, render, services
from knetsim.cli.fidelity import build_fidelity
from knetsim.cli.fidelity_page import build_page
from knetsim.cli.terminal import Line, Table, print_parts
from knetsim.errors import KnetsimError, Problem
from knetsim.fidelity import PARTS, resolve
from knetsim.status import ClusterPolicies, ClusterServices, SiteState
from knetsim.system.features import Feature
from tests.status_shape import explain_mismatch

CASES = Path(__file__).parent / "render"
DOCS = Path(__file__).parents[2] / "docs"
Golden = Callable[[Path, str], None]


def read_case(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yaml").read_text())


def drawn(parts: list[Table | Line], width: int | None = None) -> str:
    file = io.StringIO()
    print_parts(parts, file, width)
    return file.getvalue()


@pytest.mark.parametrize("case", ["ready", "trouble"])
@pytest.mark.parametrize("wide", [False, True], ids=["table", "wide"])
def test_status(case: str, wide: bool, golden: Golden) -> None:
    text = drawn(render.build_status(read_case(case), wide))
    golden(CASES / f"{case}{'.wide' if wide else ''}.txt", text)


@pytest.mark.parametrize("case", ["ready", "trouble"])
def test_status_on_a_terminal_of_80_columns(case: str, golden: Golden) -> None:
    text = drawn(render.build_status(read_case(case)), width=80)
    assert max(map(len, text.splitlines())) <= 80
    golden(CASES / f"{case}.80.txt", text)


@pytest.mark.parametrize("wide", [False, True], ids=["table", "wide"])
def test_status_services(wide: bool, golden: Golden) -> None:
    clusters = read_case("services")
    assert [line for one in clusters for line in explain_mismatch(one, ClusterServices)] == []
    golden(CASES / f"services{'.wide' if wide else ''}.txt", drawn(services.build_services(clusters, wide)))


@pytest.mark.parametrize("wide", [False, True], ids=["table", "wide"])
def test_status_policies(wide: bool, golden: Golden) -> None:
    clusters = read_case("policies")
    assert [line for one in clusters for line in explain_mismatch(one, ClusterPolicies)] == []
    golden(CASES / f"policies{'.wide' if wide else ''}.txt", drawn(policies.build_policies(clusters, wide)))


@pytest.mark.parametrize("wide", [False, True], ids=["table", "wide"])
def test_link_status(wide: bool, golden: Golden) -> None:
    sites = read_case("sites")
    assert [line for one in sites for line in explain_mismatch(one, SiteState)] == []
    golden(CASES / f"sites{'.wide' if wide else ''}.txt", drawn(links.build_sites(sites, wide)))


def test_list_of_simulations(golden: Golden) -> None:
    golden(CASES / "simulations.txt", drawn([render.build_list(read_case("simulations"))]))


@pytest.mark.parametrize("case", ["default", "bare"])
def test_doctor(case: str, golden: Golden) -> None:
    features = [Feature(**row) for row in read_case(f"doctor-{case}")]
    # the first line tells of this machine
    text = drawn(doctor.build_report(features)[1:])
    golden(CASES / f"doctor-{case}.txt", text)


def test_fidelity_without_a_simulation(golden: Golden) -> None:
    golden(CASES / "fidelity.txt", drawn(build_fidelity(resolve(), None), width=100))


def test_fidelity_of_a_simulation(golden: Golden) -> None:
    status = read_case("ready")
    golden(CASES / "fidelity-ready.txt", drawn(build_fidelity(resolve(status), status["name"]), width=100))


def test_fidelity_as_the_page_of_the_documentation(golden: Golden) -> None:
    golden(DOCS / "fidelity.md", build_page(PARTS))


ERRORS: dict[str, KnetsimError] = {
    "scenario": errors.ScenarioError(
        [
            Problem("lab.yaml", 12, 3, "unknown key 'worker'", "did you mean 'workers'?"),
            Problem("lab.yaml", 4, 9, "no cluster has this name"),
        ]
    ),
    "object": errors.ObjectError(
        "a Pod cannot be accepted", "pod default/c1", "'C1' is no name", "lower-case letters, digits and '-'",
        field="metadata.name",
    ),
    "command": errors.CommandError(
        ["nft", "-f", "-"], 1, "line 3:7-9: \x1b[31mError\x1b[0m: No such file\nadd rule x\n      ^^^", "C0w1"
    ),
    "kernel": errors.KernelError("ip link add cni0 type bridge", 17, "File exists", "C0w1", "twice is once"),
    "not-ready": errors.NotReady("etcd of C0: 2 of 3 members healthy after 30 s", "C0e3", "connection refused"),
    "leftover": errors.LeftoverError([OSError(16, "Device or resource busy"), OSError(2, "No such file or directory")]),
    "plain": errors.NotFound("no simulation is running"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_error(case: str, golden: Golden) -> None:
    text = render.render_error(ERRORS[case])
    assert len(text.splitlines()) <= 4
    golden(CASES / f"error-{case}.txt", text + "\n")


def test_verbose_error_shows_all_output(golden: Golden) -> None:
    golden(CASES / "error-command.verbose.txt", render.render_error(ERRORS["command"], verbose=True) + "\n")

"""Stock kubectl against the default scenario: what people type, and what a real cluster answers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_program
from tests.lab.kubectl_session import Kubectl, read_session
from tests.lab.lab import CONTROL_PLANE, Lab, running

SESSIONS = sorted((Path(__file__).parent / "kubectl").glob("*.session"))
#: so many mistakes are enough for one run
_ENOUGH = 12
#: a kubectl of another release, to be tried as well
OTHER_KUBECTL = os.environ.get("KNETSIM_TEST_KUBECTL", "")


@pytest.fixture(scope="module", params=["ours", *(["other"] if OTHER_KUBECTL else [])])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    """A fresh simulation for each kubectl, since the sessions leave their marks; and the program."""
    program = Path(OTHER_KUBECTL) if request.param == "other" else find_program("kubectl")
    if not has_kubernetes() or program is None:
        pytest.skip("Kubernetes' control plane is not installed")
    if CONTROL_PLANE == "embedded":
        pytest.skip("kubectl needs Kubernetes' own control plane")
    with running("default", tmp_path_factory.mktemp("lab")) as lab:
        yield lab, program


@pytest.fixture
def kubectl(lab: tuple[Lab, Path], tmp_path: Path) -> Kubectl:
    simulation, program = lab
    (tmp_path / "note.txt").write_text("a note\n")
    return Kubectl(program, simulation.directory.kubeconfig, tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("session", SESSIONS, ids=[path.stem for path in SESSIONS])
def test_session(kubectl: Kubectl, session: Path) -> None:
    wrong = list(itertools.islice(kubectl.play(read_session(session)), _ENOUGH))
    assert not wrong, f"{len(wrong)} of {session.name}:\n" + "\n".join(wrong)


def test_there_are_enough_commands() -> None:
    assert sum(len(read_session(path)) for path in SESSIONS) >= 120


def test_a_session_can_fail(kubectl: Kubectl, tmp_path: Path) -> None:
    path = tmp_path / "wrong.session"
    path.write_text("$ get nodes\n= ^c9w9\n\n$ get node c9w9\n\n$ get nodes\n- ^c0w1\n")
    assert len(list(kubectl.play(read_session(path)))) == 3

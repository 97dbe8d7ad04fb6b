"""What the tutorials of Kubernetes' documentation have people apply and type, unchanged, and packets that prove it.

`tutorials/*.yaml` are their manifests, `tutorials/*.session` what is done with them, in the language of
kubectl/*.session and two words more: `on PLACE COMMAND…` is `knetsim exec`, `> NAME` keeps what was printed, for
`{NAME}` later on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from knetsim.control_choice import has_kubernetes
from knetsim.system.programs import find_program
from tests.lab.kubectl_session import Kubectl, read_session
from tests.lab.lab import Lab, running

TUTORIALS = Path(__file__).parent / "tutorials"
SESSIONS = sorted(TUTORIALS.glob("*.session"))
SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: tutorials}
spec:
  clusters:
    - {name: C0, workers: 3, controlPlane: kubernetes, etcd: {members: 1}}
"""
_ENOUGH = 6


@dataclass(frozen=True)
class Tutorial(Kubectl):
    """A kubectl in the directory of the manifests, and other places that commands are run at."""

    lab: Lab

    def run(self, words: Sequence[str], stdin: str = "", editor: str = "") -> tuple[int, str]:
        """See Kubectl."""
        words = [word.replace("@tutorials", str(TUTORIALS)) for word in words]
        if words[0] != "on":
            return super().run(words, stdin, editor)
        done = self.lab.exec(words[1], *words[2:], check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if not has_kubernetes() or find_program("kubectl") is None:
        pytest.skip("Kubernetes' control plane is not installed")
    with running(SCENARIO, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.mark.timeout(600)
@pytest.mark.parametrize("session", SESSIONS, ids=[path.stem for path in SESSIONS])
def test_tutorial(lab: Lab, session: Path, tmp_path: Path) -> None:
    program = find_program("kubectl")
    assert program is not None
    tutorial = Tutorial(program, lab.directory.kubeconfig, tmp_path, lab)
    wrong = list(itertools.islice(tutorial.play(read_session(session)), _ENOUGH))
    assert not wrong, f"{len(wrong)} of {session.name}:\n" + "\n".join(wrong)

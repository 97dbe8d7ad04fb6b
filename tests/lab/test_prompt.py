"""The mininet> prompt at a terminal, as a person has it: Tab, Ctrl-C, help, and mistakes that are answered."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from knetsim.control_choice import EMBEDDED, KUBERNETES, has_kubernetes
from knetsim.system import sandbox
from knetsim.system.terminal import Terminal
from tests.lab.lab import CHECKOUT, KNETSIM, START_SECONDS, Lab, wait_to_find
from tests.machine import new_simulation_name

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {{name: prompt}}
spec:
  clusters:
    - {{name: C0, workers: 2, controlPlane: {control}, etcd: {{members: 1}}}}
"""
PROMPT = "mininet> "
SECONDS = 60.0


class Prompt:
    """The terminal of a simulation in the foreground."""

    def __init__(self, terminal: Terminal, lab: Lab) -> None:
        self.terminal, self.lab = terminal, lab
        self.seen = 0

    def begin(self, line: str) -> None:
        """Type a line."""
        self.seen = len(self.terminal.text)
        self.terminal.type(line)

    def wait(self, pattern: str, seconds: float = SECONDS) -> str:
        """What was printed since the line was typed, once `pattern` is in it."""
        found = self.terminal.wait(lambda text: re.search(pattern, text[self.seen :]) is not None, seconds)
        shown = self.terminal.text[self.seen :]
        assert found, f"no {pattern!r} in:\n{shown}"
        return shown

    def line(self, line: str) -> str:
        """Type a line and wait for the next prompt; what was printed between."""
        self.begin(line)
        return self.wait(rf"\n{re.escape(PROMPT)}$").replace("\r", "")


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prompt]:
    directory, lab = tmp_path_factory.mktemp("prompt"), Lab(new_simulation_name())
    scenario = directory / "scenario.yaml"
    scenario.write_text(SCENARIO.format(control=KUBERNETES if has_kubernetes() else EMBEDDED))
    env = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    env |= {"HOME": str(directory), "TERM": "dumb", "PYTHONPATH": str(CHECKOUT)}
    argv = [*KNETSIM, "up", str(scenario), "--name", lab.name]
    terminal = Terminal(argv, env=env, cwd=Path(directory), columns=400)
    prompt = Prompt(terminal, lab)
    try:
        prompt.wait(re.escape(PROMPT), START_SECONDS)
        prompt.line('py C0w1.create_container("c1")')
        yield prompt
        prompt.begin("exit")
        assert terminal.wait_for_exit(SECONDS) == 0
    finally:
        terminal.close()
        if lab.directory.path.exists():
            sandbox.stop(lab.directory, 60)
    assert not lab.directory.path.exists()


def test_tab_completes_a_call(prompt: Prompt) -> None:
    assert "\nc1\n" in prompt.line('py C0w1.exec_containe\t("c1", "hostname")')


def test_tab_asks_kubectl(prompt: Prompt) -> None:
    if not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    assert "\nnamespace/default\n" in prompt.line("kubectl get namesp\t defaul\t -o name")


def test_tab_offers_hosts_only_where_they_stand(prompt: Prompt) -> None:
    assert "\nC0s0\n" in prompt.line("C0w1 echo C0s\t")
    assert "\nC0s\n" in prompt.line("sh echo C0s\t")


def test_ctrl_c_keeps_what_a_pod_has_printed(prompt: Prompt) -> None:
    """ping says how many answered, as it does at a terminal of its own."""
    script = "trap 'echo last words; exit' INT; echo first; touch /tmp/begun; while :; do sleep 0.1; done"
    prompt.begin(f'py C0w1.exec_container("c1", "{script}")')
    look = ("test", "-e", "/tmp/begun")
    wait_to_find("its file", lambda: prompt.lab.exec("C0/c1", *look, check=False).returncode, 0)
    prompt.terminal.interrupt()
    shown = prompt.wait(rf"Interrupt\s+{re.escape(PROMPT)}$").replace("\r", "")
    assert "first\nlast words\n" in shown


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('C0w1.exec_container("c1", "ls")', 'py C0w1.exec_container("c1", "ls")'),
        ("c1 hostname", 'py C0w1.exec_container("c1", "hostname")'),
        ("C0 ip addr", "C0w1 ip addr"),
        ("knetsim status", "here: status"),
        ('py C0w2.exec_container("c1", "ls")', 'py C0w1.exec_container("c1", …)'),
        ("xterm C0w1", "in another terminal"),
        ("dpctl dump-flows", "t0 bridge fdb show"),
    ],
)
def test_a_mistake_is_answered_by_what_was_meant(prompt: Prompt, line: str, hint: str) -> None:
    assert f"  try:   {hint}" in prompt.line(line)


def test_parts_of_the_status(prompt: Prompt) -> None:
    assert re.search(r"^C0 · \d+ Services? · connections", prompt.line("status services"), re.MULTILINE)
    assert "C0 · 0 NetworkPolicies" in prompt.line("status policies")
    assert "no cluster has a Skupper site" in prompt.line("link status")


def test_a_link_is_still_cut_and_mended(prompt: Prompt) -> None:
    prompt.line("link C0w1 C0s0 down")
    try:
        assert "Network is unreachable" in prompt.line("C0w1 ping -c 1 -W 1 C0w2")
    finally:
        prompt.line("link C0w1 C0s0 up")
    assert " 0% packet loss" in prompt.line("C0w1 ping -c 3 C0w2")


def test_iperf_measures_and_ends(prompt: Prompt) -> None:
    assert re.search(r"^C0w1 -> C0w2: TCP, 5 s: [\d.]+ \w*bit/s sent", prompt.line("iperf C0w1 C0w2"), re.MULTILINE)
    assert "datagrams lost" in prompt.line("iperfudp 1M C0w1 C0w2")
    assert ":5001" not in prompt.line("C0w2 ss -Htln")


def test_help_and_its_words(prompt: Prompt) -> None:
    assert "C0w1 ping -c 1 C0w2" in prompt.line("help")
    assert "py WORKER.exec_container(" in prompt.line("help exec_container")
    assert "did you mean 'status'?" in prompt.line("help statsu")

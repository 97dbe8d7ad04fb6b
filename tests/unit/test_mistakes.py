"""A line at the prompt that is no command: the line that was meant stands in the answer."""

from __future__ import annotations

import pytest

from knetsim.cli.mistakes import Known, PodHome, explain_line, is_python
from knetsim.errors import EXIT_USAGE

PODS = {"c1": PodHome("C0w1", "kubectl"), "far": PodHome("C1w1", "kubectl -c C1"), "lone": PodHome("C2w1", "")}
KNOWN = Known(
    commands=["status", "link", "nodes", "kubectl"],
    nodes=["C0w1", "C0w2", "C0cp", "C0s0"],
    clusters={"C0": ["C0w1", "C0w2", "C0cp"], "East": [f"Eastw{number}" for number in range(1, 21)]},
    python=["C0", "C0w1", "net", "sim", "create_conf"],
    calls={"exec_container": "C0w1", "kp_vip_add": "C0"},
    find_pod=PODS.get,
)
PYTHON = "that is Python"
POD = "is a pod, and only hosts are called by their names"


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ('C0w1.exec_container("c1", "ls")', PYTHON, 'py C0w1.exec_container("c1", "ls")'),
        ("c0w1.IP()", PYTHON, "py C0w1.IP()"),
        ("sim.state", PYTHON, "py sim.state"),
        ('exec_container("c1", "ls")', PYTHON, 'py C0w1.exec_container("c1", "ls")'),
        ('kp_vip_add("1.1.1.1", [])', PYTHON, 'py C0.kp_vip_add("1.1.1.1", [])'),
        ("print(C0)", PYTHON, "py print(C0)"),
        ("create_conf(C0)", PYTHON, "py create_conf(C0)"),
        ("for w in C0.workers: print(w)", PYTHON, "px for w in C0.workers: print(w)"),
        ("a = C0w1.IP()", PYTHON, "px a = C0w1.IP()"),
        ("c1 ip  addr", f"c1 {POD}", 'py C0w1.exec_container("c1", "ip  addr"); or: kubectl exec c1 -- ip  addr'),
        ("c1", f"c1 {POD}", 'py C0w1.exec_container("c1", "ip addr"); or: kubectl exec c1 -- ip addr'),
        ("far ls", f"far {POD}", 'py C1w1.exec_container("far", "ls"); or: kubectl -c C1 exec far -- ls'),
        ("lone ls", f"lone {POD}", 'py C2w1.exec_container("lone", "ls")'),
        ('c1 echo "a" | wc', f"c1 {POD}", 'py C0w1.exec_container("c1", "echo \\"a\\" | wc")'),
        ("C0 ip addr", "C0 is a cluster", "C0w1 ip addr"),
        ("c0", "C0 is a cluster", "C0w1 ip addr"),
        (
            "knetsim status services", "knetsim is for another terminal",
            "here: status services; in another terminal: sudo ./utils/knetsim status services",
        ),
        (
            "sudo ./utils/knetsim down", "knetsim is for another terminal",
            "here: exit; in another terminal: sudo ./utils/knetsim down",
        ),
        (
            "knetsim exec C0w1 -- ip route", "knetsim is for another terminal",
            "here: C0w1 ip route; in another terminal: sudo ./utils/knetsim exec C0w1 -- ip route",
        ),
        ("knetsim", "knetsim is for another terminal", "in another terminal: sudo ./utils/knetsim"),
        ("./utils/exec 0 w1", "exec is for another terminal", "in another terminal: sudo ./utils/exec 0 w1"),
        ("statsu", "unknown command 'statsu'", "did you mean 'status'?"),
        ("C0w9 ls", "unknown command 'C0w9'", "did you mean 'C0w2'?"),
        ("foo 1", "unknown command 'foo'", "help"),
        ("foo.bar()", "unknown command 'foo.bar()'", "help"),
        ("for", "unknown command 'for'", "help"),
        ("sudo ls", "unknown command 'sudo'", "help"),
    ],
)  # fmt: skip
def test_what_was_meant(line: str, what: str, hint: str) -> None:
    error = explain_line(line, KNOWN)
    assert (error.what, error.hint, error.exit_code) == (what, hint, EXIT_USAGE)


def test_of_a_large_cluster_not_all_hosts_are_listed() -> None:
    assert explain_line("C0 ls", KNOWN).why == "its hosts: C0w1 C0w2 C0cp"
    assert explain_line("east ls", KNOWN).why.endswith("Eastw9 …")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("C0w1.IP()", True), ("C0w1[0]", True), ("C0w1 ./program", False), ("C0w1 ip addr", False), ("C0w1", False)],
)
def test_a_hosts_command_is_no_python(line: str, expected: bool) -> None:
    assert is_python(line) is expected

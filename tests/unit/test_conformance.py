"""utils/conformance without the suite: what is run, how Ginkgo's report is read, table and page."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knetsim.cli.conformance import _read_results, build_report
from knetsim.cli.terminal import print_parts
from knetsim.conformance.page import UNEXPLAINED, build_page
from knetsim.conformance.plan import Plan, Remark, find_reason, read_plan
from knetsim.conformance.results import Results, first_line, read_specs, results_from_json
from knetsim.conformance.suite import Selection, SuitePrograms, _Listener, build_suite_argv
from knetsim.errors import UsageError
from knetsim.system.timed import TimedLine

ROOT = Path(__file__).resolve().parents[2]
JOB = "k8s.io/kubernetes@v1.36.3/test/e2e/apps/job.go"


def entry(
    state: str, *texts: str, message: str = "", ended: bool = True, kind: str = "It", attempts: int = 1
) -> dict[str, Any]:
    """A spec in Ginkgo's report."""
    failure = {"Failure": {"Message": message, "Location": {"FileName": JOB, "LineNumber": 12}}} if message else {}
    return {
        "ContainerHierarchyTexts": list(texts[:-1]) or None,
        "LeafNodeText": texts[-1],
        "LeafNodeType": kind,
        "LeafNodeLocation": {"FileName": JOB, "LineNumber": 7},
        "State": state,
        "EndTime": "2026-11-21T13:28:57Z" if ended else "0001-01-01T00:00:00Z",
        "RunTime": 1_540_000_000,
        "NumAttempts": attempts,
        **failure,
    }


def results_of(*entries: dict[str, Any], proxy: str = "emulator") -> Results:
    specs = read_specs(json.dumps([{"SpecReports": list(entries)}]))
    return Results("v1.36.3", "2026-11-21T13:00:00+00:00", 90.0, 2, ("focus",), (), tuple(specs), 3, proxy)


MIXED = (
    entry("passed", "[sig-apps] Job", "should run [Conformance]"),
    entry("failed", "[sig-apps] Job", "should fail | twice [Conformance]", message="no pods:\n  got 0, wanted 1\nmore"),
    entry("timedout", "[sig-node] Pods", "should end [Conformance]", message="too late"),
    entry("skipped", "[sig-node] Pods", "should not run [Conformance]", message="only on Windows"),
    entry("skipped", "[sig-node] Pods", "was filtered away", ended=False),
)


def test_every_spec_that_was_run_is_a_result() -> None:
    results = results_of(*MIXED)
    assert [(spec.name, spec.state) for spec in results.specs] == [
        ("[sig-apps] Job should run [Conformance]", "passed"),
        ("[sig-apps] Job should fail | twice [Conformance]", "failed"),
        ("[sig-node] Pods should end [Conformance]", "failed"),
        ("[sig-node] Pods should not run [Conformance]", "skipped"),
    ]
    assert results.specs[1].error == "no pods: got 0, wanted 1"
    assert [spec.where for spec in results.specs[:2]] == ["test/e2e/apps/job.go:7", "test/e2e/apps/job.go:12"]
    assert results.specs[0].seconds == 1.5
    assert results.share_passed() == pytest.approx(1 / 3)
    assert results_from_json(json.loads(json.dumps(results.to_json()))) == results


def test_what_fails_before_any_spec_is_a_failure() -> None:
    (spec,) = read_specs(
        json.dumps([{"SpecReports": [
            entry("passed", "", kind="SynchronizedAfterSuite"),
            entry("failed", "", message="no Nodes", kind="SynchronizedBeforeSuite"),
            entry("skipped", "[sig-apps] Job", "should run", ended=False),
        ]}])
    )  # fmt: skip
    assert (spec.name, spec.state, spec.error) == ("[SynchronizedBeforeSuite]", "failed", "no Nodes")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n\n  one \n two", "one"),
        ("error in waiting: [\n\n  Timed out after 300 s.\n more", "error in waiting: [ Timed out after 300 s."),
        ("x" * 500, "x" * 239 + "…"),
    ],
)
def test_an_error_is_one_line(text: str, line: str) -> None:
    assert first_line(text) == line


def test_the_suites_command_line() -> None:
    programs = SuitePrograms(Path("/t/ginkgo"), Path("/t/e2e.test"), Path("/t/kubectl"))
    argv = build_suite_argv(programs, Selection(("a", "b"), ("c",), 3), "/admin.conf", Path("/out"), 4)
    own, suites = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    assert own[0] == "/t/ginkgo"
    assert own[-1] == "/t/e2e.test"
    assert {
        "--procs=3",
        "--focus=a",
        "--focus=b",
        "--skip=c",
        "--output-dir=/out",
        "--keep-going",
        "--flake-attempts=2",
    } <= set(own)
    assert {"--kubeconfig=/admin.conf", "--kubectl-path=/t/kubectl", "--provider=skeleton", "--num-nodes=4"} <= set(
        suites
    )


def test_each_spec_is_told_when_it_ends() -> None:
    told: list[str] = []
    log = io.StringIO()
    listener = _Listener(log.write, told.append)
    lines = [
        "----",
        "• [1.250 seconds]",
        "[sig-apps] Job runs",
        "job.go:1",
        "• [FAILED] [302.145 seconds]",
        "",
        "[sig-x] y",
    ]
    for line in lines:
        listener.hear(TimedLine(0, "output", line))
    assert told == ["    1.2 s  passed    [sig-apps] Job runs", "  302.1 s  failed    [sig-x] y"]
    assert log.getvalue().splitlines() == lines


def test_the_table_has_groups_errors_and_reasons_of_skipped_ones() -> None:
    file = io.StringIO()
    print_parts(build_report(results_of(*MIXED), "/out"), file)
    lines = file.getvalue().splitlines()
    assert lines[1].split() == ["[sig-apps]", "Job", "1", "1", "0"]
    assert any("should not run" in line and line.endswith("only on Windows") for line in lines)
    assert any("should fail | twice" in line and line.endswith("no pods: got 0, wanted 1") for line in lines)
    assert lines[-1].startswith("1 passed, 2 failed: 33.3% in 1.5 minutes, Kubernetes v1.36.3; more in /out")


def test_the_page_has_a_reason_for_each_failure() -> None:
    plan = Plan(("x",), (Remark("Aggregator", "no image"),), (), (Remark("should end", "the clock is shared"),))
    page = build_page([results_of(*MIXED)], plan)
    assert "with Kubernetes' own control plane and the emulator for Services: release v1.36.3." in page
    assert "**1 passed, 2 failed: 33.3%** of those that ran to an end with the emulator; 1 skipped" in page
    assert "| emulator | 3 | 2026-11-21 13:00 | 2 | 2 | 1 | 2 | 1 | 0 |" in page
    assert "| group | passed | failed | skipped |" in page
    late = "| [sig-node] Pods should end | emulator | the clock is shared | `too late` (test/e2e/apps/job.go:12) |"
    assert late in page
    assert f"| [sig-apps] Job should fail \\| twice | emulator | {UNEXPLAINED} |" in page
    assert "| `Aggregator` | no image |" in page
    assert "| [sig-node] Pods should not run | only on Windows |" in page
    assert "- `[sig-apps] Job should run` emulator 1.5 s\n" in page


def test_a_page_tells_of_runs_with_both_proxies() -> None:
    second = results_of(
        entry("passed", "[sig-apps] Job", "should run [Conformance]"),
        entry("passed", "[sig-apps] Job", "should fail | twice [Conformance]"),
        entry("failed", "[sig-network] DNS", "should answer", message="no answer"),
        entry("skipped", "[sig-node] Pods", "should not run [Conformance]", message="only on Windows"),
        proxy="kube-proxy",
    )
    plan = Plan((), (Remark("should answer", "not here"),), (), (Remark("Job|Pods", "the clock is shared"),))
    page = build_page([results_of(*MIXED), second], plan)
    lines = page.splitlines()
    assert "the emulator for Services, and once more with kube-proxy: release v1.36.3." in page
    assert "**1 passed, 2 failed: 33.3%** of those that ran to an end with the emulator; 1 skipped" in page
    assert [line.split(" | ")[5:8] for line in lines if line.startswith("| kube-proxy | 3 | 2026")] == [["2", "1", "1"]]
    assert "| [sig-apps] Job | 1 | 1 | 0 | 2 | 0 | 0 |" in lines
    assert "| [sig-network] DNS |  |  |  | 0 | 1 | 0 |" in lines
    # a reason may be that of specs which do not run unless they are asked for
    failure = "| [sig-network] DNS should answer | kube-proxy | not here | `no answer` (test/e2e/apps/job.go:12) |"
    assert failure in lines
    assert lines.count("| [sig-node] Pods should not run | only on Windows |") == 1
    assert "- `[sig-apps] Job should run` emulator 1.5 s, kube-proxy 1.5 s" in lines
    assert "- `[sig-apps] Job should fail | twice` kube-proxy 1.5 s" in lines


def test_of_runs_with_one_proxy_the_last_end_of_a_spec_counts() -> None:
    early = results_of(*MIXED)
    late = replace(
        results_of(
            entry("passed", "[sig-node] Pods", "should end [Conformance]"),
            entry("skipped", "[sig-apps] Job", "should run [Conformance]", message="it wants more Nodes"),
        ),
        started="2026-11-21T14:00:00+00:00",
    )
    for runs in ([late, early], [early, late]):
        page = build_page(runs, Plan((), (), (), ()))
        assert "**2 passed, 1 failed: 66.7%** of those that ran to an end with the emulator; 1 skipped" in page
        assert page.count("| emulator | 3 | 2026-11-21 1") == 2
        assert "| [sig-node] Pods | 1 | 0 | 1 |" in page


def test_results_of_an_earlier_run_are_read_or_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        _read_results(tmp_path)
    file = tmp_path / "results.json"
    for text in ("{", "{}", "[]"):
        file.write_text(text)
        with pytest.raises(UsageError, match="holds no results"):
            _read_results(tmp_path)
    file.write_text(json.dumps(results_of(*MIXED).to_json()))
    assert _read_results(tmp_path) == results_of(*MIXED)


def test_who_passed_at_a_second_attempt_only_is_said() -> None:
    results = results_of(entry("passed", "[sig-apps] Job", "runs", attempts=2), *MIXED)
    file = io.StringIO()
    print_parts(build_report(results, "/out"), file)
    assert re.search(r"^\[sig-apps\] Job runs +2 ", file.getvalue(), re.MULTILINE)
    page = build_page([results], Plan((), (), (), ()))
    assert "1 passed at a second attempt." in page
    assert "- `[sig-apps] Job runs` emulator 1.5 s at attempt 2" in page


def test_the_plan_that_comes_along() -> None:
    plan = read_plan()
    for pattern in (*plan.groups, *plan.subset, *(one.specs for one in (*plan.left_out, *plan.failures))):
        re.compile(pattern)
    assert all(remark.reason for remark in (*plan.left_out, *plan.failures))
    spec = "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server [Conformance]"
    assert any(re.search(group, spec) for group in plan.groups)
    assert find_reason(spec, plan.left_out)
    assert not find_reason("[sig-apps] Job should run [Conformance]", plan.left_out)


def test_the_last_full_run_leaves_no_failure_unexplained() -> None:
    page = ROOT / "docs/conformance.md"
    if not page.exists():
        pytest.skip("there was no full run yet")
    assert UNEXPLAINED not in page.read_text()
    share = re.search(r"\*\*\d+ passed, \d+ failed: ([\d.]+)%\*\*", page.read_text())
    assert share is not None
    assert float(share[1]) >= 95

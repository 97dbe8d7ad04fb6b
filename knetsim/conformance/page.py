"""The results as a page for people, docs/conformance.md; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knetsim.conformance.plan import Plan, find_reason
from knetsim.conformance.results import Results, Spec

UNEXPLAINED = "not yet known"


def build_page(results: Results, plan: Plan) -> str:
    """The whole page: what was run, a row for each group, failures with their reasons, skipped ones, all others."""
    passed, failed = results.count("passed"), results.count("failed")
    verdict = (
        f"**{passed} passed, {failed} failed: {results.share_passed():.1%}** of those that ran to an end; "
        f"{results.count('skipped')} skipped themselves, {len(results.passed_late())} passed at a second attempt."
    )
    parts = [
        "# Conformance",
        _introduction(results),
        verdict,
        "## Groups",
        _table(("group", "passed", "failed", "skipped"), _group_rows(results)),
        "## Failed",
        _failures(results.select("failed"), plan),
        "## Left out and skipped",
        _table(("specs", "why"), _skipped_rows(results, plan)),
        "## Passed",
        "\n".join(map(_passed_line, results.select("passed"))) or "None.",
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(results: Results) -> str:
    return (
        "The last full run of Kubernetes' own end-to-end suite, unmodified, against a simulation of three workers with "
        f"Kubernetes' own control plane: release {results.kubernetes}, {results.started[:10]}, "
        f"{results.seconds / 60:.0f} minutes with {results.processes} specs side by side. Written by "
        "`sudo ./utils/conformance --page docs/conformance.md`; which specs run, and the reasons, stand in "
        "`knetsim/conformance/plan.yaml`."
    )


def _group_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (group, str(counts["passed"]), str(counts["failed"]), str(counts["skipped"]))
        for group, counts in results.groups().items()
    ]


def _failures(specs: Sequence[Spec], plan: Plan) -> str:
    if not specs:
        return "None."
    rows = [
        (spec.short_name, find_reason(spec.name, plan.failures) or UNEXPLAINED, f"{_code(spec.error)} ({spec.where})")
        for spec in specs
    ]
    return _table(("spec", "reason", "error"), rows)


def _skipped_rows(results: Results, plan: Plan) -> list[tuple[str, str]]:
    left_out = [(_code(remark.specs), remark.reason) for remark in plan.left_out]
    return left_out + [(spec.short_name, spec.error) for spec in results.select("skipped")]


def _passed_line(spec: Spec) -> str:
    late = f", attempt {spec.attempts}" if spec.attempts > 1 else ""
    return f"- {_code(spec.short_name)} {spec.seconds:g} s{late}"


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`" if text else ""


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

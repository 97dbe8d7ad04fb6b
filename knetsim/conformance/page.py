"""The results as a page for people, docs/conformance.md; pure.

A page tells of one run or of several: how the specs of each group ended with each proxy for Services, what failed and
why, what did not run, and what passed. Of runs with the same proxy the last end of a spec counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from knetsim.conformance.plan import Plan, find_reason
from knetsim.conformance.results import Results, Spec, State, merge_runs

UNEXPLAINED = "not yet known"

_COMMANDS = """\
<!-- run: no, it takes an hour -->
```console
$ sudo ./utils/conformance --scenario scenarios/conformance-kube-proxy.yaml --focus '\\[sig-network\\]' --results DIR
$ sudo ./utils/conformance --scenario scenarios/conformance-zones.yaml --focus 'Traffic Distribution' --results DIR2
$ sudo ./utils/conformance --beside DIR --beside DIR2 --page docs/conformance.md
```"""
_STATES: Sequence[State] = ("passed", "failed", "skipped")
_RUN_HEADERS = ("proxy", "workers", "started", "minutes", "side by side", *_STATES, "at a second attempt")


def build_page(runs: Sequence[Results], plan: Plan) -> str:
    """The whole page; the verdict is about the proxy of the first run."""
    merged = merge_runs(runs)
    parts = [
        "# Conformance",
        _introduction(merged),
        _verdict(merged[0]),
        "## Runs",
        _table(_RUN_HEADERS, map(_run_row, runs)),
        "## Groups",
        _groups(merged),
        "## Failed",
        _failures(merged, plan),
        "## Left out and skipped",
        _table(("specs", "why"), _skipped_rows(merged, plan)),
        "## Passed",
        "\n".join(map(_passed_line, _passed(merged).values())) or "None.",
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(runs: Sequence[Results]) -> str:
    other = "".join(f", and once more with {results.proxy}" for results in runs[1:])
    return (
        "The last full run of Kubernetes' own end-to-end suite, unmodified, against simulations with Kubernetes' own "
        f"control plane and the {runs[0].proxy} for Services{other}: release {runs[0].kubernetes}. "
        "Which specs run, and the reasons, stand in `knetsim/conformance/plan.yaml`. "
        f"Written by\n\n{_COMMANDS}"
    )


def _verdict(results: Results) -> str:
    passed, failed, skipped = map(results.count, _STATES)
    return (
        f"**{passed} passed, {failed} failed: {results.share_passed():.1%}** of those that ran to an end with the "
        f"{results.proxy}; {skipped} skipped themselves, {len(results.passed_late())} passed at a second attempt."
    )


def _run_row(results: Results) -> tuple[str, ...]:
    counts = (str(results.count(state)) for state in _STATES)
    started = results.started[:16].replace("T", " ")
    late = str(len(results.passed_late()))
    minutes, side_by_side = f"{results.seconds / 60:.0f}", str(results.processes)
    return results.proxy, str(results.workers), started, minutes, side_by_side, *counts, late


def _groups(runs: Sequence[Results]) -> str:
    """A row for each group, three columns for each run."""
    found = [results.groups() for results in runs]
    titles = [(results.proxy, state) for results in runs for state in _STATES]
    headers = ["group", *(state if len(runs) == 1 else f"{proxy}: {state}" for proxy, state in titles)]
    names = sorted(set(chain.from_iterable(found)))
    rows = [
        [name, *(str(groups[name][state]) if name in groups else "" for groups in found for state in _STATES)]
        for name in names
    ]
    return _table(headers, rows)


def _failures(runs: Sequence[Results], plan: Plan) -> str:
    rows = [
        (
            spec.short_name,
            results.proxy,
            find_reason(spec.name, (*plan.failures, *plan.left_out)) or UNEXPLAINED,
            f"{_code(spec.error)} ({spec.where})",
        )
        for results in runs
        for spec in results.select("failed")
    ]
    return _table(("spec", "proxy", "reason", "error"), sorted(rows)) if rows else "None."


def _skipped_rows(runs: Sequence[Results], plan: Plan) -> list[tuple[str, str]]:
    """What the plan leaves out, and the specs that skipped themselves, once each."""
    left_out = [(_code(remark.specs), remark.reason) for remark in plan.left_out]
    return left_out + sorted({(spec.short_name, spec.error) for results in runs for spec in results.select("skipped")})


def _passed(runs: Sequence[Results]) -> Mapping[str, list[tuple[str, Spec]]]:
    """Name of a spec → the proxies with which it passed; in the order of the names."""
    passed: dict[str, list[tuple[str, Spec]]] = {}
    for results in runs:
        for spec in results.select("passed"):
            passed.setdefault(spec.short_name, []).append((results.proxy, spec))
    return dict(sorted(passed.items()))


def _passed_line(ends: Sequence[tuple[str, Spec]]) -> str:
    """`- [sig-apps] Job should run: emulator 1.5 s, kube-proxy 1.6 s`."""
    times = (f"{proxy} {spec.seconds:g} s{_attempt(spec)}" for proxy, spec in ends)
    return f"- {_code(ends[0][1].short_name)} {', '.join(times)}"


def _attempt(spec: Spec) -> str:
    return f" at attempt {spec.attempts}" if spec.attempts > 1 else ""


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`" if text else ""


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

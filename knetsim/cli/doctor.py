"""`knetsim doctor`: what this machine can do, what each missing thing costs, and how to get it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import IO

import knetsim
from knetsim.cli.terminal import Cell, Line, Output, Row, Style, Table, print_json, print_parts
from knetsim.cli.version import read_system
from knetsim.errors import EXIT_FAILED, EXIT_OK
from knetsim.system.features import Feature, group_remedies, read_features

_GROUPS = {"machine": "machine", "kernel": "kernel", "program": "programs", "python": "Python modules"}
_NEED_STYLES: dict[str, Style] = {"required": "bad", "optional": "warn", "later": "label"}


def doctor(output: Output = "table", file: IO[str] | None = None) -> int:
    """Probe this machine and print what was found; exit code 1 when a simulation cannot run here."""
    features = read_features()
    usable = is_usable(features)
    if output == "json":
        rows = [asdict(feature) for feature in features]
        print_json({"knetsim": knetsim.__version__, "usable": usable, "features": rows}, file)
    else:
        print_parts(build_report(features, output == "wide"), file)
    return EXIT_OK if usable else EXIT_FAILED


def is_usable(features: Iterable[Feature]) -> bool:
    """Whether the default scenario can run: nothing required is missing."""
    return all(feature.present for feature in features if feature.need == "required")


def build_report(features: Sequence[Feature], wide: bool = False) -> list[Table | Line]:
    """The verdict, what is here in a few lines (`wide`: a row for each feature), what is missing, and what to do."""
    machine = os.uname()
    system = f"knetsim {knetsim.__version__} on {read_system()}, Linux {machine.release} {machine.machine}"
    parts: list[Table | Line] = [Line([Cell(system, "label")]), _verdict(features), Line()]
    if wide:
        return [*parts, _full_table(features), *_remedies([one for one in features if not one.present])]
    parts.append(_found_table(features))
    lacking = [one for one in features if one.present is False and one.need != "later"]
    if lacking:
        parts += [Line(), _lacking_table(lacking), *_remedies(lacking)]
    untried = [one for one in features if one.present is None]
    parts += _name_line("could not be tried", untried, ", ".join(dict.fromkeys(one.detail for one in untried)))
    later = [one for one in features if one.present is False and one.need == "later"]
    parts += _name_line("not here, and not used by this version", later, "-o wide tells more")
    return parts


def _verdict(features: Sequence[Feature]) -> Line:
    lacking = [feature.name for feature in features if feature.need == "required" and feature.present is False]
    if lacking:
        return Line([Cell("✗ no simulation can run here: ", "bad"), f"missing {', '.join(lacking)}"])
    if not is_usable(features):
        return Line([Cell("? it is not known whether simulations can run here", "warn")])
    optional = sum(feature.need == "optional" and not feature.present for feature in features)
    rest = f", with {optional} limit{'s' if optional > 1 else ''}" if optional else ""
    return Line([Cell("✓ simulations can run here", "good"), rest])


def _found_table(features: Sequence[Feature]) -> Table:
    """A row for each group: what is there. A family of features that are all there is one word."""
    rows: list[Row] = []
    for group, title in _GROUPS.items():
        members = [feature for feature in features if feature.group == group]
        broken = {_family(feature) for feature in members if not feature.present}
        words = {_summary(feature, _family(feature) not in broken): None for feature in members if feature.present}
        rows.append([Cell(title, "head"), ", ".join(words)])
    return Table(("FOUND", ""), rows, wraps=("",))


def _family(feature: Feature) -> str:
    """What several features are called together; empty for one that stands alone."""
    if feature.name.startswith("CAP_"):
        return "capabilities"
    if feature.name.endswith(" namespace"):
        return "namespaces"
    return "nft" if feature.name.startswith("nft ") else ""


def _summary(feature: Feature, whole: bool) -> str:
    """A feature in a few words; its family alone when that is `whole`."""
    family = _family(feature)
    if family:
        return family if whole else feature.name
    if feature.group == "kernel":
        return feature.name
    told = feature.detail.partition(" ")[0] if feature.group == "program" else feature.detail
    return f"{feature.name.removeprefix('python ')} {told}".strip()


def _lacking_table(features: Sequence[Feature]) -> Table:
    rows: list[Row] = [
        [Cell(one.name, _NEED_STYLES[one.need]), one.need, f"{one.cost}{f' ({one.detail})' if one.detail else ''}"]
        for one in features
    ]
    return Table(("MISSING", "NEED", "WITHOUT IT"), rows, wraps=("WITHOUT IT",))


def _full_table(features: Sequence[Feature]) -> Table:
    rows: list[Row] = []
    for one in features:
        here = Cell("yes", "good") if one.present else Cell("no", _NEED_STYLES[one.need])
        here = Cell("?", "warn") if one.present is None else here
        cost = "" if one.present else one.cost
        rows.append([Cell(one.name, "head"), one.need, here, Cell(one.detail), Cell(cost)])
    return Table(("FEATURE", "NEED", "HERE", "DETAIL", "WITHOUT IT"), rows, wraps=("DETAIL", "WITHOUT IT"))


def _remedies(missing: Sequence[Feature]) -> list[Table | Line]:
    rows: list[Row] = [[remedy, ", ".join(names)] for remedy, names in group_remedies(missing).items()]
    return [Line(), Table(("TRY", "FOR"), rows, wraps=("FOR", "TRY"))] if rows else []


def _name_line(title: str, features: Sequence[Feature], note: str) -> list[Table | Line]:
    if not features:
        return []
    return [Line(), Line([Cell(f"{title}: {', '.join(one.name for one in features)} ({note})", "label")])]

"""Paths of Ingresses as nginx's locations; pure. See the package's note for how nginx chooses among them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from knetsim.dataplane.ingress.sites import Route, Site


@dataclass(frozen=True, slots=True)
class Location:
    """One `location MODIFIER "TEXT"` (modifier `=`, `~*` or none); `route` None: nobody's, 404."""

    modifier: str
    text: str
    route: Route | None


def build_locations(site: Site) -> list[Location]:
    """The locations of a host, in the order of the file: as they are looked for when they are regular expressions."""
    by_expression = any(route.options.by_expression for route in site.routes)
    found: dict[tuple[str, str], Location] = {}
    # exact paths first: who says a path exactly has it before who says it as a prefix
    for route in sorted(site.routes, key=lambda route: route.match != "Exact"):
        for modifier, text in _forms(route, by_expression):
            found.setdefault((modifier, text), Location(modifier, text, route))
    if not any(location.text in ("/", "^/") and location.modifier != "=" for location in found.values()):
        found["", "/"] = Location("", "/", site.default)
    return sorted(found.values(), key=lambda location: (-len(location.text), location.modifier, location.text))


def _forms(route: Route, by_expression: bool) -> Iterable[tuple[str, str]]:
    """The modifiers and texts that say one path. An expression is bound to the path's beginning."""
    path = route.path or "/"
    if route.match == "Exact":
        return [("=", path)]
    if route.options.by_expression:
        return [("~*", f"^{path}")]
    if route.match == "ImplementationSpecific" or path == "/":
        return [_prefix(path, by_expression)]
    bare = path.rstrip("/")
    return [("=", bare), _prefix(f"{bare}/", by_expression)]


def _prefix(path: str, by_expression: bool) -> tuple[str, str]:
    return ("~*", f"^{re.escape(path)}") if by_expression else ("", path)

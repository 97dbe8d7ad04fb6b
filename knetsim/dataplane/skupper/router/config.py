"""A router's configuration: JSON as skrouterd reads it, checked as strictly. Pure.

The file is an array of `["entity", {"attribute": value, …}]`. All mistakes are found at once, and each is said with its
entity and attribute: `tcpListener 'web': attribute 'port': …`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from knetsim.dataplane.skupper.router.errors import ConfigError
from knetsim.dataplane.skupper.router.schema import ENTITIES, LEVELS, Attribute

_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Section:
    """One entity, with all attributes that it has by default."""

    entity: str
    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """What stands in the file, in its order."""

    sections: tuple[Section, ...] = ()

    def of(self, entity: str) -> tuple[Section, ...]:
        """All of one kind."""
        return tuple(section for section in self.sections if section.entity == entity)

    @property
    def router(self) -> Mapping[str, Any]:
        """The router's own attributes."""
        found = self.of("router")
        return found[0].attributes if found else _defaults("router")


def read_config(text: str) -> Config:
    """The configuration. ConfigError with all mistakes."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError([f"this is no JSON: {error}"]) from error
    return build_config(content)


def build_config(content: Any) -> Config:
    """The same from what the JSON means."""
    if not isinstance(content, list):
        raise ConfigError(["an array of [entity, attributes] is expected"])
    reader = _Reader()
    for number, item in enumerate(content, start=1):
        reader.read(number, item)
    reader.check_all()
    if reader.problems:
        raise ConfigError(reader.problems)
    return Config(tuple(reader.sections))


def check_section(entity: str, attributes: Mapping[str, Any], others: Iterable[Section]) -> Section:
    """One more entity beside those that there are, as management creates it. ConfigError."""
    reader = _Reader(list(others))
    reader.read(len(reader.sections) + 1, [entity, dict(attributes)])
    if not reader.problems:
        reader.check_all()
    if reader.problems:
        raise ConfigError(reader.problems)
    return reader.sections[-1]


def parse_levels(text: str) -> frozenset[str] | None:
    """`info+`, `warning`, `debug,error+`, `none`: the levels that are logged; None if it makes no sense."""
    levels: set[str] = set()
    for word in (part.strip().lower() for part in text.replace(";", ",").split(",")):
        # names of earlier releases: trace is debug, notice is info
        name = {"trace": "debug", "notice": "info"}.get(word.rstrip("+-"), word.rstrip("+-"))
        if word in ("none", ""):
            continue
        if name not in LEVELS or len(word) - len(word.rstrip("+-")) > 1:
            return None
        at = LEVELS.index(name)
        levels.update(LEVELS[at:] if word.endswith("+") else LEVELS[: at + 1] if word.endswith("-") else {name})
    return frozenset(levels)


def _defaults(entity: str) -> dict[str, Any]:
    return {name: attribute.default for name, attribute in ENTITIES[entity].attributes.items()}


@dataclass(slots=True)
class _Reader:
    sections: list[Section] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, number: int, item: Any) -> None:
        """One element of the array."""
        if not _is_entity(item):
            self.problems.append(f"element {number}: [entity, attributes] is expected")
            return
        entity, given = item
        known = ENTITIES.get(entity)
        if known is None:
            self.problems.append(f"element {number}: there is no entity '{entity}'{_suggest(entity, ENTITIES)}")
            return
        # a name that is not given is made up as skrouterd does: of the entity, or of its number among its kind
        name = given.get("name") or (entity if known.single else f"{entity}/{self._count(entity)}")
        where = f"{entity} '{name}'"
        if known.unsupported:
            self.problems.append(f"{where}: {known.unsupported}")
        attributes = _defaults(entity)
        for key, value in given.items():
            attribute = known.attributes.get(key)
            if attribute is None:
                self.problems.append(f"{where}: there is no attribute '{key}'{_suggest(key, known.attributes)}")
            else:
                attributes[key] = self._read_value(f"{where}: attribute '{key}'", attribute, value)
        for key, attribute in known.attributes.items():
            if attribute.required and given.get(key) in (None, ""):
                self.problems.append(f"{where}: attribute '{key}' is required")
        attributes["name"] = str(name)
        self.sections.append(Section(entity, str(name), attributes))

    def _count(self, entity: str) -> int:
        return sum(section.entity == entity for section in self.sections)

    def _read_value(self, where: str, attribute: Attribute, value: Any) -> Any:
        if value is None:
            return attribute.default
        read = _READERS[attribute.kind](value)
        if read is None:
            self.problems.append(f"{where}: {value!r} is no {attribute.kind}")
            return attribute.default
        if attribute.choices and read not in attribute.choices:
            choices = ", ".join(attribute.choices)
            self.problems.append(f"{where}: {read!r} is none of {choices}{_suggest(str(read), attribute.choices)}")
        reason = attribute.unsupported.get(str(read)) or attribute.unsupported.get("*" if read else "")
        if reason:
            self.problems.append(f"{where}: {read!r}: {reason}")
        return read

    # --- what several entities, or several attributes, have to do with each other -------------------------------------

    def check_all(self) -> None:
        """After all have been read."""
        self._check_names()
        profiles = {section.name for section in self.sections if section.entity == "sslProfile"}
        routers = [section for section in self.sections if section.entity == "router"]
        interior = any(router.attributes["mode"] == "interior" for router in routers)
        for section in self.sections:
            where, attributes = f"{section.entity} '{section.name}'", section.attributes
            profile = attributes.get("sslProfile")
            if profile and profile not in profiles:
                self.problems.append(f"{where}: attribute 'sslProfile': there is no sslProfile '{profile}'")
            if attributes.get("role") == "inter-router" and not interior:
                self.problems.append(f"{where}: attribute 'role': 'inter-router' needs a router of mode interior")
            self._check_one(where, section)

    def _check_one(self, where: str, section: Section) -> None:
        attributes = section.attributes
        if section.entity == "router" and any(blank.isspace() for blank in attributes["id"] or ""):
            self.problems.append(f"{where}: attribute 'id': {attributes['id']!r} has a blank in it")
        if section.entity == "tcpListener":
            if attributes["multiAddressStrategy"] == "none" and not attributes["address"]:
                self.problems.append(f"{where}: attribute 'address' is required")
            elif attributes["multiAddressStrategy"] != "none" and attributes["address"]:
                self.problems.append(f"{where}: attribute 'address': not together with a multiAddressStrategy")
        if section.entity == "address" and bool(attributes["prefix"]) == bool(attributes["pattern"]):
            self.problems.append(f"{where}: either attribute 'prefix' or 'pattern' is required")
        if section.entity == "log" and attributes["enable"] and parse_levels(attributes["enable"]) is None:
            levels = ", ".join(LEVELS)
            self.problems.append(f"{where}: attribute 'enable': {attributes['enable']!r} is made of none of {levels}")
        if attributes.get("cost") is not None and attributes["cost"] < 1:
            self.problems.append(f"{where}: attribute 'cost': {attributes['cost']} is less than 1")

    def _check_names(self) -> None:
        """skrouterd wants a name to be that of one entity, of whatever kind: also of an sslProfile or a connector."""
        for (entity, name), count in Counter((one.entity, one.name) for one in self.sections).items():
            if count > 1 and ENTITIES[entity].single:
                self.problems.append(f"{entity}: there are {count}, only one may be")
            elif count > 1:
                self.problems.append(f"{entity} '{name}': there are {count} of this name")
        owners: dict[str, str] = {}
        for section in self.sections:
            owner = owners.setdefault(section.name, section.entity)
            if owner != section.entity:
                self.problems.append(f"{section.entity} '{section.name}': this is already the name of the {owner}")


def _is_entity(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict)


def _suggest(word: str, known: Iterable[str]) -> str:
    found = get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"; did you mean '{found[0]}'?" if found else ""


def _read_text(value: Any) -> str | None:
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else None


def _read_number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)
    return None


def _read_switch(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _SWITCHES.get(str(value).lower()) if isinstance(value, int | str) else None


def _read_port(value: Any) -> str | None:
    """A number from 0 to 65535, or the name of a service."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    text = str(value)
    if text.removeprefix("-").isdecimal():
        return text if 0 <= int(text) <= 65535 else None
    return text if text.replace("-", "").isalnum() else None


def _read_map(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


_READERS = {"text": _read_text, "number": _read_number, "switch": _read_switch, "port": _read_port, "map": _read_map}

"""A running router made to do what a configuration says, by management: connections that may stay do stay.

The router is asked what it has; what differs is deleted and made anew, users before what they use, and the other way
round. What the router has besides is deleted too. What cannot be changed while it runs is not looked at: its id, its
rules for addresses, its log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from knetsim.dataplane.skupper.config import Entity
from knetsim.dataplane.skupper.management import ManagementClient
from knetsim.dataplane.skupper.router.config import Section, build_config
from knetsim.errors import RouterRefusal

_PROFILE = "sslProfile"
#: what can be changed, each after what it needs
CHANGEABLE = (_PROFILE, "connector", "listener", "tcpConnector", "tcpListener")

_Keys = list[tuple[str, str]]


def apply_config(client: ManagementClient, entities: Sequence[Entity], renewed: Collection[str] = ()) -> list[str]:
    """Make a router's entities those of a configuration; what was done, in words, as `tcpListener listener/web: made`.

    `renewed` are sslProfiles whose files have other content than when the router read them. RouterRefusal at the end
    with all that the router did not want, NotReady at once.
    """
    wanted = _read_wanted(entities)
    present = {kind: {str(row["name"]): row for row in client.query(kind)} for kind in CHANGEABLE}
    gone = _find_gone(wanted, present, renewed)
    made = [
        (kind, name)
        for kind in CHANGEABLE
        for name in wanted[kind]
        if name not in present[kind] or (kind, name) in gone
    ]
    done: list[str] = []
    refusals = [*_delete(client, gone, made, done), *_create(client, made, wanted, gone, done)]
    if refusals:
        raise RouterRefusal(
            refusals[0].what, where=client.name, why="; ".join(dict.fromkeys(error.why for error in refusals))
        )
    return done


def find_fixed(entities: Iterable[Entity]) -> list[Entity]:
    """What cannot be changed while a router runs."""
    return [entity for entity in entities if entity[0] not in CHANGEABLE]


def _read_wanted(entities: Sequence[Entity]) -> Mapping[str, dict[str, tuple[Section, Mapping[str, Any]]]]:
    """By kind and name: the section with the values as a router has them, and the attributes that were given."""
    wanted: dict[str, dict[str, tuple[Section, Mapping[str, Any]]]] = defaultdict(dict)
    sections = build_config([list(entity) for entity in entities]).sections
    for section, (kind, given) in zip(sections, entities, strict=True):
        wanted[kind][section.name] = (section, given)
    return wanted


def _find_gone(
    wanted: Mapping[str, Mapping[str, tuple[Section, Mapping[str, Any]]]],
    present: Mapping[str, Mapping[str, Mapping[str, Any]]],
    renewed: Collection[str],
) -> _Keys:
    """What is not wanted, or not as it is; profiles first, so that their users are seen to go with them."""
    gone: _Keys = []
    profiles = set(renewed)
    for kind in CHANGEABLE:
        for name, row in present[kind].items():
            expected = wanted[kind].get(name)
            used = name if kind == _PROFILE else row.get("sslProfile")
            if expected is None or used in profiles or _differs(row, *expected):
                gone.append((kind, name))
                if kind == _PROFILE:
                    profiles.add(name)
    return gone


def _differs(row: Mapping[str, Any], section: Section, given: Mapping[str, Any]) -> bool:
    return any(key in row and _plain(row[key]) != _plain(section.attributes[key]) for key in given if key != "name")


def _plain(value: Any) -> str:
    """Ports are texts here and numbers there; a text that is not given may be none or empty."""
    return "" if value is None else str(value)


def _delete(client: ManagementClient, gone: _Keys, made: _Keys, done: list[str]) -> list[RouterRefusal]:
    refusals = []
    for kind, name in reversed(gone):
        try:
            client.delete(kind, name)
        except RouterRefusal as error:
            refusals.append(error)
        else:
            if (kind, name) not in made:
                done.append(f"{kind} {name}: deleted")
    return refusals


def _create(
    client: ManagementClient,
    made: _Keys,
    wanted: Mapping[str, Mapping[str, tuple[Section, Mapping[str, Any]]]],
    gone: _Keys,
    done: list[str],
) -> list[RouterRefusal]:
    refusals = []
    for kind, name in made:
        given = wanted[kind][name][1]
        try:
            client.create(kind, name, {key: value for key, value in given.items() if key != "name"})
        except RouterRefusal as error:
            refusals.append(error)
        else:
            done.append(f"{kind} {name}: {'changed' if (kind, name) in gone else 'made'}")
    return refusals

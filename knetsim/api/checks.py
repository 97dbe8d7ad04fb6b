"""The small words in which checks of objects are written; every mistake is collected, none ends the search."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from knetsim import names
from knetsim.errors import ObjectError

#: a check of one value: (value, its path, where mistakes go)
Check = Callable[[Any, str, "Problems"], None]


#: so many words are listed when none is near
_FEW = 8


class Problems:
    """The mistakes found in one object."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[tuple[str, str]] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, field: str, text: str) -> None:
        """A mistake at a field: `spec.containers[0].name`, "is missing". Found twice, it is told once."""
        if (field, text) not in self.found:
            self.found.append((field, text))

    def unknown(self, field: str, word: str, known: Iterable[str]) -> None:
        """A field or word that nobody knows, with the nearest known one."""
        hint = _near(str(word), known)
        self.add(field, f"is unknown{f': {hint}' if hint else ''}")

    def raise_any(self) -> None:
        """ObjectError with all mistakes, when there are any."""
        if self.found:
            count = len(self.found)
            raise ObjectError(
                "is refused" if count == 1 else f"is refused for {count} mistakes",
                self.where,
                "; ".join(f"{field}: {text}" for field, text in self.found),
                field=self.found[0][0],
                problems=self.found,
            )


def _inside(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _near(word: str, known: Iterable[str]) -> str:
    """`did you mean …?`, or the known words when they are few."""
    words = list(known)
    hint = names.did_you_mean(word, words)
    return hint if hint.startswith("did") or len(words) <= _FEW else ""


def is_text(value: object) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and value != ""


def is_integer(value: object) -> bool:
    """A number as YAML's integers are (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_mapping(value: Any, path: str, problems: Problems) -> bool:
    """A mapping with text keys; whether it is one."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return True
    problems.add(path, "is missing" if value is None else "must be a mapping")
    return False


def check_text_map(value: Any, path: str, problems: Problems) -> bool:
    """A mapping of text to text; whether it is one. YAML reads `yes`, `1`, `1.0` as other things: they need quotes."""
    if not check_mapping(value, path, problems):
        return False
    wrong = [key for key, item in value.items() if not isinstance(item, str)]
    for key in wrong:
        problems.add(f"{path}[{key}]", f"must be text, not {value[key]!r} (put it in quotes)")
    return not wrong


def mapping(value: Any, path: str, problems: Problems) -> None:
    """A mapping of whatever."""
    check_mapping(value, path, problems)


def text_map(value: Any, path: str, problems: Problems) -> None:
    """A mapping of text to text."""
    check_text_map(value, path, problems)


def map_of(check_item: Check) -> Check:
    """A mapping whose values pass a check."""
    if check_item is text:
        return text_map

    def check(value: Any, path: str, problems: Problems) -> None:
        if check_mapping(value, path, problems):
            for key, item in value.items():
                check_item(item, f"{path}[{key}]", problems)

    return check


def text(value: Any, path: str, problems: Problems) -> None:
    """Any string."""
    if not isinstance(value, str):
        problems.add(path, f"must be text, not {value!r}")


def filled_text(value: Any, path: str, problems: Problems) -> None:
    """A string with something in it."""
    if not is_text(value):
        problems.add(path, "must not be empty" if value == "" else f"must be text, not {value!r}")


def boolean(value: Any, path: str, problems: Problems) -> None:
    """true or false."""
    if not isinstance(value, bool):
        problems.add(path, f"must be true or false, not {value!r}")


def matching(pattern: re.Pattern[str], what: str) -> Check:
    """A string that matches as a whole; `what` it should be: "name of a Node"."""

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            problems.add(path, f"{value!r} is no {what}")

    return check


def number(value: Any, path: str, problems: Problems) -> None:
    """Any number."""
    if not is_integer(value) and not isinstance(value, float):
        problems.add(path, f"must be a number, not {value!r}")


def integer_or_text(value: Any, path: str, problems: Problems) -> None:
    """A number or a name, as of a port; a share as `25%`."""
    if not is_integer(value) and not isinstance(value, str):
        problems.add(path, f"must be a whole number or text, not {value!r}")


def base64_text(value: Any, path: str, problems: Problems) -> None:
    """Bytes written in base64."""
    try:
        base64.b64decode("".join(value.split()) if isinstance(value, str) else "?", validate=True)
    except ValueError:
        problems.add(path, "must be bytes in base64 (of a Secret, plain text goes into stringData)")


_QUANTITY = re.compile(r"[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?")


def quantity(value: Any, path: str, problems: Problems) -> None:
    """An amount of a resource: a number, or one with a unit (100m, 0.5, 64Mi)."""
    written = str(value) if is_integer(value) or isinstance(value, float) else value
    if not isinstance(written, str) or not _QUANTITY.fullmatch(written):
        problems.add(path, f"{value!r} is no quantity: a number and a unit, as 100m, 0.5, 64Mi")


def quantities(value: Any, path: str, problems: Problems) -> None:
    """Amounts by resource."""
    if check_mapping(value, path, problems):
        for name, amount in value.items():
            quantity(amount, _inside(path, name), problems)


def integer(low: int | None = None, high: int | None = None) -> Check:
    """A whole number between two bounds, both allowed."""

    def check(value: Any, path: str, problems: Problems) -> None:
        if not is_integer(value):
            problems.add(path, f"must be a whole number, not {value!r}")
        elif low is not None and value < low:
            problems.add(path, f"must be {low} or more, not {value}")
        elif high is not None and value > high:
            problems.add(path, f"must be {high} or less, not {value}")

    return check


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(value: Any, path: str, problems: Problems) -> None:
        if value not in words:
            hint = _near(value, words) if isinstance(value, str) else ""
            what = f"must be one of {', '.join(word for word in words if word)}, not {value!r}"
            problems.add(path, f"{what}: {hint}" if "?" in hint else what)

    return check


def list_of(check_item: Check, *, filled: bool = False, unique: str = "") -> Check:
    """A list whose items pass a check; `filled`: not empty; `unique`: the items' field of this name must differ."""

    def check(value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.add(path, f"must be a list, not {value!r}")
            return
        if filled and not value:
            problems.add(path, "must not be empty")
        seen = set()
        for index, item in enumerate(value):
            check_item(item, f"{path}[{index}]", problems)
            mark = item.get(unique) if unique and isinstance(item, Mapping) else None
            if isinstance(mark, str):
                if mark in seen:
                    problems.add(f"{path}[{index}].{unique}", f"{mark!r} is there twice")
                seen.add(mark)

    return check


def fields(
    table: Mapping[str, Check],
    *,
    required: Collection[str] = (),
    later: Mapping[str, str] | None = None,
    others: bool = False,
) -> Check:
    """A mapping with known fields. `later` holds fields that Kubernetes knows and that are refused here, and why.

    `others`: what is not named is taken as it is. A field that is null counts as not given, as in Kubernetes; so does a
    refused one that is false or empty.
    """
    later = later or {}

    def check(value: Any, path: str, problems: Problems) -> None:
        if not check_mapping(value, path, problems):
            return
        for field in required:
            if value.get(field) is None:
                problems.add(_inside(path, field), "is missing")
        for field, item in value.items():
            if item is None:
                continue
            if field in table:
                table[field](item, _inside(path, field), problems)
            elif field in later:
                if item:
                    problems.add(_inside(path, field), later[field])
            elif not others:
                problems.unknown(_inside(path, field), field, table.keys() | later.keys())

    return check

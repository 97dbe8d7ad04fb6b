"""A user's own values in messages: short, on one line, harmless to a terminal."""

from __future__ import annotations

_LENGTH_MAX = 60


def quote(text: str) -> str:
    """A text in quotes; what is long is cut, and what cannot be printed is escaped."""
    shown = text if len(text) <= _LENGTH_MAX else f"{text[: _LENGTH_MAX - 1]}…"
    return f"'{shown}'" if shown.isprintable() else repr(shown)


def explain_value(value: object) -> str:
    """A value in words: the number 3, the text 'three', a list."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {quote(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"

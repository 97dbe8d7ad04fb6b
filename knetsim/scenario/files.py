"""Text files as they come: missing, unreadable, huge, not text at all; each is a problem of the file, at line 0."""

from __future__ import annotations

from pathlib import Path

from knetsim.errors import Problem, ScenarioError
from knetsim.names import nearest_word

#: some 30 000 pods; what is larger is not a manifest but a mistake (or /dev/zero)
MAX_BYTES = 16 << 20


def nearest_file(path: Path) -> str:
    """`did you mean '…'?` for a path at which nothing is, or nothing when no neighbour has a similar name."""
    try:
        near = nearest_word(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""
    return f"did you mean '{path.parent / near}'?" if near else ""


def read_text(file: str) -> str:
    """The text of a UTF-8 file; ScenarioError."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ScenarioError([Problem(file, 0, 0, "no such file", nearest_file(Path(file)))]) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError([Problem(file, 0, 0, f"cannot be read: {reason}")]) from error
    if len(content) > MAX_BYTES:
        raise ScenarioError([Problem(file, 0, 0, f"larger than {MAX_BYTES >> 20} MiB", "is this really a YAML file?")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        what = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise ScenarioError([Problem(file, line, column, what, "is this a text file? save it as UTF-8")]) from error

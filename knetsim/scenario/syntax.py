"""YAML's syntax errors in words that help: where the mistake is, rather than where the scanner noticed it.

The scanner (libyaml, or PyYAML's own in Python) reports what it expected, in its own terms. Each row of `_EXPLAINED`
recognises such a message and says what people usually did.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from knetsim.errors import Problem

#: what happened, the hint, and the position to show: the scanner's own, or where the unfinished thing began
_Explanation = tuple[str, str, "yaml.Mark | None"]


def explain_syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    """The problem that stopped the scanner."""
    message = error.problem or str(error)
    for pattern, explain in _EXPLAINED:
        if re.search(pattern, message):
            what, hint, mark = explain(error, text)
            break
    else:
        what, hint, mark = f"not YAML: {message}", "", error.problem_mark
    mark = mark or error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(file, line, column, what, hint)


def _line_of(mark: yaml.Mark | None, text: str) -> tuple[str, int]:
    """The line at `mark`, and the column in it."""
    lines = text.split("\n")
    if mark is None or mark.line >= len(lines):
        return "", 0
    return lines[mark.line].rstrip("\r"), mark.column


def _explain_character(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    line, column = _line_of(error.problem_mark, text)
    character = line[column : column + 1]
    if character in ("", "\t"):
        return _explain_tab(error, text)
    return f"a value cannot begin with '{character}'", "put the value in quotes", error.problem_mark


def _explain_tab(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    return "a tab in the indentation", "YAML is indented with spaces; replace the tab", error.problem_mark


def _explain_colon(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    hint = "is there a space after the ':' above, and is this line in the right column? text with ': ' needs quotes"
    return "a ':' that no key can have here", hint, error.problem_mark


def _explain_no_colon(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    return "this is no 'key: value'", "a key ends with ':' and a space", error.context_mark


def _explain_indentation(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    line, column = _line_of(error.problem_mark, text)
    if line[:column].strip(" -"):
        return "something stands behind a finished value", "quotes must be around all of it", error.problem_mark
    start = error.context_mark
    since = f" of line {start.line + 1}, which start in column {start.column + 1}" if start else ""
    what = f"this line does not line up with the entries{since}"
    return what, "entries of one mapping or list start in the same column", error.problem_mark


def _explain_bracket(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    mapping = "mapping" in (error.context or "")
    closing = "}" if mapping else "]"
    at = f"line {error.problem_mark.line + 1}" if error.problem_mark else "the end"
    what = f"the {'mapping' if mapping else 'list'} that begins here is not closed, as seen in {at}"
    return what, f"is a '{closing}' or a ',' missing?", error.context_mark


def _explain_quote(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    return "a quote that is never closed", "close it, with the same kind of quote", error.context_mark


def _explain_escape(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    hint = "in double quotes '\\' begins an escape; write '\\\\', or use single quotes"
    return "an escape that YAML does not know", hint, error.problem_mark


def _explain_second_root(error: yaml.MarkedYAMLError, text: str) -> _Explanation:
    return "something stands behind the end of the document", "begin another document with '---'", error.problem_mark


_EXPLAINED: tuple[tuple[str, Callable[[yaml.MarkedYAMLError, str], _Explanation]], ...] = (
    (r"tab character|'\\t'", _explain_tab),
    (r"cannot start any token", _explain_character),
    (r"mapping values are not allowed", _explain_colon),
    (r"could not find expected ':'", _explain_no_colon),
    (r"expected ',' or", _explain_bracket),
    (r"document start", _explain_second_root),
    (r"did not find expected (key|'-' indicator)|expected <block end>", _explain_indentation),
    (r"unexpected end of stream", _explain_quote),
    (r"escape|hexdecimal", _explain_escape),
)

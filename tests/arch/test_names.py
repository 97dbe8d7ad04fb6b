"""Names, sizes and the map: what a reader can rely on when walking through knetsim with `ls`.

A file whose first line says why (`… because …`) may be longer than 400 lines, and its functions longer than 40.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FILES = sorted((_ROOT / "knetsim").rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 40

#: words that say nothing about what a thing is for
_EMPTY_WORDS = frozenset({"manager", "helper", "handler", "util", "common", "misc", "data", "do"})
#: fine as the kernel's noun (`of_process`), not as a verb for anything one could do (`process_events`)
_EMPTY_VERBS = frozenset({"process", "handle"})
#: names that are given by others
_GIVEN = {
    "build_backend_data": "BackendData is flannel's own word",
}


def words_of(name: str) -> list[str]:
    """The words of a snake_case or CamelCase name, lower case, singular."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    return [re.sub(r"(?<=[^s])s$", "", word.lower()) for word in words]


def find_name_problems(source: str, path: str) -> list[str]:
    """Names of the file, its classes and functions that hold an empty word."""
    problems = [
        f"{path}: '{part}' says nothing about what is in it"
        for part in Path(path).with_suffix("").parts
        if _EMPTY_WORDS.intersection(words_of(part))
    ]
    for node, owner in _definitions(ast.parse(source)):
        words = words_of(node.name)
        empty = [word for word in words if word in _EMPTY_WORDS]
        if _is_function(node):
            empty += [word for word in words[:1] if word in _EMPTY_VERBS]
        if empty and node.name not in _GIVEN and not _is_command(node, owner):
            problems.append(f"{path}:{node.lineno}: '{node.name}': '{empty[0]}' says nothing; what is it for?")
    return problems


def _definitions(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, ast.AST]]:
    """Every class and function, with what it is defined in."""
    for owner in ast.walk(tree):
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, owner


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _is_command(node: ast.AST, owner: ast.AST) -> bool:
    """`do_…` of a class with a base: cmd.Cmd and http.server call such methods by their names."""
    name = getattr(node, "name", "")
    return name.startswith("do_") and isinstance(owner, ast.ClassDef) and bool(owner.bases)


def find_size_problems(source: str, path: str) -> list[str]:
    """Files and functions that are too long to be read at once; a docstring does not count as a function's length."""
    lines = source.splitlines()
    if lines and re.search(r"\bbecause\b", lines[0]):
        return []
    problems = [f"{path}: {len(lines)} lines; {FILE_LINES} are the most"] if len(lines) > FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _length(node)
            if length > FUNCTION_LINES:
                problems.append(f"{path}:{node.lineno}: {node.name} has {length} lines; {FUNCTION_LINES} are the most")
    return problems


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    words = 0
    if ast.get_docstring(node) is not None:
        words = (first.end_lineno or first.lineno) - first.lineno + 1
    return (node.end_lineno or node.lineno) - node.lineno + 1 - words


def paths_in(text: str) -> list[str]:
    """The paths that a text names: what begins with `knetsim/`."""
    return [path.rstrip(".,:;`") for path in re.findall(r"knetsim/[\w./]*", text)]


def _map() -> str:
    """The docstring of knetsim/__init__.py."""
    return ast.get_docstring(ast.parse((_ROOT / "knetsim" / "__init__.py").read_text())) or ""


@pytest.mark.parametrize("check", [find_name_problems, find_size_problems])
def test_knetsim(check: object) -> None:
    assert callable(check)
    problems = [
        problem
        for file in _FILES
        for problem in check(file.read_text(), file.relative_to(_ROOT / "knetsim").as_posix())
    ]
    assert not problems, "\n".join(problems)


def test_every_path_of_the_map_exists() -> None:
    paths = paths_in(_map())
    assert len(paths) >= 10, "the map in knetsim/__init__.py names the places"
    assert [path for path in paths if not (_ROOT / path).exists()] == []


def test_every_layer_is_on_the_map() -> None:
    layers = {folder.name for folder in (_ROOT / "knetsim").iterdir() if (folder / "__init__.py").exists()}
    walked = {path.split("/")[1] for path in paths_in(_map())}
    unfinished = {name for name in layers if len(list((_ROOT / "knetsim" / name).rglob("*.py"))) == 1}
    assert layers - walked - unfinished == set()


# --- the checks can fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("node/utils.py", ""),
        ("helpers/x.py", ""),
        ("node/pod_manager.py", ""),
        ("x.py", "class PodManager: ..."),
        ("x.py", "class EventHandlers: ..."),
        ("x.py", "def read_data(): ..."),
        ("x.py", "class A:\n    def common_part(self): ..."),
        ("x.py", "async def process_events(): ..."),
        ("x.py", "def handle(): ..."),
        ("x.py", "def do_it(): ..."),
        ("x.py", "class A:\n    def do_it(self): ..."),
        ("x.py", "def f():\n    def misc(): ..."),
    ],
)
def test_names_can_fail(path: str, source: str) -> None:
    assert find_name_problems(source, path)


@pytest.mark.parametrize(
    "source",
    [
        "def of_process(pid): ...",
        "class Process: ...",
        "class Shell(CLI):\n    def do_py(self, line): ...",
        "def read_database(): ...",
        "def dome(): ...",
        "def build_backend_data(): ...",
    ],
)
def test_names_can_pass(source: str) -> None:
    assert find_name_problems(source, "system/netns.py") == []


def test_sizes_can_fail() -> None:
    long_file = "x = 1\n" * (FILE_LINES + 1)
    long_function = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
    assert find_size_problems(long_file, "x.py")
    assert find_size_problems(long_function, "x.py")
    assert find_size_problems(f"class A:\n    async {long_function}".replace("\n    x", "\n        x"), "x.py")
    assert find_size_problems('"""A table, long because it is one."""\n' + long_file + long_function, "x.py") == []


def test_sizes_can_pass() -> None:
    assert find_size_problems("x = 1\n" * FILE_LINES, "x.py") == []
    documented = 'def f():\n    """One\n\n    two\n    """\n' + "    x = 1\n" * (FUNCTION_LINES - 1)
    assert find_size_problems(documented, "x.py") == []


def test_paths_are_found() -> None:
    assert paths_in("see knetsim/api/loop.py, `knetsim/api` and knetsim/system/sandbox.py.") == [
        "knetsim/api/loop.py",
        "knetsim/api",
        "knetsim/system/sandbox.py",
    ]

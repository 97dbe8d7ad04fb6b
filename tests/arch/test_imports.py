"""Who may import whom, and who may touch what: the layers of STYLE §1, checked over the syntax tree of every file.

Imports inside functions and under `if TYPE_CHECKING` count like any other: they are dependencies just the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FILES = sorted((_ROOT / "knetsim").rglob("*.py"))

_BASE = frozenset({"errors", "names"})
#: modules of the top level that put the layers together; anything below `cli`, `lessons` and `bench` is theirs to use
_COMPOSITION = frozenset(
    {
        "addons",
        "assembly",
        "cluster",
        "cluster_dns",
        "cluster_events",
        "cluster_hosts",
        "cluster_network",
        "cluster_skupper",
        "cluster_status",
        "control_choice",
        "control_planes",
        "fidelity",
        "policy_status",
        "rollout",
        "service_status",
        "simulation",
        "site_status",
        "status",
    }
)
_LAYERS = _BASE | {"scenario", "system", "dataplane", "api", "control", "node", "trace"}

#: what each part of knetsim may import of knetsim, beside itself
_MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "names": frozenset(),
    "scenario": _BASE,
    "system": _BASE,
    "dataplane": _BASE | {"system"},
    "api": _BASE,
    "control": _BASE | {"api", "system"},
    "node": _BASE | {"api", "dataplane", "system"},
    "trace": _BASE | {"dataplane", "system"},
    **dict.fromkeys(_COMPOSITION | {"__init__"}, _LAYERS | _COMPOSITION),
    **dict.fromkeys(("lessons", "bench", "conformance"), _LAYERS | _COMPOSITION),
    "cli": _LAYERS | _COMPOSITION | {"lessons", "bench", "conformance", "__init__"},
    "__main__": frozenset({"cli"}),
}

#: a program of its own, which knetsim starts as a process and others may use without it
_ROUTER = "dataplane/skupper/router/__main__.py"
#: modules and functions that only some places may use: what → the places, as beginnings of paths under knetsim/
_RESERVED: dict[str, tuple[str, ...]] = {
    "subprocess": ("system/",),
    "signal": ("system/",),
    "ctypes": ("system/",),
    "multiprocessing": (),
    "pty": ("system/",),
    "mininet": ("dataplane/underlay", "node/worker.py", "node/etcd.py", "cli/shell.py", "bench/mininet_floor.py"),
    "print": ("cli/",),
    "exit": ("cli/",),
    "quit": ("cli/",),
    "SystemExit": ("cli/", "__main__.py"),
    "sys.exit": ("cli/", "__main__.py", _ROUTER),
    "sys.stdout.write": ("cli/",),
    "sys.stderr.write": ("cli/", _ROUTER),
    "os._exit": ("system/",),
    "os.fork": ("system/",),
    "os.kill": ("system/",),
    "os.killpg": ("system/",),
    "os.posix_spawn": ("system/",),
    "os.system": (),
    "os.popen": (),
    "time.sleep": (),
}

#: where whatever goes wrong may be caught, and why
_MAY_CATCH_ALL = {
    "api/loop.py": "a failing reconcile becomes an event of its object and is tried again",
    "cli/main.py": "an error becomes text here, a mistake of ours too",
    "system/rpc.py": "who asked from another terminal is told what went wrong, a mistake of ours too",
    "dataplane/skupper/router/loop.py": "a mistake in what one stream asks for must not end all others",
    "cli/shell.py": "what the expression after `py` raises is for whoever typed it",
    "system/sandbox.py": "a forked process ends in the next line: its error is shown now or never",
}


def find_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported name with its line, as a dotted path: `from a.b import c` is `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part_of(path: str) -> str:
    """The part of knetsim to which a file belongs: `dataplane/pod/cni.py` → `dataplane`."""
    first, _, rest = path.partition("/")
    return first if rest else first.removesuffix(".py")


def find_layer_problems(source: str, path: str) -> list[str]:
    """Imports of knetsim's own parts that the layers do not allow; `path` is relative to knetsim/."""
    part, problems = part_of(path), []
    if part not in _MAY_IMPORT:
        return [f"{path}: '{part}' has no place among the layers; give it one in {Path(__file__).name}"]
    for line, name in find_imports(ast.parse(source)):
        if name.startswith("."):
            problems.append(f"{path}:{line}: relative import; write the whole path")
            continue
        if name != "knetsim" and not name.startswith("knetsim."):
            continue
        target = name.split(".")[1] if "." in name else "__init__"
        if target not in _MAY_IMPORT:
            target = "__init__"  # `from knetsim import Simulation`
        if target != part and target not in _MAY_IMPORT[part]:
            problems.append(f"{path}:{line}: {part} may not import {target}")
    return problems


def find_router_problems(source: str, path: str) -> list[str]:
    """Imports by the router's own files of anything else of knetsim: they are to run without it."""
    home = "knetsim.dataplane.skupper.router"
    if not path.startswith("dataplane/skupper/router/"):
        return []
    imports = [(line, name) for line, name in find_imports(ast.parse(source)) if name.partition(".")[0] == "knetsim"]
    return [f"{path}:{line}: the router may not import {name}" for line, name in imports if not name.startswith(home)]


def find_reserved_problems(source: str, path: str) -> list[str]:
    """Uses of modules and functions that belong to other places."""
    tree = ast.parse(source)
    imports = list(find_imports(tree))
    used = [*imports, *_dotted_names(tree, imports)]
    problems = []
    for line, name in used:
        for reserved, places in _RESERVED.items():
            if (name == reserved or name.startswith(f"{reserved}.")) and not path.startswith(places or ("/",)):
                where = f"only {', '.join(places)} may" if places else "nobody may"
                problems.append(f"{path}:{line}: uses {reserved}; {where}")
    return sorted(set(problems))


def _dotted_names(tree: ast.AST, imports: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Every name and attribute that is read, with `import x as y` and `from x import y` resolved."""
    home = {name.rpartition(".")[2]: name for _, name in imports}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home |= {alias.asname: _origin(node, alias) for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            yield node.lineno, ".".join([home.get(first, first), *rest])


def _origin(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    return alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"


def find_habit_problems(source: str, path: str) -> list[str]:
    """Shells, and handlers that swallow what they do not know."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            shells = [word.value for word in node.keywords if word.arg == "shell"]
            if any(ast.unparse(value) != "False" for value in shells):
                problems.append(f"{path}:{node.lineno}: runs a shell")
        elif isinstance(node, ast.ExceptHandler):
            caught = _caught_names(node)
            if not caught:
                problems.append(f"{path}:{node.lineno}: bare except")
            elif "BaseException" in caught and not _goes_on(node) and path not in _MAY_CATCH_ALL:
                problems.append(f"{path}:{node.lineno}: catches BaseException and does not raise")
            elif "Exception" in caught and path not in _MAY_CATCH_ALL:
                problems.append(f"{path}:{node.lineno}: catches Exception; only {', '.join(_MAY_CATCH_ALL)} may")
    return problems


def _caught_names(handler: ast.ExceptHandler) -> set[str]:
    caught = handler.type
    nodes = caught.elts if isinstance(caught, ast.Tuple) else [caught] if caught else []
    return {ast.unparse(node).removeprefix("builtins.") for node in nodes}


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """Whether the exception goes on: raised again, or the process ends, or it is kept to be raised elsewhere."""
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def _relative(file: Path) -> str:
    return file.relative_to(_ROOT / "knetsim").as_posix()


@pytest.mark.parametrize(
    "check", [find_layer_problems, find_reserved_problems, find_router_problems, find_habit_problems]
)
def test_knetsim(check: object) -> None:
    assert callable(check)
    problems = [problem for file in _FILES for problem in check(file.read_text(), _relative(file))]
    assert not problems, "\n".join(problems)


def test_there_is_something_to_check() -> None:
    assert len(_FILES) > 20


# --- the checks can fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "import knetsim.names"),
        ("scenario/read.py", "from knetsim.system import run"),
        ("scenario/read.py", "from knetsim import system"),
        ("system/run.py", "from knetsim.dataplane.pod import cni"),
        ("dataplane/pod/cni.py", "def f():\n    from knetsim.api.store import Store"),
        ("api/store.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import knetsim.system.run"),
        ("control/embedded.py", "import knetsim.dataplane"),
        ("node/kubelet.py", "from knetsim.cluster import Cluster"),
        ("node/kubelet.py", "from knetsim import Cluster"),
        ("node/kubelet.py", "from . import loop"),
        ("simulation.py", "import knetsim.cli.main"),
        ("novelty.py", ""),
    ],
)
def test_layers_can_fail(path: str, source: str) -> None:
    assert find_layer_problems(source, path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "node/kubelet.py",
            "from knetsim.api.store import Store\nimport knetsim.dataplane\nfrom knetsim.node import loop",
        ),
        ("simulation.py", "from knetsim.cluster import Cluster\nfrom knetsim import names"),
        ("cli/main.py", "import knetsim\nfrom knetsim import Simulation\nfrom knetsim.lessons import lesson"),
        ("scenario/read.py", "import yaml\nimport knetsimulator"),
    ],
)
def test_layers_can_pass(path: str, source: str) -> None:
    assert find_layer_problems(source, path) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("node/kubelet.py", "import subprocess"),
        ("node/kubelet.py", "def f():\n    from subprocess import Popen"),
        ("dataplane/pod/cni.py", "import signal as s\ns.SIGTERM"),
        ("dataplane/pod/cni.py", "from ctypes.util import find_library"),
        ("node/kubelet.py", "from mininet.node import Node"),
        ("dataplane/overlay/agent.py", "import mininet.net"),
        ("simulation.py", "print('ready')"),
        ("simulation.py", "show = print"),
        ("api/store.py", "import sys\nsys.exit(1)"),
        ("api/store.py", "from sys import exit as leave\nleave()"),
        ("api/store.py", "raise SystemExit"),
        ("api/loop.py", "import os\nos._exit(0)"),
        ("system/run.py", "import time\ntime.sleep(1)"),
        ("system/run.py", "from time import sleep"),
        ("system/run.py", "import time as clock\nclock.sleep(1)"),
        ("system/run.py", "import os\nos.system('ls')"),
        ("system/run.py", "from os import popen"),
        ("node/worker.py", "import os\nos.kill(1, 9)"),
    ],
)
def test_reserved_can_fail(path: str, source: str) -> None:
    assert find_reserved_problems(source, path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("system/run.py", "import subprocess, signal, ctypes, os\nos._exit(0)\nos.kill(1, signal.SIGTERM)"),
        ("cli/main.py", "import sys\nprint('x')\nsys.exit(0)"),
        ("dataplane/underlay.py", "import mininet.net"),
        ("dataplane/underlay/switches.py", "import mininet.net"),
        ("node/worker.py", "from mininet.node import Node"),
        ("api/loop.py", "import time\ntime.monotonic()\nclock.wait(3)"),
    ],
)
def test_reserved_can_pass(path: str, source: str) -> None:
    assert find_reserved_problems(source, path) == []


def test_the_router_can_fail() -> None:
    path = "dataplane/skupper/router/loop.py"
    assert find_router_problems("from knetsim.system.wait import wait_until", path)
    assert find_router_problems("import knetsim.dataplane.skupper.config", path)
    assert not find_router_problems("from knetsim.dataplane.skupper.router.loop import Loop", path)
    assert not find_router_problems("from knetsim.system.wait import wait_until", "dataplane/skupper/config.py")


@pytest.mark.parametrize(
    "source",
    [
        "run('ls', shell=True)",
        "run('ls', shell=wanted)",
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept Exception:\n    raise",
        "try:\n    f()\nexcept (OSError, Exception):\n    pass",
        "try:\n    f()\nexcept BaseException:\n    pass",
    ],
)
def test_habits_can_fail(source: str) -> None:
    assert find_habit_problems(source, "system/run.py")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("system/run.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        ("system/run.py", "try:\n    f()\nexcept (OSError, ValueError):\n    pass\nrun(argv, shell=False)"),
        ("api/loop.py", "try:\n    f()\nexcept Exception:\n    g()"),
    ],
)
def test_habits_can_pass(path: str, source: str) -> None:
    assert find_habit_problems(source, path) == []

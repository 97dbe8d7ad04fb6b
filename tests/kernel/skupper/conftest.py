"""Networks of routers, and which kinds of routers they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from knetsim.system.netns import Namespaces, create_netns
from tests.kernel.skupper.backends import LinkedPair
from tests.kernel.skupper.net import EMBEDDED, REAL, RouterNet, is_missing

#: two routers, the client's first; three in a line
PAIRS = [(EMBEDDED, EMBEDDED), (EMBEDDED, REAL), (REAL, EMBEDDED), (REAL, REAL)]
LINES = [
    (EMBEDDED, EMBEDDED, EMBEDDED),
    (EMBEDDED, REAL, EMBEDDED),
    (REAL, EMBEDDED, REAL),
    (REAL, EMBEDDED, EMBEDDED),
    (EMBEDDED, REAL, REAL),
    (REAL, REAL, REAL),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `pair` or `line` is run with each kind of router."""
    for fixture, choices in (("pair", PAIRS), ("line", LINES)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, [_choice(kinds) for kinds in choices], scope="module")


def _choice(kinds: tuple[str, ...]) -> object:
    skip = pytest.mark.skipif(is_missing(kinds), reason="no skrouterd on this machine")
    return pytest.param(kinds, id="-".join(kinds), marks=skip)


@pytest.fixture
def routers(places: Callable[[str], Namespaces], tmp_path: Path) -> Iterator[RouterNet]:
    """A network without routers yet."""
    with ExitStack() as stack:
        yield RouterNet(places("routers"), tmp_path, stack)


@pytest.fixture(scope="module")
def linked(pair: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedPair]:
    """Two linked routers with every kind of backend, for all tests that leave them as they are."""
    place = create_netns("pair", "pair")
    with ExitStack() as stack:
        stack.callback(place.close)
        yield LinkedPair(RouterNet(place, tmp_path_factory.mktemp("pair"), stack), pair)

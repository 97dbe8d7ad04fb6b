"""Golden tests: `case.yaml` goes in; what comes out is compared with `case.txt`, `case.json` or `case.nft` beside it.

`pytest tests/golden --update` writes the files anew; then read the difference as a stranger would, and commit it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with a golden file, or write the file with `--update`."""
    update = request.config.getoption("--update", default=False)

    def compare(file: Path, text: str) -> None:
        if update:
            file.write_text(text)
        elif not file.exists():
            pytest.fail(f"no golden file {file.name}; make it with `pytest tests/golden --update` and read it")
        else:
            assert text == file.read_text(), f"{file.name} differs; if that is right: pytest tests/golden --update"

    return compare

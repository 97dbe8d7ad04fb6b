"""The hosts of the tests of Services, for what leads into a cluster."""

from __future__ import annotations

from tests.kernel.services.conftest import lab

__all__ = ["lab"]

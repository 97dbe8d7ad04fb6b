"""knetsim's own kinds defined at an API server, beside the start of all else.

The server takes a definition at once and serves the kind a moment later. Nobody waits for that here: who first reads or
writes an object of such a kind does (`ApiClient.awaited`).
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from knetsim.api.definitions import build_definitions
from knetsim.api.http_store import HttpStore


def define_kinds(store: HttpStore) -> Future[None]:
    """Begin to write the definitions, one after the other; `result()` once they are written."""
    writer = ThreadPoolExecutor(1, "define kinds")
    written = writer.submit(_write, store)
    writer.shutdown(wait=False)
    return written


def _write(store: HttpStore) -> None:
    for definition in build_definitions():
        store.apply(definition)

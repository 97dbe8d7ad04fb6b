"""The NetworkPolicies in one worker's kernel: what was applied, and the transaction that leads to what is wanted.

A change is one transaction that holds only what differs. When one fails, or somebody else has changed the table, the
whole table is made anew, again in one transaction, so there is no moment in which an isolated pod is open; counters
then begin anew.

A chain that nothing goes to any more is emptied at once and deleted later: kernels before 6.2 go on counting the map's
element that led to it for a moment, and refuse.

libnftables is asked for with each change: a context costs 0.1 ms, and kept open for hundreds of workers it would use
up descriptors of which there are few (system/low_descriptors.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from knetsim.dataplane.policy.drift import find_drift
from knetsim.dataplane.policy.table import (
    NOTHING,
    PolicyTable,
    build_changes,
    build_deletion,
    build_whole,
    find_retired,
)
from knetsim.errors import KnetsimError
from knetsim.system.netfilter import RuleGeneration
from knetsim.system.netns import Namespaces
from knetsim.system.nft import Nft

#: seconds until retired chains are deleted, many at once
RETIRED_SECONDS = 5.0


class WorkerPolicies:
    """The table of one worker; used by one thread at a time."""

    def __init__(self, namespaces: Namespaces, clock: Callable[[], float] = time.monotonic) -> None:
        self.namespaces = namespaces
        self._clock = clock
        self._generation = RuleGeneration(namespaces)
        self._applied = NOTHING
        self._retired: dict[str, float] = {}
        self._whole = False  # whether the next transaction makes the whole table
        self._seen: int | None = None  # the ruleset's generation after our last change; None: somebody else's came in
        self.transactions = 0

    def close(self) -> None:
        """Let go of the socket; the rules stay. Twice is once."""
        self._generation.close()

    @property
    def applied(self) -> PolicyTable:
        """What the kernel has."""
        return self._applied

    def apply(self, desired: PolicyTable) -> float | None:
        """Have the table as `desired`; CommandError, and the next time all of it.

        Returns the seconds after which it wants to be called again, if it does.
        """
        try:
            if self._whole or not desired or not self._applied:
                self._apply_all(desired)
            else:
                self._apply_changes(desired)
        except KnetsimError:
            self._whole = True
            raise
        return RETIRED_SECONDS if self._retired else None

    def find_drift(self) -> str:
        """What somebody has changed in the table, in words; the next `apply` makes it whole. Costs nothing when nobody
        has changed any rule in the worker."""
        if self._whole:
            return ""
        now = self._generation.read()
        if now == self._seen:
            return ""
        with Nft(self.namespaces) as nft:
            drift = find_drift(nft, self._applied, self._retired)
        self._whole = bool(drift)
        self._seen = now
        return drift

    def _apply_all(self, desired: PolicyTable) -> None:
        if desired or self._applied or self._whole:
            self._change(build_whole(desired))
        self._applied, self._retired, self._whole = desired, {}, False

    def _apply_changes(self, desired: PolicyTable) -> None:
        before, now = self._applied, self._clock()
        self._change(build_changes(before, desired))
        self._applied = desired
        self._retired |= dict.fromkeys(find_retired(before, desired), now)
        for chain in desired.chains:
            self._retired.pop(chain, None)
        if self._retired and max(self._retired.values()) <= now - RETIRED_SECONDS:
            self._change(build_deletion(self._retired))
            self._retired = {}

    def _change(self, text: str) -> None:
        """Commit, and see whether the generation went on by our own transaction alone."""
        if not text:
            return
        before = self._generation.read()
        with Nft(self.namespaces) as nft:
            nft.apply(text)
        after = self._generation.read()
        self._seen = after if before == self._seen and after == before + 1 else None
        self.transactions += 1

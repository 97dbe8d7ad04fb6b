"""The NetworkPolicies in one worker's kernel: what was applied, and the transaction that leads to what is wanted.

A change is one transaction that holds only what differs. When one fails, or somebody else has changed the table, the
whole table is made anew, again in one transaction, so there is no moment in which an isolated pod is open; counters
then begin anew.

A chain that nothing goes to any more is emptied at once and deleted later: kernels before 6.2 go on counting the map's
element that led to it for a moment, and refuse.

Pods come and go by messages to the kernel; for the rest there is libnftables, whose context is made each time: that
costs 0.1 ms, and kept open for hundreds of workers it would use up descriptors of which there are few
(system/low_descriptors.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from knetsim.dataplane.policy.drift import compare_table, list_sets
from knetsim.dataplane.policy.messages import encode_changes, encode_deletion
from knetsim.dataplane.policy.table import NOTHING, TABLE, PolicyTable, build_changes, build_whole, find_retired
from knetsim.errors import KnetsimError
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink import OwnTable, UnknownForm
from knetsim.system.nft import Nft

#: seconds until retired chains are deleted, many at once
RETIRED_SECONDS = 5.0


class WorkerPolicies:
    """The table of one worker; used by one thread at a time."""

    def __init__(self, namespaces: Namespaces, clock: Callable[[], float] = time.monotonic) -> None:
        self.namespaces = namespaces
        self._clock = clock
        self._table = OwnTable(namespaces, TABLE)
        self._applied = NOTHING
        self._retired: dict[str, float] = {}
        self._whole = False  # whether the next transaction makes the whole table

    def close(self) -> None:
        """Let go of sockets; the rules stay. Twice is once."""
        self._table.close()

    @property
    def transactions(self) -> int:
        """How many there were."""
        return self._table.transactions

    @property
    def applied(self) -> PolicyTable:
        """What the kernel has."""
        return self._applied

    def apply(self, desired: PolicyTable) -> float | None:
        """Have the table as `desired`; CommandError or KernelError, and the next time all of it.

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

    def find_drift(self, *, thorough: bool = True) -> str:
        """What somebody has changed in the table, in words; the next `apply` makes it whole. KernelError.

        Costs nothing when nobody has changed any rule in the worker. Otherwise, if not `thorough`, it is only seen
        whether the table is another one.
        """
        if self._whole:
            return ""
        if self._applied:
            compare = partial(compare_table, wanted=self._applied, retired=self._retired)
            drift = self._table.find_drift(list_sets(self._applied), compare, thorough=thorough)
        elif drift := self._table.find_drift((), None):
            drift = "a table is there that holds no policy"
        self._whole = bool(drift)
        return drift

    def _apply_all(self, desired: PolicyTable) -> None:
        if desired or self._applied or self._whole:
            self._table.make(self._run, build_whole(desired))
        self._applied, self._retired, self._whole = desired, {}, False

    def _apply_changes(self, desired: PolicyTable) -> None:
        before, now = self._applied, self._clock()
        try:
            requests = encode_changes(before, desired)
        except UnknownForm:
            self._table.change(self._run, build_changes(before, desired))
        else:
            self._table.commit(requests)
        self._applied = desired
        self._retired |= dict.fromkeys(find_retired(before, desired), now)
        for chain in desired.chains:
            self._retired.pop(chain, None)
        if self._retired and max(self._retired.values()) <= now - RETIRED_SECONDS:
            self._table.commit(encode_deletion(self._retired))
            self._retired = {}

    def _run(self, text: str) -> None:
        with Nft(self.namespaces) as nft:
            nft.apply(text)

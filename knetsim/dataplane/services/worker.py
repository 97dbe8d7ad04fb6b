"""The Services in one worker's kernel: what is wanted, what was applied, and the transaction between the two.

A change of Services is one transaction that holds only what changed. When one fails, or somebody else has changed the
table, the whole table is made anew, again in one transaction, so there is no moment without it; counters and affinity
then begin anew.

A chain that nothing goes to any more is emptied at once and deleted later: kernels before 6.2 go on counting the map's
element that led to it for a moment, and refuse (kube-proxy waits likewise).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Set
from functools import partial

from knetsim.dataplane.services.drift import compare_table
from knetsim.dataplane.services.ports import ServicePlace, ServicePort
from knetsim.dataplane.services.stale import PROTOCOLS, find_stale
from knetsim.dataplane.services.table import (
    KEYS,
    TABLE,
    Difference,
    Element,
    Rules,
    build_changes,
    build_difference,
    build_table,
    encode_changes,
    encode_deletion,
    encode_picks,
    find_picks,
)
from knetsim.errors import KnetsimError
from knetsim.system.conntrack import Conntrack
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink import Count, OwnTable, UnknownForm
from knetsim.system.nft import Nft

#: seconds until retired chains are deleted, many at once
RETIRED_SECONDS = 5.0
_OLD_ENOUGH = 1.0


class WorkerServices:
    """The table of one worker; used by one thread at a time."""

    def __init__(
        self, namespaces: Namespaces, place: ServicePlace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.place = place
        self._clock = clock
        self._nft = Nft(namespaces)
        self._table = OwnTable(namespaces, TABLE)
        self._conntrack = Conntrack(namespaces)
        self._applied: dict[str, Rules] = {}
        self._retired: dict[str, float] = {}
        self._picks: set[int] = set()
        self._whole = True  # the next transaction makes the whole table

    def close(self) -> None:
        """Let go of sockets; the rules stay, as kube-proxy's do. Twice is once."""
        self._nft.close()
        self._table.close()
        self._conntrack.close()

    @property
    def transactions(self) -> int:
        """How many there were."""
        return self._table.transactions

    @property
    def nft(self) -> Nft:
        """The context in the worker, for those who read counters."""
        return self._nft

    def applied(self, key: str) -> Rules | None:
        """What the kernel has of the Service `key`, or None."""
        return None if self._whole else self._applied.get(key)

    def apply(self, desired: Mapping[str, Rules], changed: Iterable[str]) -> float | None:
        """Have the Services `changed` as `desired` says; CommandError, and the next time all of them.

        Returns the seconds after which it wants to be called again, if it does.
        """
        try:
            if self._whole:
                self._apply_all(desired)
            else:
                self._apply_changes(desired, changed)
            self._delete_retired()
        except KnetsimError:
            self._whole = True
            raise
        return RETIRED_SECONDS if self._retired else None

    def forget_stale(self, ports: Iterable[ServicePort]) -> None:
        """After these ports' backends have changed: clients of those that are gone are judged anew. KernelError."""
        changed = [port for port in ports if port.protocol in PROTOCOLS]
        if changed:
            flows = self._conntrack.read(*{PROTOCOLS[port.protocol] for port in changed})
            self._conntrack.forget(find_stale(flows, changed))

    def find_drift(self, *, thorough: bool = True) -> str:
        """What somebody has changed in the table, in words; the next `apply` makes it whole. KernelError.

        Costs nothing when nobody has changed any rule in the worker. Otherwise, if not `thorough`, it is only seen
        whether the table is another one, whatever its size.
        """
        if self._whole:
            return ""
        compare = partial(
            compare_table, place=self.place, services=self._applied.values(), picks=self._picks, retired=self._retired
        )
        drift = self._table.find_drift(KEYS, compare, thorough=thorough)
        self._whole = bool(drift)
        return drift

    def _apply_all(self, desired: Mapping[str, Rules]) -> None:
        self._table.make(self._nft.apply, build_table(self.place, desired.values()))
        self._applied, self._retired, self._whole = dict(desired), {}, False
        self._picks = {1} | find_picks(desired.values())

    def _apply_changes(self, desired: Mapping[str, Rules], changed: Iterable[str]) -> None:
        keys = [key for key in changed if self._applied.get(key) is not desired.get(key)]
        differences = [build_difference(self._applied.get(key), desired.get(key)) for key in keys]
        self._add_picks(find_picks(desired[key] for key in keys if key in desired) - self._picks)
        counts = self._read_counts(differences)
        try:
            requests = encode_changes(differences, counts)
        except UnknownForm:
            self._table.change(self._nft.apply, build_changes(differences, counts))
        else:
            self._table.commit(requests)
        for key in keys:
            if key in desired:
                self._applied[key] = desired[key]
            else:
                self._applied.pop(key, None)
        now = self._clock()
        self._retired |= {chain: now for each in differences for chain in each.retired}
        for each in differences:
            for chain in each.chains:
                self._retired.pop(chain, None)

    def _add_picks(self, numbers: Set[int]) -> None:
        """Once and for all: how many backends Services have are numbers that come back."""
        self._table.commit(encode_picks(numbers))
        self._picks |= numbers

    def _read_counts(self, differences: Iterable[Difference]) -> dict[Element, Count]:
        """What the elements that come have counted under their former keys. What is counted from now until they are
        there, a tenth of a millisecond, is left out."""
        heirs: dict[str, dict[str, Element]] = {}
        for each in differences:
            for new, old in each.carried.items():
                heirs.setdefault(old.set, {})[old.key] = new
        return {
            new_by_key[key]: count
            for name, new_by_key in heirs.items()
            for key, count in self._table.counts(name, KEYS[name], new_by_key).items()
            if count.packets
        }

    def _delete_retired(self) -> None:
        now = self._clock()
        if self._retired and min(self._retired.values()) <= now - RETIRED_SECONDS:
            old = [chain for chain, since in self._retired.items() if since <= now - _OLD_ENOUGH]
            self._table.commit(encode_deletion(old))
            for chain in old:
                del self._retired[chain]

"""A table that one program of ours makes and changes, and whether somebody else has changed it meanwhile.

The kernel counts a namespace's transactions (the ruleset's generation). Each of ours says which number it expects, so
that as long as the numbers agree nobody else has been there, and to know that costs one message, whatever the table's
size. Only when they do not is the table looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from knetsim.system.netlink.wire import Request
from knetsim.system.netns import Namespaces
from knetsim.system.nfnetlink.language import Count
from knetsim.system.nfnetlink.ruleset import Ruleset, TableContent
from knetsim.system.nfnetlink.transactions import Transactions, next_generation

#: carries out a text of nft's language in one transaction
Apply = Callable[[str], None]
#: says what a table has otherwise than it ought to, in words; or nothing
Compare = Callable[[TableContent], str]


class OwnTable:
    """The table `name` of the family ip in one network namespace; used by one thread at a time."""

    def __init__(self, place: Namespaces, name: str) -> None:
        self._name = name
        self._kernel = Transactions(place)
        self._ruleset = Ruleset(place)
        self._seen: int | None = None  # the ruleset's generation after our last change; None: somebody else's came in
        self._handle: int | None = None  # the kernel's number of the table that we made
        self.transactions = 0

    def close(self) -> None:
        """Let go of the sockets; the table stays. Twice is once."""
        self._kernel.close()
        self._ruleset.close()

    def make(self, apply: Apply, text: str) -> None:
        """Have the table as `text` makes it, in place of whatever was there; or none, if it takes it away."""
        before = self._ruleset.generation()
        apply(text)
        after = self._ruleset.generation()
        self._seen = after if after == next_generation(before) else None
        self._handle = self._ruleset.table_handle(self._name)
        self.transactions += 1

    def commit(self, requests: Sequence[Request]) -> None:
        """Change the table in one transaction; KernelError, and then nothing was changed."""
        if not requests:
            return
        if self._seen is not None and self._kernel.commit(requests, self._seen):
            self._seen = next_generation(self._seen)
        else:
            self._seen = None  # somebody else's came in between
            self._kernel.commit(requests)
        self.transactions += 1

    def change(self, apply: Apply, text: str) -> None:
        """The same by a text, where it says what has no encoding here."""
        if not text:
            return
        before = self._ruleset.generation()
        apply(text)
        after = self._ruleset.generation()
        self._seen = after if before == self._seen and after == next_generation(before) else None
        self.transactions += 1

    def counts(self, name: str, types: Sequence[str], keys: Iterable[str]) -> dict[str, Count]:
        """What elements of the set `name` have counted, by key; `types` are those of the key's parts. KernelError."""
        return self._ruleset.counts(self._name, name, types, keys)

    def find_drift(self, sets: Iterable[str], compare: Compare | None, *, thorough: bool = True) -> str:
        """What somebody else has changed in the table, in words, or nothing. KernelError.

        Costs nothing when nobody has changed any rule in the namespace. Otherwise, if not `thorough`, it is only seen
        whether the table is another one, whatever its size; else it is read, with the elements of `sets`, and
        `compare` says what is wrong with it. None: there is to be no table.
        """
        now = self._ruleset.generation()
        if now == self._seen:
            return ""
        handle = self._ruleset.table_handle(self._name)
        if compare is None:
            self._seen = now if handle is None else None
            return "a table is there that ought not to be" if handle is not None else ""
        if handle is None or handle != self._handle:
            return "the table is gone"
        if not thorough:
            return ""
        found = self._ruleset.read(self._name, sets)
        if self._ruleset.generation() != now:
            return ""  # it was changed meanwhile: the next time will tell
        self._seen = now
        return compare(found)

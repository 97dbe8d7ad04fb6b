"""nftables by messages to the kernel, for changes that are made often; all else is text for libnftables (`nft.py`).

    language.py      pure: nft's text of a rule, a set, an element → what the kernel is to be told
    commands.py      pure: changes of a table as requests, each with nft's command for it
    expressions.py   pure: what rules consist of;   wire.py   pure: bytes
    transactions.py  `Transactions`: one socket in one namespace, all of the requests or none
    questions.py     `Questions`: one socket in one namespace that asks (system/conntrack.py, too)
    ruleset.py       `Ruleset`: what a table has, without putting it into words
    own_table.py     `OwnTable`: changes of one table, and whether somebody else has changed it

The text stays the one source: what is put in by messages is what nft puts in for the text, byte for byte
(tests/kernel/test_nfnetlink.py). To see what is said: `nft --debug=netlink,mnl`, `nft monitor`, `strace -e sendto`.
Cost: a Service with two backends is 11 messages, encoded once for all workers; the kernel needs 0.1 ms for them.
"""

from __future__ import annotations

from knetsim.system.nfnetlink.language import Count, UnknownForm
from knetsim.system.nfnetlink.own_table import OwnTable
from knetsim.system.nfnetlink.ruleset import Ruleset, TableContent
from knetsim.system.nfnetlink.transactions import Transactions, next_generation

__all__ = ["Count", "OwnTable", "Ruleset", "TableContent", "Transactions", "UnknownForm", "next_generation"]

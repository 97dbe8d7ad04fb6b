"""A client of a whole etcd cluster: every call and every watch moves to another member when one is lost.

python-etcd3's own client speaks to one member, and its watch neither resumes nor asks for a leader, so only its
generated gRPC stubs (`etcd3.etcdrpc`) are used. What this adds:

- Calls try one member after the other until the deadline; StoreUnavailable then says which members do not answer and
  which have no leader. The leader is asked first where it is known: a follower would only pass a write on to it.
- Every request carries `hasleader`: a member that is cut off from the others says so at once instead of waiting for 7
  s, and ends its watches.
- A write whose answer was lost may have happened. Reads are repeated blindly. A write is repeated too, but as a
  transaction that compares the revision it was built on, so it happens once: the repetition finds its own work done
  (`Etcd.swap`). Only `put` has nothing to compare and may be written twice, with the same value.
- A watch resumes at the revision after the last change it told, on any member: etcd keeps the history of all revisions,
  so there are no gaps and no repetitions, until that revision is compacted (`Compacted`: list again).

All methods may be called from any thread. A child that is forked must execute a program at once, as `subprocess` does:
gRPC's threads do not survive a fork.

Files: members.py one member, its channel and its errors · client.py calls, and which member gets them · watch.py ·
leases.py
"""

from knetsim.api.etcd.client import Entry, Etcd, Stored, Swap
from knetsim.api.etcd.members import Compacted, MemberStatus
from knetsim.api.etcd.watch import KeyChange, PrefixWatch

__all__ = ["Compacted", "Entry", "Etcd", "KeyChange", "MemberStatus", "PrefixWatch", "Stored", "Swap"]

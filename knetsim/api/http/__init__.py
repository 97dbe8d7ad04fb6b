"""A client of one kube-apiserver: JSON over TLS, with connections that are kept, and what its answers mean.

    connection.py     one connection: dialled where the cluster is, cut from any thread
    failures.py       an answer that says no, as one of our errors: by its code, reason and causes, never by its words
    client.py         requests that are repeated within a deadline, streams that last
    resources.py      where objects of a kind are served: rows of KINDS, or what the server says of itself (discovery)
    wanted.py         what a writer wants, and whether it is there · versions.py what is known of what is there
    status_patch.py   a status, without losing what others write into it
    watch.py          the full list, SYNCED, every change; over one connection of its own

What speaks in objects stands on top of it: api/http_store.py.
"""

from knetsim.api.http.client import DEADLINE, ApiClient
from knetsim.api.http.connection import Answer, Dial
from knetsim.api.http.failures import Expired

__all__ = ["DEADLINE", "Answer", "ApiClient", "Dial", "Expired"]

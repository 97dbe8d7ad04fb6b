"""What only the store straight on etcd promises: a Pod names a worker that exists, and is bound by an update.

A kube-apiserver takes any Node's name, and binds by a request of its own (test_api_store.py).
"""

from __future__ import annotations

import pytest

from knetsim.api.store import Store
from knetsim.errors import ObjectError
from tests.lab.etcd_fixture import members
from tests.lab.store_fixture import MakeStore, build_pod, make_store, store

__all__ = ["make_store", "members", "store"]

pytestmark = pytest.mark.parametrize("make_store", ["etcd"], indirect=True)


class TestWorkers:
    def test_an_unknown_worker(self, store: Store) -> None:
        with pytest.raises(ObjectError, match="there is no worker 'c0w9'") as caught:
            store.create(build_pod("c1", nodeName="C0w9"))
        assert "did you mean" in caught.value.hint
        assert store.list("Pod").items == []

    def test_a_worker_that_was_deleted_meanwhile(self, store: Store, make_store: MakeStore) -> None:
        store.create(build_pod("c1", nodeName="c0w2"))
        make_store().delete("Node", "c0w2")
        with pytest.raises(ObjectError, match="there is no worker 'c0w2'"):
            store.create(build_pod("c2", nodeName="c0w2"))

    def test_a_pod_is_bound_once(self, store: Store) -> None:
        pod = build_pod("c1")
        del pod["spec"]["nodeName"]
        pod = store.create(pod)
        pod["spec"]["nodeName"] = "C0w1"
        pod = store.update(pod)
        assert pod["spec"]["nodeName"] == "c0w1"
        pod["spec"]["nodeName"] = "c0w2"
        with pytest.raises(ObjectError, match="never moves"):
            store.update(pod)

    def test_binding_to_an_unknown_worker(self, store: Store) -> None:
        pod = build_pod("c1")
        del pod["spec"]["nodeName"]
        pod = store.create(pod)
        pod["spec"]["nodeName"] = "c0w7"
        with pytest.raises(ObjectError, match="there is no worker 'c0w7'"):
            store.update(pod)

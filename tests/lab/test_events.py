"""Events that agents write, through every store."""

from __future__ import annotations

from knetsim.api.events import WARNING, EventRecorder
from knetsim.api.store import Store
from tests.lab.etcd_fixture import members
from tests.lab.kubernetes_fixture import api_server
from tests.lab.store_fixture import build_pod, make_store, run_together, store

__all__ = ["api_server", "make_store", "members", "store"]


class TestEvents:
    def test_lies_beside_its_object(self, store: Store) -> None:
        pod = store.create(build_pod("c1"))
        EventRecorder(store, "kubelet", clock=lambda: 5.0).record(
            pod, "Failed", "no such image", type=WARNING, host="c0w1"
        )
        (event,) = store.list("Event").items
        assert event["involvedObject"]["uid"] == pod["metadata"]["uid"]
        assert event["metadata"]["name"] == "c1.12a05f200"
        assert (event["type"], event["reason"], event["message"], event["count"]) == (
            WARNING,
            "Failed",
            "no such image",
            1,
        )
        assert event["source"] == {"component": "kubelet", "host": "c0w1"}

    def test_of_a_node_is_in_the_default_namespace(self, store: Store) -> None:
        EventRecorder(store, "knetsim").record(store.get("Node", "c0w1"), "DaemonEnded", "flanneld ended")
        (event,) = store.list("Event", "default").items
        assert "namespace" not in event["involvedObject"]

    def test_the_same_again_is_counted(self, store: Store) -> None:
        now = 1000.0
        recorder = EventRecorder(store, "kubelet", clock=lambda: now)
        pod = store.create(build_pod("c1"))
        recorder.record(pod, "BackOff", "restarting")
        now = 1010.0
        run_together([lambda: recorder.record(pod, "BackOff", "restarting")] * 3)
        recorder.record(pod, "BackOff", "otherwise")
        recorder.record(store.create(build_pod("c2")), "BackOff", "restarting")
        counts = {(event["involvedObject"]["name"], event["message"]): event for event in store.list("Event").items}
        assert len(counts) == 3
        counted = counts["c1", "restarting"]
        assert counted["count"] == 4
        assert (counted["firstTimestamp"], counted["lastTimestamp"]) == ("1970-01-01T00:16:40Z", "1970-01-01T00:16:50Z")

    def test_one_that_has_vanished_is_written_anew(self, store: Store) -> None:
        pod, recorder = store.create(build_pod("c1")), EventRecorder(store, "kubelet")
        for _ in range(2):
            recorder.record(pod, "Started", "")
        (event,) = store.list("Event").items
        assert event["count"] == 2
        store.delete("Event", event["metadata"]["name"])
        recorder.record(pod, "Started", "")
        assert [event["count"] for event in store.list("Event").items] == [1]

"""What `knetsim status` says of Services: who got how many connections, and whom a selector matches."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from knetsim.dataplane.services.counters import AddressCounter, BackendCounter
from knetsim.dataplane.services.ports import Backend, ServicePort
from knetsim.service_status import Counts, build_service_state, find_unmatched, read_backing_pods
from knetsim.status import ServiceState
from tests.status_shape import explain_mismatch


def service(name: str = "web", namespace: str = "default", **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec}


def pod(namespace: str = "default", **labels: str) -> Any:
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": namespace, "labels": labels}}


def test_connections_are_added_up_over_the_hosts() -> None:
    path, first, second = "default/web/tcp/80", "11.1.0.2:8080", "11.2.0.2:8080"
    counts = Counts()
    refused = AddressCounter("no-endpoint-services", "100.64.0.9 . tcp . 80", path, 2)
    counts.add("C0w1", [refused, AddressCounter("service-ips", "x", path, 7)], [BackendCounter(path, first, 3)])
    counts.add("C0w2", [refused], [BackendCounter(path, first, 4), BackendCounter(path, second, 0)])
    backends = (
        Backend(IPv4Address("11.1.0.2"), 8080, "c0w1"),
        Backend(IPv4Address("11.2.0.2"), 8080, "c0w2", ready=False, terminating=True),
        Backend(IPv4Address("10.1.0.10"), 6443, ready=False, serving=False),
    )
    port = ServicePort(
        namespace="default",
        service="web",
        protocol="tcp",
        port=80,
        cluster_ip=IPv4Address("100.64.0.9"),
        external_ips=(IPv4Address("10.1.9.1"),),
        backends=backends,
    )
    pods = read_backing_pods(
        [
            {
                "metadata": {"name": "web-1", "namespace": "default"},
                "endpoints": [
                    {"addresses": ["11.1.0.2"], "targetRef": {"kind": "Pod", "name": "new"}},
                    {
                        "addresses": ["11.1.0.2"],
                        "targetRef": {"kind": "Pod", "name": "old"},
                        "conditions": {"terminating": True},
                    },
                    {"addresses": ["10.1.0.10"]},
                ],
            }
        ]
    )
    state = build_service_state(service(clusterIP="100.64.0.9"), [port], counts, {"c0w1": "C0w1"}, pods, "")
    assert explain_mismatch(state, ServiceState) == []
    (found,) = state["ports"]
    assert (found["addresses"], found["refused"]) == (["100.64.0.9", "10.1.9.1"], 4)
    assert found["backends"] == [
        {
            "address": first,
            "pod": "new",
            "worker": "C0w1",
            "state": "ready",
            "connections": 7,
            "senders": {"C0w1": 3, "C0w2": 4},
        },
        {"address": second, "pod": "", "worker": "c0w2", "state": "ending", "connections": 0, "senders": {}},
        {"address": "10.1.0.10:6443", "pod": "", "worker": "", "state": "not ready", "connections": 0, "senders": {}},
    ]


@pytest.mark.parametrize(
    ("spec", "unmatched"),
    [
        ({"selector": {"app": "web"}}, False),
        ({"selector": {"app": "web", "tier": "front"}}, False),
        ({"selector": {"app": "web", "tier": "back"}}, True),
        ({"selector": {"app": "wbe"}}, True),
        ({"selector": {}}, False),
        ({}, False),
        ({"selector": {"app": "wbe"}, "type": "ExternalName"}, False),
    ],
)
def test_selectors_that_match_nothing(spec: Any, unmatched: bool) -> None:
    pods = [pod(app="web", tier="front"), pod("other", app="wbe", tier="back"), pod()]
    assert find_unmatched([service(**spec)], pods) == (["default/web"] if unmatched else [])

"""Names: what is known of Services, what is answered to questions, and the form of messages. No socket, no store."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knetsim.api.objects import key_of
from knetsim.dataplane.dns import (
    ClusterZone,
    HostNames,
    HostZone,
    NamedEndpoint,
    NamedService,
    PortName,
    ServiceNames,
    Zone,
    answer_bytes,
    answer_query,
)
from knetsim.node.dns import read_names
from knetsim.node.service_objects import owner_of
from tests.dns.table import Question, explain_difference, read_answer, read_table

OBJECTS, QUESTIONS = read_table()
HTTP = PortName("http", "TCP", 80)


def build_zones(*services: NamedService) -> list[Zone]:
    names = ServiceNames()
    names.namespaces |= {"default", "kube-system"}
    for service in services:
        names.put(service.key, service)
    hosts = HostNames({"C0w1": "10.1.1.1", "C0w2": "10.1.1.2"})
    return [ClusterZone("cluster.local", names, "100.64.0.10"), HostZone(hosts)]


def build_specified() -> list[Zone]:
    slices = defaultdict(list)
    for obj in OBJECTS:
        if obj["kind"] == "EndpointSlice":
            slices[owner_of(obj)].append(obj)
    services = [obj for obj in OBJECTS if obj["kind"] == "Service"]
    return build_zones(*(read_names(service, slices[key_of(service)]) for service in services))


def ask(zones: list[Zone], name: str, kind: str) -> dict[str, Any]:
    return read_answer(answer_query(dns.message.make_query(name, kind), zones))


# --- the specification


@pytest.fixture(scope="module")
def specified() -> list[Zone]:
    return build_specified()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.ask)
def test_the_specification(specified: list[Zone], question: Question) -> None:
    assert explain_difference(question, ask(specified, question.name, question.kind)) == ""


def test_differences_are_found() -> None:
    question = Question("a. SRV", "NOERROR", ["SRV 1 b."], ["A 1.2.3.4"])
    right = {"code": "NOERROR", "answer": ["SRV 1 B."], "additional": ["A 1.2.3.4", "A 5.6.7.8"]}
    assert explain_difference(question, right) == ""
    for wrong in ({"code": "NXDOMAIN"}, {"answer": []}, {"answer": ["SRV 1 b.", "SRV 2 b."]}, {"additional": []}):
        assert explain_difference(question, right | wrong) != ""


def test_an_ipv6_cluster_ip_is_an_aaaa_record() -> None:
    zones = build_zones(NamedService(namespace="default", name="six", addresses=("2001:db8::5",), ports=(HTTP,)))
    assert ask(zones, "six.default.svc.cluster.local", "AAAA")["answer"] == ["AAAA 2001:db8::5"]
    assert ask(zones, "six.default.svc.cluster.local", "A")["answer"] == []
    reverse = "5" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"
    assert ask(zones, reverse, "PTR")["answer"] == ["PTR six.default.svc.cluster.local."]


def test_an_address_of_two_headless_services_has_both_names() -> None:
    endpoint = NamedEndpoint("192.0.2.1", (HTTP,), "db-0")
    zones = build_zones(
        *(NamedService(namespace="default", name=name, endpoints=(endpoint,)) for name in ("one", "two"))
    )
    names = ask(zones, "1.2.0.192.in-addr.arpa", "PTR")["answer"]
    assert sorted(names) == [f"PTR db-0.{name}.default.svc.cluster.local." for name in ("one", "two")]


def test_the_apex_tells_the_zones_server() -> None:
    zones = build_zones()
    assert ask(zones, "cluster.local", "NS")["answer"] == ["NS ns.dns.cluster.local."]
    assert ask(zones, "ns.dns.cluster.local", "A")["answer"] == ["A 100.64.0.10"]
    assert ask(zones, "cluster.local", "SOA")["answer"][0].startswith("SOA ns.dns.cluster.local. ")


def test_what_is_not_there_may_be_remembered_for_as_long_as_the_zone_says() -> None:
    for name, zone in (("no.default.svc.cluster.local", "cluster.local."), ("www.example.com", ".")):
        answer = answer_query(dns.message.make_query(name, "A"), build_zones())
        assert [(str(records.name), records.rdtype.name) for records in answer.authority] == [(zone, "SOA")]


def test_names_that_lead_to_each_other_end() -> None:
    loop = (
        NamedService(namespace="default", name=name, external_name=f"{other}.default.svc.cluster.local")
        for name, other in (("one", "two"), ("two", "one"))
    )
    answer = answer_query(dns.message.make_query("one.default.svc.cluster.local", "A"), build_zones(*loop))
    assert answer.rcode() == dns.rcode.NOERROR


def test_clients_that_take_the_first_spread_over_all() -> None:
    random.seed(1)
    endpoints = tuple(NamedEndpoint(f"192.0.2.{number}", (HTTP,)) for number in range(1, 4))
    zones = build_zones(NamedService(namespace="default", name="web", endpoints=endpoints))
    firsts = {ask(zones, "web.default.svc.cluster.local", "A")["answer"][0] for _ in range(60)}
    assert firsts == {f"A 192.0.2.{number}" for number in range(1, 4)}


# --- what is known


SERVICE = st.builds(
    lambda name, addresses, endpoints: NamedService(
        namespace="default",
        name=name,
        addresses=tuple(addresses),
        endpoints=tuple(NamedEndpoint(address, (HTTP,), host) for address, host in endpoints),
    ),
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.sampled_from(["100.64.0.1", "100.64.0.2"]), max_size=1),
    st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.sampled_from(["", "x", "y"])), max_size=3),
)


@given(st.lists(st.tuples(st.booleans(), SERVICE), max_size=12))
def test_however_services_come_and_go_only_the_last_counts(changes: list[tuple[bool, NamedService]]) -> None:
    names, last = ServiceNames(), {}
    for is_there, service in changes:
        names.put(service.key, service if is_there else None)
        last[service.key] = service if is_there else None
    fresh = ServiceNames()
    for key, left in last.items():
        fresh.put(key, left)
    for address in ("100.64.0.1", "100.64.0.2", "192.0.2.1", "192.0.2.2"):
        assert set(names.find_address(address)) == set(fresh.find_address(address))
    for (namespace, name), left in last.items():
        assert names.get(namespace, name) == left
    assert len(names) == sum(service is not None for service in last.values())


def test_what_changes_nothing_is_no_change() -> None:
    names, service = ServiceNames(), NamedService(namespace="default", name="web", ports=(HTTP,))
    assert names.put(service.key, service)
    before = names.serial
    assert not names.put(service.key, service)
    assert names.serial == before
    assert not names.put(("default", "other"), None)
    assert names.put(service.key, None)


# --- messages


def wire(name: str = "c0w1", kind: str = "A", **options: Any) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()


def reply(question: bytes, zones: list[Zone], *, datagram: bool = True) -> dns.message.Message:
    answer = answer_bytes(question, zones, datagram=datagram)
    assert answer is not None
    return dns.message.from_wire(answer, ignore_trailing=False)


def test_an_answer_belongs_to_its_question_letter_by_letter() -> None:
    answer = reply(wire("C0W1"), build_zones())
    assert str(answer.question[0].name) == "C0W1."
    assert str(answer.answer[0].name) == "C0W1."
    assert answer.flags & (dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.RD) == answer.flags


def test_what_is_too_large_for_a_datagram_is_asked_again_by_tcp() -> None:
    endpoints = tuple(NamedEndpoint(f"192.0.2.{number}", (HTTP,)) for number in range(1, 200))
    zones = build_zones(NamedService(namespace="default", name="many", endpoints=endpoints))
    name = "many.default.svc.cluster.local"
    for question, size in ((wire(name), 512), (wire(name, use_edns=0, payload=4096), 1232), (wire(name, "SRV"), 512)):
        answer = answer_bytes(question, zones, datagram=True)
        assert answer is not None and len(answer) <= size
        assert dns.message.from_wire(answer).flags & dns.flags.TC
    whole = reply(wire(name), zones, datagram=False)
    assert not whole.flags & dns.flags.TC and len(whole.answer[0]) == 199


def test_additional_records_that_do_not_fit_are_left_out() -> None:
    endpoints = tuple(NamedEndpoint(f"192.0.2.{number}", (HTTP,)) for number in range(1, 5))
    zones = build_zones(NamedService(namespace="default", name="few", endpoints=endpoints))
    answer = reply(wire("_http._tcp.few.default.svc.cluster.local", "SRV"), zones)
    assert len(answer.answer[0]) == 4


def test_what_is_no_question_is_not_answered() -> None:
    zones = build_zones()
    own = answer_bytes(wire(), zones, datagram=True)
    assert own is not None
    assert answer_bytes(own, zones, datagram=True) is None, "an answer: two servers would speak for ever"
    assert answer_bytes(b"", zones, datagram=True) is None
    assert answer_bytes(wire()[:11], zones, datagram=True) is None


def test_half_a_question_is_an_error_of_its_form() -> None:
    question = wire()
    for length in range(12, len(question)):
        answer = reply(question[:length], build_zones())
        assert (answer.rcode(), answer.id) == (dns.rcode.FORMERR, int.from_bytes(question[:2]))


@given(st.binary(max_size=80))
def test_nothing_that_arrives_ends_the_server(message: bytes) -> None:
    answer = answer_bytes(message, build_zones(), datagram=True)
    assert answer is None or answer[:2] == message[:2]


@given(st.integers(0, 60), st.integers(0, 255))
def test_nothing_that_looks_like_a_question_ends_the_server(position: int, value: int) -> None:
    message = bytearray(wire("web.default.svc.cluster.local", "SRV", use_edns=0))
    message[position % len(message)] = value
    answer = answer_bytes(bytes(message), build_zones(), datagram=True)
    assert answer is None or answer[:2] == bytes(message[:2])


def test_other_questions_are_refused_in_the_words_of_dns() -> None:
    zones = build_zones()
    status = dns.message.make_query("c0w1", "A")
    status.set_opcode(dns.opcode.STATUS)
    chaos = dns.message.make_query("version.bind", "TXT", rdclass=dns.rdataclass.CH)
    later = dns.message.make_query("c0w1", "A", use_edns=1)
    for query, code in ((status, dns.rcode.NOTIMP), (chaos, dns.rcode.REFUSED), (later, dns.rcode.BADVERS)):
        assert answer_query(query, zones).rcode() == code

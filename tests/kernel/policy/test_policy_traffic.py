"""Real packets under NetworkPolicies: who gets through to whom, on the same and other workers, by address and VIP."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from knetsim.system.netns import Namespaces, netns_socket
from knetsim.system.run import run
from tests.kernel.policy.lab import End, PolicyLab, labels, policy
from tests.kernel.services.lab import LOST, VIP, Answer, Pod, build_port

pytestmark = pytest.mark.usefixtures("no_leaks")


def tcp(*pods: Pod, port: int = 8080) -> list[End]:
    """These pods' TCP port, as ends to ask."""
    return [(pod.ip, port, "tcp") for pod in pods]


def pings(place: Namespaces, address: str) -> bool:
    return run(["ping", "-c", "1", "-W", "2", address], place=place, check=False).code == 0


def test_a_selected_pod_is_closed_but_for_what_is_allowed(each_lab: PolicyLab) -> None:
    lab = each_lab
    lab.install_all()
    server = lab.labelled("s1", lab.w1, "tcp", app="web")
    clients = [
        lab.labelled(f"{role}-{host.name.lower()}", host, role=role)
        for role in ("friend", "stranger")
        for host in (lab.w1, lab.w2)
    ]
    assert len(lab.reached(clients, tcp(server))) == 4, "without a policy everybody gets through"
    lab.put(policy("deny", ingress=[]))
    assert lab.reached(clients, tcp(server)) == set()
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"podSelector": labels(role="friend")}]}]))
    assert {client for client, _ in lab.reached(clients, tcp(server))} == {"friend-c0w1", "friend-c0w2"}
    assert lab.opens(server, server.ip), "a pod reaches itself"
    for host in (lab.w1, lab.cp):
        assert isinstance(lab.ask(host.place, server.ip, 8080), Answer) == (host is lab.w1), "only its own node"
    lab.delete(policy("web"))
    assert lab.reached(clients, tcp(server)) == set(), "the other one still holds"
    lab.delete(policy("deny"))
    assert len(lab.reached(clients, tcp(server))) == 4
    assert lab.told == []


def test_egress_is_asked_on_the_senders_side(lab: PolicyLab) -> None:
    lab.install_all()
    client = lab.labelled("c1", lab.w1, "tcp", role="client")
    here, there = lab.labelled("s1", lab.w1, "tcp", app="web"), lab.labelled("s2", lab.w2, "tcp", app="db")
    lab.put(policy("out", labels(role="client"), egress=[{"to": [{"podSelector": labels(app="db")}]}]))
    assert lab.reached([client], tcp(here, there)) == {("c1", there.ip)}
    assert lab.opens(here, client.ip), "it may still be asked, and answers"
    assert lab.opens(client, lab.w1.address) is False, "nobody listens there, but its own node is no secret"
    assert pings(client.place, lab.w1.address), "its own node"
    assert not pings(client.place, lab.out.address), "another machine"
    lab.put(policy("in", labels(app="db"), ingress=[]))
    assert lab.reached([client], tcp(here, there)) == set(), "both ends are asked"


def test_a_vip_is_judged_by_who_stands_behind_it(lab: PolicyLab) -> None:
    lab.install_all()
    friends = [lab.labelled("f1", lab.w1, role="friend"), lab.labelled("f2", lab.w2, role="friend")]
    strangers = [lab.labelled("x1", lab.w1), lab.labelled("x2", lab.w2)]
    server = lab.labelled("s1", lab.w1, "tcp", app="web")
    lab.apply(build_port(server))
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"podSelector": labels(role="friend")}]}]))
    ends: list[Any] = [(VIP, 80, "tcp")]
    assert lab.reached([*friends, *strangers], ends) == {("f1", VIP), ("f2", VIP)}
    for friend in friends:
        assert lab.ask(friend.place, VIP) == Answer("s1", friend.ip)
    assert isinstance(lab.ask(server.place, VIP), Answer), "a pod reaches itself by its VIP too"
    lab.put(policy("out", labels(role="friend"), egress=[{"to": [{"podSelector": labels(app="web")}]}]))
    assert lab.reached(friends, ends) == {("f1", VIP), ("f2", VIP)}
    lab.put(policy("out", labels(role="friend"), egress=[{"to": [{"ipBlock": {"cidr": f"{VIP}/32"}}]}]))
    assert lab.reached(friends, ends) == set(), "the VIP itself is nobody"


def test_a_node_port_is_judged_on_the_way_too(lab: PolicyLab) -> None:
    lab.install_all()
    server = lab.labelled("s1", lab.w1, "tcp", app="web")
    lab.apply(build_port(server, node_port=30080, external_local=True))
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"ipBlock": {"cidr": f"{lab.out.address}/32"}}]}]))
    assert lab.ask(lab.out.place, lab.w1.address, 30080) == Answer("s1", lab.out.address)
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]))
    assert lab.ask(lab.out.place, lab.w1.address, 30080) == LOST


def test_namespaces_are_meant_by_their_labels(lab: PolicyLab) -> None:
    lab.put_namespace("blue", team="blue")
    lab.put_namespace("red", team="red")
    server = lab.labelled("s1", lab.w1, "tcp")
    blue = lab.labelled("b1", lab.w2, namespace="blue", role="client")
    other = lab.labelled("b2", lab.w1, namespace="blue", role="other")
    red = lab.labelled("r1", lab.w1, namespace="red", role="client")
    own = lab.labelled("d1", lab.w2, role="client")
    everybody = [blue, other, red, own]

    def who(*peers: Any) -> set[str]:
        lab.put(policy("p", ingress=[{"from": list(peers)}]))
        return {name for name, _ in lab.reached(everybody, tcp(server))}

    assert who({"namespaceSelector": labels(team="blue")}) == {"b1", "b2"}
    assert who({"namespaceSelector": labels(team="blue"), "podSelector": labels(role="client")}) == {"b1"}
    assert who({"namespaceSelector": labels(team="blue")}, {"podSelector": {}}) == {"b1", "b2", "d1"}
    assert who({"namespaceSelector": {}, "podSelector": labels(role="client")}) == {"b1", "r1", "d1"}
    not_red = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}
    assert who({"namespaceSelector": not_red}) == {"b1", "b2", "d1"}
    has_team = {"matchExpressions": [{"key": "team", "operator": "Exists"}]}
    assert who({"namespaceSelector": has_team}) == {"b1", "b2", "r1"}
    lab.put_namespace("red")
    assert {name for name, _ in lab.reached(everybody, tcp(server))} == {"b1", "b2"}, "its label is gone"


def test_ports_by_number_range_and_name(lab: PolicyLab) -> None:
    server = lab.labelled("s1", lab.w1, "tcp", 8080, port_name="web")
    lab.listen(server.place, "s1", "tcp", 9000)
    lab.listen(server.place, "s1", "udp", 8080)
    client = lab.labelled("c1", lab.w2)
    ends: list[End] = [(server.ip, 8080, "tcp"), (server.ip, 9000, "tcp"), (server.ip, 8080, "udp")]

    def which(direction: str, *ports: Any) -> list[bool]:
        rules: Any = {direction: [{"ports": list(ports)}]}
        lab.put(policy("p", **rules))
        return lab.answered([(client, end) for end in ends])

    assert which("ingress", {"port": 8080}) == [True, False, False]
    assert which("ingress", {"port": 8081, "endPort": 9000, "protocol": "TCP"}) == [False, True, False]
    assert which("ingress", {"port": 8080, "protocol": "UDP"}) == [False, False, True]
    assert which("ingress", {"protocol": "UDP"}, {"port": 9000}) == [False, True, True]
    assert which("ingress", {"port": "web"}) == [True, False, False]
    assert which("ingress", {"port": "web", "protocol": "UDP"}) == [False, False, False]
    assert which("egress", {"port": "web"}, {"port": 8080, "protocol": "UDP"}) == [True, False, True]
    assert which("ingress", {"port": 8080, "protocol": "SCTP"}) == [False, False, False], "SCTP is not TCP"
    assert not pings(client.place, server.ip), "a rule with ports means no ICMP"
    lab.put(policy("p", ingress=[{}]))
    assert pings(client.place, server.ip)


def test_blocks_of_addresses_with_exceptions(lab: PolicyLab) -> None:
    server = lab.labelled("s1", lab.w1, "tcp")
    one, two = lab.labelled("c1", lab.w1), lab.labelled("c2", lab.w2)

    def who(block: Any) -> set[str]:
        lab.put(policy("p", ingress=[{"from": [{"ipBlock": block}]}]))
        return {name for name, _ in lab.reached([one, two], tcp(server))}

    assert who({"cidr": "0.0.0.0/0"}) == {"c1", "c2"}
    assert who({"cidr": "11.0.0.0/8", "except": ["11.15.80.0/20", "11.15.81.0/24"]}) == {"c1"}
    assert who({"cidr": "0.0.0.0/0", "except": [f"{one.ip}/32"]}) == {"c2"}
    assert who({"cidr": "::/0"}) == set()


def test_pods_come_change_and_go(lab: PolicyLab) -> None:
    server = lab.labelled("s1", lab.w1, "tcp", app="web")
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"podSelector": labels(role="friend")}]}]))
    first = lab.labelled("c1", lab.w2, role="friend")
    second = lab.labelled("c2", lab.w1)
    assert lab.reached([first, second], tcp(server)) == {("c1", server.ip)}
    lab.relabel(first)
    lab.relabel(second, role="friend")
    assert lab.reached([first, second], tcp(server)) == {("c2", server.ip)}
    lab.relabel(server, app="other")
    assert len(lab.reached([first, second], tcp(server))) == 2, "it is selected no more"
    lab.relabel(server, app="web")
    lab.end(second, lab.w1)
    table = run(["nft", "list", "table", "ip", "knetsim-policy"], place=lab.w1.place).output
    assert server.ip in table
    assert second.ip not in table, "its address may be another's"


def test_a_policy_counts_for_connections_that_exist(lab: PolicyLab) -> None:
    server, client = lab.labelled("s1", lab.w1, "udp"), lab.labelled("c1", lab.w2)
    with netns_socket(client.place, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect((server.ip, 8080))

        def is_answered() -> bool:
            sock.send(b"who?")
            try:
                return bool(sock.recv(100))
            except TimeoutError:
                return False

        assert is_answered()
        lab.put(policy("deny", ingress=[]))
        assert not is_answered()
        lab.delete(policy("deny"))
        assert is_answered()
        lab.put(policy("deny", egress=[]))
        assert not is_answered(), "c1 sends nothing any more"
        lab.put(policy("deny", {"matchExpressions": [{"key": "x", "operator": "Exists"}]}, egress=[]))
        assert is_answered()


def test_drops_and_passes_are_counted_by_policy(lab: PolicyLab) -> None:
    server = lab.labelled("s1", lab.w1, "udp", app="web")
    friend, stranger = lab.labelled("c1", lab.w2, role="friend"), lab.labelled("c2", lab.w2)
    lab.put(policy("deny", ingress=[]))
    lab.put(policy("web", labels(app="web"), ingress=[{"from": [{"podSelector": labels(role="friend")}]}]))
    for place in (friend.place, stranger.place):
        for _ in range(3):
            with netns_socket(place, socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"who?", (server.ip, 8080))
    # on the way before these: they are counted by now
    assert lab.ask(friend.place, server.ip, 8080, "udp") == Answer("s1", friend.ip)
    assert lab.policies.read_counts() == {
        ("default/deny", "ingress"): (0, 3),
        ("default/web", "ingress"): (4, 3),
    }


def test_a_service_without_backends_still_refuses(lab: PolicyLab) -> None:
    lab.install_all()
    client = lab.labelled("c1", lab.w1)
    lab.apply(build_port())
    lab.put(policy("deny", egress=[]))
    assert lab.ask(client.place, VIP) == "refused", "nobody is behind the VIP, which is told at once"

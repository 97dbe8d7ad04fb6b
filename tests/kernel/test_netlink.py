"""rtnetlink: our messages make what `ip` and `bridge` make; errors, batches, listings and events are right."""

from __future__ import annotations

import errno
import json
import shlex
import threading
from collections.abc import Callable
from typing import Any

import pytest

from knetsim.errors import KernelError
from knetsim.system.netlink import (
    Link,
    Netlink,
    Request,
    add_address,
    add_bridge,
    add_fdb,
    add_neighbour,
    add_route,
    add_veth,
    add_vxlan,
    delete_address,
    delete_fdb,
    delete_link,
    delete_neighbour,
    delete_route,
    set_arp_notify,
    set_bridge_port,
    set_link,
)
from knetsim.system.netns import Namespaces, entered
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl

pytestmark = pytest.mark.usefixtures("no_leaks")

Places = Callable[[str], Namespaces]
Sockets = Callable[[Namespaces], Netlink]

MAC = "0a:58:0b:0f:40:01"
VTEP = "02:42:ac:11:00:09"
#: what may differ between two namespaces in which the same was done: random, or noticed by the kernel a little later
_RANDOM = {"address", "id", "bridge_id", "root_id", "operstate", "state"}
_RANDOM |= {"gc_timer", "hello_timer", "forward_delay_timer"}
_LATE = {"NO-CARRIER", "LOWER_UP", "linkdown"}


def ip_json(place: Namespaces, *words: str) -> Any:
    """What an `ip` or `bridge` command prints as JSON, without what differs from run to run."""
    return _stripped(json.loads(run(words, place=place).output or "[]"))


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(inner) for key, inner in value.items() if key not in _RANDOM}
    if isinstance(value, list):
        return [_stripped(inner) for inner in value if not (isinstance(inner, str) and inner in _LATE)]
    return value


def read_state(place: Namespaces) -> dict[str, Any]:
    """All that our requests can change, as iproute2 sees it."""
    return {
        "links": ip_json(place, "ip", "-j", "-d", "link"),
        "addresses": [
            [(a["local"], a["prefixlen"], a.get("broadcast"), a["scope"]) for a in link["addr_info"]]
            for link in ip_json(place, "ip", "-j", "-4", "addr")
        ],
        "routes": ip_json(place, "ip", "-j", "route"),
        "neighbours": ip_json(place, "ip", "-j", "neigh"),
        "fdb": sorted(
            (entry["ifname"], entry["mac"], entry.get("dst", ""))
            for entry in json.loads(run(["bridge", "-j", "fdb"], place=place).output or "[]")
            if entry.get("dst")
        ),
    }


def link_of(netlink: Netlink, name: str) -> Link:
    link = netlink.link(name)
    assert link is not None
    return link


# In a fresh namespace lo is 1, and what is made gets 2, 3, … in order.
STORIES: dict[str, list[Request]] = {
    "bridge": [add_bridge("cni0", mtu=1450, mac=MAC), add_address(2, "11.15.64.1/20", broadcast="11.15.79.255")],
    "bridge that is down": [add_bridge("cni0", up=False, index=7)],
    "veth pair": [
        add_bridge("cni0"),
        add_veth("veth1", "eth0", mtu=1400, peer_mtu=1300, master=2, peer_mac=MAC, queue_length=0),
        set_link("eth0", up=True),
        set_bridge_port("veth1", hairpin=True, isolated=True, learning=False, flood=False),
    ],
    "veth pair with chosen indexes": [add_veth("a", "b", index=20, peer_index=30, mac=MAC, up=False)],
    "link settings": [
        add_bridge("br0"),
        add_veth("a", "b"),
        set_link("a", master=2),
        set_link(3, name="z", mtu=1280, mac=MAC),
        set_link("a", master=0, up=False),
        set_arp_notify("a"),
    ],
    "deleted links": [add_bridge("br0"), add_veth("a", "b"), delete_link("b"), delete_link(2)],
    "addresses": [
        add_address(1, "10.1.0.1/32", scope="host"),
        add_address(1, "10.2.0.1/24"),
        add_address(1, "10.2.0.1/24"),
        add_address(1, "10.3.0.1/16"),
        delete_address(1, "10.3.0.1/16"),
    ],
    "overlay as flannel's": [
        add_bridge("under", mtu=1500),
        add_address(2, "10.1.1.1/8"),
        add_vxlan("flannel.100", vni=100, local="10.1.1.1", device_index=2, port=8472, mac=MAC, mtu=1450),
        add_address(3, "11.15.64.0/32"),
        add_route("11.15.80.0/20", via="11.15.80.0", index=3, onlink=True),
        add_neighbour(3, "11.15.80.0", VTEP),
        add_fdb(3, VTEP, "10.1.1.2"),
        add_fdb(3, VTEP, "10.1.1.3"),
        add_neighbour(3, "11.15.96.0", VTEP, state="noarp"),
        add_route("11.15.96.0/20", via="10.1.1.3"),
        add_route("11.15.112.0/20", via="10.1.1.3", index=2, source="10.1.1.1"),
        add_route("11.16.0.0/16", index=2),
        add_route("11.17.0.0/16", index=2, scope="host", replace=False),
        add_route("default", via="10.1.1.9"),
    ],
    "overlay taken down": [
        add_bridge("under"),
        add_address(2, "10.1.1.1/8"),
        add_vxlan("v", vni=1, local="10.1.1.1", device_index=2, port=4789, learning=True),
        add_route("11.15.80.0/20", via="11.15.80.0", index=3, onlink=True),
        add_neighbour(3, "11.15.80.0", VTEP),
        add_fdb(3, VTEP, "10.1.1.2"),
        add_route("default", via="10.1.1.9"),
        delete_route("11.15.80.0/20", via="11.15.80.0", index=3),
        delete_route("default"),
        delete_neighbour(3, "11.15.80.0"),
        delete_fdb(3, VTEP, "10.1.1.2"),
    ],
}


@pytest.mark.parametrize("story", STORIES)
def test_a_request_does_what_its_command_does(story: str, places: Places, sockets: Sockets) -> None:
    ours, theirs = places("ours"), places("theirs")
    prepare = [set_link(1, up=True)]
    sockets(ours).apply(prepare + STORIES[story])
    sockets(theirs).apply(prepare)
    for request in STORIES[story]:
        run(shlex.split(request.text()), place=theirs)
    assert read_state(ours) == read_state(theirs)


def test_deleting_what_is_not_there_is_fine(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    netlink.apply([add_bridge("br0")])
    before = netlink.links(), netlink.addresses(), netlink.routes()
    netlink.apply(
        [
            delete_link("nothing"),
            delete_link(99),
            delete_address(2, "10.0.0.1/8"),
            delete_address(99, "10.0.0.1/8"),
            delete_route("10.9.0.0/16"),
            delete_route("default", via="10.0.0.1", index=99),
            delete_neighbour(2, "10.0.0.1"),
            delete_neighbour(99, "10.0.0.1"),
            delete_fdb(2, VTEP),
            delete_fdb(99, VTEP, "10.0.0.1"),
        ]
    )
    assert (netlink.links(), netlink.addresses(), netlink.routes()) == before


def test_the_peer_is_made_in_another_namespace_and_packets_pass(places: Places, sockets: Sockets) -> None:
    worker, pods = places("worker"), [places("pod1"), places("pod2")]
    outside = sockets(worker)
    outside.apply([add_bridge("cni0", mac=MAC), add_address(2, "10.0.0.1/24")])
    for number, pod in enumerate(pods, start=2):
        inside = sockets(pod)
        outside.apply([add_veth(f"veth{number}", "eth0", peer_netns_fd=pod.net, master=2)])
        eth0 = link_of(inside, "eth0")
        assert (eth0.kind, eth0.up, eth0.link) == ("veth", False, link_of(outside, f"veth{number}").index)
        inside.apply([set_link(eth0.index, up=True), add_address(eth0.index, f"10.0.0.{number}/24")])
        assert outside.settle_carrier(f"veth{number}")
    assert " 0% packet loss" in run(["ping", "-c", "1", "-W", "2", "10.0.0.1"], place=pods[0]).output
    assert " 0% packet loss" in run(["ping", "-c", "1", "-W", "2", "10.0.0.3"], place=pods[0]).output


def test_a_settled_port_forwards_at_once(places: Places, sockets: Sockets) -> None:
    worker = places("worker")
    outside = sockets(worker)
    outside.apply([add_bridge("cni0")])
    for number in range(20):
        name = f"veth{number}"
        outside.apply([add_veth(name, f"peer{number}", master=2), set_link(f"peer{number}", up=True)])
        outside.settle_carrier(name)
        port = link_of(outside, name)
        assert port.operstate == "up"
        assert port.port is not None
        assert port.port.forwarding, f"{name} does not forward yet"
    outside.apply([set_link("peer3", up=False)])
    assert not outside.settle_carrier("veth3")
    with pytest.raises(KernelError, match="No such device"):
        outside.settle_carrier("nothing")


# --- errors


def test_an_error_names_the_first_refused_request_with_the_kernels_words(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("C0w1"))
    netlink.apply([add_bridge("cni0"), add_address(2, "10.0.0.1/24")])
    requests = [
        add_route("10.1.0.0/16", via="10.0.0.2"),
        add_route("10.2.0.0/16", via="172.16.0.1", index=2),
        add_route("10.3.0.0/16", via="10.0.0.3"),
        add_address(77, "10.0.0.9/24"),
    ]
    with pytest.raises(KernelError) as caught:
        netlink.apply(requests)
    error = caught.value
    assert error.request == "ip route replace 10.2.0.0/16 via 172.16.0.1 dev cni0"
    assert error.errno == errno.ENETUNREACH
    assert error.why == "Nexthop has invalid gateway (Network is unreachable); and 1 more of this batch"
    assert error.where == "C0w1"
    assert {route.dst for route in netlink.routes()} == {"10.0.0.0/24", "10.1.0.0/16", "10.3.0.0/16"}


def test_an_errno_can_be_tolerated(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    netlink.apply([add_bridge("cni0")])
    with pytest.raises(KernelError) as caught:
        netlink.apply([add_bridge("cni0")])
    assert caught.value.errno == errno.EEXIST
    netlink.apply([add_bridge("cni0")._replace(tolerate=frozenset({errno.EEXIST}))])


def test_every_refusal_of_a_large_batch_is_counted(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    requests = [add_route(f"10.{n >> 8}.{n & 255}.0/24", via="172.16.0.1", replace=False) for n in range(10_000)]
    with pytest.raises(KernelError, match="and 9999 more of this batch"):
        netlink.apply(requests)
    assert netlink.links()[0].name == "lo", "no answer is left in the socket"


def test_what_cannot_be_packed_is_refused_before_it_is_sent() -> None:
    for wrong in ("10.0.0", "10.0.0.1/33", "10.0.0.1/", "ten", "10.0.0.1/-1", "fe80::1/64", ""):
        with pytest.raises(ValueError, match="is not an IPv4"):
            add_route(wrong, index=1)
    for wrong in ("02:00", "02:00:00:00:00:00:00", "no", ""):
        with pytest.raises(ValueError, match="is not a MAC address"):
            add_fdb(1, wrong, "10.0.0.1")
    with pytest.raises(ValueError, match="only together"):
        add_veth("a", "b", peer_index=5)
    with pytest.raises(ValueError, match="give its index"):
        set_link("a", name="b")


def test_the_namespace_may_lose_its_place_but_not_its_socket(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    place.close()
    netlink.apply([add_bridge("cni0")])
    assert link_of(netlink, "cni0").up


# --- batches and threads


def test_ten_thousand_routes_in_one_batch(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    netlink.apply([add_bridge("cni0"), add_address(2, "10.0.0.1/8")])
    wanted = {f"11.{n >> 8}.{n & 255}.0/24" for n in range(10_000)}
    netlink.apply(add_route(dst, via="10.0.0.2", index=2) for dst in wanted)
    found = {route.dst for route in netlink.routes() if route.via == "10.0.0.2"}
    assert found == wanted
    netlink.apply(delete_route(dst) for dst in wanted)
    assert [route.dst for route in netlink.routes()] == ["10.0.0.0/8"]


def test_threads_share_a_socket(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    netlink.apply([add_bridge("cni0"), add_address(2, "10.0.0.1/8")])
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for third in range(100):
                netlink.apply([add_route(f"11.{number}.{third}.0/24", via="10.0.0.2")])
                assert link_of(netlink, "cni0").index == 2
                assert any(route.dst == f"11.{number}.{third}.0/24" for route in netlink.routes())
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(netlink.routes()) == 401


def test_a_socket_stays_in_its_namespace_whoever_uses_it(places: Places, sockets: Sockets) -> None:
    here, elsewhere = places("here"), places("elsewhere")
    netlink = sockets(here)
    with entered(elsewhere):
        netlink.apply([add_bridge("cni0")])
    assert sockets(elsewhere).link("cni0") is None
    assert netlink.link("cni0") is not None


# --- reading


def test_a_fresh_namespace_has_lo_and_nothing_else(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    assert [(link.name, link.index, link.up) for link in netlink.links()] == [("lo", 1, False)]
    assert netlink.link("eth0") is None
    assert netlink.link(5) is None
    assert netlink.index("lo") == 1
    assert netlink.index("eth0") is None
    assert netlink.index("a-name-that-is-too-long") is None
    assert netlink.addresses() == netlink.routes() == netlink.neighbours() == netlink.fdb() == []
    assert netlink.routes(table=100) == []


def test_listings_can_be_narrowed(places: Places, sockets: Sockets) -> None:
    netlink = sockets(places("a"))
    netlink.apply([add_bridge("br0"), add_bridge("br1"), add_veth("a", "b", master=2), add_veth("c", "d", master=3)])
    netlink.apply([set_link(name, up=True) for name in ("lo", "b", "d")])
    netlink.apply([add_address(2, "10.0.0.1/24"), add_address(3, "10.0.1.1/24")])
    netlink.apply([add_neighbour(2, "10.0.0.2", VTEP), add_neighbour(3, "10.0.1.2", VTEP)])
    netlink.apply([add_vxlan("v", vni=5, local="10.0.0.1", device_index=2, port=4789), add_fdb(8, VTEP, "10.0.0.2")])
    assert {link.name for link in netlink.links(kind="bridge")} == {"br0", "br1"}
    assert {link.name for link in netlink.links(master=2)} == {"a"}
    assert [entry.cidr for entry in netlink.addresses(3)] == ["10.0.1.1/24"]
    assert [entry.address for entry in netlink.neighbours(2) if entry.state == "permanent"] == ["10.0.0.2"]
    assert [(entry.mac, entry.dst) for entry in netlink.fdb(8)] == [(VTEP, "10.0.0.2")]
    vxlan = link_of(netlink, "v").vxlan
    assert vxlan is not None
    assert (vxlan.vni, vxlan.local, vxlan.device_index, vxlan.port, vxlan.learning) == (5, "10.0.0.1", 2, 4789, False)


def test_what_is_read_is_what_ip_shows(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    netlink.apply([set_link(1, up=True), *STORIES["overlay as flannel's"]])
    shown = {link["ifname"]: link for link in json.loads(run(["ip", "-j", "-d", "link"], place=place).output)}
    names = {link.index: link.name for link in netlink.links()}
    for link in netlink.links():
        theirs = shown[link.name]
        assert (link.index, link.mtu, link.mac) == (theirs["ifindex"], theirs["mtu"], theirs["address"])
        assert link.operstate.upper() == theirs["operstate"]
        assert link.kind == theirs.get("linkinfo", {}).get("info_kind", "")
        assert link.up == ("UP" in theirs["flags"])
        assert link.carrier == ("LOWER_UP" in theirs["flags"])
    routes = json.loads(run(["ip", "-j", "route"], place=place).output)
    assert [
        (route.dst, route.via, names[route.index], route.protocol, route.source, route.onlink)
        for route in netlink.routes()
    ] == [
        (r["dst"], r.get("gateway"), r["dev"], r.get("protocol", "boot"), r.get("prefsrc"), "onlink" in r["flags"])
        for r in routes
    ]
    neighbours = json.loads(run(["ip", "-j", "neigh", "show", "nud", "permanent"], place=place).output)
    assert [(entry.address, entry.mac) for entry in netlink.neighbours() if entry.state == "permanent"] == [
        (entry["dst"], entry["lladdr"]) for entry in neighbours
    ]


def test_arp_notify_is_the_sysctl(places: Places, sockets: Sockets) -> None:
    place = places("a")
    netlink = sockets(place)
    name = "net/ipv4/conf/br0/arp_notify"
    netlink.apply([add_bridge("br0"), set_arp_notify("br0")])
    assert read_sysctl(place, name) == {name: "1"}
    netlink.apply([set_arp_notify(2, on=False)])
    assert read_sysctl(place, name) == {name: "0"}

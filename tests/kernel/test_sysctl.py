"""Settings of a network namespace: written where they are meant, whichever thread writes them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from knetsim.errors import KernelError
from knetsim.system.netlink import Netlink, add_vxlan, set_link
from knetsim.system.netns import Namespaces
from knetsim.system.run import run
from knetsim.system.sysctl import read_sysctl, write_sysctl

pytestmark = pytest.mark.usefixtures("no_leaks")

Places = Callable[[str], Namespaces]
FORWARDING = "net.ipv4.ip_forward"


def test_a_setting_is_of_one_namespace(places: Places) -> None:
    here, elsewhere = places("here"), places("elsewhere")
    host = read_sysctl(Namespaces.of_thread("host", ("net",)), FORWARDING)
    write_sysctl(here, {FORWARDING: "1"})
    write_sysctl(elsewhere, {FORWARDING: "0"})
    assert read_sysctl(here, FORWARDING) == {FORWARDING: "1"}
    assert read_sysctl(elsewhere, FORWARDING) == {FORWARDING: "0"}
    assert run(["cat", "/proc/sys/net/ipv4/ip_forward"], place=here).output == "1\n"
    assert read_sysctl(Namespaces.of_thread("host", ("net",)), FORWARDING) == host


def test_threads_write_to_their_own_namespaces(places: Places) -> None:
    workers = [places(f"C0w{number}") for number in range(8)]

    def work(place: Namespaces, value: str) -> None:
        for _ in range(50):
            write_sysctl(place, {"net.ipv4.ip_default_ttl": value})

    threads = [threading.Thread(target=work, args=(place, str(64 + n))) for n, place in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [read_sysctl(place, "net.ipv4.ip_default_ttl") for place in workers]
    assert [int(values["net.ipv4.ip_default_ttl"]) for values in found] == list(range(64, 72))


def test_a_name_with_slashes_may_hold_dots(places: Places) -> None:
    place = places("C0w1")
    with Netlink.in_namespace(place) as netlink:
        netlink.apply([set_link(1, up=True)])
        netlink.apply([add_vxlan("flannel.100", vni=100, local="127.0.0.1", device_index=1, port=8472)])
    name = "net/ipv4/conf/flannel.100/rp_filter"
    write_sysctl(place, {name: "2"})
    assert read_sysctl(place, name, FORWARDING)[name] == "2"


def test_errors_name_the_setting(places: Places) -> None:
    place = places("C0w1")
    with pytest.raises(KernelError) as caught:
        write_sysctl(place, {FORWARDING: "1", "net.ipv4.nothing": "1", "net.ipv4.ip_default_ttl": "1"})
    assert (caught.value.request, caught.value.errno) == ("sysctl -w net.ipv4.nothing=1", errno.ENOENT)
    assert caught.value.where == "C0w1"
    assert read_sysctl(place, FORWARDING) == {FORWARDING: "1"}, "what stood before it is written"
    with pytest.raises(KernelError, match="Invalid argument"):
        write_sysctl(place, {FORWARDING: "many"})
    with pytest.raises(KernelError, match=r"sysctl net\.ipv4\.nothing"):
        read_sysctl(place, "net.ipv4.nothing")
    write_sysctl(place, {"net.ipv4.nothing": "1", FORWARDING: "0"}, missing_ok=True)
    assert read_sysctl(place, FORWARDING) == {FORWARDING: "0"}

"""Who serves what: changes, gaps, and everything anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knetsim.dataplane.skupper.router.control import AddressesRequest, AddressesUpdate
from knetsim.dataplane.skupper.router.mobile import MobileAddresses

BALANCED, CLOSEST = 3, 2


def updates(addresses: MobileAddresses) -> list[object]:
    sent = [message for _, message in addresses.outbox]
    addresses.outbox.clear()
    return sent


def test_a_change_is_told_to_all_once() -> None:
    own = MobileAddresses("A")
    assert not own.flush()
    own.serve("Mweb", "balanced")
    own.serve("Mdb", "closest")
    assert own.flush()
    assert own.outbox[0][0] == "amqp:/_topo/0/all/qdrouter.ma"
    assert updates(own) == [AddressesUpdate("A", 1, added={"Mweb": BALANCED, "Mdb": CLOSEST}, removed=())]
    assert not own.flush()
    own.withdraw("Mweb")
    own.serve("Mnew", "balanced")
    assert own.flush()
    assert updates(own) == [AddressesUpdate("A", 2, added={"Mnew": BALANCED}, removed=("Mweb",))]


def test_what_comes_and_goes_between_two_turns_is_not_told() -> None:
    own = MobileAddresses("A")
    own.serve("Mweb", "balanced")
    own.withdraw("Mweb")
    assert not own.flush()
    assert own.version == 0


def test_who_asks_is_told_what_has_been_told_to_all() -> None:
    own = MobileAddresses("A")
    own.serve("Mweb", "balanced")
    own.flush()
    updates(own)
    own.serve("Mlater", "balanced")
    own.receive(AddressesRequest("B", 0))
    assert own.outbox == [("amqp:/_topo/0/B/qdrouter.ma", AddressesUpdate("A", 1, exist={"Mweb": BALANCED}))]


def test_others_are_followed() -> None:
    own = MobileAddresses("A")
    own.receive(AddressesUpdate("B", 4, exist={"Mweb": BALANCED}))
    assert list(own.servers("Mweb")) == ["B"]
    assert own.changed == {"Mweb"}
    own.changed.clear()
    own.receive(AddressesUpdate("B", 5, added={"Mdb": BALANCED}, removed=("Mweb",)))
    assert list(own.servers("Mweb")) == [] and list(own.servers("Mdb")) == ["B"]
    assert own.changed == {"Mweb", "Mdb"}
    assert own.outbox == []


def test_a_gap_is_asked_about_and_old_news_are_ignored() -> None:
    own = MobileAddresses("A")
    own.receive(AddressesUpdate("B", 4, exist={"Mweb": BALANCED}))
    own.receive(AddressesUpdate("B", 6, added={"Mdb": BALANCED}, removed=()))
    assert list(own.servers("Mdb")) == []
    assert updates(own) == [AddressesRequest("A", 4)]
    own.receive(AddressesUpdate("B", 4, added={"Mold": BALANCED}, removed=()))
    assert list(own.servers("Mold")) == []
    assert updates(own) == []


def test_an_advertised_version_is_asked_for_until_it_comes() -> None:
    own = MobileAddresses("A")
    own.compare("B", 0, 100.0)
    assert updates(own) == []
    own.compare("B", 2, 100.0)
    own.compare("B", 2, 101.0)
    assert updates(own) == [AddressesRequest("A", 0)]
    own.compare("B", 2, 104.0)
    assert updates(own) == [AddressesRequest("A", 0)]
    own.receive(AddressesUpdate("B", 2, exist={}))
    own.compare("B", 2, 110.0)
    assert updates(own) == []


def test_who_has_advertised_nothing_yet_is_asked_once() -> None:
    own = MobileAddresses("A")
    own.compare("B", None, 100.0)
    own.compare("B", None, 101.0)
    assert updates(own) == [AddressesRequest("A", 0)]
    own.receive(AddressesUpdate("B", 0, exist={}))
    own.compare("B", None, 110.0)
    assert updates(own) == []


def test_what_a_lost_router_served_is_served_no_more() -> None:
    own = MobileAddresses("A")
    own.receive(AddressesUpdate("B", 4, exist={"Mweb": BALANCED}))
    own.changed.clear()
    own.void("B")
    own.void("B")
    assert list(own.servers("Mweb")) == [] and own.changed == {"Mweb"}
    # whatever it says next is new
    own.receive(AddressesUpdate("B", 1, exist={"Mweb": BALANCED}))
    assert list(own.servers("Mweb")) == ["B"]


def test_what_comes_from_oneself_is_ignored() -> None:
    own = MobileAddresses("A")
    own.receive(AddressesUpdate("A", 9, exist={"Mweb": BALANCED}))
    assert own.remotes == {} and list(own.servers("Mweb")) == []


@given(
    st.lists(st.tuples(st.sampled_from(["serve", "withdraw", "flush", "lose"]), st.sampled_from("abc")), max_size=40)
)
def test_both_sides_agree_in_the_end(steps: list[tuple[str, str]]) -> None:
    """Whatever is lost on the way: an advertised version and an answer mend it."""
    own, other = MobileAddresses("A"), MobileAddresses("B")
    for step, name in steps:
        if step == "serve":
            own.serve(f"M{name}", "balanced")
        elif step == "withdraw":
            own.withdraw(f"M{name}")
        else:
            own.flush()
            for message in updates(own):
                if step == "flush":
                    assert isinstance(message, AddressesUpdate)
                    other.receive(message)
    own.flush()
    own.outbox.clear()
    other.outbox.clear()
    other.compare("A", own.version, 1000.0)
    for request in updates(other):
        assert isinstance(request, AddressesRequest)
        own.receive(request)
    for answer in updates(own):
        assert isinstance(answer, AddressesUpdate)
        other.receive(answer)
    known = other.remotes["A"].addresses if own.version else {}
    assert known == dict(own.local)

"""What a container runs, the files of a pod, whose heartbeat it is; nothing here needs a kernel."""

from __future__ import annotations

import itertools
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from knetsim.errors import StoreUnavailable
from knetsim.node.images import Images
from knetsim.node.images.table import parse_table
from knetsim.node.kubelet.commands import build_argv
from knetsim.node.kubelet.environment import expand
from knetsim.node.kubelet.heartbeat import Heartbeat, Schedule
from knetsim.node.kubelet.quantities import parse_quantity
from knetsim.system.layers import Layers

# --- commands


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A ${A} $( ) $(", "$A ${A} $( ) $("),
        ("$$", "$"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_arguments(tmp_path: Path) -> None:
    text = "| image | entrypoint | command |\n|---|---|---|\n| x | `run $(B)` | `now` |\n"
    image = Images([parse_table(text, "t.md", tmp_path)], Layers(str(tmp_path))).find("x")
    container = {"command": ["echo", "$(B)"], "args": ["$$(B)", "$(NO)"]}
    assert build_argv(image, container, {"B": "12"}) == ["echo", "12", "$(B)", "$(NO)"]
    assert build_argv(image, {"args": ["$(B)"]}, {"B": "12"}) == ["run", "$(B)", "12"], (
        "the image's own stay as they are"
    )


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), (5, 5), ("64Mi", 2**26), ("1.5G", 1_500_000_000), ("1e3", 1000), ("2Ki", 2048)]
)
def test_quantities(text: str | int, number: int) -> None:
    assert parse_quantity(text) == number


# --- heartbeat


def test_beats_are_spread_and_regular() -> None:
    schedule = Schedule(every=10)
    nodes = [f"c0w{number}" for number in range(200)]
    for node in nodes:
        schedule.add(node, 0)
    beats = {tick: schedule.take(tick / 10) for tick in range(1, 301)}
    in_a_second = [sum(len(beats[tick]) for tick in range(second * 10 + 1, second * 10 + 11)) for second in range(10)]
    assert sum(in_a_second) == 200
    assert max(in_a_second) <= 40, "not all at once"
    moments = [tick for tick, taken in beats.items() if nodes[7] in taken]
    assert [later - earlier for earlier, later in pairwise(moments)] == [100, 100]


def test_beats_that_were_missed_are_not_made_up_for() -> None:
    schedule = Schedule(every=10)
    schedule.add("a", 0)
    assert schedule.take(100) == ["a"]
    assert schedule.take(100) == []
    due = schedule.next_due()
    assert due is not None
    assert 100 < due <= 110
    assert schedule.take(due) == ["a"]


class Net:
    """Who reaches the store, and what was written."""

    def __init__(self) -> None:
        self.cut: set[str] = set()
        self.renewed: list[str] = []
        self.regained: list[str] = []
        self.broken = False

    def find_reachable(self, nodes) -> set[str]:
        return set(nodes) - self.cut

    def renew(self, node: str) -> None:
        if self.broken:
            raise StoreUnavailable("no quorum")
        self.renewed.append(node)

    def heartbeat(self, **options) -> Heartbeat:
        return Heartbeat(self.find_reachable, self.renew, self.regained.append, wall=lambda: 77.0, **options)


def test_who_is_cut_off_does_not_beat_and_says_so_when_it_is_back() -> None:
    net = Net()
    heartbeat = net.heartbeat()
    for node in ("a", "b"):
        heartbeat.add(node)
    net.cut = {"b"}
    heartbeat.beat(["a", "b"])
    assert net.renewed == ["a"]
    assert {node: beat.reached for node, beat in heartbeat.status().items()} == {"a": True, "b": False}
    net.cut = set()
    heartbeat.beat(["a", "b"])
    heartbeat.beat(["a", "b"])
    assert net.regained == ["b"]
    assert heartbeat.status()["b"].reached


def test_who_asks_now_is_told_what_is_true_now() -> None:
    """Between two beats a worker can be cut off: who is about to do something there looks. It is back with a beat."""
    net, now = Net(), [100.0]
    heartbeat = net.heartbeat(steady=lambda: now[0])
    heartbeat.add("a")
    net.cut = {"a"}
    now[0] += 0.9
    assert heartbeat.reaches_now("a"), "it has just been seen"
    now[0] += 0.2
    assert not heartbeat.reaches_now("a")
    net.cut = set()
    assert not heartbeat.reaches_now("a"), "its Node is not said to be ready yet"
    heartbeat.beat(["a"])
    assert heartbeat.reaches_now("a")
    assert net.regained == ["a"]
    assert heartbeat.reaches_now("unknown")


def test_what_is_to_be_done_by_a_worker_that_is_back_finds_it_so() -> None:
    net, found = Net(), list[bool]()
    heartbeat = Heartbeat(net.find_reachable, net.renew, lambda node: found.append(heartbeat.reached(node)))
    heartbeat.add("a")
    net.cut = {"a"}
    heartbeat.beat(["a"])
    net.cut = set()
    heartbeat.beat(["a"])
    assert found == [True]


def test_a_return_that_could_not_be_said_is_said_with_the_next_beat() -> None:
    net, said = Net(), list[str]()

    def regain(node: str) -> None:
        said.append(node)
        if len(said) == 1:
            raise StoreUnavailable("no quorum")

    heartbeat = Heartbeat(net.find_reachable, net.renew, regain)
    heartbeat.add("a")
    net.cut = {"a"}
    heartbeat.beat(["a"])
    net.cut = set()
    heartbeat.beat(["a"])
    assert not heartbeat.reached("a")
    heartbeat.beat(["a"])
    heartbeat.beat(["a"])
    assert heartbeat.reached("a")
    assert said == ["a", "a"]


def test_a_wall_clock_that_jumps_changes_no_beat() -> None:
    """By a year, back and forth: what is due is a matter of the steady clock; Leases say what the wall clock says."""
    net, beaten, walls = Net(), threading.Semaphore(0), itertools.cycle([1e9, 1e9 + 3e7, 1e9 - 3e7])
    moments: list[float] = []

    def renew(_: str) -> None:
        moments.append(time.monotonic())
        beaten.release()

    heartbeat = Heartbeat(net.find_reachable, renew, net.regained.append, every=0.05, wall=lambda: next(walls))
    heartbeat.add("a")
    heartbeat.start()
    try:
        for _ in range(6):
            assert beaten.acquire(timeout=10)
    finally:
        heartbeat.stop()
    assert moments[5] - moments[0] >= 0.2, "no beat is made up for"
    assert net.regained == []


def test_a_store_that_does_not_answer_ends_no_heartbeat() -> None:
    net = Net()
    heartbeat = net.heartbeat()
    heartbeat.add("a")
    net.broken = True
    heartbeat.beat(["a"])
    net.broken = False
    heartbeat.beat(["a"])
    assert net.renewed == ["a"]


def test_the_thread_beats_and_stops() -> None:
    net, beaten = Net(), threading.Event()
    net.renew = lambda node: beaten.set()  # type: ignore[method-assign]
    heartbeat = net.heartbeat(every=0.01)
    heartbeat.add("a")
    heartbeat.start()
    assert beaten.wait(10)
    heartbeat.stop()
    heartbeat.stop()

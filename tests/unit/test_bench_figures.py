"""What samples come to: medians, ratios, targets, and what speaks against them."""

from __future__ import annotations

import json

import pytest

from knetsim.bench.figures import Figure, Machine, Samples, Target, explain_noise, median_parts


def build_machine(load: float = 0.1, after: float = 2.0, stolen: float | None = 0.0, arp_full: int = 0) -> Machine:
    return Machine(2, "a processor", 8000, "6.1", "Debian", (load, after), stolen, arp_full)


def build_figure(measured: list[float], floor: list[float] | None = None, target: Target | None = None) -> Figure:
    return Figure("start", "a start", "s", Samples.of(measured), Samples.of(floor) if floor else None, target=target)


def test_samples() -> None:
    samples = Samples.of([3.0, 1.0, 2.0])
    assert samples.median == 2.0
    assert samples.spread == 3.0
    assert samples.to_json() == {"median": 2.0, "min": 1.0, "max": 3.0, "samples": [3.0, 1.0, 2.0]}


def test_samples_of_nothing_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="without a value"):
        Samples.of([])


def test_the_ratio_is_that_of_the_medians() -> None:
    assert build_figure([4.0, 100.0, 5.0], [2.0, 1.0, 90.0]).ratio == 2.5
    assert build_figure([4.0]).ratio is None
    assert build_figure([4.0], [0.0]).ratio is None


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("≤", 5.0), True),
        (Target("≤", 4.9), False),
        (Target("≥", 5.0), True),
        (Target("≤", 2.5, of="ratio"), True),
        (Target("≤", 2.4, of="ratio"), False),
        (Target("≥", 2.6, of="ratio"), False),
        (None, None),
    ],
)
def test_targets(target: Target | None, met: bool | None) -> None:
    assert build_figure([5.0], [2.0], target).met is met


def test_a_target_of_a_ratio_is_missed_without_a_floor() -> None:
    assert build_figure([5.0], None, Target("≤", 2.5, of="ratio")).met is False


def test_json_holds_every_sample_and_nothing_else_than_json() -> None:
    figure = build_figure([1.23456789, 2.0], [1.0], Target("≤", 2.5, of="ratio"))
    told = json.loads(json.dumps(figure.to_json()))
    assert told["measured"] == {"median": 1.6173, "min": 1.2346, "max": 2.0, "samples": [1.2346, 2.0]}
    assert told["floor"] == {"of": "", "median": 1.0, "min": 1.0, "max": 1.0, "samples": [1.0]}
    assert (told["ratio"], told["met"]) == (1.6173, True)
    assert told["target"] == {"relation": "≤", "bound": 2.5, "of": "ratio"}


def test_a_quiet_machine_with_even_floors_is_no_noise() -> None:
    assert explain_noise(build_machine(), [build_figure([9.0, 1.0], [1.0, 1.4])]) == []


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (build_machine(load=0.7), "load average was 0.7 before the first run"),
        (build_machine(after=4.2), "load average was 4.2 after the last run"),
        (build_machine(stolen=0.05), "gave 5% of the time to others"),
        (build_machine(arp_full=12), "ARP table was full 12 times"),
    ],
)
def test_noise_of_the_machine(machine: Machine, words: str) -> None:
    (reason,) = explain_noise(machine, [])
    assert words in reason


def test_noise_of_a_floor() -> None:
    (reason,) = explain_noise(build_machine(stolen=None), [build_figure([1.0], [1.0, 1.8])])
    assert reason == "the floor of 'start' was up to 1.8 times its smallest"


def test_noise_of_a_figure_without_a_floor() -> None:
    (reason,) = explain_noise(build_machine(), [build_figure([1.0, 4.0])])
    assert reason == "'start' was up to 4.0 times its smallest"


def test_parts_keep_their_order_and_may_be_missing_in_a_run() -> None:
    parts = median_parts([{"b": 1.0, "a": 4.0}, {"b": 3.0, "c": 7.0}, {"b": 2.0, "a": 2.0}])
    assert list(parts.items()) == [("b", 2.0), ("a", 3.0), ("c", 7.0)]

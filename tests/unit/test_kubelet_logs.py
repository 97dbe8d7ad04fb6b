"""The part of a container's log that somebody asks for, in a kubelet's words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from knetsim.errors import InputError, NotFound
from knetsim.node.kubelet_api.log_reading import LogFile, LogText, LogWish, find_tail, read_log_wish
from knetsim.node.kubelet_api.logs import choose_previous

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
RECORDS = [
    b"2023-11-14T22:13:10.000000001Z stdout F one",
    b"2023-11-14T22:13:15.000000002Z stderr P two, ",
    b"2023-11-14T22:13:16.000000003Z stderr F still two",
    b"2023-11-14T22:13:17.000000004Z stdout F ",
]


def render(**query: str) -> bytes:
    return LogText(read_log_wish(MultiDict(query), NOW)).render(RECORDS)


def test_lines_are_put_together() -> None:
    assert render() == b"one\ntwo, still two\n\n"


def test_times_stand_before_lines_and_not_before_their_parts() -> None:
    lines = render(timestamps="true").splitlines()
    assert lines[1] == b"2023-11-14T22:13:15.000000002Z two, still two" and len(lines) == 3


def test_one_stream() -> None:
    assert render(stream="Stdout") == b"one\n\n"


@pytest.mark.parametrize(
    "query",
    [
        {"sinceSeconds": "5"},
        {"sinceTime": "2023-11-14T22:13:15Z"},
        {"sinceTime": "2023-11-14T23:13:15.000000002+01:00"},
        {"sinceTime": "2023-11-14T22:13:10.1Z"},
    ],
)
def test_since(query: dict[str, str]) -> None:
    assert render(**query) == b"two, still two\n\n"


def test_the_limit_holds_over_all_calls() -> None:
    text = LogText(LogWish(limit=6))
    assert text.render(RECORDS[:1]) == b"one\n" and not text.full
    assert text.render(RECORDS[1:]) == b"tw" and text.full
    assert text.render(RECORDS) == b""


@pytest.mark.parametrize(
    "query", [{"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceTime": "yesterday"}, {"stream": "both"}]
)
def test_what_cannot_be_meant_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(query))):
        read_log_wish(MultiDict(query), NOW)


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))), st.integers(0, 12), st.booleans())
def test_the_tail_is_the_last_records(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], count: int, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "tail"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + (b"rest" if cut else b""))
    log = LogFile(str(path), count)
    try:
        wanted = lines[len(lines) - min(count, len(lines)) :]
        if count:
            assert (log.read() or []) == wanted
    finally:
        log.close()


def test_the_tail_of_a_long_file(tmp_path: Path) -> None:
    lines = [b"%06d" % number + b"x" * 93 for number in range(20_000)]  # several blocks
    path = tmp_path / "log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with open(path, "rb", buffering=0) as file:
        for count in (1, 655, 656, 5_000, 19_999, 20_000, 30_000):
            assert find_tail(file, count) == max(0, 20_000 - count) * 100


def test_a_log_is_read_on_after_it_was_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"one\ntw")
    log = LogFile(str(path))
    assert log.read() == [b"one"]
    assert log.read() is None
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    path.rename(tmp_path / "0.log.aside")
    path.write_bytes(b"four\n")
    read = []
    while (records := log.read()) is not None:
        read += records
    log.close()
    assert read == [b"two", b"three", b"four"]


ENDED = {"terminated": {"exitCode": 1}}


@pytest.mark.parametrize(
    ("status", "previous", "chosen"),
    [
        ({"state": {"running": {}}}, False, False),
        ({"state": ENDED}, False, False),
        ({"state": {"running": {}}, "lastState": ENDED}, True, True),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}, False, False),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}, True, False),
    ],
)
def test_which_run_is_meant(status: dict[str, object], previous: bool, chosen: bool) -> None:
    assert choose_previous(status, "p", "c", previous) is chosen


@pytest.mark.parametrize(
    ("status", "previous", "words"),
    [
        ({}, False, 'container "c" in pod "p" is not available'),
        ({"state": {"running": {}}}, True, 'previous terminated container "c" in pod "p" not found'),
        (
            {"state": {"waiting": {"reason": "ContainerCreating"}}},
            False,
            'container "c" in pod "p" is waiting to start: ContainerCreating',
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
            False,
            'container "c" in pod "p" is waiting to start: trying and failing to pull image',
        ),
    ],
)
def test_there_is_no_log(status: dict[str, object], previous: bool, words: str) -> None:
    with pytest.raises(NotFound) as refused:
        choose_previous(status, "p", "c", previous)
    assert refused.value.what == words

"""Pages against simulations: every kind of place, every trouble, and nothing left however a lesson ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from knetsim.names import HOST_STATE
from knetsim.system.terminal import Terminal
from knetsim.system.wait import wait_until
from tests.lab.lab import CHECKOUT, KNETSIM, START_SECONDS

pytestmark = pytest.mark.timeout(300)

SCENARIO = """\
apiVersion: knetsim.io/v1
kind: Scenario
metadata: {name: small}
spec:
  clusters:
    - {name: C0, workers: 2, controlPlane: embedded, etcd: {members: 1}, podNetwork: {agent: embedded}}
"""
#: every kind of place; a slide a topic
PLACES = """\
---
marp: true
scenario: SCENARIO
---

# 0 The prompt

<!-- run: mininet | expect: 1 received, 0% packet loss -->
```console
mininet> C0w1 ping -c 1 C0w2
```

<!-- run: mininet -->
```console
mininet> px answer = 42
mininet> py answer
42
mininet> # a comment
```

<!-- run: mininet | exit: fails | expect: no pod 'c9' in C0 -->
```console
mininet> py C0w1.exec_container("c9", "true")
```

<!-- run: mininet | interrupt: icmp_seq=2 | expect: 2 received -->
```console
mininet> C0w1 ping -i 0.2 C0w2
```

---

# 1 Pods

<!-- run: mininet | expect: ^11\\.\\d+\\.\\d+\\.\\d+$ -->
```console
mininet> py C0w1.create_container("a", "sleep 100000")
mininet> py C0w2.create_container("b", "sleep 100000")
```

<!-- run: C0/a | expect: ^default via 11\\. -->
```console
0:w1:a> cd /tmp
0:w1:a> ip route
```

<!-- run: C0w1/a -->
```console
0:w1:a> hostname
a
```

<!-- run: shell -->
```console
$ sudo ./utils/exec 0 w1 a -- hostname
a
```

---

# 2 A packet

<!-- run: mininet | type: px b = C0.get("w2").pod_ip("b") -->

<!-- run: C0w2 | background: dump | expect: listening on -->
```console
0:w2> tcpdump -ni C0w2-eth0 udp port 8472
```

<!-- run: mininet | eventually: 30s | expect: 2 received, 0% packet loss -->
```console
mininet> py C0w1.exec_container("a", f"ping -c 2 {b}")
```

<!-- watch: dump | expect: ICMP echo request.* seq 2 -->
<!-- end: dump | expect: ICMP echo reply.* seq 2 -->

<!-- file: c.yaml -->
```yaml
apiVersion: v1
kind: Pod
metadata: {name: c}
spec: {containers: [{name: main, image: registry.k8s.io/pause}]}
```

<!-- run: shell | expect: ^Pod c: created -->
```bash
sudo ./utils/knetsim apply -f c.yaml
```

<!-- run: mininet | eventually: 30s | expect: ^\\['a'.*'c' -->
```console
mininet> py sorted(C0w1.containers + C0w2.containers)
```
"""
TROUBLES = """\
<!-- scenario: SCENARIO -->

# Troubles

## At the prompt

<!-- run: mininet | within: 1s -->
```console
mininet> C0w1 sh -c 'trap "" INT; echo begun; sleep 100000'
```

<!-- run: mininet | within: 1s -->
```console
mininet> px while True: pass
```

<!-- run: mininet | expect: the prompt goes on -->
```console
mininet> C0w1 echo the prompt goes on
```

<!-- run: C0/nobody | expect: anything -->
```console
0:w1:nobody> ip route
```

## After the end

<!-- run: mininet -->
```console
mininet> exit
```

<!-- run: mininet | expect: C0 -->
```console
mininet> status
```

<!-- run: shell | expect: ^on -->
```console
$ echo on
```
"""


@contextmanager
def page(folder: Path, text: str) -> Iterator[Path]:
    """A page about a small scenario."""
    (folder / "small.yaml").write_text(SCENARIO)
    file = folder / "page.md"
    file.write_text(text.replace("SCENARIO", str(folder / "small.yaml")))
    yield file
    assert not _own_simulations(), "a lesson has left its simulation"


def _own_simulations(owner: int | None = None) -> list[str]:
    """Simulations of lessons that our processes have started."""
    names = [path.name for path in Path(HOST_STATE).glob(f"lesson-{owner or '*'}")]
    return [name for name in names if owner or _is_ours(int(name.removeprefix("lesson-")))]


def _is_ours(pid: int) -> bool:
    return pid in _STARTED


_STARTED: set[int] = set()
AGAIN_SECONDS = 10


def lesson(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`knetsim lesson …` as a user would; 0 or 1."""
    process = _start(*words)
    output, error = process.communicate(stdin, timeout=2 * START_SECONDS)
    return subprocess.CompletedProcess(words, process.returncode, output, error)


def _start(*words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*KNETSIM, "lesson", *words], cwd=CHECKOUT, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _STARTED.add(process.pid)
    return process


def test_every_kind_of_place(tmp_path: Path) -> None:
    with page(tmp_path, PLACES) as file:
        done = lesson("test", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"page.md: 16 of 16 blocks as expected in \d+ s$", done.stdout.strip()), done.stdout


def test_every_trouble_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    with page(tmp_path, TROUBLES) as file:
        done = lesson("test", str(file), "-o", "json")
    assert done.returncode == 1
    told: list[Mapping[str, Any]] = json.loads(done.stdout)
    late = ["it did not end in 1 s, and was ended"]
    assert [one["differs"] for one in told[:3]] == [late, late, []]
    assert "begun" in told[0]["seen"]
    assert told[3]["differs"] == ["no shell answers"]
    assert "no pod 'nobody' in C0" in told[3]["seen"]
    assert told[4]["good"]
    assert told[5]["missing"] == "no simulation runs"
    assert told[6]["good"]
    assert {one["line"] for one in told if not one["good"]} == {9, 14, 24, 35}


@pytest.mark.parametrize(
    ("before", "after", "slide"),
    [
        ("1 received, 0% packet loss", "2 received, 0% packet loss", 1),
        ("<!-- run: C0w2 | background", "<!-- run: C0w1 | type: sysctl -w net.ipv4.ip_forward=0 -->\n\\g<0>", 3),
    ],
)
def test_what_is_changed_or_broken_makes_the_right_block_fail(
    tmp_path: Path, before: str, after: str, slide: int
) -> None:
    text = re.sub(re.escape(before), after, PLACES, count=1).replace("eventually: 30s", "eventually: 3s")
    text = text.partition("<!-- watch")[0]
    with page(tmp_path, text) as file:
        done = lesson("test", str(file), "-o", "json")
    assert done.returncode == 1
    wrong = [one for one in json.loads(done.stdout) if not one["good"]]
    assert wrong[0]["slide"] == slide
    assert "ping" in wrong[0]["typed"][-1]
    assert "received, 0% packet loss" in wrong[0]["differs"][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_however_a_lesson_ends(tmp_path: Path, number: int) -> None:
    text = "<!-- scenario: SCENARIO -->\n<!-- run: shell | background: stubborn | expect: \\d+ stays -->\n"
    stays = "trap '' HUP INT TERM; echo $$ >STUBBORN; echo $$ stays; while sleep 1; do :; done"
    text += f"```bash\n{shlex.join(['bash', '-c', stays])}\n```\n"
    text += "<!-- run: C0w1 | type: touch BEGUN && sleep 100000 | within: 10min -->\n"
    stubborn = tmp_path / "stubborn"
    text = text.replace("BEGUN", str(tmp_path / "begun")).replace("STUBBORN", str(stubborn))
    with page(tmp_path, text) as file:
        process = _start("test", str(file))
        wait_until("the block", lambda: "" if (tmp_path / "begun").exists() else "its file", START_SECONDS)
        os.kill(process.pid, number)
        if number != signal.SIGKILL:
            os.kill(process.pid, number)  # people are impatient
        process.communicate(timeout=60)
        wait_until("the end", lambda: ", ".join(_own_simulations(process.pid)), 60)
    if number == signal.SIGKILL:
        os.kill(int(stubborn.read_text()), signal.SIGKILL)  # what is not of the simulation, and minds no hang-up
    else:
        command = Path("/proc", stubborn.read_text().strip(), "cmdline")
        assert not (command.exists() and command.read_bytes()), "of a process that has ended there is none"
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == expected[signal.Signals(number)]


def test_a_reader_goes_through_a_page(tmp_path: Path) -> None:
    typed = ["", "s", "! echo of the reader", "C0w1 ip route", "goto nowhere", "goto 2", "", "", "a", "chapters", "q"]
    with page(tmp_path, PLACES) as file:
        done = lesson("run", str(file), stdin="".join(f"{line}\n" for line in typed))
    assert done.returncode == 0, done.stderr
    first, _, second = done.stdout.partition("2 A packet")
    assert "mininet> C0w1 ping -c 1 C0w2" in first
    assert "1 received, 0% packet loss" in first
    assert "listening on" in second
    assert second.count("2 received, 0% packet loss") >= 2, "once on Enter, once again"
    assert "1 Pods" in second
    assert "unknown command 'C0w1'\n  try:   help, or to type it where the block runs: ! C0w1 ip route\n" in done.stderr
    assert "no chapter 'nowhere'" in done.stderr
    assert done.stderr.count("ready after") == 2


def test_ctrl_c_of_a_reader_ends_what_runs_and_not_the_lesson(tmp_path: Path) -> None:
    text = """\
    <!-- scenario: SCENARIO -->
    <!-- run: mininet | within: 10min | exit: any -->
    ```console
    mininet> C0w1 ping C0w2
    ```
    <!-- run: C0w1 | within: 10min | exit: any -->
    ```console
    C0w1> echo begun; sleep 100000
    ```
    <!-- run: mininet -->
    ```console
    mininet> C0w1 echo the end
    ```
    """
    env = {**os.environ, "TERM": "dumb"}
    with page(tmp_path, textwrap.dedent(text)) as file:
        terminal = Terminal([*KNETSIM, "lesson", "run", str(file)], env=env, cwd=CHECKOUT)
        try:
            _answer(terminal, "ready after", "", "icmp_seq=2")
            _interrupt(terminal, "C0w1> echo begun")
            _answer(terminal, "help> ", "", "begun")
            _interrupt(terminal, "C0w1 echo the end")
            _answer(terminal, "help> ", "", "That was all")
            _answer(terminal, "ends the simulation> ", "q", "ending the simulation")
            assert terminal.wait_for_exit(60) == 0
        finally:
            terminal.close(60)
    assert re.search(r"[2-9] received, 0% packet loss", terminal.text)
    assert "interrupted" not in terminal.text


def test_a_reader_gets_a_line_back_by_the_arrow_key(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- scenario: none -->\n<!-- run: shell -->\n```console\n$ true\n```\n")
    env = {**os.environ, "TERM": "dumb"}
    terminal = Terminal([*KNETSIM, "lesson", "run", str(page)], env=env, cwd=CHECKOUT)
    try:
        _answer(terminal, "help> ", "! echo $((6 * 7))", "42")
        _answer(terminal, "help> ", "\x1b[A", "42")
        terminal.type("q")
        assert terminal.wait_for_exit(60) == 0
        assert "simulation" not in terminal.text, "there is none"
    finally:
        terminal.close(60)


def _answer(terminal: Terminal, question: str, line: str, reaction: str) -> None:
    """Wait for the last thing that is printed, type a line, and wait for what comes of it."""
    assert terminal.wait(lambda text: question in text[-2000:], START_SECONDS), terminal.text
    terminal.wait(lambda text: text.endswith("> "), START_SECONDS)
    before = len(terminal.text)
    terminal.type(line)
    assert terminal.wait(lambda text: reaction in text[before:], START_SECONDS), terminal.text


def _interrupt(terminal: Terminal, reaction: str) -> None:
    """Ctrl-C, and again as people do: a shell that is about to start a program may hear it alone."""
    before = len(terminal.text)
    for _ in range(START_SECONDS // AGAIN_SECONDS):
        terminal.interrupt()
        if terminal.wait(lambda text: reaction in text[before:], AGAIN_SECONDS):
            return
    raise AssertionError(terminal.text)

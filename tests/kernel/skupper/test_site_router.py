"""A site's router as knetsim runs it: started, changed, killed, ended; with either kind of router."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from knetsim.dataplane.skupper import (
    Certificates,
    NeighbourLink,
    NeighbourPort,
    OfferedService,
    RouterPlan,
    RouterState,
    ServedService,
)
from knetsim.dataplane.skupper.certificates import build_authority, issue
from knetsim.errors import NotReady
from knetsim.node.skupper.router import RouterKind, SiteRouter
from knetsim.system.daemon import Supervisor
from knetsim.system.netns import Namespaces, entered
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.kernel.skupper.net import EMBEDDED, HOST, REAL, SECONDS, RouterNet, is_missing, read_all, say

pytestmark = pytest.mark.usefixtures("no_leaks")

PORT = 8001
SITES = ("C0", "C1")


class Sites:
    """Routers of two clusters, in one network namespace: each has ports of its own."""

    def __init__(self, routers: RouterNet, kind: RouterKind, stack: ExitStack) -> None:
        self.net, self.directory = routers, routers.directory / "skupper"
        self.supervisor = Supervisor()
        stack.callback(self.supervisor.close)
        self.routers = {
            cluster: SiteRouter(cluster, f"{cluster}w1", routers.place, self.directory, self.supervisor, kind)
            for cluster in SITES
        }
        for router in self.routers.values():
            stack.callback(router.stop)

    def plan(self, cluster: str, **more: object) -> RouterPlan:
        number = SITES.index(cluster)
        own = RouterPlan(f"{cluster}-router", management_port=5672 + number, health_port=9090 + number)
        return replace(own, **more)  # type: ignore[arg-type]

    def pid(self, cluster: str) -> int | None:
        """The daemon's, by the name that `knetsim status` shows."""
        found = [one.pid for one in self.supervisor.status() if one.name.startswith(f"{cluster}w1/")]
        return found[0] if found else None

    def apply(self, plan: RouterPlan, files: dict[str, bytes] | None = None) -> list[str]:
        """As the controller does, until the router takes it."""
        done: list[list[str]] = []

        def missing() -> str:
            try:
                done.append(self.routers[plan.router[:2]].apply(plan, files or {}))
            except NotReady as error:
                return str(error)
            return ""

        wait_until(f"a change of {plan.router}", missing, SECONDS)
        return done[-1]

    def wait_state(self, cluster: str, what: str, check: Callable[[RouterState], object]) -> RouterState:
        states: list[RouterState] = []

        def missing() -> str:
            try:
                states.append(self.routers[cluster].read())
            except NotReady as error:
                return str(error)
            return "" if check(states[-1]) else str(states[-1])

        wait_until(what, missing, SECONDS)
        return states[-1]


def _kinds() -> list[object]:
    skip = pytest.mark.skipif(is_missing((REAL,)), reason="no skrouterd on this machine")
    return [pytest.param(EMBEDDED, id=EMBEDDED), pytest.param(REAL, id=REAL, marks=skip)]


@pytest.fixture(params=_kinds())
def sites(request: pytest.FixtureRequest, routers: RouterNet) -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(routers, request.param, stack)


def test_a_router_is_started_changed_killed_and_ended(sites: Sites) -> None:
    net = sites.net
    one, two = net.backend(say("one")), net.backend(say("two"))
    plan = sites.plan(
        "C0",
        served=(ServedService("one", "one", HOST, one.port), ServedService("two", "two", HOST, two.port)),
        offered=(OfferedService("web", "one", PORT, HOST),),
    )
    router = sites.routers["C0"]
    with pytest.raises(NotReady, match="it was not started"):
        router.read()
    name = next(iter(sites.apply(plan)))
    assert name in ("C0w1/skrouterd: started", "C0w1/skupper-router: started")
    assert sites.apply(plan) == []
    sites.wait_state("C0", "an open port", lambda state: state.listening == {"listener/web"})
    assert read_all(net.connect(PORT)) == b"one"
    pid = sites.pid("C0")
    assert b"skupper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    # what is changed is changed in the router that runs
    changed = replace(plan, offered=(OfferedService("web", "two", PORT, HOST),))
    assert sites.apply(changed) == ["tcpListener listener/web: changed"]
    assert sites.apply(changed) == []
    wait_until("the other backend", lambda: answer(net), SECONDS)
    assert sites.pid("C0") == pid
    # one that dies comes back with what is planned by now
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until("another process", lambda: "" if sites.pid("C0") not in (None, pid) else "not yet", SECONDS)
    sites.wait_state("C0", "an open port again", lambda state: state.listening == {"listener/web"})
    wait_until("the other backend", lambda: answer(net), SECONDS)
    assert sites.apply(changed) == []
    for _ in range(2):
        router.stop()
    assert sites.pid("C0") is None
    assert sorted(path.name for path in sites.directory.iterdir()) == ["0.log"]
    net.wait_closed(PORT)
    # and another time
    assert sites.apply(plan) == [name]
    sites.wait_state("C0", "an open port", lambda state: state.listening == {"listener/web"})


def answer(net: RouterNet) -> str:
    """Empty when the port leads to the second backend."""
    try:
        said = read_all(net.connect(PORT))
    except OSError as error:
        return str(error)
    return "" if said == b"two" else repr(said)


def test_what_cannot_be_changed_while_it_runs_starts_it_anew(sites: Sites) -> None:
    plan = sites.plan("C0", log_levels="debug+")
    sites.apply(plan)
    sites.wait_state("C0", "the router", lambda state: state.router == "C0-router")
    other = replace(plan, router="C0-other")
    assert sites.apply(other)[0].endswith(": restarted")
    sites.wait_state("C0", "the other name", lambda state: state.router == "C0-other")
    assert sites.apply(other) == []
    assert [one.last_exit for one in sites.supervisor.status()] in (["signal 15 (SIGTERM)"], ["exit 0"])


def test_sites_with_certificates_that_are_made_anew(sites: Sites) -> None:
    """The paths are the same and the plans too: only what lies there is another."""
    old, new = build_authority("old"), build_authority("new")

    def files(site: str, authority: dict[str, bytes]) -> dict[str, bytes]:
        usage, hosts = ("server", [HOST]) if site == "C0" else ("client", [])
        data = issue(authority, site, usage, hosts)  # type: ignore[arg-type]
        return {f"tls/{site}/{key}": content for key, content in data.items()}

    def profile(site: str) -> tuple[Certificates]:
        return (Certificates(site, *(f"tls/{site}/{key}" for key in ("ca.crt", "tls.crt", "tls.key"))),)

    first = sites.plan("C0", certificates=profile("C0"), ports=(NeighbourPort("access", 55671, HOST, 1, "C0"),))
    link = NeighbourLink("to-c0", HOST, 55671, 2, "C1")
    second = sites.plan("C1", certificates=profile("C1"), links=(link,))
    sites.apply(first, files("C0", old))
    sites.apply(second, files("C1", old))
    state = sites.wait_state("C1", "the link", lambda state: state.nodes)
    assert state.links["to-c0"] == (True, "C0-router", "")
    assert sites.wait_state("C0", "the link", lambda state: state.nodes).incoming.keys() == {"C1-router"}
    pids = [sites.pid(site) for site in SITES]
    keys = [path for path in sites.directory.rglob("*") if path.is_file() and path.name == "tls.key"]
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600, 0o600]
    assert sites.apply(first, files("C0", old)) != []  # issued again
    renewed = files("C0", new)
    assert sites.apply(first, renewed) == ["sslProfile C0: changed", "listener access: changed"]
    assert sites.apply(first, renewed) == []
    # who dials with what the old authority has signed is not let in
    mixed = files("C1", old)
    sites.apply(second, mixed)
    sites.wait_state("C1", "no link", lambda state: not state.links["to-c0"].up and state.links["to-c0"].detail)
    sites.apply(second, files("C1", new))
    sites.wait_state("C1", "the link again", lambda state: state.links["to-c0"].up and state.nodes)
    assert [sites.pid(site) for site in SITES] == pids
    # without certificates their files are gone too
    sites.apply(sites.plan("C1"), {})
    assert [path for path in (sites.directory / "1").rglob("*") if path.is_file()] == []


def test_a_router_that_cannot_run_says_why(routers: RouterNet) -> None:
    taken = routers.backend(say("taken"))
    with ExitStack() as stack:
        sites = Sites(routers, EMBEDDED, stack)
        plan = sites.plan("C0", ports=(NeighbourPort("access", taken.port, HOST),))
        sites.routers["C0"].apply(plan, {})
        said: list[str] = []

        def missing() -> str:
            with pytest.raises(NotReady) as caught:
                sites.routers["C0"].read()
            said.append(str(caught.value))
            return "" if "does not run" in said[-1] else said[-1]

        wait_until("the end of the router", missing, SECONDS)
        assert said[-1].startswith("C0w1/skupper-router: the router does not run: exit 1; ")
        assert f"listener 'access': cannot listen at {HOST}:{taken.port}: Address already in use" in said[-1]
        # the next plan is taken by the next attempt
        sites.apply(sites.plan("C0"))
        sites.wait_state("C0", "the router", lambda state: state.router == "C0-router")


def test_the_tools_of_skupper_work_on_the_worker(sites: Sites) -> None:
    if find_program("skstat") is None:
        pytest.skip("no skstat on this machine")
    plan = sites.plan("C0", ports=(NeighbourPort("access", 55671, HOST),))
    sites.apply(plan)
    served = (ServedService("web", "web", HOST, 9),)
    sites.apply(sites.plan("C1", links=(NeighbourLink("to-c0", HOST, 55671, 2),), served=served))
    sites.wait_state("C0", "the other site", lambda state: state.addresses.get("web") == (0, 1))
    assert lines_of(run_tool(sites.net.place, "skstat", "-n"), "C0-router", "(self)") == 1
    assert lines_of(run_tool(sites.net.place, "skstat", "-n"), "C1-router") == 1
    assert lines_of(run_tool(sites.net.place, "skstat", "-c"), "C1-router", "inter-router") >= 1
    assert lines_of(run_tool(sites.net.place, "skstat", "-a"), "web", "balanced") == 1
    assert lines_of(run_tool(sites.net.place, "skstat", "-l"), "router-control") == 2
    assert "C0-router" in run_tool(sites.net.place, "skstat", "-g")
    assert lines_of(run_tool(sites.net.place, "skmanage", "query", "--type", "listener"), '"name": "access"') == 1
    for command in ("get-types", "get-attributes", "get-operations", "get-mgmt-nodes", "get-log", "get-schema"):
        assert json.loads(run_tool(sites.net.place, "skmanage", command))
    # by one router, of another one
    there = run_tool(sites.net.place, "skstat", "-r", "C1-router", "-a")
    assert lines_of(there, "web", "balanced") == 1
    attributes = ("type=tcpListener", "name=mine", f"port={PORT}", "address=web")
    run_tool(sites.net.place, "skmanage", "create", *attributes)
    assert sites.wait_state("C0", "the listener", lambda state: state.listening).listening == {"mine"}
    # what nobody planned goes with the next look
    assert sites.apply(plan) == ["tcpListener mine: deleted"]


def run_tool(place: Namespaces, name: str, *arguments: str) -> str:
    """What skstat or skmanage prints on the worker, without being told where the router listens."""
    tool = find_program(name)
    assert tool is not None
    library = tool.resolve().parents[1] / "lib/skupper-router/python"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(library)}
    with entered(place):
        return subprocess.run(
            ["/usr/bin/python3", str(tool), *arguments],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        ).stdout


def lines_of(text: str, *words: str) -> int:
    """How many lines hold all of these words."""
    return sum(all(word in line for word in words) for line in text.splitlines())

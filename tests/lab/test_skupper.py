"""Clusters linked by Skupper: services of one used from another, with either router at either end.

One module-wide simulation for each pair of routers; the tests leave it as they found it. Pods of both clusters have
addresses of one and the same pod network, on purpose.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from knetsim import names
from knetsim.errors import NotFound
from knetsim.status import SiteState
from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import SETTLE_SECONDS, Lab, knetsim, running, wait_to_find
from tests.status_shape import explain_mismatch

#: routers of C0 and C1
PAIRS = [("embedded", "embedded"), ("skrouterd", "embedded"), ("embedded", "skrouterd"), ("skrouterd", "skrouterd")]
SMALL = {"controlPlane": "embedded", "etcd": {"members": 1}, "dns": {"server": "embedded"}}
NETWORK = {"agent": "embedded", "cni": "native"}
SERVER = """\
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec:
  nodeName: NODE
  containers:
    - {name: main, image: busybox, command: [sh, -c, "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"]}
"""  # noqa: E501
CLIENT = """\
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers: [{name: main, image: busybox, command: [sleep, "100000"]}]
"""
BY_NAME, BY_PORT = "http://backend:8080", "http://10.2.1.1:1028"


def require(kinds: tuple[str, ...]) -> None:
    if "skrouterd" in kinds and find_program("skrouterd") is None:
        pytest.skip("skrouterd is not installed")


def build_scenario(kinds: tuple[str, str], directory: Path) -> str:
    (directory / "pods/C0").mkdir(parents=True)
    (directory / "pods/C1").mkdir()
    servers = [
        SERVER.replace("NAME", "one").replace("NODE", "c0w1"),
        SERVER.replace("NAME", "two").replace("NODE", "c0w2"),
    ]
    (directory / "pods/C0/pods.yaml").write_text("---\n".join(servers))
    (directory / "pods/C1/pods.yaml").write_text(CLIENT)
    clusters = [{"name": name, "workers": 2, "podNetwork": NETWORK, **SMALL} for name in ("C0", "C1")]
    multicluster = {
        "sites": [{"cluster": f"C{number}", "router": kind} for number, kind in enumerate(kinds)],
        "links": [{"from": "C1", "to": "C0"}],
        "services": [
            {
                "routingKey": "backend",
                "connectors": [{"cluster": "C0", "selector": {"app": "web"}, "port": 8080}],
                "listeners": [
                    {"cluster": "C1", "host": "backend", "port": 8080},
                    {"cluster": "C1", "host": "0.0.0.0", "port": 1028},
                ],
            }
        ],
    }
    document = {
        "apiVersion": "knetsim.io/v1",
        "kind": "Scenario",
        "metadata": {"name": "skupper"},
        "spec": {"clusters": clusters, "multicluster": multicluster, "manifests": ["pods/"]},
    }
    return yaml.safe_dump(document, sort_keys=False)


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def kinds(request: pytest.FixtureRequest) -> tuple[str, str]:
    require(request.param)
    first, second = request.param
    return first, second


@pytest.fixture(scope="module")
def lab(kinds: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("skupper")
    with running(build_scenario(kinds, directory), directory) as lab:
        yield lab


def ask(lab: Lab, url: str, times: int = 1) -> set[str]:
    """What the client in C1 is answered, or `nothing`."""
    script = f"for i in $(seq {times}); do timeout 5 wget -qO- {url} 2>/dev/null || echo nothing; done"
    return set(lab.exec("C1/client", "sh", "-c", script, timeout=60 + 5 * times).stdout.split())


def wait_served(lab: Lab, *names: str, url: str = BY_NAME) -> None:
    """Wait until all of these answer, and nobody else."""
    wait_to_find(f"who answers {url}", lambda: ask(lab, url, 12), set(names))


def wait_refused(lab: Lab, url: str = BY_NAME) -> None:
    """Wait until nobody answers."""
    wait_to_find(f"who answers {url}", lambda: ask(lab, url), {"nothing"})


def read_sites(lab: Lab) -> list[Any]:
    found = json.loads(knetsim("link", "status", "--name", lab.name, "-o", "json").stdout)
    assert [line for site in found for line in explain_mismatch(site, SiteState)] == []
    return list(found)


def read_object(lab: Lab, cluster: str, kind: str, name: str) -> Any:
    """An object as it is stored; the embedded control plane keeps JSON."""
    plural = {"Listener": "listeners", "Link": "links", "AccessToken": "accesstokens", "Connector": "connectors"}[kind]
    key = f"/registry/skupper.io/{plural}/default/{name}"
    text = lab.exec(f"{cluster}e1", "etcdctl", "get", key, "--print-value-only").stdout
    if not text.strip():
        raise NotFound(key)
    return json.loads(text)


def wait_condition(lab: Lab, cluster: str, kind: str, name: str, condition: str, wanted: str) -> None:
    def read() -> str:
        conditions = (read_object(lab, cluster, kind, name).get("status") or {}).get("conditions", ())
        return next((one["status"] for one in conditions if one["type"] == condition), "not told")

    wait_to_find(f"{condition} of {kind} {name}", read, wanted)


def test_a_service_of_one_cluster_is_used_from_the_other(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    wait_served(lab, "one", "two", url=BY_PORT)


def test_what_is_written_is_where_learners_look(lab: Lab, kinds: tuple[str, str]) -> None:
    wait_served(lab, "one", "two")
    files = set(lab.exec("C0w1", "ls", "/tmp/knetsim/skupper").stdout.split())
    assert {"0.json", "0.log", "1.json", "1.log"} <= files
    shown = lab.exec("C0w1", "ps", "auxww").stdout
    for number, kind in enumerate(kinds):
        program = "skrouterd" if kind == "skrouterd" else r"skupper\.router"
        assert re.search(rf"{program}\b.* -c /tmp/knetsim/skupper/{number}\.json$", shown, re.MULTILINE), shown


def test_link_status_tells_who_serves_whom(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    first, second = read_sites(lab)
    assert (first["name"], second["name"]) == ("c0", "c1")
    assert [(link["name"], link["site"], link["up"]) for link in second["links"]] == [("to-c0", "c0", True)]
    assert {(each["open"], *each["servedBy"]) for each in second["listeners"]} == {(True, "c0")}
    assert [each["usedBy"] for each in first["connectors"]] == [["c1"]]
    assert len(first["connectors"][0]["backends"]) == 2
    assert [each["site"] for each in first["reaches"]] == ["c1"]
    assert lab.status()["state"] == "ready"


def test_statuses_say_that_both_sides_match(lab: Lab) -> None:
    wait_condition(lab, "C1", "Listener", "backend", "Ready", "True")
    wait_condition(lab, "C0", "Connector", "backend", "Ready", "True")
    wait_condition(lab, "C1", "Link", "to-c0", "Operational", "True")
    assert read_object(lab, "C1", "Link", "to-c0")["status"]["remoteSiteName"] == "c0"
    assert read_object(lab, "C1", "AccessToken", "to-c0")["status"]["redeemed"] is True


def test_a_pod_that_goes_serves_no_more_and_a_new_one_does(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    lab.py('C0.delete_pod("two")')
    wait_served(lab, "one")
    lab.apply(SERVER.replace("NAME", "two").replace("NODE", "c0w2"))
    wait_served(lab, "one", "two")


def test_a_router_that_is_killed_comes_back_and_serves(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    for site in read_sites(lab):
        name = f"{site['host']}/{'skrouterd' if site['kind'] == 'skrouterd' else 'skupper-router'}"
        before = lab.daemon(name)
        os.kill(lab.host_pid(before["pid"]), signal.SIGKILL)
        wait_until(f"{name} is started again", partial(explain_restart, lab, name, before), SETTLE_SECONDS)
        wait_served(lab, "one", "two")


def explain_restart(lab: Lab, name: str, before: Any) -> str:
    now = lab.daemon(name)
    return "" if now["restarts"] > before["restarts"] and now["running"] else f"it is {now}"


def test_a_link_whose_network_is_cut_is_told_and_comes_back(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    lab.line("link C1s0 t0 down")
    try:
        wait_refused(lab)
        wait_condition(lab, "C1", "Listener", "backend", "Matched", "False")
        wait_condition(lab, "C1", "Link", "to-c0", "Operational", "False")
    finally:
        lab.line("link C1s0 t0 up")
    wait_served(lab, "one", "two")
    wait_condition(lab, "C1", "Listener", "backend", "Matched", "True")


def test_a_routing_key_that_nobody_serves_is_told_until_somebody_does(lab: Lab) -> None:
    apply_to(lab, "C1", "Listener", "late", {"routingKey": "late", "host": "late", "port": 80})
    wait_condition(lab, "C1", "Listener", "late", "Matched", "False")
    wait_refused(lab, "http://late")
    apply_to(lab, "C0", "Connector", "late", {"routingKey": "late", "selector": "app=web", "port": 8080})
    wait_served(lab, "one", "two", url="http://late")
    wait_condition(lab, "C1", "Listener", "late", "Ready", "True")
    delete(lab, "C0", "Connector", "late")
    wait_condition(lab, "C1", "Listener", "late", "Matched", "False")
    wait_refused(lab, "http://late")
    delete(lab, "C1", "Listener", "late")
    wait_to_find("the Service", lambda: "late" in services(lab, "C1"), False)


def apply_to(lab: Lab, cluster: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    obj = {"apiVersion": names.SKUPPER_API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    words = ("apply", "--name", lab.name, "-c", cluster, "-f", "-")
    knetsim(*words, stdin=json.dumps(obj))


def delete(lab: Lab, cluster: str, kind: str, name: str) -> None:
    lab.py(f'{cluster}.store.delete("{kind}", "{name}")')


def services(lab: Lab, cluster: str) -> list[str]:
    keys = lab.exec(f"{cluster}e1", "etcdctl", "get", "/registry/services/specs/default/", "--prefix", "--keys-only")
    return [key.rpartition("/")[2] for key in keys.stdout.split()]


def test_eight_clients_at_a_time_are_all_answered(lab: Lab) -> None:
    wait_served(lab, "one", "two")
    answered: list[str] = []

    def ask_often() -> None:
        answered.extend(lab.curl("C1w2", f"-m 30 {BY_PORT}", 25).elements())

    threads = [threading.Thread(target=ask_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 200
    assert set(answered) == {"one", "two"}


def test_a_token_with_a_wrong_code_is_refused_and_told(lab: Lab) -> None:
    url = read_object(lab, "C1", "AccessToken", "to-c0")["spec"]["url"]
    apply_to(lab, "C1", "AccessToken", "bad", {"url": url, "code": "guessed", "ca": ""})
    wait_condition(lab, "C1", "AccessToken", "bad", "Redeemed", "False")
    with pytest.raises(NotFound):
        read_object(lab, "C1", "Link", "bad")
    delete(lab, "C1", "AccessToken", "bad")


def test_a_link_that_is_deleted_takes_the_service_away(lab: Lab) -> None:
    """Last: the token is used up, so the link is made anew by hand, from what was stored of it."""
    wait_served(lab, "one", "two")
    before = read_object(lab, "C1", "Link", "to-c0")
    delete(lab, "C1", "Link", "to-c0")
    wait_refused(lab)
    wait_condition(lab, "C1", "Listener", "backend", "Matched", "False")
    apply_to(lab, "C1", "Link", "again", before["spec"])
    wait_served(lab, "one", "two")
    wait_condition(lab, "C1", "Listener", "backend", "Matched", "True")
    wait_condition(lab, "C1", "Link", "again", "Ready", "True")


def test_the_first_knetsims_calls(tmp_path: Path) -> None:
    """`create_conf` and `start_skupper`, with its own list of services, typed at the prompt."""
    document = yaml.safe_load(build_scenario(("embedded", "embedded"), tmp_path))
    del document["spec"]["multicluster"]
    with running(yaml.safe_dump(document), tmp_path) as lab:
        refused = lab.py("create_conf(C0, [], [{'name': 'svc1'}])", check=False)
        assert "needs 'cluster'" in refused
        address = lab.py('C0.pod_ip("one")')
        services = [{"name": "svc1", "cluster": "0", "host": address, "port": "8080", "lport": 1028}]
        lab.py(f"create_conf(C0, svcs={services!r})")
        lab.py(f"create_conf(C1, [C0], {services!r})")
        assert lab.py("C0.start_skupper()") == "c0-C0w1"
        assert lab.py("C1.start_skupper()") == "c1-C1w1"
        wait_served(lab, "one", url=BY_PORT)
        assert lab.py("C0.start_skupper()") == "c0-C0w1"  # twice is once

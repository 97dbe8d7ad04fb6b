"""The tour of scenarios/services.yaml, as its first lines say it: every kind of Service, with either control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from knetsim.control_choice import has_kubernetes
from tests.lab.lab import CHECKOUT, TRIES, Lab, running

SCENARIO = CHECKOUT / "scenarios" / "services.yaml"
PODS = {"web-1", "web-2", "web-3"}


@pytest.fixture(scope="module", params=["kubernetes", "embedded"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if request.param == "kubernetes" and not has_kubernetes():
        pytest.skip("Kubernetes' control plane is not installed")
    document = yaml.safe_load(SCENARIO.read_text())
    document["spec"]["clusters"][0]["controlPlane"] = request.param
    document["spec"]["manifests"] = [str(SCENARIO.with_suffix(""))]
    with running(yaml.safe_dump(document), tmp_path_factory.mktemp("services")) as lab:
        yield lab


@pytest.mark.parametrize("place", ["C0w1", "C0w3", "C0/client"])
def test_addresses_for_inside(lab: Lab, place: str) -> None:
    lab.settle(place, "100.64.30.1", PODS)
    assert len(lab.curl(place, "100.64.30.2", TRIES)) == 1, "a client keeps its pod"
    own = {"C0w3": "web-3"}.get(place, "web-1")
    lab.settle(place, "100.64.30.3", {own})
    lab.settle(place, "100.64.30.8", {"exit 7"})


def test_addresses_for_outside(lab: Lab) -> None:
    for worker in (1, 2, 3):
        lab.settle("C0e1", f"10.1.1.{worker}:30080", PODS)
    lab.settle("C0e1", "10.1.255.10", PODS)
    lab.exec("C0e1", "ip", "route", "replace", "10.1.9.9", "via", "10.1.1.1")
    lab.settle("C0e1", "10.1.9.9", PODS)


def test_the_policy_local_shows_the_client(lab: Lab) -> None:
    (words,) = lab.curl("C0e1", "10.1.255.11/cgi-bin/who")
    assert words.endswith(" sees 10.1.0.1")
    assert not any("10.1.0.1" in words for words in lab.curl("C0e1", "10.1.1.1:30080/cgi-bin/who", TRIES))


def test_the_ingress_leads_on_by_host(lab: Lab) -> None:
    lab.settle("C0e1", "-H 'Host: shop.example.com' 10.1.1.1/web", PODS)
    lab.settle("C0e1", "-H 'Host: a.pods.example.com' 10.1.1.1/", PODS)
    assert lab.curl("C0e1", "-H 'Host: other.example.com' 10.1.1.1/web") == {"exit 22": 1}
    (words,) = lab.curl("C0e1", "-H 'Host: shop.example.com' 10.1.1.1/web/cgi-bin/who")
    assert words.partition(" ")[0] in PODS


def test_names_and_backends_by_hand(lab: Lab) -> None:
    assert '"health"' in lab.exec("C0w2", "curl", "-s", "-m", "3", "100.64.30.7:2379/health").stdout
    found = lab.exec("C0/client", "getent", "ahostsv4", "headless").stdout
    assert {lab.py(f'C0.pod_ip("{pod}")') for pod in PODS} == {line.split()[0] for line in found.splitlines()}
    problems = [problem["object"] for problem in lab.status()["problems"]]
    assert problems == ["Service C0/default/empty"]

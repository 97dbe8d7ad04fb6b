"""The runtime's side of CNI: what plugins get, in which order, and what becomes of what they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knetsim.dataplane.pod.cni import (
    Attachment,
    CniError,
    CniRuntime,
    Conflist,
    ResultCache,
    build_environment,
    build_request,
    parse_conflist,
)
from knetsim.errors import MissingTool, ObjectError
from knetsim.system import netns
from knetsim.system.netns import Namespaces

pytestmark = pytest.mark.usefixtures("no_leaks")

ATTACHMENT = Attachment("id-1", "/run/netns/k0_c1", "eth0", (("IgnoreUnknown", "1"), ("K8S_POD_NAME", "c1")))

#: a plugin that notes what it was given, and answers what stands beside it
PLUGIN = """\
#!/bin/sh
directory=$(dirname "$0")
{ echo "$CNI_COMMAND $(basename "$0")"; env | grep ^CNI_ | sort; hostname; cat; echo; } >> "$directory/log"
answer="$directory/$(basename "$0").$CNI_COMMAND"
[ -e "$answer" ] && cat "$answer"
[ ! -e "$answer.fails" ] || { echo "a word on standard error" >&2; exit 3; }
"""


@pytest.fixture
def place() -> Iterator[Namespaces]:
    place = netns.create_netns("C0w1", "C0w1")
    yield place
    place.close()


@pytest.fixture
def runtime(place: Namespaces, tmp_path: Path) -> CniRuntime:
    """A runtime that finds the plugins `first` and `second`, in a second directory."""
    for name in ("first", "second"):
        (tmp_path / name).write_text(PLUGIN)
        (tmp_path / name).chmod(0o755)
    return CniRuntime(place, [str(tmp_path / "empty"), str(tmp_path)])


def conflist(version: str = "0.4.0", **more: Any) -> Conflist:
    plugins = [{"type": "first", "key": 1, "capabilities": {"portMappings": True}}, {"type": "second"}]
    return parse_conflist(json.dumps({"name": "net", "cniVersion": version, "plugins": plugins, **more}), "x.conflist")


def answer(directory: Path, plugin: str, command: str, value: Any, fails: bool = False) -> None:
    (directory / f"{plugin}.{command}").write_text(value if isinstance(value, str) else json.dumps(value))
    if fails:
        (directory / f"{plugin}.{command}.fails").touch()


def calls(directory: Path) -> list[tuple[str, dict[str, Any]]]:
    """Command and plugin, and the configuration it got, of each call."""
    lines = (directory / "log").read_text().splitlines()
    heads = [line for line in lines if line.split(" ")[0] in ("ADD", "DEL", "CHECK")]
    return list(zip(heads, (json.loads(line) for line in lines if line.startswith("{")), strict=True))


def test_a_chain_is_added_in_order_and_deleted_in_reverse(runtime: CniRuntime, tmp_path: Path) -> None:
    first, second = {"ips": [1]}, {"ips": [2]}
    answer(tmp_path, "first", "ADD", first)
    answer(tmp_path, "second", "ADD", second)
    assert runtime.add(conflist(), ATTACHMENT) == second
    runtime.check(conflist(), ATTACHMENT, second)
    runtime.delete(conflist(), ATTACHMENT, second)
    whole = {"name": "net", "cniVersion": "0.4.0"}
    assert calls(tmp_path) == [
        ("ADD first", {"type": "first", "key": 1, **whole}),
        ("ADD second", {"type": "second", **whole, "prevResult": first}),
        ("CHECK first", {"type": "first", "key": 1, **whole, "prevResult": second}),
        ("CHECK second", {"type": "second", **whole, "prevResult": second}),
        ("DEL second", {"type": "second", **whole, "prevResult": second}),
        ("DEL first", {"type": "first", "key": 1, **whole, "prevResult": second}),
    ]


def test_plugins_run_in_the_workers_place_with_cnis_environment(runtime: CniRuntime, tmp_path: Path) -> None:
    runtime.delete(conflist(), ATTACHMENT, None)
    log = (tmp_path / "log").read_text()
    assert "\nC0w1\n" in log
    assert f"CNI_PATH={tmp_path}/empty:{tmp_path}\n" in log
    for line in (
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=c1",
        "CNI_CONTAINERID=id-1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/netns/k0_c1",
    ):
        assert line in log


def test_before_0_4_there_is_no_check_and_no_result_on_delete(runtime: CniRuntime, tmp_path: Path) -> None:
    old = conflist("0.3.1")
    runtime.check(old, ATTACHMENT, {})
    runtime.delete(old, ATTACHMENT, {"ips": []})
    assert [head for head, _ in calls(tmp_path)] == ["DEL second", "DEL first"]
    assert all("prevResult" not in request for _, request in calls(tmp_path))


def test_a_list_can_do_without_check(runtime: CniRuntime, tmp_path: Path) -> None:
    runtime.check(conflist(disableCheck=True), ATTACHMENT, {})
    assert not (tmp_path / "log").exists()


def test_an_error_keeps_the_plugins_words(runtime: CniRuntime, tmp_path: Path) -> None:
    answer(tmp_path, "first", "ADD", {"code": 7, "msg": "Invalid Configuration", "details": "too small"}, fails=True)
    with pytest.raises(CniError) as caught:
        runtime.add(conflist(), ATTACHMENT)
    error = caught.value
    assert str(error) == (
        "C0w1: the CNI plugin `first` failed on ADD: Invalid Configuration; too small; a word on standard error"
    )
    assert (error.cni_code, error.code, error.command, error.plugin) == (7, 3, "ADD", "first")
    assert error.argv[:2] == ("env", "CNI_COMMAND=ADD")
    assert error.argv[-1] == str(tmp_path / "first")
    assert [head for head, _ in calls(tmp_path)] == ["ADD first"], "the chain stops"


def test_an_answer_that_is_no_json_is_shown_as_it_is(runtime: CniRuntime, tmp_path: Path) -> None:
    answer(tmp_path, "second", "DEL", "segmentation fault", fails=True)
    with pytest.raises(CniError, match="segmentation fault; a word on standard error") as caught:
        runtime.delete(conflist(), ATTACHMENT, None)
    assert caught.value.cni_code is None


def test_a_missing_plugin_is_named_with_the_remedy(place: Namespaces, tmp_path: Path) -> None:
    with pytest.raises(MissingTool) as caught:
        CniRuntime(place, [str(tmp_path)]).add(conflist(), ATTACHMENT)
    assert caught.value.what == "no CNI plugin `first`"
    assert str(tmp_path) in caught.value.why
    assert "cni: native" in caught.value.hint


def test_a_result_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "results")
    assert cache.read(ATTACHMENT) is None
    cache.write(conflist(), ATTACHMENT, {"ips": [1]})
    kept = cache.read(ATTACHMENT)
    assert kept == (conflist(), {"ips": [1]})
    content = json.loads((tmp_path / "results" / "net-id-1-eth0").read_text())
    assert (content["kind"], content["containerId"], content["netns"]) == ("cniCacheV1", "id-1", "/run/netns/k0_c1")
    assert cache.results() == [{"ips": [1]}]
    cache.forget(ATTACHMENT)
    cache.forget(ATTACHMENT)
    assert cache.read(ATTACHMENT) is None
    (tmp_path / "results" / "net-id-1-eth0").write_text("{}")
    with pytest.raises(ObjectError, match="not a kept CNI result"):
        cache.read(ATTACHMENT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "`plugins` must be a list"),
        ('{"name": "n", "cniVersion": "0.4.0", "plugins": []}', "`plugins` must be a list"),
        ('{"name": "../n", "cniVersion": "0.4.0", "plugins": [{"type": "a"}]}', "`name` must be letters"),
        ('{"name": "n", "cniVersion": "0.2.0", "plugins": [{"type": "a"}]}', "must be 0.3.0 or newer, not '0.2.0'"),
        ('{"name": "n", "cniVersion": 1, "plugins": [{"type": "a"}]}', "must be 0.3.0 or newer, not 1"),
        ('{"name": "n", "cniVersion": "0.4.0", "plugins": [{"type": "a"}, {}]}', "`type` must be the name"),
        ('{"name": "n", "cniVersion": "0.4.0", "plugins": [{"type": "/bin/sh"}]}', "`type` must be the name"),
    ],
)
def test_a_list_that_the_specification_does_not_allow_is_refused(text: str, why: str) -> None:
    with pytest.raises(ObjectError) as caught:
        parse_conflist(text, "/tmp/x.conflist")
    assert why in caught.value.why
    assert caught.value.where == "/tmp/x.conflist"


def test_newer_versions_compare_as_numbers() -> None:
    assert parse_conflist(conflist("1.10.0").text, "x").has_check
    assert not parse_conflist(conflist("0.3.10").text, "x").has_check


def test_what_a_plugin_gets_is_pure() -> None:
    plugin = {"type": "first", "capabilities": {"portMappings": True}}
    assert build_request(conflist(), plugin, None) == {"type": "first", "name": "net", "cniVersion": "0.4.0"}
    assert plugin["capabilities"], "the configuration itself is left alone"
    assert build_environment("DEL", ATTACHMENT, ["/a", "/b"])["CNI_PATH"] == "/a:/b"

"""What a pod may ask about itself, what its variables and the files of its volumes are; nothing here needs a kernel."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from knetsim.api.objects import Object
from knetsim.errors import KnetsimError
from knetsim.node.kubelet.downward import Addresses, format_map, read_field, read_resource
from knetsim.node.kubelet.environment import ConfigError, build_env, expand_all
from knetsim.node.kubelet.quantities import divide_quantity, parse_quantity
from knetsim.node.kubelet.service_links import build_service_links
from knetsim.node.kubelet.volumes.host_tree import find_host_path, resolve_inside
from knetsim.node.kubelet.volumes.payload import File, Projection, build_payload
from knetsim.node.kubelet.volumes.tokens import Tokens
from knetsim.node.kubelet.volumes.writer import write_payload

HERE = Addresses("11.16.0.2", "10.1.1.1")
ALLOCATABLE = {"cpu": "2", "memory": "1000Ki", "ephemeral-storage": "10Gi"}


class Held:
    """Sources that a test fills."""

    def __init__(self, *objects: Object) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.asked: list[Object] = []
        self.expires = 1000.0
        self.broken = False

    def config_map(self, namespace: str, name: str) -> Object | None:
        return self.objects.get(("ConfigMap", name))

    def secret(self, namespace: str, name: str) -> Object | None:
        return self.objects.get(("Secret", name))

    def services(self) -> list[Object]:
        return [one for (kind, _), one in self.objects.items() if kind == "Service"]

    def allocatable(self, node: str) -> Mapping[str, str]:
        return ALLOCATABLE

    def token(self, namespace: str, account: str, body: Object) -> tuple[str, float]:
        if self.broken:
            raise KnetsimError("the API server is away")
        self.asked.append(body)
        return f"token {len(self.asked)}", self.expires


def pod(*containers: Object, metadata: Object | None = None, **spec: Any) -> Object:
    about = {"name": "c1", "namespace": "web", "uid": "0-1", **(metadata or {})}
    return {"kind": "Pod", "metadata": about, "spec": {"nodeName": "c0w1", "containers": list(containers), **spec}}


def service(called: str, namespace: str = "web", address: str = "100.64.0.9", **port: Any) -> Object:
    ports = [{"port": 80, "protocol": "TCP", **port}]
    about = {"name": called, "namespace": namespace}
    return {"kind": "Service", "metadata": about, "spec": {"clusterIP": address, "ports": ports}}


def config_map(**data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


# --- quantities, downward API


@pytest.mark.parametrize(
    ("quantity", "divisor", "milli", "number"),
    [
        ("250m", "1", True, 1),
        ("250m", "1m", True, 250),
        ("1500m", "0", True, 2),
        ("64Mi", "1Mi", False, 64),
        ("65M", "1Mi", False, 62),
        ("64Mi", None, False, 2**26),
    ],
)
def test_divisors_round_up(quantity: str, divisor: str | None, milli: bool, number: int) -> None:
    assert divide_quantity(quantity, divisor, milli=milli) == number


@pytest.mark.parametrize("text", ["", "x", "1X", "Mi", "1 Mi"])
def test_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


def test_fields() -> None:
    labels = {"b": "2", "a": 'x"\n\x01é\U0001f600'}
    one = pod(metadata={"labels": labels, "annotations": {"k.io/x": "y"}}, serviceAccountName="robot")
    assert format_map(labels) == 'a="x\\"\\n\\x01é😀"\nb="2"'
    asked = {
        "metadata.name": "c1",
        "metadata.uid": "0-1",
        "metadata.labels['b']": "2",
        "metadata.annotations['k.io/x']": "y",
        "metadata.annotations['none']": "",
        "spec.serviceAccountName": "robot",
        "status.podIPs": "11.16.0.2",
        "status.hostIP": "10.1.1.1",
    }
    assert {path: read_field(one, path, HERE) for path in asked} == asked
    with pytest.raises(KnetsimError, match=r"unsupported fieldPath: status\.podIP"):
        read_field(one, "status.podIP")


def test_resources() -> None:
    one = pod({"name": "main", "resources": {"requests": {"memory": "2Ki"}, "limits": {"cpu": "250m"}}})
    main = one["spec"]["containers"][0]
    assert read_resource(one, {"resource": "limits.cpu", "divisor": "1m"}, ALLOCATABLE, main) == "250"
    assert read_resource(one, {"resource": "limits.memory"}, ALLOCATABLE, main) == "1024000", "all that its Node has"
    assert read_resource(one, {"resource": "requests.memory", "containerName": "main"}, ALLOCATABLE) == "2048"
    assert read_resource(one, {"resource": "requests.cpu"}, ALLOCATABLE, main) == "0"
    for wrong, why in (
        ({"resource": "limits.gpu"}, "unsupported container resource"),
        ({"containerName": "x"}, "x not"),
    ):
        with pytest.raises(KnetsimError, match=why):
            read_resource(one, wrong, ALLOCATABLE, main)


# --- environment


def test_service_links() -> None:
    services = [
        service("my-db", name="main-port"),
        service("headless", address="None"),
        service("elsewhere", "other"),
        service("kubernetes", "default", "100.64.0.1", port=443),
    ]
    found = build_service_links(services, "web", links=True)
    assert found == {
        "KUBERNETES_SERVICE_HOST": "100.64.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_PORT": "tcp://100.64.0.1:443",
        "KUBERNETES_PORT_443_TCP": "tcp://100.64.0.1:443",
        "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_443_TCP_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": "100.64.0.1",
        "MY_DB_SERVICE_HOST": "100.64.0.9",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_MAIN_PORT": "80",
        "MY_DB_PORT": "tcp://100.64.0.9:80",
        "MY_DB_PORT_80_TCP": "tcp://100.64.0.9:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "100.64.0.9",
    }
    assert {name.split("_")[0] for name in build_service_links(services, "web", links=False)} == {"KUBERNETES"}


def test_later_variables_know_earlier_ones() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(HOSTNAME)$(DB_SERVICE_PORT)"},
        {"name": "A", "value": "$(A)2"},
        {"name": "EMPTY"},
    ]
    found = build_env(pod(), {"name": "main", "env": env}, Held(service("db")), HERE)
    assert {name: found[name] for name in "AB"} == {"A": "12", "B": "1$(HOSTNAME)80"}
    assert found["EMPTY"] == ""


@pytest.mark.parametrize(
    ("container", "why"),
    [
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, 'configmap "none" not found'),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "none" not found'),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}]},
            "couldn't find key k in ConfigMap web/settings",
        ),
        (
            {"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]},
            r"unsupported fieldPath: spec\.x",
        ),
        ({"env": [{"name": "X", "valueFrom": {"fileKeyRef": {}}}]}, r"does not carry out valueFrom\.fileKeyRef"),
    ],
)
def test_what_is_missing_is_named(container: Object, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build_env(pod(), container, Held(config_map(a="1")), HERE)


def test_what_is_optional_is_left_out() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "none", "optional": True}}, {"configMapRef": {"name": "settings"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k", "optional": True}}}],
    }
    assert build_env(pod(), container, Held(config_map(**{"a.b": "1"})), HERE) == {"a.b": "1"}


def test_a_path_needs_its_variables() -> None:
    assert expand_all("$(A)/$$(B)", {"A": "1"}) == "1/$(B)"
    with pytest.raises(ConfigError, match="missing value for B, C"):
        expand_all("$(C)$(A)$(B)", {"A": "1", "C": ""})


# --- volumes


def projection(one: Object, *objects: Object) -> Projection:
    sources = Held(*objects)
    return Projection(one, sources, Tokens(one, sources, lambda: 0.0).get)


def test_payload_of_a_config_map() -> None:
    held = {**config_map(a="1", b="2"), "binaryData": {"raw": base64.b64encode(b"\xff").decode()}}
    made = projection(pod(), held)
    source = {"name": "settings", "defaultMode": 0o400}
    assert build_payload({"name": "v", "configMap": source}, made) == {
        "a": File(b"1", 0o400),
        "b": File(b"2", 0o400),
        "raw": File(b"\xff", 0o400),
    }
    chosen = {**source, "items": [{"key": "a", "path": "x/./y", "mode": 0o600}]}
    assert build_payload({"name": "v", "configMap": chosen}, made) == {"x/y": File(b"1", 0o600)}
    wrong = {**source, "items": [{"key": "none", "path": "p"}]}
    with pytest.raises(KnetsimError, match="configmap references non-existent config key: none"):
        build_payload({"name": "v", "configMap": wrong}, made)
    assert build_payload({"name": "v", "configMap": {**wrong, "optional": True}}, made) == {}


def test_payload_of_a_projection_names_all_that_is_missing() -> None:
    sources = [{"secret": {"name": "a"}}, {"configMap": {"name": "b"}}, {"clusterTrustBundle": {"name": "c"}}]
    with pytest.raises(KnetsimError) as caught:
        build_payload({"name": "v", "projected": {"sources": sources}}, projection(pod()))
    assert caught.value.what == (
        '[secret "a" not found, configmap "b" not found, '
        "knetsim's kubelet does not simulate projected volumes of clusterTrustBundle]"
    )


def test_payload_of_a_token() -> None:
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    volume = {"name": "v", "projected": {"sources": [source], "defaultMode": 0o644}}
    assert build_payload(volume, projection(pod())) == {"token": File(b"token 1", 0o644)}
    grouped = pod(securityContext={"fsGroup": 7})
    assert build_payload(volume, projection(grouped)) == {"token": File(b"token 1", 0o600)}


def test_tokens_are_replaced_in_time() -> None:
    now, sources = [0.0], Held()
    tokens = Tokens(pod(serviceAccountName="robot"), sources, lambda: now[0])
    assert tokens.next_replacement() is None
    assert tokens.get("", 1000) == "token 1"
    assert tokens.get("", 1000) == "token 1"
    assert tokens.get("other", 1000) == "token 2"
    assert [one["spec"]["audiences"] for one in sources.asked] == [[], ["other"]]
    assert sources.asked[0]["spec"]["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "c1", "uid": "0-1"}
    now[0] = 799.0
    assert tokens.get("", 1000) == "token 1"
    assert tokens.next_replacement() == 1.0
    now[0], sources.broken = 801.0, True
    assert tokens.get("", 1000) == "token 1", "it still holds"
    now[0] = 1001.0
    with pytest.raises(KnetsimError, match="the API server is away"):
        tokens.get("", 1000)
    sources.broken = False
    assert tokens.get("", 1000) == "token 3"


def listing(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and not str(path.relative_to(directory)).startswith("..")
    }


def test_files_change_at_once(tmp_path: Path) -> None:
    calls = []

    def write(**files: str) -> bool:
        payload = {name.replace("__", "/"): File(text.encode()) for name, text in files.items()}
        return write_payload(str(tmp_path), payload, lambda: calls.append("permissions"))

    assert write(a="1", sub__b="2")
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "sub") == "..data/sub"
    first = os.readlink(tmp_path / "..data")
    assert not write(a="1", sub__b="2"), "nothing has changed"
    assert os.readlink(tmp_path / "..data") == first
    assert write(a="3", c="4")
    assert {name: (tmp_path / name).read_text() for name in ("a", "c")} == {"a": "3", "c": "4"}
    assert sorted(os.listdir(tmp_path)) == sorted(["..data", os.readlink(tmp_path / "..data"), "a", "c"])
    assert calls == ["permissions"] * 2


@pytest.mark.parametrize("path", ["", "/x", "../x", "a/../b", "..data", "..x/y", "a" * 256])
def test_paths_that_lead_out(tmp_path: Path, path: str) -> None:
    with pytest.raises(KnetsimError, match="invalid path"):
        write_payload(str(tmp_path), {path: File(b"")}, lambda: None)
    assert os.listdir(tmp_path) == []


def test_links_stay_inside(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    os.makedirs(f"{root}/a/b")
    for link, target in (("a/up", "../../../.."), ("a/etc", "/etc"), ("a/loop", "loop"), ("a/b/back", "../x")):
        os.symlink(target, f"{root}/{link}")
    asked = {"/a/up/x": "/x", "/a/etc/y": "/etc/y", "/../../z": "/z", "/a/b/back": "/a/x", "/a//./b/": "/a/b"}
    assert {path: resolve_inside(root, path).removeprefix(root) for path in asked} == asked
    with pytest.raises(KnetsimError, match="too many levels of symbolic links"):
        resolve_inside(root, "/a/loop")


def test_types_of_host_paths(tmp_path: Path) -> None:
    tree = str(tmp_path / "host")
    for path, kind, word in (("/x", "File", "file"), ("/x", "Socket", "socket file"), ("/etc", "File", "file")):
        with pytest.raises(KnetsimError, match=f"hostPath type check failed: {path} is not a {word}"):
            find_host_path(tree, path, kind)
    assert find_host_path(tree, "/var/log", "Directory").path == f"{tree}/var/log"
    assert os.path.isfile(find_host_path(tree, "/etc/x", "FileOrCreate").path)
    assert os.path.isdir(find_host_path(tree, "/new/one", "").path)
    assert find_host_path(tree, "/var/run/x", "DirectoryOrCreate").path == f"{tree}/run/x"
    with pytest.raises(KnetsimError, match="open /none/x: no such file or directory"):
        find_host_path(tree, "/none/x", "FileOrCreate")
    shown = find_host_path(tree, "/proc", "Directory")
    assert (shown.path, shown.read_only) == ("/proc", True)
    with pytest.raises(KnetsimError, match="does not simulate a hostPath of devices"):
        find_host_path(tree, "/dev/sda", "")

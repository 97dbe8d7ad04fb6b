"""Images, run: each one's program in a pod's namespaces, asked as its users ask it; and what it sees of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knetsim.node.images import ImageError, Images
from knetsim.system.container import DEFAULT_ENV, Process
from knetsim.system.netns import Namespaces, entered
from knetsim.system.rootfs import Mount
from knetsim.system.run import run
from tests.kernel.node.test_container import Pod

DEADLINE = 20.0


class ImagePod(Pod):
    """A pod whose containers are made of images."""

    def __init__(self, worker: Namespaces, directory: Path, images: Images) -> None:
        super().__init__(worker, directory)
        self.images = images
        with entered(self.own):
            run(["ip", "link", "set", "lo", "up"])

    def begin(self, image: str, *args: str, mounts: list[Mount] | None = None, **container: Any) -> Process:
        """Start a container of an image, as its kubelet does; skipped when its program is not installed."""
        try:
            found = self.images.find(image)
        except ImageError as error:
            pytest.skip(error.message)
        argv = found.argv({**container, **({"args": list(args)} if args else {})})
        env = {**DEFAULT_ENV, **found.env}
        shown = [*found.programs, *(mounts or [])]
        return self.start(*argv, layers=found.layers, mounts=shown, env=env, cwd=found.workdir)

    def output_of(self, image: str, script: str) -> str:
        """What a shell script says in a container of an image."""
        code, output = self.finish(self.begin(image, command=["sh", "-c", script]))
        assert code == 0, output
        return output.strip()

    def ask(self, url: str) -> str:
        """The answer of a web server in the pod, once it listens."""
        return run(
            ["curl", "-sS", "--retry-connrefused", "--retry", "50", "--retry-delay", "0", url], place=self.own
        ).output


@pytest.fixture
def pod(worker: Namespaces, tmp_path: Path, images: Images) -> Iterator[ImagePod]:
    made = ImagePod(worker, tmp_path, images)
    yield made
    made.close()


# --- what a container sees of its image and of the machine


def test_busybox_has_its_own_programs_only(pod: ImagePod) -> None:
    script = "readlink /bin/ls; for one in python3 curl nginx wget nc httpd; do which $one; done; head -1 /etc/passwd"
    assert pod.output_of("busybox:1.36", script).splitlines() == [
        "busybox", "/usr/bin/wget", "/usr/bin/nc", "/usr/bin/httpd", "root:x:0:0:root:/root:/bin/sh",
    ]  # fmt: skip


def test_what_a_container_writes_is_seen_by_no_other(pod: ImagePod) -> None:
    page = Path("/usr/share/nginx/html/index.html")
    before = page.read_text() if page.exists() else None
    script = "echo mine > /usr/share/nginx/html/index.html; echo x > /etc/nginx/conf.d/default.conf"
    assert pod.output_of("nginx", f"{script}; cat /usr/share/nginx/html/index.html") == "mine"
    assert "mine" not in pod.output_of("nginx", "cat /usr/share/nginx/html/index.html")
    assert "listen 80;" in pod.output_of("nginx", "cat /etc/nginx/conf.d/default.conf")
    assert (page.read_text() if page.exists() else None) == before


def test_layers_are_made_once(pod: ImagePod) -> None:
    one, other = pod.images.find("nginx:1.14.2"), pod.images.find("docker.io/library/nginx:1.16.1")
    assert one.layers == other.layers
    assert one.identity != other.identity


def test_an_image_ends_at_once_when_its_command_does(pod: ImagePod) -> None:
    assert pod.finish(pod.begin("busybox")) == (0, "")
    assert pod.finish(pod.begin("alpine:3.20")) == (0, "")


def test_nothing_of_the_start_is_left_in_sight(pod: ImagePod) -> None:
    assert pod.output_of("busybox", "ls -A /run; pwd; cat /proc/1/cmdline; true").startswith("/\nsh\0-c\0")


# --- what runs


def test_nginx_serves_what_is_there_and_logs_to_its_streams(pod: ImagePod) -> None:
    process = pod.begin("nginx")
    assert "<title>Welcome to nginx!</title>" in pod.ask("http://127.0.0.1/")
    assert "404 Not Found" in pod.ask("http://127.0.0.1/none")
    process.terminate()
    code, output = pod.finish(process)
    assert code == 0
    assert '"GET / HTTP/1.1" 200' in output
    assert "signal 15 (SIGTERM) received" in output
    assert " stdout F 127.0.0.1 - - " in Path(process.log).read_text()


def test_nginx_takes_configuration_and_pages_from_volumes(pod: ImagePod) -> None:
    conf, html = pod.directory / "conf", pod.directory / "html"
    conf.mkdir()
    html.mkdir()
    (conf / "mine.conf").write_text("server { listen 8080; root /usr/share/nginx/html; }\n")
    (html / "index.html").write_text("mine\n")
    pod.begin("nginx", mounts=[Mount(str(conf), "/etc/nginx/conf.d"), Mount(str(html), "/usr/share/nginx/html")])
    assert pod.ask("http://127.0.0.1:8080/") == "mine\n"
    assert run(["curl", "-s", "http://127.0.0.1:80/"], place=pod.own, check=False).code == 7, "the default is not there"


def test_agnhost_is_the_real_one(pod: ImagePod) -> None:
    image = "registry.k8s.io/e2e-test-images/agnhost:2.53"
    pod.begin(image, "netexec", "--http-port=8080", "--udp-port=-1")
    assert pod.ask("http://127.0.0.1:8080/hostname") == "c1"
    assert pod.ask("http://127.0.0.1:8080/echo?msg=hello") == "hello"
    code, output = pod.finish(pod.begin(image, "entrypoint-tester", "a", "b"))
    assert (code, output.split()) == (0, ["[/agnhost", "entrypoint-tester", "a", "b]"])

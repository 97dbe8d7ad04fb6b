"""Images, run: each one's program in a pod's namespaces, asked as its users ask it; and what it sees of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knetsim.node.images import ImageError, Images
from knetsim.system.container import DEFAULT_ENV, Process
from knetsim.system.netns import Namespaces, entered
from knetsim.system.rootfs import Mount
from knetsim.system.run import run
from tests.kernel.node.test_container import Pod, wait_line

DEADLINE = 20.0


class ImagePod(Pod):
    """A pod whose containers are made of images."""

    def __init__(self, worker: Namespaces, directory: Path, images: Images) -> None:
        super().__init__(worker, directory)
        self.images = images
        with entered(self.own):
            run(["ip", "link", "set", "lo", "up"])

    def begin(
        self, image: str, *args: str, mounts: list[Mount] | None = None, keywords: Any = None, **container: Any
    ) -> Process:
        """Start a container of an image, as its kubelet does; skipped when its program is not installed. `keywords` are
        for the process."""
        try:
            found = self.images.find(image)
        except ImageError as error:
            pytest.skip(error.message)
        argv = found.argv({**container, **({"args": list(args)} if args else {})})
        env = {**DEFAULT_ENV, **found.env}
        shown = [*found.programs, *(mounts or [])]
        return self.start(*argv, layers=found.layers, mounts=shown, env=env, cwd=found.workdir, **(keywords or {}))

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


def test_httpd_works(pod: ImagePod) -> None:
    process = pod.begin("httpd:2.4")
    assert pod.ask("http://127.0.0.1/") == "<html><body><h1>It works!</h1></body></html>\n"
    process.terminate()
    code, output = pod.finish(process)
    assert code == 0
    assert '"GET / HTTP/1.1" 200' in output


@pytest.mark.parametrize(
    ("image", "args", "path", "words"),
    [
        ("hashicorp/http-echo", ["-text=hello", "-listen=:8080"], "/", "hello\n"),
        ("hashicorp/http-echo:1.0", ["-text", "hello", "-listen", ":8080"], "/health", '{"status":"ok"}'),
        ("gcr.io/google-samples/hello-app:1.0", [], "/", "Hello, world!\nVersion: 1.0.0\nHostname: c1\n"),
        ("gcr.io/google-samples/hello-app:2.0", [], "/x", "Hello, world!\nVersion: 2.0.0\nHostname: c1\n"),
        ("gcr.io/google-samples/node-hello:1.0", [], "/", "Hello Kubernetes!"),
        ("jocatalin/kubernetes-bootcamp:v1", [], "/", "Hello Kubernetes bootcamp! | Running on: c1 | v=1\n"),
        (
            "gcr.io/google-samples/kubernetes-bootcamp:v2",
            [],
            "/",
            "Hello Kubernetes bootcamp! | Running on: c1 | v=2\n",
        ),
        ("registry.k8s.io/serve_hostname", ["--port=8080"], "/", "c1"),
        ("registry.k8s.io/e2e-test-images/kitten:1.8", ["--port=8080"], "/data.json", '{"image": "kitten.jpg"}'),
        ("registry.k8s.io/e2e-test-images/nautilus:1.8", ["--port=8080"], "/data.json", '{"image": "nautilus.jpg"}'),
    ],
)
def test_what_tutorials_and_tests_ask(pod: ImagePod, image: str, args: list[str], path: str, words: str) -> None:
    entrypoint = pod.images.find(image).entrypoint
    pod.begin(image, command=[*entrypoint, *args])
    assert pod.ask(f"http://127.0.0.1:8080{path}") == words


def test_echoserver_tells_what_it_was_asked(pod: ImagePod) -> None:
    pod.begin("registry.k8s.io/echoserver:1.10")
    answer = pod.ask("http://127.0.0.1:8080/path?a=b")
    assert "Hostname: c1\n" in answer
    assert "\tquery=a=b\n" in answer
    assert "\tclient_address=127.0.0.1\n" in answer
    assert "\thost=127.0.0.1:8080  \n" in answer
    assert "\t-no body in request-\n" in answer


def test_http_echo_without_a_text_says_so(pod: ImagePod) -> None:
    assert pod.finish(pod.begin("hashicorp/http-echo")) == (127, "Missing -text option!\n")


def test_python_serves_files(pod: ImagePod) -> None:
    pod.begin("python:3.12-slim", command=["python", "-m", "http.server", "8080", "--directory", "/etc/apt"])
    assert "Directory listing for /" in pod.ask("http://127.0.0.1:8080/")


def test_curls_arguments_are_curls_and_commands_are_commands(pod: ImagePod) -> None:
    assert pod.finish(pod.begin("curlimages/curl", "--version"))[1].startswith("curl ")
    assert pod.finish(pod.begin("curlimages/curl", "file:///etc/hostname"))[0] == 0
    assert pod.finish(pod.begin("curlimages/curl", "sh", "-c", "echo $0; which python3 nginx")) == (1, "sh\n")


def test_perl_computes_pi(pod: ImagePod) -> None:
    command = ["perl", "-Mbignum=bpi", "-wle", "print bpi(30)"]
    assert pod.finish(pod.begin("perl:5.34.0", command=command)) == (0, "3.14159265358979323846264338328\n")


def test_agnhosts_shell_has_the_tools_that_tests_use(pod: ImagePod) -> None:
    script = (
        "nc -h 2>&1 | grep -c -- '-z' ; for one in bash curl ps hostname tail nslookup; do which $one; done | wc -l"
    )
    assert pod.output_of("registry.k8s.io/e2e-test-images/agnhost:2.63.0", script).splitlines()[-1] == "6"


# --- standard input and terminals


def test_standard_input_is_open_and_ends(pod: ImagePod) -> None:
    process = pod.begin("busybox", keywords={"stdin": True})
    assert process.stdin is not None
    os.write(process.stdin, b"echo hello; exit 7\n")
    assert pod.finish(process) == (7, "hello\n")
    process = pod.begin("busybox", command=["cat"], keywords={"stdin": True})
    assert process.stdin is not None
    os.write(process.stdin, b"some text\n")
    process.close_stdin()
    assert pod.finish(process) == (0, "some text\n")


def test_a_terminal_is_one(pod: ImagePod) -> None:
    process = pod.begin("busybox", command=["sh", "-c", "tty; read x; echo got $x"], keywords={"tty": True})
    assert process.stdin is not None
    os.write(process.stdin, b"it\n")
    code, output = pod.finish(process)
    assert code == 0
    assert "/dev/pts/0" in output
    assert output.endswith("got it\n")


def test_ctrl_c_on_a_terminal_interrupts(pod: ImagePod) -> None:
    script = "trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done"
    process = pod.begin("busybox", command=["sh", "-c", script], keywords={"tty": True})
    wait_line(process.log, "ready")
    assert process.stdin is not None
    os.write(process.stdin, b"\x03")
    assert pod.finish(process)[0] == 9

"""Containers: what they see, what they do not see, how they end, and that the machine has nothing of them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from knetsim.errors import CommandError, NotFound
from knetsim.system import linux, netns
from knetsim.system.container import START_FAILED, ContainerSpec, Process, start_process
from knetsim.system.container_watch import LOG_MAX_FILES, ContainerWatch, read_log
from knetsim.system.identity import ProcessIdentity
from knetsim.system.netns import Namespaces, entered
from knetsim.system.rootfs import Mount, build_root, hide_machine
from knetsim.system.run import run

DEADLINE = 20.0
LOG_MAX_BYTES = 1_000_000


class Pod:
    """A pod's namespaces, and a short way to run something in it."""

    def __init__(self, worker: Namespaces, directory: Path) -> None:
        self.directory = directory
        self.own = netns.create_netns("k0_c1", "c1")
        self.place = worker.with_fds("k0_c1", **self.own.fds)
        self.processes: list[Process] = []
        self.watch = ContainerWatch(log_max_bytes=LOG_MAX_BYTES)
        self.ended: dict[Process, threading.Event] = {}

    def spec(self, *argv: str, **options) -> ContainerSpec:
        number = len(self.processes)
        scratch = self.directory / f"scratch{number}"
        scratch.mkdir(exist_ok=True)
        log = self.directory / f"{number}.log"
        return ContainerSpec(name="c1", place=self.place, argv=argv, log=str(log), scratch=str(scratch), **options)

    def start(self, *argv: str, **options) -> Process:
        process = start_process(self.spec(*argv, **options))
        self.processes.append(process)
        self.ended[process] = threading.Event()
        self.watch.add(process, lambda process: self.ended[process].set())
        return process

    def finish(self, process: Process) -> tuple[int | None, str]:
        """The exit code of a process and all that it wrote, once it has ended."""
        assert self.ended[process].wait(DEADLINE), read_log(process.log)
        return process.exit_code, read_log(process.log)

    def run(self, script: str, **options) -> tuple[int | None, str]:
        """The exit code and output of a shell script as the container's first process."""
        return self.finish(self.start("sh", "-c", script, **options))

    def output(self, script: str, **options) -> str:
        code, output = self.run(script, **options)
        assert code == 0, output
        return output.strip()

    def close(self) -> None:
        for process in self.processes:
            process.signal(signal.SIGKILL)
            self.finish(process)
        self.watch.close()
        for process in self.processes:
            process.close()
        self.place.close()
        self.own.close()


@pytest.fixture
def pod(worker, tmp_path) -> Iterator[Pod]:
    before = sorted(os.readlink(f"/proc/self/ns/{kind}") for kind in netns.KINDS)
    made = Pod(worker, tmp_path)
    yield made
    made.close()
    assert sorted(os.readlink(f"/proc/thread-self/ns/{kind}") for kind in netns.KINDS) == before
    assert os.readlink("/proc/thread-self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid")


def wait_line(path: str, text: str) -> str:
    """The log, once it holds `text`."""
    deadline = threading.Event()
    for _ in range(1000):
        content = read_log(path)
        if text in content:
            return content
        deadline.wait(0.01)
    raise AssertionError(f"{text!r} is not in {path}:\n{read_log(path)}")


# --- what a container sees


def test_it_is_process_1_and_sees_only_its_own(pod: Pod) -> None:
    output = pod.output('echo "me $$"; for p in /proc/[0-9]*; do echo "$p"; done')
    assert output.splitlines() == ["me 1", "/proc/1"]


def test_hostname_network_and_sys_are_the_pods(pod: Pod) -> None:
    assert pod.output("hostname; ls /sys/class/net; ip -4 route | wc -l") == "c1\nlo\n0"


def test_tmp_run_and_shm_are_its_own(pod: Pod) -> None:
    mark = pod.directory / "mark"
    mark.touch()
    assert str(mark).startswith("/tmp/"), "the test needs a directory below /tmp"
    assert pod.output(f"ls /tmp /run /dev/shm; test -e {mark} || echo none") == "/dev/shm:\n\n/run:\n\n/tmp:\nnone"


def test_files_of_the_pod_are_at_their_places(pod: Pod) -> None:
    hosts, resolv = pod.directory / "hosts", pod.directory / "resolv.conf"
    hosts.write_text("11.10.0.2\tc1\n")
    resolv.write_text("nameserver 100.64.0.10\n")
    mounts = [Mount(str(hosts), "/etc/hosts"), Mount(str(resolv), "/etc/resolv.conf", read_only=True)]
    assert pod.output("cat /etc/hosts /etc/resolv.conf", mounts=mounts) == "11.10.0.2\tc1\nnameserver 100.64.0.10"
    code, output = pod.run("echo x > /etc/resolv.conf", mounts=mounts)
    assert code != 0
    assert "Read-only" in output


def test_a_volume_is_shared_at_paths_that_do_not_exist_here(pod: Pod) -> None:
    volume = pod.directory / "volume"
    volume.mkdir()
    deep = "/srv/none/of/this/is/here"
    assert not os.path.exists("/srv/none")
    pod.output(f"echo hello > {deep}/file", mounts=[Mount(str(volume), deep)])
    assert pod.output("cat /data/file", mounts=[Mount(str(volume), "/data")]) == "hello"
    assert not os.path.exists("/data")
    assert not os.path.exists("/srv/none")


def test_what_it_writes_is_not_on_the_machine(pod: Pod) -> None:
    path = "/etc/knetsim-test-file"
    pod.output(f"echo x > {path}; mkdir /knetsim-test; rm -r /srv; echo y >> /etc/passwd; test -e {path}")
    assert not os.path.exists(path)
    assert not os.path.exists("/knetsim-test")
    assert os.path.isdir("/srv")
    assert "\ny\n" not in Path("/etc/passwd").read_text()


def test_the_machines_settings_cannot_be_changed(pod: Pod) -> None:
    code, output = pod.run("echo 1 > /proc/sys/kernel/panic_on_oops")
    assert code != 0
    assert "Read-only" in output
    assert (
        pod.output("test -w /proc/sys/net/ipv4/ip_forward && echo writable", identity=ProcessIdentity(privileged=True))
        == "writable"
    )


def test_mounts_of_the_machine_are_not_seen(pod: Pod) -> None:
    points = {line.split()[1] for line in pod.output("cat /proc/mounts").splitlines()}
    assert {"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/run"} <= points
    assert not any(point.startswith("/run/") for point in points)


def test_devices(pod: Pod) -> None:
    script = (
        "head -c 4 /dev/urandom | wc -c; echo x > /dev/null; head -c 2 /dev/zero | od -An -tx1; echo hi > /dev/stderr"
    )
    assert pod.output(script).split() == ["4", "00", "00", "hi"]


def test_environment_is_exactly_what_was_given(pod: Pod) -> None:
    env = {"PATH": "/usr/bin:/bin", "with.dot-and-dash": "1", "EMPTY": "", "LINES": "a\nb c"}
    _, output = pod.finish(pod.start("env", "-0", env=env))
    assert sorted(output.rstrip("\0\n").split("\0")) == sorted(["HOME=/root", *(f"{k}={v}" for k, v in env.items())])


def test_working_directory_is_made(pod: Pod) -> None:
    assert pod.output("pwd", cwd="/not/here") == "/not/here"
    assert not os.path.exists("/not")


def test_no_descriptor_is_inherited(pod: Pod) -> None:
    keep = os.open("/", os.O_RDONLY)
    os.set_inheritable(keep, True)
    try:
        _, output = pod.finish(pod.start("ls", "-l", "/proc/1/fd"))
    finally:
        os.close(keep)
    links = [line.split(" -> ") for line in output.splitlines() if " -> " in line]
    targets = {link[0].split()[-1]: link[1] for link in links}
    assert targets.pop("0") == "/dev/null"
    assert targets.pop("1").startswith("pipe:")
    assert targets.pop("2").startswith("pipe:")
    assert targets == {"3": "/proc/1/fd"}, "ls's own"


def test_signal_dispositions_and_mask_are_the_defaults(pod: Pod) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        process = pod.start("cat", "/proc/self/status")
        assert signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before)
    _, output = pod.finish(process)
    fields = dict(line.split(":\t", 1) for line in output.splitlines())
    assert {int(fields[name], 16) for name in ("SigPnd", "SigBlk", "SigIgn", "SigCgt")} == {0}


def test_session_of_its_own(pod: Pod) -> None:
    assert pod.output("cut -d' ' -f5,6 /proc/1/stat") == "1 1"  # group and session, inside
    assert os.getsid(0) != 1


# --- how it starts and ends


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255)])
def test_exit_codes(pod: Pod, script: str, code: int) -> None:
    assert pod.run(script)[0] == code


def test_a_signal_is_an_exit_code_too(pod: Pod) -> None:
    process = pod.start("sleep", "1000")
    process.signal(signal.SIGTERM)
    assert process.wait(0.05) is None, "pid 1 does not get what it does not catch"
    process.signal(signal.SIGKILL)
    assert process.wait(DEADLINE) == 128 + signal.SIGKILL
    process.signal(signal.SIGKILL)


def test_a_signal_reaches_who_catches_it(pod: Pod) -> None:
    process = pod.start("sh", "-c", 'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.05; done')
    wait_line(process.log, "ready")
    process.signal(signal.SIGTERM)
    assert pod.finish(process) == (7, "ready\ncaught\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
        (["/no/such/program"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
        (["a=b"], 'cannot hold "="'),
        (["echo", "a\0b"], "null byte"),
        (["echo", "x" * 200_000], "too long"),
    ],
)
def test_what_cannot_be_started(pod: Pod, argv: list[str], words: str) -> None:
    with pytest.raises(CommandError) as caught:
        pod.start(*argv)
    assert caught.value.code == START_FAILED
    assert words in caught.value.output


@pytest.mark.parametrize(
    ("content", "words"), [(b"#!/no/shell\n", 'interpreter "/no/shell"'), (b"hello", "exec format error")]
)
def test_what_cannot_be_executed(pod: Pod, content: bytes, words: str) -> None:
    program = pod.directory / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    with pytest.raises(CommandError) as caught:
        pod.start("/opt/program", mounts=[Mount(str(program), "/opt/program")])
    assert words in caught.value.output


def test_a_mount_that_is_impossible(pod: Pod) -> None:
    with pytest.raises(CommandError) as caught:
        pod.start("true", mounts=[Mount(str(pod.directory), "/etc/passwd/x")])
    assert "/etc/passwd/x" in caught.value.output
    assert caught.value.code == START_FAILED


def test_failures_leave_nothing_and_the_thread_at_home(pod: Pod) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(CommandError):
            pod.start("no-such-program")
        with pytest.raises(CommandError):
            start_process(replace(pod.spec("true"), scratch="/no/such/directory"))
        assert socket.gethostname() != "c1"
    with entered(pod.place):
        assert socket.gethostname() == "c1"
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert pod.output("echo fine") == "fine"


def test_the_end_of_the_first_is_the_end_of_all(pod: Pod) -> None:
    script = "setsid sleep 1000 & (sleep 1000 & sleep 1000) & trap '' HUP TERM; echo ready; read -r line < /dev/zero"
    process = pod.start("sh", "-c", script)
    wait_line(process.log, "ready")
    pids = processes_of(process)
    assert len(pids) >= 3
    process.signal(signal.SIGKILL)
    assert process.wait(DEADLINE) == 137
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids), "neither running nor a zombie"


def processes_of(process: Process) -> list[int]:
    """The pids, as seen here, of all processes in the container's pid namespace."""
    own = os.readlink(f"/proc/{process.pid}/ns/pid")
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == own:
                found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return found


def test_exec_stands_where_the_container_stands(pod: Pod) -> None:
    process = pod.start("sh", "-c", "echo secret > /tmp/file; mkdir -p /only/here; echo ready; sleep 1000")
    wait_line(process.log, "ready")
    place = process.exec_place()
    try:
        script = "cat /tmp/file; ls /only; hostname; tr '\\0' ' ' < /proc/1/cmdline | cut -d ' ' -f 1,2"
        assert run(["sh", "-c", script], place=place).output == "secret\nhere\nc1\nsh -c\n"
        process.signal(signal.SIGKILL)
        process.wait(DEADLINE)
    finally:
        place.close()
    with pytest.raises(NotFound, match="137"):
        process.exec_place()


def test_many_at_once_from_many_threads(pod: Pod) -> None:
    codes: list[int | None] = []

    def live(number: int) -> None:
        scratch, log = pod.directory / f"s{number}", pod.directory / f"l{number}"
        scratch.mkdir()
        process = start_process(ContainerSpec("c", pod.place, ["sh", "-c", f"exit {number}"], str(log), str(scratch)))
        codes.append(process.wait(DEADLINE))
        process.close()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code in codes if code is not None) == list(range(12))


# --- what it writes


def test_a_log_has_times_and_streams(pod: Pod) -> None:
    process = pod.start("sh", "-c", "echo one; echo two >&2; printf three")
    assert pod.finish(process)[0] == 0
    lines = [line.split(" ", 3) for line in Path(process.log).read_text().splitlines()]
    assert sorted((stream, tag, text) for _, stream, tag, text in lines) == [
        ("stderr", "F", "two"), ("stdout", "F", "one"), ("stdout", "F", "three"),
    ]  # fmt: skip
    assert all(len(stamp) == 30 and stamp.endswith("Z") for stamp, *_ in lines)


def test_opening_an_output_again_keeps_the_log(pod: Pod) -> None:
    assert pod.output("echo one; echo two > /dev/stdout; echo three > /dev/fd/1") == "one\ntwo\nthree"


def test_long_lines_come_in_parts(pod: Pod) -> None:
    process = pod.start("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end")
    assert pod.finish(process) == (0, "x" * 40000 + "\nend\n")
    assert max(map(len, Path(process.log).read_text().splitlines())) < 17000


def test_a_flood_is_bounded_and_all_of_the_end_is_there(pod: Pod) -> None:
    lines = 40_000
    process = pod.start("sh", "-c", f"yes 0123456789 | head -n {lines}; echo end")
    code, output = pod.finish(process)
    assert code == 0
    assert output.endswith("0123456789\nend\n")
    assert os.path.getsize(process.log) <= LOG_MAX_BYTES
    aside = list(Path(process.log).parent.glob("0.log.*"))
    assert 1 <= len(aside) < LOG_MAX_FILES and all(file.stat().st_size <= LOG_MAX_BYTES for file in aside)


# --- without overlayfs


@pytest.fixture
def deep_worker(tmp_path) -> Iterator[Namespaces]:
    """A worker whose root directory is two overlays deep already, on which the kernel stacks no third."""

    def build() -> Namespaces:
        linux.unshare(linux.CLONE_FS)
        for number in range(2):
            linux.unshare(linux.CLONE_NEWNS)
            scratch = tmp_path / f"layer{number}"
            scratch.mkdir()
            assert build_root(str(scratch), [Mount("/proc", "/proc"), Mount(str(tmp_path), str(tmp_path))]) == ""
            hide_machine()
        os.mkdir("/run/netns")
        return netns.Namespaces.of_thread("deep")

    with ThreadPoolExecutor(1) as pool:
        place = pool.submit(build).result()
    yield place
    place.close()


def test_without_overlayfs_the_root_is_read_only(deep_worker, tmp_path) -> None:
    pod = Pod(deep_worker, tmp_path)
    hosts = pod.directory / "hosts"
    hosts.write_text("11.10.0.2\tc1\n")
    mounts = [Mount(str(hosts), "/etc/hosts"), Mount(str(pod.directory), "/mnt")]
    try:
        process = pod.start("sh", "-c", "cat /etc/hosts; echo x > /mnt/x; echo y > /tmp/y; echo z > /z", mounts=mounts)
        code, output = pod.finish(process)
        assert code != 0
        assert process.read_only_root.startswith("overlayfs: ")
        assert output.startswith("11.10.0.2\tc1\n")
        assert "/z: Read-only file system" in output
        assert (pod.directory / "x").read_text() == "x\n"
        assert not os.path.exists("/z")
        with pytest.raises(CommandError) as caught:
            pod.start("true", mounts=[Mount(str(pod.directory), "/data")])
        assert "read-only (overlayfs" in caught.value.hint
    finally:
        pod.close()


def test_without_overlayfs_an_image_shows_what_has_a_place(deep_worker, tmp_path) -> None:
    pod = Pod(deep_worker, tmp_path)
    layer, more = pod.directory / "layer", pod.directory / "more"
    (layer / "usr/bin").mkdir(parents=True)
    (layer / "etc").mkdir()
    (layer / "etc/passwd").write_text("root:x:0:0:image:/root:/bin/sh\n")
    try:
        assert pod.output("cat /etc/passwd", layers=[str(layer)]) == "root:x:0:0:image:/root:/bin/sh"
        more.mkdir()
        (more / "not-there-before").touch()
        with pytest.raises(CommandError) as caught:
            pod.start("true", layers=[str(more)])
        assert "the image's /not-there-before cannot be shown" in caught.value.output
    finally:
        pod.close()

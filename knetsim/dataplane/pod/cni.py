"""The runtime's side of the Container Network Interface: executing the plugins of a network configuration list.

A plugin is a program: the operation and the pod come in its environment (CNI_COMMAND, CNI_NETNS …), its configuration
on standard input, its answer on standard output, JSON both. A list of plugins is a chain: on ADD each gets the result
of the one before (`prevResult`), on DEL, in reverse order, and on CHECK each gets the final result of the ADD, which
the runtime has to keep. What kubelet has a container runtime do through libcni is done here in a few lines of Python;
the plugins are the real ones, and the results that are kept have libcni's format.

Source: CNI specification 1.0, section 2 (execution protocol), 3 (configurations), 5 (results); libcni/api.go for the
cache and for what depends on the version: CHECK, and `prevResult` on DEL, came with 0.4.0.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knetsim.errors import CommandError, MissingTool, ObjectError
from knetsim.system.netns import Namespaces
from knetsim.system.run import Result, run

#: one JSON object: a plugin's configuration or a result
Json = dict[str, Any]

#: plugins call ip6tables, ebtables and the like by name
_PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$")
_VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)$")
_LISTS_SINCE, _CHECK_SINCE = (0, 3, 0), (0, 4, 0)
_CACHE_KIND = "cniCacheV1"
_ERROR_SUFFIX = ".error"


@dataclass(frozen=True, slots=True)
class Conflist:
    """A network configuration list: a network's name and the plugins that make it, in order; `text` is the file's."""

    name: str
    version: str
    plugins: tuple[Json, ...]
    disable_check: bool
    text: str

    @property
    def has_check(self) -> bool:
        """Whether this version of the specification knows CHECK, and the previous result on DEL."""
        return _parse_version(self.version) >= _CHECK_SINCE


@dataclass(frozen=True, slots=True)
class Attachment:
    """One pod's interface in one network: what CNI's environment variables say. `netns` is a path inside the worker."""

    container_id: str
    netns: str
    interface: str
    args: tuple[tuple[str, str], ...] = ()


class CniError(CommandError):
    """A plugin refused: `command` is ADD, CHECK or DEL, `plugin` its type, `cni_code` the specification's error code.

    `request` is the configuration it got on standard input; `argv` is what to paste, with that as its input.
    """

    def __init__(self, command: str, request: Json, argv: Sequence[str], ended: Result, where: str) -> None:
        self.command, self.request, self.plugin = command, request, str(request["type"])
        answer = _parse_object(ended.output)
        self.cni_code: int | None = answer.get("code")
        words = [str(answer[key]) for key in ("msg", "details") if answer.get(key)] or [ended.output.strip()]
        super().__init__(argv, ended.code, "; ".join(text for text in (*words, ended.error.strip()) if text), where)
        self.what = f"the CNI plugin `{self.plugin}` failed on {command}"


def _parse_version(text: Any) -> tuple[int, ...]:
    """`0.4.0` → (0, 4, 0); empty, which is older than all, for what is no version."""
    match = _VERSION.match(text) if isinstance(text, str) else None
    return tuple(map(int, match.groups())) if match else ()


def _parse_object(text: str) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- pure -----------------------------------------------------------------------------------------


def parse_conflist(text: str, where: str) -> Conflist:
    """The list in a `.conflist` file; ObjectError says what the specification does not allow."""

    def refuse(why: str, field: str = "") -> ObjectError:
        return ObjectError("not a CNI network configuration list", where, why, field=field)

    try:
        value = json.loads(text)
    except ValueError as error:
        raise refuse(f"not JSON: {error}") from error
    plugins = value.get("plugins") if isinstance(value, dict) else None
    if not isinstance(plugins, list) or not plugins:
        raise refuse("`plugins` must be a list of at least one plugin", "plugins")
    name, version = value.get("name"), value.get("cniVersion")
    if not isinstance(name, str) or not _NAME.match(name):
        raise refuse(f"`name` must be letters, digits and `_.-`, not {name!r}", "name")
    if _parse_version(version) < _LISTS_SINCE:
        raise refuse(f"`cniVersion` must be 0.3.0 or newer, not {version!r}", "cniVersion")
    for number, plugin in enumerate(plugins):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            raise refuse("`type` must be the name of a program, without a path", f"plugins[{number}].type")
    return Conflist(name, version, tuple(plugins), value.get("disableCheck") is True, text)


def build_request(conflist: Conflist, plugin: Json, previous: Json | None) -> Json:
    """What a plugin gets on standard input: its own configuration, the list's name and version, the previous result.

    No capability arguments are given, so there is no `runtimeConfig`.
    """
    request = {key: value for key, value in plugin.items() if key != "capabilities"}
    request |= {"name": conflist.name, "cniVersion": conflist.version}
    if previous is not None:
        request["prevResult"] = previous
    return request


def build_environment(command: str, attachment: Attachment, search_path: Sequence[str]) -> dict[str, str]:
    """What a plugin gets in its environment."""
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": attachment.netns,
        "CNI_IFNAME": attachment.interface,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.args),
        "CNI_PATH": ":".join(search_path),
        "PATH": _PROGRAM_PATH,
    }


# --- executing ------------------------------------------------------------------------------------


class CniRuntime:
    """Executes plugins, found in the directories `search_path`, inside the network and mount namespace of a worker."""

    def __init__(self, place: Namespaces, search_path: Sequence[str]) -> None:
        self.place = place
        self.search_path = tuple(search_path)

    def add(self, conflist: Conflist, attachment: Attachment) -> Json:
        """ADD through the chain; the final result. On CniError the caller owes a DEL."""
        result: Json | None = None
        for plugin in conflist.plugins:
            result = self.execute("ADD", build_request(conflist, plugin, result), attachment)
        return result or {}

    def check(self, conflist: Conflist, attachment: Attachment, result: Json) -> None:
        """CHECK through the chain, unless the list or its version knows none; CniError when a plugin is not content."""
        if conflist.has_check and not conflist.disable_check:
            for plugin in conflist.plugins:
                self.execute("CHECK", build_request(conflist, plugin, result), attachment)

    def delete(self, conflist: Conflist, attachment: Attachment, result: Json | None) -> None:
        """DEL through the chain, last plugin first; what is gone is fine."""
        previous = result if conflist.has_check else None
        for plugin in reversed(conflist.plugins):
            self.execute("DEL", build_request(conflist, plugin, previous), attachment)

    def execute(self, command: str, request: Json, attachment: Attachment) -> Json:
        """Execute one plugin; its result, empty when it prints none. CniError, MissingTool, NotReady."""
        environment = build_environment(command, attachment, self.search_path)
        program = self._find(request["type"])
        ended = run([program], place=self.place, input=json.dumps(request), env=environment, check=False)
        if ended.code != 0:
            argv = ["env", *(f"{key}={value}" for key, value in environment.items()), program]
            raise CniError(command, request, argv, ended, self.place.name)
        return _parse_object(ended.output)

    def _find(self, plugin: str) -> str:
        for directory in self.search_path:
            path = os.path.join(directory, plugin)
            if os.access(path, os.X_OK):
                return path
        raise MissingTool(
            f"no CNI plugin `{plugin}`",
            self.place.name,
            f"not in {', '.join(self.search_path)}",
            "run ./utils/setup, or use `cni: native` in the scenario",
        )


# --- what is kept -----------------------------------------------------------------------------------


class ResultCache:
    """The results of ADD, one file per attachment as libcni keeps them, and the last error of each, beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, conflist: Conflist, attachment: Attachment, result: Json) -> None:
        """Keep the result of an ADD with the configuration that made it, whole or not at all."""
        content = {
            "kind": _CACHE_KIND,
            "containerId": attachment.container_id,
            "config": base64.b64encode(conflist.text.encode()).decode(),
            "ifName": attachment.interface,
            "networkName": conflist.name,
            "netns": attachment.netns,
            "cniArgs": [list(pair) for pair in attachment.args],
            "result": result,
        }
        self._put(f"{conflist.name}-{_key(attachment)}", content)
        self._unlink(attachment, _ERROR_SUFFIX)

    def read(self, attachment: Attachment) -> tuple[Conflist, Json] | None:
        """The configuration and the result of the attachment's ADD; None when there was none."""
        for path in self._paths(attachment):
            try:
                content = json.loads(path.read_text())
                return parse_conflist(base64.b64decode(content["config"]).decode(), str(path)), dict(content["result"])
            except (ValueError, KeyError, TypeError) as error:
                raise ObjectError("not a kept CNI result", str(path), repr(error), "delete the file") from error
        return None

    def results(self) -> list[Json]:
        """The results of all attachments."""
        found = []
        for path in sorted(self.directory.glob("[!.]*")):
            try:
                content = _parse_object(path.read_text())
            except FileNotFoundError:
                continue  # deleted meanwhile
            found += [result for result in (content.get("result"),) if isinstance(result, dict)]
        return found

    def forget(self, attachment: Attachment) -> None:
        """The attachment is deleted. An error stays, for whoever wants to know why it never was."""
        self._unlink(attachment)

    def write_error(self, network: str, attachment: Attachment, error: CniError) -> None:
        """Keep what a plugin was asked and what it said."""
        content = {
            "command": error.command,
            "plugin": error.plugin,
            "argv": list(error.argv),
            "stdin": error.request,
            "exitCode": error.code,
            "code": error.cni_code,
            "output": error.output,
        }
        self._put(f"{network}-{_key(attachment)}{_ERROR_SUFFIX}", content)

    def _paths(self, attachment: Attachment, suffix: str = "") -> list[Path]:
        """The attachment's files, whatever its network is called; there is one, or none."""
        return sorted(self.directory.glob(f"[!.]*-{glob.escape(_key(attachment))}{suffix}"))

    def _unlink(self, attachment: Attachment, suffix: str = "") -> None:
        for path in self._paths(attachment, suffix):
            path.unlink(missing_ok=True)

    def _put(self, name: str, content: Mapping[str, Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        hidden = self.directory / f".{name}"
        hidden.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(hidden, self.directory / name)


def _key(attachment: Attachment) -> str:
    return f"{attachment.container_id}-{attachment.interface}"

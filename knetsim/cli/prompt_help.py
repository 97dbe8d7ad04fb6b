"""What `help` says at the prompt: its commands and the calls of Python, a line each, with names that are there."""

from __future__ import annotations

import inspect
import json
from typing import NamedTuple

from knetsim.cluster import Cluster
from knetsim.cluster_skupper import create_conf
from knetsim.node.worker import Worker

#: where the second column begins
_COLUMN = 20


class Names(NamedTuple):
    """What the examples speak of: a worker, another host, a pod on the worker, the worker's cluster and its switch."""

    worker: str
    other: str
    pod: str
    cluster: str
    switch: str


#: command, words after it, what it does
_COMMANDS = (
    ("", "HOST CMD", "a command on a host: {worker} ping -c 1 {other}"),
    ("py", "EXPRESSION", "evaluate Python: py {worker}.containers"),
    ("px", "STATEMENT", "execute Python: px for w in {cluster}.workers: print(w)"),
    ("kubectl", "ARGS", "the real kubectl; -c {cluster} first chooses the cluster"),
    ("status", "[PART]", "all at a glance; or one of: services, policies"),
    ("pingall", "", "ping between all hosts, and all pods of each cluster"),
    ("link", "A B up|down", "cut a link, or mend it: link {worker} {switch} down"),
    ("link", "status", "Skupper's sites, links and services"),
    ("iperf", "[A B]", "TCP throughput between two hosts; iperfudp: UDP"),
    ("nodes", "", "hosts and switches; net: how they are joined"),
    ("sh", "CMD", "a command in the simulation, outside its hosts"),
    ("source", "FILE", "run the lines of a file; time LINE: how long one takes"),
    ("exit", "", "end the simulation; nothing of it stays"),
)
#: owner, name, its arguments
_CALLS = (
    ("worker", "exec_container", '"{pod}", "ip addr"', "run a command in a pod"),
    ("cluster", "pod_ip", '"{pod}"', "a pod's address"),
    ("worker", "create_container", '"NAME"', "create a pod there"),
    ("worker", "delete_container", '"NAME"', "delete it"),
    ("cluster", "kp_vip_add", '"VIP", ["POD", …]', "an address that leads to pods"),
    ("cluster", "kp_vip_del", '"VIP"', "take it away"),
    ("cluster", "start_skupper", "", "start the Skupper router"),
    ("", "create_conf", "CLUSTER, [REMOTES], [SERVICES]", "what it links and serves"),
)
#: the names of the calls
CALLS = tuple(name for _, name, *_ in _CALLS)
_OWNERS = {"worker": Worker, "cluster": Cluster}


def build_help(names: Names) -> str:
    """The overview, for `help` alone."""
    fields = names._asdict()
    lines = ["Commands (help WORD tells more; Tab completes):"]
    lines += [f"  {f'{name} {words}'.strip():{_COLUMN}}{text}" for name, words, text in _COMMANDS]
    lines += ["", "Calls, after py:"]
    calls = [(f"{fields[owner]}." if owner else "") + f"{name}({words})" for owner, name, words, _ in _CALLS]
    width = max(len(call.format(**fields)) for call in calls) + 2
    lines += [f"  {call.format(**fields):{width}}{text}" for call, (*_, text) in zip(calls, _CALLS, strict=True)]
    return "\n".join(lines).format(**fields)


def explain_call(word: str) -> str:
    """For `help exec_container`: how it is called, and its docstring; empty for what is no public call."""
    owners = [owner for owner in _OWNERS.values() if callable(vars(owner).get(word))]
    call = create_conf if word == create_conf.__name__ else getattr(owners[0], word) if owners else None
    if call is None or word.startswith("_"):
        return ""
    arguments = [_show(one) for one in inspect.signature(call).parameters.values() if one.name != "self"]
    owner = {Worker: "WORKER.", Cluster: "CLUSTER."}[owners[0]] if owners else ""
    return f"py {owner}{word}({', '.join(arguments)})\n{inspect.getdoc(call) or ''}"


def _show(parameter: inspect.Parameter) -> str:
    """`name`, or `namespace="default"` where it may be left out."""
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={json.dumps(parameter.default)}" if parameter.default else f"{parameter.name}=…"

"""Checks of names: what the kernel, Kubernetes and the mininet> prompt can tell apart.

Hosts are called after cluster and member (`C0w1`, `C0e1`, `C0cp`, `C0s0`), so names clash in more ways than by being
equal: worker `bw1` of cluster `A` and worker `w1` of cluster `Ab` are both `Abw1`; workers of `C0` and `c0` would be
the same Kubernetes Node, since those are lower case. And interfaces are called after hosts (`C0w12-eth0`, and
`C0s0-eth15` at the switch), in 15 characters.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

from knetsim import names
from knetsim.errors import Problem
from knetsim.scenario.document import KeyPath
from knetsim.scenario.draft import Draft, cluster_path
from knetsim.scenario.spec import ClusterSpec
from knetsim.scenario.wording import quote

_RESERVED_WORKERS = (
    (re.compile(r"e[0-9]+"), "etcd members have such names"),
    (re.compile(r"s[0-9]+"), "switches have such names"),
    (re.compile(r"cp"), "the control plane's host has that name"),
)

#: words that mean something else at the prompt: Mininet's commands, ours, and those of Python for `py`
PROMPT_WORDS = frozenset(keyword.kwlist) | {
    *("dpctl", "dump", "exit", "gterm", "help", "intfs", "iperf", "iperfudp", "link", "links", "net", "nodes"),
    *("noecho", "pingall", "pingpair", "ports", "px", "py", "quit", "sh", "source", "switch", "time", "wait"),
    *("x", "xterm", "kubectl", "status", "trace"),
}

_LABEL_NAME = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
#: written by the kubelet itself; one writer per field
_KUBELET_LABELS = frozenset({"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"})


def check_cluster_names(draft: Draft) -> Iterator[Problem]:
    """Two clusters with one name, or with names that only differ by case."""
    seen: dict[str, ClusterSpec] = {}
    for cluster in draft.scenario.clusters:
        path = cluster_path(cluster, "name")
        if not draft.sound(path):
            continue
        other = seen.setdefault(cluster.name.lower(), cluster)
        line = draft.line(cluster_path(other, "name"))
        if other is cluster:
            continue
        if other.name == cluster.name:
            what = f"a second cluster '{cluster.name}' (first in line {line})"
            yield draft.problem(path, what, "choose another name")
        else:
            what = f"cluster names '{other.name}' (line {line}) and '{cluster.name}' differ only by case"
            yield draft.problem(path, what, "Kubernetes Nodes are lower case, so their workers would be the same Nodes")


def check_worker_names(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """Two workers with one name, and names that belong to other hosts of the cluster."""
    seen: dict[str, int] = {}
    for index, worker in enumerate(cluster.workers):
        path = worker_name_path(draft, cluster, index)
        if worker.name in seen:
            first = draft.line(worker_name_path(draft, cluster, seen[worker.name]))
            what = f"a second worker '{worker.name}' (first in line {first})"
            yield draft.problem(path, what, "choose another name")
        seen.setdefault(worker.name, index)
        for form, reason in _RESERVED_WORKERS:
            if form.fullmatch(worker.name):
                yield draft.problem(path, f"a worker cannot be called '{worker.name}': {reason}", "for example w1")


def worker_name_path(draft: Draft, cluster: ClusterSpec, index: int) -> KeyPath:
    """Where the name of a worker was written: in the list, or by the number that made it."""
    path = cluster_path(cluster, "workers", index, "name")
    return path if draft.written(path) else cluster_path(cluster, "workers")


def check_interface_names(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """Interfaces called after hosts and switches must fit in 15 characters; the longest tells of all."""
    limit = names.INTERFACE_NAME_MAX
    hosts = [names.worker_host(cluster.name, worker.name) for worker in cluster.workers]
    ports = len(hosts) + cluster.etcd.members + 2  # and the control plane's host, and the link to t0
    longest = max(range(len(hosts)), key=lambda index: len(hosts[index]))
    candidates = (
        (f"{hosts[longest]}-eth0", worker_name_path(draft, cluster, longest)),
        (f"{names.cluster_switch(cluster.name)}-eth{ports}", cluster_path(cluster, "name")),
    )
    for interface, path in candidates:
        if len(interface) > limit:
            what = f"the interface '{interface}' would have {len(interface)} characters; Linux allows {limit}"
            excess = len(interface) - limit
            plural = "s" if excess > 1 else ""
            yield draft.problem(path, what, f"shorten the cluster's or the worker's name by {excess} character{plural}")


def check_clashes(draft: Draft) -> Iterator[Problem]:
    """One name for two things of the simulation, and names that are words of the prompt."""
    owners: dict[str, tuple[str, object]] = {names.TOP_SWITCH: ("the switch that joins the clusters", None)}
    for cluster in draft.scenario.clusters:
        if not draft.sound(cluster_path(cluster, "name")):
            continue
        for name, (what, path, identity) in _names_of(draft, cluster).items():
            if name in PROMPT_WORDS:
                yield draft.problem(path, f"'{name}' ({what}) is a word of the mininet> prompt", "choose another name")
            taken, owner = owners.setdefault(name.lower(), (what, identity))
            if owner != identity:
                yield draft.problem(path, f"'{name}' would name both {taken} and {what}", "rename one of them")


def _names_of(draft: Draft, cluster: ClusterSpec) -> dict[str, tuple[str, KeyPath, object]]:
    """The names that a cluster brings: what each stands for, where it comes from, and an identity.

    Names that are wrong by themselves (duplicates, reserved ones) are left to the checks above.
    """
    path = cluster_path(cluster, "name")
    own = {
        cluster.name: (f"the cluster {cluster.name}", path),
        names.cluster_switch(cluster.name): (f"the switch of cluster {cluster.name}", path),
        names.control_plane_host(cluster.name): (f"the control plane's host of cluster {cluster.name}", path),
    }
    if draft.sound(cluster_path(cluster, "etcd")):
        for member in range(1, cluster.etcd.members + 1):
            own[names.etcd_host(cluster.name, member)] = (f"an etcd member of cluster {cluster.name}", path)
    if draft.sound(cluster_path(cluster, "workers")):
        for index, worker in enumerate(cluster.workers):
            what = f"worker {worker.name} of cluster {cluster.name}"
            host = names.worker_host(cluster.name, worker.name)
            own.setdefault(host, (what, worker_name_path(draft, cluster, index)))
    # clusters that differ by case only are told of by check_cluster_names
    return {name: (what, path, (cluster.name.lower(), what.lower())) for name, (what, path) in own.items()}


def check_labels(draft: Draft, cluster: ClusterSpec) -> Iterator[Problem]:
    """Labels as the API server would take them on a Node."""
    for index, worker in enumerate(cluster.workers):
        for key, value in worker.labels.items():
            path = cluster_path(cluster, "workers", index, "labels", key)
            if key in _KUBELET_LABELS:
                what = f"the label '{key}' is written by the kubelet"
                yield draft.document.problem(path, what, "remove it, or choose another key", at_key=True)
            yield from find_label_problems(draft, path, key, value)


def find_label_problems(draft: Draft, path: KeyPath, key: str, value: str) -> Iterator[Problem]:
    """What keeps a label, written at `path`, from being one of Kubernetes."""
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or (slash and not names.DNS_SUBDOMAIN.match(prefix)):
        hint = "letters, digits, '-', '_' and '.', at most 63; before a '/' a domain, as in example.com/zone"
        yield draft.document.problem(path, f"{quote(key)} is not the key of a label", hint, at_key=True)
    if not _LABEL_VALUE.fullmatch(value):
        hint = "letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends"
        yield draft.problem(path, f"{quote(value)} cannot be the value of a label", hint)

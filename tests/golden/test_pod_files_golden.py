"""The files that a kubelet gives pods: /etc/hosts and /etc/resolv.conf, for every way to ask for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from knetsim.node.kubelet.files import ClusterDns, build_hosts, build_resolv_conf
from knetsim.node.kubelet.host_names import build_host_name

HERE = Path(__file__).parent / "pod_files"
DNS = ClusterDns(("100.64.0.10",))
WORKER_HOSTS = "127.0.0.1 localhost\n10.1.1.1 C0w1\n"
WORKER_RESOLV_CONF = "# the worker's\nsearch example.org.\nnameserver 9.9.9.9\noptions attempts:1\n"


def test_files_of_pods(golden: Callable[[Path, str], None]) -> None:
    text = ""
    for name, spec in yaml.safe_load((HERE / "cases.yaml").read_text()).items():
        pod = {"kind": "Pod", "metadata": {"name": "c1", "namespace": "shop"}, "spec": spec}
        warnings: list[str] = []
        hosts = build_hosts(pod, "11.16.0.2", build_host_name(pod), WORKER_HOSTS)
        resolv_conf = build_resolv_conf(pod, DNS, WORKER_RESOLV_CONF, warnings.append)
        text += f"=== {name}: /etc/hosts\n{hosts}--- /etc/resolv.conf\n{resolv_conf}"
        text += "".join(f"!!! {warning}\n" for warning in warnings)
    golden(HERE / "files.txt", text)

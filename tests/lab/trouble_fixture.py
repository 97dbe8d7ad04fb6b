"""A small cluster with Kubernetes' own control plane that tests hurt, and what they ask of it: kubectl, pods untouched.

cluster = Hurt(lab); cluster.kubectl("get", "pods"); cluster.kill("C0cp/kube-apiserver"); cluster.snapshot("app=web")
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knetsim.system.programs import find_program
from knetsim.system.wait import wait_until
from tests.lab.lab import Lab

API_SERVER = "C0cp/kube-apiserver"
SECONDS = 60.0

#: says `ok` or `lost` of every request to its argument, ten times a second (Debian's busybox dies of `wget -T`)
CLIENT = 'while :; do timeout 2 wget -q -O /dev/null "http://$0/" && echo ok || echo lost; sleep 0.1; done'


class Hurt:
    """A running simulation with the cluster C0, asked by kubectl from the host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    # --- kubectl

    def argv(self, *words: str) -> list[str]:
        """kubectl as the cluster's administrator."""
        return [str(find_program("kubectl")), f"--kubeconfig={self.lab.directory.kubeconfig}", *words]

    def kubectl(
        self, *words: str, stdin: str = "", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; all that it printed is its stdout."""
        done = subprocess.run(
            self.argv(*words),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}"
        return done

    def get(self, *words: str) -> Any:
        """`kubectl get … -o json`."""
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply -f -`"""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "-f", "-", stdin=text)

    def explain_unready(self) -> str:
        """What keeps kubectl from working; empty when it does."""
        done = self.kubectl("get", "--raw", "/readyz", check=False)
        return "" if done.returncode == 0 else done.stdout.strip()

    def wait_kubectl(self) -> None:
        """Until kubectl works."""
        wait_until("kubectl", self.explain_unready, SECONDS)

    # --- processes

    def pid(self, daemon: str) -> int:
        """The pid by which this machine knows a daemon of the simulation."""
        return self.lab.host_pid(int(self.lab.daemon(daemon)["pid"]))

    def kill(self, daemon: str) -> None:
        """`kill -9`"""
        os.kill(self.pid(daemon), signal.SIGKILL)

    @contextmanager
    def stopped(self, *pids: int) -> Iterator[None]:
        """Processes that do nothing for a while."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    # --- pods

    def snapshot(self, selector: str) -> dict[str, tuple[Any, ...]]:
        """What must not change of pods that nobody touches: uid, address, worker, restarts, the moment in which
        process 1 of their first container began."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                pod["status"]["podIP"],
                pod["spec"]["nodeName"],
                *(one["restartCount"] for one in pod["status"]["containerStatuses"]),
                self.began(pod["metadata"]["name"]),
            )
            for pod in self.get("pods", "-l", selector)["items"]
        }

    def began(self, pod: str) -> str:
        """When process 1 of a pod's first container began, in ticks of the kernel; empty when it does not run."""
        output = self.lab.py(f'C0.exec_pod("{pod}", "cat /proc/1/stat")', check=False)
        return output.split()[21] if output.startswith("1 (") else ""

    def answers(self, pod: str) -> tuple[int, int]:
        """How many requests of a pod that runs CLIENT were answered so far, and how many were not."""
        words = self.kubectl("logs", pod).stdout.split()
        return words.count("ok"), words.count("lost")


def build_deployment(
    name: str, replicas: int, *, image: str = "registry.k8s.io/pause:3.10", **spec: Any
) -> dict[str, Any]:
    """A Deployment whose pods have the label `app` of its name; `spec` is more of theirs."""
    labels = {"app": name}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": image}], **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def build_service(name: str) -> dict[str, Any]:
    """Port 80 of a VIP for the pods of the Deployment of that name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def build_pod(name: str, *, image: str = "registry.k8s.io/pause:3.10", worker: str = "", **container: Any) -> Any:
    """A Pod that ends soon when it is deleted, once its worker says so."""
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image, **container}],
    }
    if worker:
        spec["nodeName"] = worker
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}

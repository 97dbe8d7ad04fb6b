"""Everything at once: pods created, deleted, forced and made again under one name, containers coming and going."""

from __future__ import annotations

import os
import random
import threading

import pytest

from knetsim.api.objects import key_of
from knetsim.errors import AlreadyExists, CommandError, Conflict, NotFound
from knetsim.system.netns import entered
from knetsim.system.wait import wait_until
from tests.kernel.node.conftest import DEADLINE, Lab, shell

NAMES = [f"p{number}" for number in range(8)]
CONTAINERS = (
    {"name": "main", "image": "pause"},
    {"name": "main", "image": "busybox", "command": ["no-such-program"]},
    shell("exit 0"),
    shell("exit 1"),
    shell("trap 'exit 0' TERM; while :; do sleep 0.01; done"),
    {"name": "main", "image": "busybox", "command": ["sleep", "1000"]},
)


@pytest.mark.parametrize("seed", range(3))
def test_storm(lab: Lab, seed: int) -> None:
    threads = [threading.Thread(target=work, args=(lab, random.Random(seed * 10 + number))) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pod in lab.store.list("Pod").items:
        try:
            lab.store.delete("Pod", pod["metadata"]["name"], grace_seconds=0)
        except NotFound:
            pass  # it was on its way
    wait_until("the end", lambda: " ".join((*lab.kubelet._runs, *map(key_of, lab.pods.items()))), DEADLINE)
    for worker in lab.workers:
        with entered(worker.namespaces):
            assert os.listdir("/run/netns") == []
        assert [link.name for link in worker.netlink.links() if link.name.startswith("veth") and link.up] == []
        assert os.listdir(f"{worker.directory}/pods") == []
    fine = lab.run("after")
    assert fine["status"]["phase"] == "Running"


def work(lab: Lab, dice: random.Random) -> None:
    """What a restless user does."""
    for _ in range(150):
        name = dice.choice(NAMES)
        try:
            match dice.randrange(6):
                case 0 | 1:
                    policy = dice.choice(("Always", "OnFailure", "Never"))
                    container = dice.choice(CONTAINERS)
                    lab.create(name, container, worker=dice.randrange(2) + 1, restartPolicy=policy)
                case 2:
                    lab.store.delete("Pod", name, grace_seconds=dice.choice((None, 0, 1)))
                case 3:
                    lab.kubelet.start_in_pod("default", name, ["sleep", "1000"])
                case 4:
                    lab.kubelet.exec_place("default", name).close()
                case 5:
                    lab.pods.wait_for(
                        lambda pods, name=name: (pods.get("default", name) or {"status": {"podIP": 1}})["status"].get(
                            "podIP"
                        ),
                        DEADLINE,
                        name,
                    )
        except (AlreadyExists, NotFound, Conflict, CommandError):
            pass  # somebody else was quicker

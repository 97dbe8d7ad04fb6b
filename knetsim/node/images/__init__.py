"""Images: what the `image` of a container stands for on a machine without a container runtime.

Reality: a registry holds layers of files and a description (entrypoint, command, environment, user); the kubelet has
its runtime pull them to each node as `imagePullPolicy` says. Ours: tables, `docs/images.md` and files of users, name a
program of this machine for each image; its files are layers over the machine's root directory (`system/layers.py`),
made once for all containers of a simulation. Nothing is downloaded; what a pull takes is the time of looking it up.

    reference.py  pure: `nginx` is `docker.io/library/nginx:latest`
    table.py      pure: Markdown → rows, or all mistakes
    image.py      pure: what a container of an image has
    images.py     name → row → image, with its layers
    pull.py       what a kubelet does before a container can start: policies, Events, back-off

How it differs: tags hardly matter, since the machine has one release of each program; files that an image has and no
program needs are the machine's. Commands that show it: `kubectl describe pod` (Events of the pull), `kubectl exec POD
-- mount` (the layers), `ls /tmp/knetsim/images`.
"""

from __future__ import annotations

from knetsim.node.images.image import Image, ImageError
from knetsim.node.images.images import Images, find_user_tables, read_tables
from knetsim.node.images.pull import NodeImages, PullBackoff
from knetsim.node.images.reference import Reference, parse_reference

__all__ = [
    "Image",
    "ImageError",
    "Images",
    "NodeImages",
    "PullBackoff",
    "Reference",
    "find_user_tables",
    "parse_reference",
    "read_tables",
]

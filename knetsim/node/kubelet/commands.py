"""What a container of a Pod's spec runs: program, arguments; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knetsim.node.images import Image
from knetsim.node.kubelet.environment import expand


def build_argv(image: Image, container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Program and arguments. In the container's own `command` and `args`, `$(NAME)` stands for a variable of the
    environment; in the image's it does not."""
    own = {field: [expand(word, env) for word in container.get(field) or ()] for field in ("command", "args")}
    return image.argv(own)

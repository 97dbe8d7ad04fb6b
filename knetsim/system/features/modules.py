"""What the kernel has built in, loaded, or could load, found out without loading anything."""

from __future__ import annotations

import os
import re
from pathlib import Path


def find_module(module: str) -> str:
    """`loaded`, `built in` or `not loaded` (there is a file of it); empty when this machine knows of no such module.

    In a container the host's modules are often out of sight: empty does not say that the kernel could not load it.
    """
    if Path("/sys/module", module).is_dir():
        return "loaded"
    directory = Path("/lib/modules", os.uname().release)
    # names of modules and of their files differ in - and _; a line is `kernel/net/ipv4/ip_gre.ko.xz: …`
    pattern = re.compile(rf"/{re.sub('[-_]', '[-_]', module)}\.ko", re.MULTILINE)
    for index, state in (("modules.builtin", "built in"), ("modules.dep", "not loaded")):
        try:
            if pattern.search(re.sub(r":.*", "", (directory / index).read_text())):
                return state
        except OSError:
            continue  # no modules are installed
    return ""

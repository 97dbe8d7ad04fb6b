"""The logs of a node's own daemons: `kubectl get --raw /api/v1/nodes/c0w1/proxy/logs/`.

Reality: a kubelet serves the files of its machine's /var/log. Ours: the log files in the worker's directory, such as
/tmp/knetsim/C0w1/flannel.log, and nothing else of it: there are keys beside them.
"""

from __future__ import annotations

import html
from pathlib import Path

from aiohttp import web

from knetsim import names
from knetsim.node.kubelet_api.context import NODES


async def answer_node_logs(request: web.Request) -> web.StreamResponse:
    """The names of the logs, or the one that is asked for; 404 for any other file."""
    directory = Path(names.host_directory(request.app[NODES].worker_of(request).place.name))
    found = sorted(path.name for path in directory.glob("*.log"))
    asked = request.match_info.get("name")
    if asked is None:
        return web.Response(text=build_listing(found), content_type="text/html")
    if asked not in found:
        raise web.HTTPNotFound(text="404 page not found\n")
    return web.FileResponse(directory / asked, headers={"Content-Type": "text/plain; charset=utf-8"})


def build_listing(files: list[str]) -> str:
    """A link for each file, as Go's file server writes them."""
    return "<pre>\n" + "".join(f'<a href="{html.escape(one)}">{html.escape(one)}</a>\n' for one in files) + "</pre>\n"

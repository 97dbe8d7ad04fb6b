"""nginx's configuration for the doors of one worker; pure: the same doors, the same text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from knetsim.dataplane.ingress.locations import Location, build_locations
from knetsim.dataplane.ingress.sites import Certificate, Door, Route, Site, Upstream

CONFIG = "nginx.conf"
LOG = "nginx.log"
#: a UNIX socket that answers with the version of the configuration that is served
STATUS = "status.sock"
#: Debian's and ingress-nginx's own
USER = "www-data"
#: seconds for which connections of a former configuration may go on after a reload, as in ingress-nginx
SHUTDOWN_SECONDS = 240
_HTTPS = 443

_HTTP = """\
http {{
\tlog_format doors '$remote_addr [$time_local] "$request" $status host=$host upstream=$upstream_addr';
\taccess_log {directory}/access.log doors;
\tclient_body_temp_path {directory}/body;
\tproxy_temp_path {directory}/proxy;
\tfastcgi_temp_path {directory}/fastcgi;
\tscgi_temp_path {directory}/scgi;
\tuwsgi_temp_path {directory}/uwsgi;
\tdefault_type text/plain;
\tserver_tokens off;
\tserver_names_hash_bucket_size 512;
\tssl_protocols TLSv1.2 TLSv1.3;
\tproxy_http_version 1.1;
\tproxy_buffering off;
\tproxy_connect_timeout 5s;
\tproxy_set_header Host $http_host;
\tproxy_set_header X-Request-ID $request_id;
\tproxy_set_header X-Real-IP $remote_addr;
\tproxy_set_header X-Forwarded-For $remote_addr;
\tproxy_set_header X-Forwarded-Host $http_host;
\tproxy_set_header X-Forwarded-Port $server_port;
\tproxy_set_header X-Forwarded-Proto $scheme;
\tproxy_set_header Upgrade $http_upgrade;
\tproxy_set_header Connection $connection_upgrade;
\tmap $http_upgrade $connection_upgrade {{
\t\tdefault upgrade;
\t\t'' '';
\t}}"""


def build_nginx(directory: Path, doors: Iterable[Door], common: Certificate | None = None) -> str:
    """The configuration file of the nginx whose files are in `directory`; `common` is the certificate of hosts that
    have none, needed when a door has HTTPS. Its status socket answers with `version_of` this text."""
    ordered = sorted(doors, key=lambda door: door.http)
    lines = [_HTTP.format(directory=directory)]
    lines += [_build_upstream(upstream) for upstream in _find_upstreams(ordered)]
    lines += [_build_site(door, site, common) for door in ordered for site in _with_any(door)]
    body = "\n".join(lines)
    head = [
        "# written by knetsim from the cluster's Ingresses; what is changed here is lost with the next of them",
        "daemon off;",
        "worker_processes 1;",
        f"worker_shutdown_timeout {SHUTDOWN_SECONDS}s;",
        f"user {USER};",
        f"pid {directory}/nginx.pid;",
        "error_log stderr notice;",
        "events {",
        "\tworker_connections 4096;",
        "}",
    ]
    status = [
        "\tserver {",
        f"\t\tlisten unix:{directory}/{STATUS};",
        "\t\taccess_log off;",
        f'\t\treturn 200 "{hashlib.sha256(body.encode()).hexdigest()[:16]}";',
        "\t}",
    ]
    return "\n".join([*head, body, *status, "}", ""])


def version_of(text: str) -> str:
    """What the status socket answers once a configuration is served."""
    found = re.search(r'return 200 "([0-9a-f]+)"', text)
    assert found is not None, "built by build_nginx"
    return found[1]


def _find_upstreams(doors: Sequence[Door]) -> list[Upstream]:
    sites = [site for door in doors for site in door.sites]
    routes = [route for site in sites for route in (*site.routes, *([site.default] if site.default else []))]
    return sorted({route.upstream for route in routes if route.upstream.servers}, key=lambda each: each.name)


def _build_upstream(upstream: Upstream) -> str:
    servers = [f"\t\tserver {server};" for server in upstream.servers]
    return "\n".join([f"\tupstream {upstream.name} {{", *servers, "\t}"])


def _with_any(door: Door) -> list[Site]:
    """The sites, that for any host first: nginx takes it for hosts that nobody has."""
    named = sorted((site for site in door.sites if site.host), key=lambda site: site.host)
    return [next((site for site in door.sites if not site.host), Site("")), *named]


def _build_site(door: Door, site: Site, common: Certificate | None) -> str:
    default = "" if site.host else " default_server"
    lines = ["\tserver {", f"\t\tlisten {door.http}{default};"]
    if door.https:
        certificate = site.certificate or common
        assert certificate is not None, "a door with HTTPS needs a certificate"
        lines += [
            f"\t\tlisten {door.https} ssl http2{default};",
            f"\t\tssl_certificate {certificate.chain};",
            f"\t\tssl_certificate_key {certificate.key};",
        ]
    lines.append(f"\t\tserver_name {_server_name(site.host)};")
    for location in build_locations(site):
        lines += _build_location(door, site, location)
    return "\n".join([*lines, "\t}"])


def _server_name(host: str) -> str:
    """A wildcard stands for one label in Kubernetes, for any number in nginx."""
    if host.startswith("*."):
        return quote(f"~^[^.]+{re.escape(host[1:])}$")
    return host or "_"


def _build_location(door: Door, site: Site, location: Location) -> list[str]:
    route = location.route
    words = [word for word in ("location", location.modifier, quote(location.text)) if word]
    lines = [f"\t\t{' '.join(words)} {{"]
    if route is None:
        lines.append("\t\t\treturn 404;")
    else:
        lines += [f"\t\t\t{line}" for line in (f"# Ingress {route.owner}", *_build_route(door, site, route))]
    return [*lines, "\t\t}"]


def _build_route(door: Door, site: Site, route: Route) -> list[str]:
    lines = []
    if door.https and site.certificate is not None and route.options.redirect:
        port = "" if door.https == _HTTPS else f":{door.https}"
        lines += ["if ($scheme = http) {", f"\treturn 308 https://$host{port}$request_uri;", "}"]
    if not route.upstream.servers:
        return [*lines, f"return 503; # {route.upstream.name} has nobody to answer"]
    if route.options.body_size:
        lines.append(f"client_max_body_size {route.options.body_size};")
    if route.options.rewrite:
        lines.append(f"rewrite {quote(f'(?i){route.path}')} {quote(route.options.rewrite)} break;")
    return [*lines, f"proxy_pass http://{route.upstream.name};"]


def quote(text: str) -> str:
    """A word of the configuration; only `$` keeps its meaning."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

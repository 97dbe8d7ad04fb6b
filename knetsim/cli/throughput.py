"""`iperf` and `iperfudp` at the prompt: how much goes from one host to another, by iperf3 in their namespaces.

Mininet's own commands run iperf 2, and wait for the line that it prints about the connection by which they try whether
the server listens. iperf prints none for an empty connection since 2.1: they wait for ever.
"""

from __future__ import annotations

import json
from typing import Any

from knetsim.dataplane.underlay import HostNode
from knetsim.errors import KnetsimError
from knetsim.system.listening import is_listening
from knetsim.system.programs import require_program
from knetsim.system.run import run, running_beside
from knetsim.system.wait import wait_until

#: as Mininet has it
SECONDS = 5
_PORT = 5001
_LISTEN_SECONDS = 5.0
#: for what comes before and after the measurement
_GRACE = 15.0
_UNITS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def measure(client: HostNode, server: HostNode, rate: str = "") -> str:
    """Send from `client` to `server` for some seconds, by TCP, or, with a rate such as `10M`, by UDP; the result in
    words. KnetsimError when nothing arrives, MissingTool without iperf3, NotReady."""
    program, port = str(require_program("iperf3")), str(_PORT)
    with running_beside([program, "-s", "-p", port], place=server.place):
        wait_until(f"iperf3 on {server.name}", lambda: _explain_deaf(server), _LISTEN_SECONDS)
        argv = [program, "-c", str(server.IP()), "-p", port, "-t", str(SECONDS), "-J", "--connect-timeout", "5000"]
        argv += ["-u", "-b", rate] if rate else []
        done = run(argv, place=client.place, check=False, timeout=SECONDS + _GRACE)
    return f"{client.name} -> {server.name}: {explain_report(_read_report(done.output, client, server), bool(rate))}"


def _explain_deaf(server: HostNode) -> str:
    return "" if is_listening(server.place, _PORT) else "it does not listen yet"


def _read_report(text: str, client: HostNode, server: HostNode) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(text)
    except ValueError:
        report = {"error": text.strip() or "iperf3 said nothing"}
    if "error" in report:
        what = f"nothing was measured from {client.name} to {server.name}"
        raise KnetsimError(what, why=str(report["error"]), hint=f"{client.name} ping -c 1 {server.name}")
    return report


def explain_report(report: dict[str, Any], by_udp: bool) -> str:
    """iperf3's report in a line: `TCP, 5 s: 41.2 Gbit/s sent, 41.1 Gbit/s received`."""
    end = report["end"]
    if not by_udp:
        sent, received = (explain_rate(end[key]["bits_per_second"]) for key in ("sum_sent", "sum_received"))
        return f"TCP, {SECONDS} s: {sent} sent, {received} received"
    total = end["sum"]
    lost = f"{total['lost_packets']} of {total['packets']} datagrams lost"
    return f"UDP, {SECONDS} s: {explain_rate(total['bits_per_second'])} sent, {lost}"


def explain_rate(bits: float) -> str:
    """`41.2 Gbit/s`, with the prefix that leaves the fewest digits."""
    unit, size = next(((unit, size) for unit, size in _UNITS if bits >= size), ("", 1.0))
    return f"{bits / size:.3g} {unit}bit/s"

"""`pingall` at the prompt, for the pods of a cluster."""

from __future__ import annotations

import click

from knetsim.cluster import Cluster


def ping_pods(cluster: Cluster) -> float:
    """Ping between all pods and show who answered whom, as Mininet does for hosts; the loss in percent."""
    pods = cluster.pod_addresses()
    if len(pods) < 2:
        return 0.0
    click.echo(f"*** Ping: pods of {cluster.name}")
    sent = received = 0
    for name, answered in cluster.ping_pods(pods):
        click.echo(f"{name} -> {' '.join(target if ok else 'X' for target, ok in answered)}")
        sent += len(answered)
        received += sum(ok for _, ok in answered)
    loss = 100.0 * (sent - received) / sent
    click.echo(f"*** Results: {loss:.0f}% dropped ({received}/{sent} received)")
    return loss

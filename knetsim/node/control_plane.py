"""The Mininet host `C0cp`: where the control plane's programs run, on the underlay and on the pod network.

Reality: a control-plane machine is a node of the cluster that takes no pods of users; it has a share of the pod network
and the rules of Services, for the API server itself connects to pods (`kubectl get --raw …/proxy`), to webhooks and to
extension servers behind Services. Ours has the same: an agent of the pod network with a lease of its own, and the
Services' rules; but it is no Node, so nothing is ever bound to it.
"""

from __future__ import annotations

import shlex
from typing import Any

from knetsim.dataplane.underlay import HostNode


class ControlPlaneHost(HostNode):
    """The control plane's host of one cluster."""

    def __init__(self, name: str, ip: str, **params: Any) -> None:
        super().__init__(name, ip, **params)
        self.address = ip.split("/", maxsplit=1)[0]
        #: what commands here find in their environment: where kubectl is, and its kubeconfig
        self.environment: dict[str, str] = {}

    def ensure_shell(self) -> None:
        """Start the host's bash unless it runs; kubectl is in its PATH and knows the cluster."""
        before = self.shell
        super().ensure_shell()
        if self.shell is not before and self.environment:
            words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
            self.cmd(f"export {words}")

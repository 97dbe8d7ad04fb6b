"""The volumes of pods: what each source is made of, how it changes under a running container, where it is mounted.

Reality: the kubelet makes each volume in `/var/lib/kubelet/pods/UID/volumes/…` of its node before the pod's containers
are created, and the runtime binds it into them; ConfigMaps, Secrets and tokens are looked at every minute or so. Ours:
`volumes/NAME` in the pod's directory (`C0w1 ls /tmp/knetsim/C0w1/pods/default_c1/volumes/NAME`); a change is seen by
running containers at once, because the kubelet here is woken by the watch that told it.

    payload.py    pure: files of configMap, secret, downwardAPI, projected     tokens.py     service-account tokens
    writer.py     files that change all at once                               host_tree.py  hostPath, a tree per worker
    claims.py     pure: the disk or the worker's directory that a claim has got
    ownership.py  fsGroup                                                     pod_volumes.py  all volumes of one pod

How it differs: of what claims are bound to, directories of workers (hostPath, local) and knetsim's own disks
(control/kubernetes/storage.py) are simulated, no other storage; nor are the cluster's trust bundles.
"""

from __future__ import annotations

from knetsim.node.kubelet.volumes.pod_volumes import MountError, PodVolumes

__all__ = ["MountError", "PodVolumes"]

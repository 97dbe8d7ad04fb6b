"""Kubernetes' own control plane: kube-apiserver, kube-controller-manager and kube-scheduler on the Mininet host `C0cp`.

Reality: the three programs on a control-plane machine, set up by kubeadm: a certificate authority of the cluster signs
who is who, kubeconfig files say where the API server is and as whom to speak to it, flags say the rest. Ours are the
same unmodified programs with the flags that kubeadm would give them, on the cluster's own etcd, in the network
namespace of `C0cp`, which is on the underlay and on the pod network, as a control-plane machine is.

    certificates.py  the cluster's certificate authorities and the key pairs they sign
    kubeconfig.py    pure: kubeconfig files
    flags.py         pure: the programs' command lines and configuration
    plane.py         the daemons: started, awaited, supervised
    definitions.py   the kinds that knetsim adds: Skupper's

How it differs: objects are stored as JSON, so that `etcdctl get` can be read; no leader election, since there is one of
each; the controllers and the scheduler may ask the API server far more often a second, for a simulation is to be quick.
Commands that show it: `C0cp ps ax`, `C0cp kubectl get --raw /readyz?verbose`, `C0cp cat /tmp/knetsim/C0cp/admin.conf`,
`C0e1 /tmp/knetsim/etcdctl get /registry/pods/default/c1`. Cost: about 400 MB a cluster, however many workers.
"""

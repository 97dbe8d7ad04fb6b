"""1 Accept: objects, what is checked before one is stored, and the store that all agents and surfaces share.

    objects.py        the kinds as rows of a table; keys and bytes in etcd
    openapi.py        Kubernetes' own structure (openapi.json, by tools/openapi/build.py), in the words of checks.py
    definitions.py    Skupper's kinds (skupper.yaml), as CustomResourceDefinitions and for schemas.py, which checks them
    rules.py          what must hold besides → pod_rules.py, service_rules.py, config_rules.py, network_rules.py
    accept.py         what happens to an object before it is stored → pods.py: defaults, updates, grace of Pods
    store.py          the protocol Store → etcd_store.py, object_watch.py: straight on etcd, Kubernetes' own keys
    etcd/             a client of all members of an etcd cluster
                      … or http_store.py: through a kube-apiserver
    http/             a client of one kube-apiserver
    shared_status.py  what a write of a status leaves of what others wrote into it
    told.py           what a watch has told, so that it can tell the difference to a new list
    informer.py       one watch → a copy in memory, for all agents
    loop.py           watch → keys → reconcile(key): the work queue under every agent and controller
    events.py         what agents tell a learner about an object

Commands that show it: `C0e1 etcdctl get /registry --prefix --keys-only`, `C0e1 etcdctl get /registry/pods/default/c1`,
`C0e1 etcdctl watch /registry/pods --prefix`.
"""

"""Ingress: from a worker's port to Services, by host and path, by a real nginx on workers that the scenario chooses.

What ingress-nginx does. A controller in a pod watches Ingresses, writes nginx's configuration, reloads it; what changes
often (endpoints) goes to nginx by Lua. What ours does: Debian's nginx as a daemon in the worker's namespaces (as
ingress-nginx with hostNetwork), its configuration built here from the same objects, the same class `nginx` and the same
controller's name, the same annotations where they are known.
How it differs: nginx sends to a Service's ClusterIP and leaves the choice of the pod to the proxy of its worker
(ingress-nginx with service-upstream: "true"), so that pods come and go without a reload; only a Service without a
ClusterIP is a list of its pods. An Ingress of no class is served, too. No Lua, no admission webhook.

    sites.py         what nginx is to serve, as data               certificates.py   is this a certificate with its key?
    locations.py     paths → nginx's locations (pure)              nginx.py          the configuration file (pure)

How nginx chooses, and so what the builder must say: `location = /p` first, then regular expressions in their order,
then the longest literal prefix. Kubernetes' Prefix goes by whole elements (/p, /p/x, never /px), so it is two
locations; ImplementationSpecific is nginx's own prefix. One rewrite makes regular expressions of all paths of its host,
longest first, as in ingress-nginx.

Commands: `C0w1 cat /tmp/knetsim/C0w1/nginx/nginx.conf`, `C0w1 tail /tmp/knetsim/C0w1/nginx/access.log`,
`C0e1 curl 10.1.1.1:8001/svc1`, `kubectl describe ingress`.
Cost: 10 MB a worker that has Ingresses, nothing before; a change of Ingresses is `nginx -t` and a reload, 20 ms.
"""

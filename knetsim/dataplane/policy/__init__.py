"""NetworkPolicies: what may go to a pod and what may leave it, by one nft table `knetsim-policy` per worker.

What the API says. A pod that no policy selects for a direction is open in it. One that a policy selects is isolated:
only what one of the rules of all policies that select it allows gets through. Both ends are asked: the client's egress
and the server's ingress. A pod reaches itself, and its own node reaches it (the kubelet's probes), whatever policies
say. Answers are let through. How established connections fare when policies change is left to the implementation.

What ours does. The table looks at what is forwarded, after the address of a Service was turned into a pod's and before
anything is masqueraded, so a rule sees the real two ends:

    hook     priority      chain            asks
    forward  filter + 10   forward-egress   may the pod that sends send this?     (on the sender's worker)
    forward  filter + 11   forward-ingress  may the pod it goes to receive this?  (on the receiver's worker)

What comes from the worker itself passes `output` and `input`, not `forward`: nothing holds it back. A map leads from
the address of an isolated pod to a chain of the policies that select it, one chain for all pods with the same policies:

    ingress-pods:  11.15.64.2 : goto to/default/deny_web
    chain to/default/deny_web:       jump ingress/default/deny; jump ingress/default/web; counter drop
    chain ingress/default/web:       ip saddr @pods/default/app_client tcp dport 80 counter accept
    set pods/default/app_client:     the pods that the selector app=client means, of the whole cluster

So a pod's birth is an element in the map and in the sets of the selectors that mean it, never a rule. A worker has the
chains of those policies only that select a pod of its own; where none does it has no table, and packets lose no time.

How it differs. Network plugins answer differently what the API leaves open; ours: every packet in a connection's
original direction is asked about, so a new policy cuts a connection that it does not allow (Calico lets those live
that were established), and a connection that is held up goes on when it is allowed again. Other nodes, and pods with
hostNetwork, are their addresses: an ipBlock can mean them, a selector cannot. What a NodePort masquerades comes, for
the receiving end, from that worker. A policy judges IPv4, as the pod network is; bridged frames are seen where the
kernel has br_netfilter (services/host.py).

    selectors.py  labels and what selects them (pure)   policies.py  a policy, as data
    rules.py   the chain of a policy, the table of a worker (pure)   table.py  its text, and changes of it (pure)
    messages.py  what pods change, as messages to the kernel (pure)
    worker.py  one worker's kernel: one transaction per change   drift.py  was it changed by hand?
    explain.py  policies in words (pure)
    counters.py  what each policy let through, and what was dropped

Commands: `C0w1 nft list table ip knetsim-policy`, `C0w1 nft list map ip knetsim-policy ingress-pods`,
`C0w1 nft list chain ip knetsim-policy to/default/deny_web` (the counter before `drop` is what was held back),
`knetsim status policies`.
"""

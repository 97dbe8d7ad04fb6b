"""The shape of what `knetsim status -o json` and `knetsim ls -o json` print, and `Simulation.status()` returns; data.

Programs may rely on these keys: keys are added, never renamed. Names are those of the Mininet hosts (`C0w1`) unless a
field says otherwise; paths are as seen inside the simulation; empty text and None stand for what is not known (yet).
"""

from __future__ import annotations

from typing import Literal, TypedDict

State = Literal["starting", "ready", "degraded", "stopping"]


class DaemonState(TypedDict):
    """A supervised program on a host."""

    name: str  # host and program: "C0w1/flanneld"
    pid: int | None  # inside the simulation; None while it is down
    running: bool
    restarts: int  # since the simulation started
    lastExit: str  # how it ended last: "exit 1", "signal 9 (SIGKILL)"; empty when it never did
    log: str  # path of its log file


class MemberState(TypedDict):
    """An etcd member."""

    name: str  # as etcd knows it, "C0e1"
    host: str  # the Mininet host it runs on
    address: str  # on the underlay: "10.1.0.1"
    pid: int | None
    healthy: bool  # it answered, and a majority stands behind it
    restarts: int
    leader: bool


class EtcdState(TypedDict):
    """The etcd of a cluster."""

    healthy: int  # how many members are
    members: list[MemberState]


class WorkerState(TypedDict):
    """A worker."""

    name: str  # the Mininet host: "C0w1"
    node: str  # the Kubernetes Node: "c0w1"
    address: str  # on the underlay: "10.1.1.1"
    ready: bool  # its Node's condition Ready
    agent: str  # who runs the pod network here: "flanneld" | "embedded"
    cni: str  # who wires pods here: "plugins" | "native"
    proxy: str  # "emulator" | "kube-proxy"
    podSubnet: str  # its lease: "11.10.16.0/20"
    pods: int  # bound to it
    daemons: list[DaemonState]


class PodState(TypedDict):
    """A pod, as its object says."""

    namespace: str
    name: str
    worker: str  # empty while it is bound to none
    ip: str
    phase: str  # Pending, Running, Succeeded, Failed, Unknown; "Terminating" once it is being deleted
    ready: bool
    restarts: int  # of all its containers
    ageSeconds: float


class AgentState(TypedDict):
    """The pod network's agent on one worker."""

    worker: str
    agent: str  # "flanneld" | "embedded"
    healthy: bool  # it holds a lease, and what it applied is what etcd says
    lease: str  # "11.10.16.0/20"
    repairs: int  # how often it found the kernel changed by somebody else and put it right
    detail: str  # what is wrong, or empty


class PodNetworkState(TypedDict):
    """The pod network of a cluster."""

    backend: str  # "vxlan" | "host-gw"
    vni: int  # of vxlan
    port: int  # UDP, of vxlan
    network: str  # "11.0.0.0/8"
    leases: int  # how many etcd holds
    agentStates: list[AgentState]


class ControlPlaneProblem(TypedDict):
    """Something of a control plane that does not work."""

    object: str  # "C0cp/kube-scheduler"
    what: str


class ServiceProblem(TypedDict):
    """A Service, or a worker's rules of Services, that are not as they should be."""

    object: str  # "Service C0/default/web", "Services on C0w1"
    what: str


class AddonProblem(TypedDict):
    """Something that an agent of a cluster cannot do: of Ingresses, policies, load balancers, names."""

    object: str  # "Ingress C0/default/web", "Ingresses of C0"
    what: str


class PodProblem(TypedDict):
    """Something of pods' specs that is not carried out."""

    object: str  # "Pod C0/default/web", "Pod C0/default/web and 3 more"
    what: str


class ClusterState(TypedDict):
    """A cluster."""

    name: str  # "C0"
    controlPlane: str  # "embedded" | "kubernetes"
    controlPlaneDaemons: list[DaemonState]  # those of C0cp, flanneld too; none when it is embedded
    controlPlaneProblems: list[ControlPlaneProblem]
    dnsServer: str  # who answers names of Services: "coredns" | "embedded" | "none"
    dnsAddress: str  # where pods ask: "100.64.0.10"; empty with "none"
    apiServer: str  # where programs of this machine reach it, "https://127.0.0.1:6443"; empty: nowhere
    etcd: EtcdState
    workers: list[WorkerState]
    pods: list[PodState]
    podNetwork: PodNetworkState
    serviceProblems: list[ServiceProblem]
    addonProblems: list[AddonProblem]
    notSimulated: list[PodProblem]  # told as problems, too; no disorder


class BackendState(TypedDict):
    """A backend of a Service's port."""

    address: str  # "11.15.64.2:8080"
    pod: str  # "web-1", of the Service's namespace; empty for what is no pod
    worker: str  # the host it is on, "C0w1"; empty when its EndpointSlice does not say
    state: str  # "ready"; "ending": it still serves; "not ready"
    connections: int  # and UDP flows, that all workers together sent to it
    senders: dict[str, int]  # of these, by the host that sent them; those that sent none are left out


class ServicePortState(TypedDict):
    """A port of a Service."""

    name: str
    protocol: str  # "tcp" | "udp" | "sctp"
    port: int
    nodePort: int  # 0: none
    addresses: list[str]  # all that lead to it, the ClusterIP first
    refused: int  # connections that were refused or dropped since there was no backend for them
    backends: list[BackendState]


class ServiceState(TypedDict):
    """A Service."""

    namespace: str
    name: str
    type: str  # "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"
    clusterIP: str  # "None" when it is headless, empty when it has none
    problem: str  # why it is not served as asked, or empty
    ports: list[ServicePortState]  # none when proxies have nothing to do with it


class ClusterServices(TypedDict):
    """The Services of a cluster, with what its workers have counted since their tables were made."""

    cluster: str
    counting: list[str]  # hosts with the emulator
    uncounted: list[str]  # workers with the real kube-proxy, which counts nothing
    services: list[ServiceState]


class PolicyDirectionState(TypedDict):
    """One direction in which a NetworkPolicy isolates its pods."""

    direction: str  # "ingress" | "egress"
    allows: list[str]  # its rules in words; none: nothing
    passed: int  # packets that it let through, answers not counted
    dropped: int  # packets of its pods that neither it nor another policy let through


class PolicyState(TypedDict):
    """A NetworkPolicy."""

    namespace: str
    name: str
    selects: str  # "pods app=web", "all pods"
    pods: list[str]  # those that it selects now, of its namespace
    problem: str  # why it is not enforced, or empty
    directions: list[PolicyDirectionState]


class ClusterPolicies(TypedDict):
    """The NetworkPolicies of a cluster, with what its workers have counted since their tables were made."""

    cluster: str
    policies: list[PolicyState]


class SiteLinkState(TypedDict):
    """A Link of a site: a connection from its router to another site's."""

    name: str  # of the Link: "to-c0"
    site: str  # that it leads to: "c0"; empty while that is not known
    router: str  # of that site
    address: str  # where it dials: "10.1.1.1:55671"
    cost: int
    up: bool
    detail: str  # what is wrong, or empty


class SiteListenerState(TypedDict):
    """A Listener of a site: a port at which clients find a routing key's servers."""

    name: str
    routingKey: str
    service: str  # of the cluster, that leads to it: "backend:8080"; empty: none
    address: str  # of the worker: "10.2.1.1:1024"; empty while it has none
    open: bool  # the router listens there: somebody serves the key
    servedBy: list[str]  # sites with a Connector for the key that this one reaches
    detail: str  # what is wrong, or empty


class SiteConnectorState(TypedDict):
    """A Connector of a site: backends that serve a routing key."""

    name: str
    routingKey: str
    backends: list[str]  # "11.10.16.2:8080"
    usedBy: list[str]  # sites with a Listener for the key that reach this one
    detail: str  # what is wrong, or empty


class ReachedSiteState(TypedDict):
    """Another router of the network, as a site's router sees it."""

    router: str
    site: str  # empty when none of this simulation has that router
    cost: int  # of the whole way
    nextRouter: str  # the first on the way


class SiteState(TypedDict):
    """The Skupper site of a cluster. Names are of objects in `namespace`."""

    cluster: str
    name: str  # of the Site: "c0"
    namespace: str
    host: str  # the worker on which its router runs
    address: str  # of that worker
    router: str  # the router's id
    kind: str  # "skrouterd" | "embedded"
    version: str  # of the router; empty while it does not answer
    running: bool  # it answers
    detail: str  # what is wrong, or empty
    reaches: list[ReachedSiteState]
    links: list[SiteLinkState]
    listeners: list[SiteListenerState]
    connectors: list[SiteConnectorState]
    faults: list[AddonProblem]  # objects that are not carried out: "Listener C1/default/web", and why


class SwitchState(TypedDict):
    """A switch of the underlay."""

    name: str  # "C0s0"
    ports: int  # links that end here


class ProblemState(TypedDict):
    """Something that is not as it should be."""

    object: str  # what it is about: "C0e2/etcd", "pod C0/default/c1"
    what: str
    hint: str  # what to try, or empty


class OrphanState(TypedDict):
    """A kernel object or process inside the simulation that has no owner; there should be none."""

    kind: str  # "link", "netns", "process", "mount", "nft table"
    name: str
    where: str  # the host it was found on


class Status(TypedDict):
    """A running simulation."""

    name: str
    state: State
    scenario: str  # the file, or the name of a built-in one
    uptimeSeconds: float
    clusters: list[ClusterState]
    sites: list[SiteState]  # Skupper's; none where no cluster has one
    switches: list[SwitchState]
    problems: list[ProblemState]
    orphans: list[OrphanState]


class Summary(TypedDict):
    """One line of `knetsim ls`."""

    name: str
    state: Literal["starting", "ready", "degraded", "stopping", "crashed"]  # crashed: the next start sweeps it
    scenario: str
    clusters: int | None  # None while it does not answer
    workers: int | None
    pods: int | None
    uptimeSeconds: float | None
    pid: int | None  # of `knetsim up`, on the host

"""Kubernetes objects as plain dicts: the kinds as rows of a table, and how each lies in etcd.

An object is the dict that its JSON reads as. In etcd it lies exactly where and how a kube-apiserver started with
`--storage-media-type=application/json` would put it, so that one started later on the same etcd serves these very
objects: the key is `/registry/<prefix>/[<namespace>/]<name>`, the value one line of JSON with `kind` and `apiVersion`
first and without `metadata.resourceVersion`, which *is* the etcd revision of the key's last change and is filled in on
reading. The one difference: Go writes `<`, `>` and `&` inside strings as `\\u003c` …, here they stay readable; every
JSON reader takes both. `etcdctl get /registry/pods/default/c1` shows it.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from knetsim import names
from knetsim.errors import ObjectError

_log = logging.getLogger(__name__)

#: a Kubernetes object, as its JSON reads
Object = dict[str, Any]

REGISTRY = "/registry"
_NETWORKING = "networking.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object, as data: a new kind is a new row of KINDS.

    `prefix` is the place below /registry, `status` whether `.status` is written apart from the rest, `generation`
    whether changes of what is wanted are counted in `metadata.generation`, `graceful` whether deletion waits for the
    object's owner, `ttl` the seconds after which etcd forgets an object that nobody writes again, `lower_case` whether
    names are taken in any case, `custom` whether it is Kubernetes' own or one that knetsim defines (definitions.py).
    """

    name: str
    api_version: str
    plural: str
    prefix: str
    namespaced: bool = True
    status: bool = False
    generation: bool = False
    graceful: bool = False
    ttl: int | None = None
    lower_case: bool = False
    label_names: bool = False
    custom: bool = False


def _skupper(name: str, plural: str) -> Kind:
    """A custom kind lies below its group, as an API server that serves its definition puts it."""
    return Kind(
        name,
        names.SKUPPER_API_VERSION,
        plural,
        f"{names.SKUPPER_GROUP}/{plural}",
        status=True,
        generation=True,
        custom=True,
    )


#: Key prefixes as in Kubernetes' storage; "minions" is what Nodes were called in 2014. Objects of other kinds
#: (workloads, users' own) are nobody's business but the API server's: `HttpStore.apply` finds them by discovery.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("Namespace", "v1", "namespaces", "namespaces", namespaced=False, status=True, label_names=True),
        Kind("Node", "v1", "nodes", "minions", namespaced=False, status=True, lower_case=True),
        Kind("Pod", "v1", "pods", "pods", status=True, generation=True, graceful=True),
        Kind("Lease", "coordination.k8s.io/v1", "leases", "leases"),
        Kind("Event", "v1", "events", "events", ttl=3600),
        Kind("ConfigMap", "v1", "configmaps", "configmaps"),
        Kind("Secret", "v1", "secrets", "secrets"),
        Kind("ServiceAccount", "v1", "serviceaccounts", "serviceaccounts"),
        Kind("Service", "v1", "services", "services/specs", status=True),
        Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", "endpointslices", generation=True),
        Kind("NetworkPolicy", _NETWORKING, "networkpolicies", "networkpolicies", generation=True),
        Kind("Ingress", _NETWORKING, "ingresses", "ingress", status=True, generation=True),
        Kind("IngressClass", _NETWORKING, "ingressclasses", "ingressclasses", namespaced=False, generation=True),
        _skupper("Site", "sites"),
        _skupper("RouterAccess", "routeraccesses"),
        _skupper("Link", "links"),
        _skupper("Listener", "listeners"),
        _skupper("Connector", "connectors"),
        _skupper("AccessGrant", "accessgrants"),
        _skupper("AccessToken", "accesstokens"),
    )
}

#: kinds that are followed where an API server keeps them, and that are not known elsewhere
SERVED: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("PersistentVolume", "v1", "persistentvolumes", "persistentvolumes", namespaced=False, status=True),
        Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims", "persistentvolumeclaims", status=True),
    )
}

#: kinds that Kubernetes' own controllers carry out, which the embedded control plane does not have
CONTROLLER_KINDS = frozenset(
    ("CronJob", "DaemonSet", "Deployment", "HorizontalPodAutoscaler", "Job", "ReplicaSet", "ReplicationController")
) | {"PodDisruptionBudget", "StatefulSet"}


def kind_named(name: str) -> Kind:
    """The row of the kind `Pod`, `Node` …; ObjectError with the nearest known name."""
    kind = KINDS.get(name)
    if kind is not None:
        return kind
    if name in CONTROLLER_KINDS:
        raise ObjectError(
            f"kind {name} needs Kubernetes' controllers",
            hint="write the Pods themselves, or run the cluster with controlPlane: kubernetes",
            field="kind",
        )
    hint = names.did_you_mean(name, KINDS)
    if not hint.startswith("did you"):
        hint = f"{hint}; any other kind needs controlPlane: kubernetes"
    raise ObjectError(f"unknown kind {name!r}", hint=hint, field="kind")


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The row of an object's kind; ObjectError when `kind` or `apiVersion` is missing, unknown or not of its kind."""
    if not isinstance(obj, Mapping):
        raise ObjectError("an object must be a mapping", why=f"it is {type(obj).__name__}")
    name, version = obj.get("kind"), obj.get("apiVersion")
    if not isinstance(name, str) or not name:
        raise ObjectError("an object needs a kind", hint=names.did_you_mean("", KINDS), field="kind")
    if version == names.SKUPPER_API_VERSION and name not in KINDS:
        known = [kind.name for kind in KINDS.values() if kind.custom]
        raise ObjectError(f"knetsim's Skupper has no kind {name}", hint=f"known: {', '.join(known)}", field="kind")
    kind = kind_named(name)
    if version != kind.api_version:
        why = f"it is {version!r}" if version else "it is missing"
        raise ObjectError(
            f"kind {name} has the apiVersion {kind.api_version!r}", describe(obj), why, field="apiVersion"
        )
    return kind


# --- what an object is called -----------------------------------------------------------------------------------------


def name_of(obj: Mapping[str, Any]) -> str:
    """`metadata.name`, or "" when there is none."""
    return _metadata_text(obj, "name")


def namespace_of(obj: Mapping[str, Any]) -> str:
    """`metadata.namespace`, or "" for what lives in none."""
    return _metadata_text(obj, "namespace")


def uid_of(obj: Mapping[str, Any]) -> str:
    """`metadata.uid`: tells two objects apart that had the same name one after the other."""
    return _metadata_text(obj, "uid")


def _metadata_text(obj: Mapping[str, Any], field: str) -> str:
    metadata = obj.get("metadata")
    value = metadata.get(field) if isinstance(metadata, Mapping) else None
    return value if isinstance(value, str) else ""


def key_of(obj: Mapping[str, Any]) -> str:
    """What queues and caches call an object: `default/c1`, or `c0w1` when it lives in no namespace."""
    return make_key(name_of(obj), namespace_of(obj))


def make_key(name: str, namespace: str | None = None) -> str:
    """The key of an object that is not at hand; see `key_of`."""
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str | None, str]:
    """(namespace or None, name) of a key."""
    namespace, slash, name = key.rpartition("/")
    return (namespace if slash else None), name


def describe(obj: Mapping[str, Any]) -> str:
    """The object in an error message: `Pod default/c1`."""
    kind = obj.get("kind")
    return f"{kind if isinstance(kind, str) else 'object'} {key_of(obj) or '(without a name)'}"


def locate(kind: Kind, name: str, namespace: str | None) -> tuple[str, str]:
    """The (namespace, name) under which an object is stored: `default` unless said, `C0w1` is the Node `c0w1`."""
    stored_name = name.lower() if kind.lower_case else name
    return ((namespace or names.DEFAULT_NAMESPACE) if kind.namespaced else ""), stored_name


# --- where and how it lies in etcd ------------------------------------------------------------------------------------


def storage_prefix(kind: Kind, namespace: str | None = None) -> str:
    """The etcd prefix of all objects of a kind, or of those in one namespace."""
    root = f"{REGISTRY}/{kind.prefix}/"
    return f"{root}{namespace}/" if namespace and kind.namespaced else root


def storage_key(kind: Kind, name: str, namespace: str | None = None) -> str:
    """The etcd key of an object: `/registry/pods/default/c1`, `/registry/minions/c0w1`."""
    return storage_prefix(kind, namespace) + name


#: The order of Go's structs; what is not named keeps its own order behind these.
_TOP_ORDER = ("kind", "apiVersion", "metadata")
_METADATA_ORDER = (
    "name", "generateName", "namespace", "uid", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
)  # fmt: skip
_NEVER_STORED = frozenset(("resourceVersion", "selfLink"))

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode(obj: Mapping[str, Any]) -> bytes:
    """The value that is stored for an object: one line of UTF-8 JSON. ObjectError when it is not JSON."""
    stored = {field: obj[field] for field in _TOP_ORDER if field in obj}
    stored.update(obj)
    metadata = obj["metadata"]
    ordered = {field: metadata[field] for field in _METADATA_ORDER if field in metadata}
    for field, value in metadata.items():
        if field not in ordered and field not in _NEVER_STORED:
            ordered[field] = value
    stored["metadata"] = ordered
    try:
        return _encoder.encode(stored).encode() + b"\n"
    except (TypeError, ValueError) as error:  # a set, a date, NaN, a loop, half of a surrogate pair
        raise ObjectError("cannot be written as JSON", describe(obj), str(error)) from error


def decode(value: bytes, revision: int) -> Object:
    """The object that is stored as `value`, last changed in the etcd revision `revision`."""
    obj: Object = json.loads(value)
    obj["metadata"]["resourceVersion"] = str(revision)
    return obj


def read_object(key: str, value: bytes, revision: int) -> Object | None:
    """What `decode` reads, or None, with a warning in the log: one bad value must not hide all others of its kind."""
    try:
        return decode(value, revision)
    except (ValueError, LookupError, TypeError) as error:
        _log.warning("%s holds no object: %s", key, error)
        return None


# --- metadata ---------------------------------------------------------------------------------------------------------


def format_time(moment: float) -> str:
    """Seconds since 1970 as Kubernetes writes times: `2025-01-31T10:00:00Z`, whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: float) -> str:
    """Seconds since 1970 as Kubernetes' MicroTime (Lease's renewTime): `2025-01-31T10:00:00.000000Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> float:
    """Seconds since 1970 of a Kubernetes Time or MicroTime; ValueError when it is none."""
    return datetime.fromisoformat(text).timestamp()


def revision_of(obj: Object) -> int:
    """An object's resourceVersion as a number: the later, the higher (Kubernetes promises so since 1.35)."""
    version = obj["metadata"].get("resourceVersion", "")
    return int(version) if version.isdigit() else 0


def has_condition(obj: Object, kind: str) -> bool:
    """Whether a condition of an object's status is True: `Ready` of a Node or Pod."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)


def new_uid() -> str:
    """A uid for a new object: a random UUID, as Kubernetes gives."""
    return str(uuid.uuid4())

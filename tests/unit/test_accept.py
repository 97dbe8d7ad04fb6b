"""What is filled in, checked and kept when an object is written; and what a deletion makes of it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knetsim.api import accept, objects
from knetsim.api.objects import Object, kind_named
from knetsim.errors import Conflict, ObjectError

FROM_NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
NOW = 1738317600.0  # 2025-01-31T10:00:00Z


def build(kind: str, name: str = "c1", **fields: Any) -> Object:
    return {"kind": kind, "apiVersion": kind_named(kind).api_version, "metadata": {"name": name}, **fields}


def build_pod(container: Object | None = None, **spec: Any) -> Object:
    return build("Pod", spec={"containers": [{"name": "main", "image": "pause", **(container or {})}], **spec})


def create(obj: Object) -> Object:
    return accept.accept_create(kind_named(obj["kind"]), obj, NOW)


def mistakes(obj: Object) -> list[str]:
    with pytest.raises(ObjectError) as caught:
        create(obj)
    return [field for field, _ in caught.value.problems]


class TestCreate:
    def test_metadata(self) -> None:
        pod = build_pod()
        pod["metadata"].update(uid="mine", creationTimestamp="old", generation=7, deletionTimestamp="x", selfLink="/")
        metadata = create(pod)["metadata"]
        assert metadata["uid"] not in ("", "mine")
        assert metadata == {
            "name": "c1",
            "namespace": "default",
            "uid": metadata["uid"],
            "creationTimestamp": "2025-01-31T10:00:00Z",
            "generation": 1,
        }

    def test_what_is_given_stays_as_it_is(self) -> None:
        pod = build_pod({"ports": [{"containerPort": 80}]}, nodeName="C0w1", volumes=[{"name": "v"}])
        before = copy.deepcopy(pod)
        create(pod)
        assert pod == before

    @pytest.mark.parametrize(
        ("metadata", "fields"),
        [
            (None, ["metadata"]),
            ("c1", ["metadata"]),
            ({}, ["metadata.name"]),
            ({"name": ""}, ["metadata.name"]),
            ({"name": 5}, ["metadata.name"]),
            ({"name": "C1"}, ["metadata.name"]),
            ({"name": "c1\n"}, ["metadata.name"]),
            ({"name": "x" * 254}, ["metadata.name"]),
            ({"name": "a/b"}, ["metadata.name"]),
            ({"name": "c1", "namespace": "a.b"}, ["metadata.namespace"]),
            ({"name": "c1", "namespace": 5}, ["metadata.namespace"]),
            ({"name": "c1", "label": {}}, ["metadata.label"]),
            ({"name": "c1", "labels": []}, ["metadata.labels"]),
            ({"name": "c1", "labels": {"a": 1}}, ["metadata.labels[a]"]),
            ({"name": "c1", "labels": {"a b": "c"}}, ["metadata.labels"]),
            ({"name": "c1", "labels": {"x/y/z": "c"}}, ["metadata.labels"]),
            ({"name": "c1", "labels": {"a": "b c"}}, ["metadata.labels[a]"]),
            ({"name": "c1", "annotations": {"a": True}}, ["metadata.annotations[a]"]),
            ({"name": "c1", "finalizers": "me"}, ["metadata.finalizers"]),
        ],
    )
    def test_mistakes_in_metadata(self, metadata: Any, fields: list[str]) -> None:
        assert mistakes({**build("Lease"), "metadata": metadata}) == fields

    def test_good_labels(self) -> None:
        labels = {"app": "", "app.kubernetes.io/name": "Web_1.2", "x": "y"}
        lease = build("Lease")
        lease["metadata"]["labels"] = labels
        assert create(lease)["metadata"]["labels"] == labels

    def test_a_node_lives_in_no_namespace(self) -> None:
        node = build("Node", "C0w1")
        assert create(node)["metadata"]["name"] == "c0w1"
        assert "namespace" not in create(node)["metadata"]
        node["metadata"]["namespace"] = "default"
        assert mistakes(node) == ["metadata.namespace"]

    def test_unknown_fields_on_top(self) -> None:
        assert mistakes(build("Lease", sepc={})) == ["sepc"]
        assert mistakes(build("Lease", spec=[])) == ["spec"]
        assert mistakes(build("Node", spec="x", status=5)) == ["spec", "status"]

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ({"holder": "a"}, "spec.holder"),
            ({"leaseDurationSeconds": "40"}, "spec.leaseDurationSeconds"),
            ({"renewTime": "2025-01-31T10:00:00Z"}, "spec.renewTime"),
            ({"renewTime": 1738317600}, "spec.renewTime"),
        ],
    )
    def test_mistakes_in_a_lease(self, spec: Object, field: str) -> None:
        assert mistakes(build("Lease", spec=spec)) == [field]

    def test_a_lease(self) -> None:
        spec = {"holderIdentity": "c0w1", "leaseDurationSeconds": 40, "renewTime": objects.format_micro_time(NOW)}
        assert create(build("Lease", spec=spec))["spec"] == spec

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"spec": {"taints": [{"key": "a"}]}}, "spec.taints[0].effect"),
            ({"spec": {"unschedulable": "true"}}, "spec.unschedulable"),
            ({"spec": {"podCidr": "11.15.64.0/20"}}, "spec.podCidr"),
            ({"status": {"capacity": {"memory": "much"}}}, "status.capacity[memory]"),
            ({"status": {"addresses": ["10.1.1.1"]}}, "status.addresses[0]"),
        ],
    )
    def test_mistakes_in_a_node(self, fields: Object, field: str) -> None:
        assert mistakes(build("Node", "c0w1", **fields)) == [field]

    def test_a_namespace(self) -> None:
        created = create(build("Namespace", "shop", status={"phase": "Terminating"}, spec={"finalizers": []}))
        assert created["spec"] == {"finalizers": ["kubernetes"]}
        assert created["status"] == {"phase": "Active"}
        assert created["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
        assert mistakes(build("Namespace", "a.b")) == ["metadata.name"]

    def test_a_node_brings_its_status(self) -> None:
        node = create(build("Node", "c0w1", status={"conditions": []}))
        assert node["status"] == {"conditions": []}
        assert node["spec"] == {}

    def test_an_event_lies_beside_its_object(self) -> None:
        event = build("Event", "e1", involvedObject={"kind": "Pod", "name": "c1", "namespace": "shop"})
        assert mistakes(event) == ["involvedObject.namespace"]
        event["metadata"]["namespace"] = "shop"
        create(event)
        assert mistakes(build("Event", "e1")) == ["involvedObject"]


class TestPods:
    def test_defaults(self) -> None:
        pod = create(build_pod({"ports": [{"containerPort": 80}]}, volumes=[{"name": "data"}], nodeName="C0w1"))
        patience = [
            {"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for word in ("not-ready", "unreachable")
        ]
        assert pod["spec"] == {
            "containers": [
                {
                    "name": "main",
                    "image": "pause",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Always",
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "nodeName": "c0w1",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            "securityContext": {},
            "tolerations": patience,
        }
        assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}

    def test_what_is_said_is_not_replaced(self) -> None:
        said = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "dnsPolicy": "Default",
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
        }
        spec = create(build_pod(None, **said))["spec"]
        assert {field: spec[field] for field in said} == said

    def test_a_given_status_is_not_taken(self) -> None:
        assert create({**build_pod(), "status": {"phase": "Running"}})["status"]["phase"] == "Pending"

    @pytest.mark.parametrize(
        ("image", "policy"),
        [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/nginx", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("host:5000/nginx:1.25", "IfNotPresent"),
            ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ],
    )
    def test_pull_policy(self, image: str, policy: str) -> None:
        assert create(build_pod({"image": image}))["spec"]["containers"][0]["imagePullPolicy"] == policy

    @pytest.mark.parametrize(
        ("resources", "quality"),
        [
            ({}, "BestEffort"),
            ({"requests": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "1"}}, "Burstable"),
            ({"limits": {"cpu": "1", "memory": "1Mi"}}, "Guaranteed"),
            ({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "0.5"}}, "Burstable"),
            ({"requests": {"example.com/gpu": 1}}, "BestEffort"),
        ],
    )
    def test_quality_of_service(self, resources: Object, quality: str) -> None:
        assert create(build_pod({"resources": resources}))["status"]["qosClass"] == quality

    @pytest.mark.parametrize(
        ("container", "field"),
        [
            ({"name": None}, "name"),
            ({"name": "Main"}, "name"),
            ({"image": ""}, "image"),
            ({"comand": []}, "comand"),
            ({"command": "true"}, "command"),
            ({"command": ["true", 5]}, "command[1]"),
            ({"args": [None]}, "args[0]"),
            ({"workingDir": 5}, "workingDir"),
            ({"env": [{"value": "1"}]}, "env[0].name"),
            ({"env": [{"name": "A=B"}]}, "env[0].name"),
            ({"env": [{"name": "A", "value": 1}]}, "env[0].value"),
            ({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}, "env[0].valueFrom.fieldRef.fieldPath"),
            ({"env": [{"name": "A", "valueFrom": {}}]}, "env[0].valueFrom"),
            ({"env": [{"name": "A", "value": "1", "valueFrom": FROM_NAME}]}, "env[0].valueFrom"),
            ({"envFrom": [{"prefix": "A_"}]}, "envFrom[0]"),
            ({"ports": [{"containerPort": 0}]}, "ports[0].containerPort"),
            ({"ports": [{"containerPort": True}]}, "ports[0].containerPort"),
            ({"ports": [{"containerPort": 80, "protocol": "tcp"}]}, "ports[0].protocol"),
            ({"ports": [{"containerPort": 80, "name": "UPPER"}]}, "ports[0].name"),
            ({"ports": [{"containerPort": 80, "hostPort": 80}] * 2}, "ports[1].hostPort"),
            ({"resources": {"limits": {"cpu": "much"}}}, "resources.limits[cpu]"),
            ({"volumeMounts": [{"name": "nothing", "mountPath": "/x"}]}, "volumeMounts[0].name"),
            ({"volumeMounts": [{"name": "data", "mountPath": ""}]}, "volumeMounts[0].mountPath"),
            ({"volumeMounts": [{"name": "data", "mountPath": "/x", "subPath": "a/../.."}]}, "volumeMounts[0].subPath"),
            ({"imagePullPolicy": "always"}, "imagePullPolicy"),
            ({"livenessProbe": {"periodSeconds": 1}}, "livenessProbe"),
            ({"livenessProbe": {"exec": {}, "tcpSocket": {"port": 80}}}, "livenessProbe"),
            ({"livenessProbe": {"exec": {}, "successThreshold": 2}}, "livenessProbe.successThreshold"),
            ({"readinessProbe": {"tcpSocket": {"port": 0}}}, "readinessProbe.tcpSocket.port"),
            ({"lifecycle": {"preStop": {}}}, "lifecycle.preStop"),
            ({"resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "0.2"}}}, "resources.requests[cpu]"),
            ({"securityContext": {"runAsUser": -1}}, "securityContext.runAsUser"),
        ],
    )
    def test_mistakes_in_a_container(self, container: Object, field: str) -> None:
        assert mistakes(build_pod(container, volumes=[{"name": "data"}])) == [f"spec.containers[0].{field}"]

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ({"containers": []}, "containers"),
            ({"containers": None}, "containers"),
            ({"containers": {}}, "containers"),
            ({"containers": ["main"]}, "containers[0]"),
            ({"restartPolicy": "Sometimes"}, "restartPolicy"),
            ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
            ({"terminationGracePeriodSeconds": "5"}, "terminationGracePeriodSeconds"),
            ({"nodeName": "C0_w1"}, "nodeName"),
            ({"nodeName": 5}, "nodeName"),
            ({"nodeSelector": {"zone": 1}}, "nodeSelector[zone]"),
            ({"volumes": [{"name": "a"}, {"name": "a"}]}, "volumes[1].name"),
            ({"volumes": [{"name": "a", "hostPath": {"path": "/"}, "emptyDir": {}}]}, "volumes[0]"),
            ({"volumes": [{"name": "a", "configMap": {}}]}, "volumes[0].configMap.name"),
            ({"volumes": [{"name": "a", "projected": {"sources": [{}]}}]}, "volumes[0].projected.sources[0]"),
            ({"volumes": [{"name": "a", "emptydir": {}}]}, "volumes[0].emptydir"),
            ({"hostNetwork": "yes"}, "hostNetwork"),
            ({"dnsPolicy": "None"}, "dnsConfig.nameservers"),
            ({"initContainers": [{"name": "a"}]}, "initContainers[0].image"),
            ({"initContainers": [{"name": "main", "image": "b"}]}, "initContainers[0].name"),
            (
                {"initContainers": [{"name": "a", "image": "b", "startupProbe": {"exec": {}}}]},
                "initContainers[0].startupProbe",
            ),
            (
                {"initContainers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}]},
                "initContainers[0].volumeMounts[0].name",
            ),
            ({"hostAliases": [{"hostnames": ["a"]}]}, "hostAliases[0].ip"),
            ({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a b"]}]}, "hostAliases[0].hostnames[0]"),
            ({"subdomain": "a.b"}, "subdomain"),
            ({"serviceAccountName": "Robot"}, "serviceAccountName"),
            ({"priorityClassName": "high"}, "priorityClassName"),
            ({"priority": 5}, "priority"),
            ({"affinity": {"podAffinity": {"x": 1}}}, "affinity.podAffinity.x"),
            ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "tolerations[0].value"),
            ({"tolerations": [{"effect": "Never"}]}, "tolerations[0].effect"),
            ({"securityContext": {"runAsUser": "root"}}, "securityContext.runAsUser"),
            ({"containers": [{"name": "a", "image": "b"}] * 2}, "containers[1].name"),
        ],
    )
    def test_mistakes_in_a_spec(self, spec: Object, field: str) -> None:
        assert mistakes(build_pod(None, **spec)) == [f"spec.{field}"]

    def test_a_pod_without_a_spec(self) -> None:
        assert mistakes(build("Pod")) == ["spec"]
        assert mistakes(build("Pod", spec=[])) == ["spec"]

    def test_empty_and_null_are_not_given(self) -> None:
        pod = build_pod({"command": None, "livenessProbe": None}, hostNetwork=False, affinity=None, nodeName="")
        spec = create(pod)["spec"]
        assert "nodeName" not in spec
        assert "affinity" not in spec
        assert "command" not in spec["containers"][0]

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    WORDS = st.sampled_from(
        ["name", "image", "command", "env", "ports", "volumeMounts", "resources", "emptyDir", "limits"]
    )
    SPECS = st.dictionaries(
        st.sampled_from(["containers", "volumes", "nodeName", "restartPolicy", "tolerations", "securityContext", "xy"]),
        JSON | st.lists(st.dictionaries(WORDS, JSON | st.lists(st.dictionaries(WORDS, JSON)), max_size=4), max_size=2),
    )

    @settings(max_examples=60, deadline=None)
    @given(SPECS)
    def test_whatever_is_given_is_refused_or_complete(self, spec: Object) -> None:
        try:
            first = create(build("Pod", spec=spec))
        except ObjectError:
            return
        again = create(build("Pod", spec=first["spec"]))
        assert again["spec"] == first["spec"], "defaults are filled in once"
        json.dumps(first)


class TestUpdate:
    def test_what_only_the_store_writes_is_kept(self) -> None:
        current = {**create(build("Lease")), "spec": {}}
        current["metadata"]["resourceVersion"] = "5"
        changed = build("Lease", spec={"holderIdentity": "a"})
        changed["metadata"].update(creationTimestamp="new", deletionTimestamp="now", generation=9)
        updated = accept.accept_update(kind_named("Lease"), changed, current)
        assert updated == {**current, "spec": {"holderIdentity": "a"}}

    def test_where_a_load_balancer_asks_stays_while_it_does(self) -> None:
        ports = [{"port": 80}]
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports, "clusterIP": "10.0.0.9"}
        current = create(build("Service", spec={**local, "healthCheckNodePort": 30001}))

        def update(**spec: Any) -> Object:
            return accept.accept_update(kind_named("Service"), build("Service", spec=spec), current)["spec"]

        assert update(**local)["healthCheckNodePort"] == 30001
        everywhere = {**local, "externalTrafficPolicy": "Cluster"}
        assert "healthCheckNodePort" not in update(**everywhere, healthCheckNodePort=30001), "as kubectl edit has it"
        with pytest.raises(ObjectError, match="30001 and cannot change"):
            update(**local, healthCheckNodePort=30002)

    def test_a_namespace_keeps_its_finalizers(self) -> None:
        current = create(build("Namespace", "shop"))
        updated = accept.accept_update(kind_named("Namespace"), build("Namespace", "shop", spec={}), current)
        assert updated == current

    def test_nothing_new_holds_what_is_being_deleted(self) -> None:
        lease = build("Lease")
        lease["metadata"]["finalizers"] = ["a.b/c"]
        kind = kind_named("Lease")
        current = accept.plan_delete(kind, create(lease), None, None, NOW)
        assert current is not None
        lease["metadata"]["finalizers"] = ["a.b/d"]
        with pytest.raises(ObjectError, match="no finalizer"):
            accept.accept_update(kind, lease, current)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (lambda spec: spec.update(nodeName="c0w2"), "spec.nodeName"),
            (lambda spec: spec.pop("nodeName"), "spec.nodeName"),
            (lambda spec: spec.update(restartPolicy="Never"), "spec.restartPolicy"),
            (lambda spec: spec["containers"].append({"name": "b", "image": "c"}), "spec.containers"),
            (lambda spec: spec["containers"][0].update(args=["x"]), "spec.containers[0].args"),
            (lambda spec: spec.update(tolerations=[{"operator": "Exists"}]), "spec.tolerations"),
        ],
    )
    def test_what_a_running_pod_cannot_change(self, change: Any, field: str) -> None:
        current = create(build_pod(nodeName="c0w1"))
        changed = copy.deepcopy(current)
        change(changed["spec"])
        with pytest.raises(ObjectError) as caught:
            accept.accept_update(kind_named("Pod"), changed, current)
        assert caught.value.field == field

    def test_what_it_can(self) -> None:
        current = create(build_pod())
        changed = copy.deepcopy(current)
        changed["spec"]["containers"][0]["image"] = "other:1"
        changed["spec"]["nodeName"] = "C0w1"
        changed["spec"]["tolerations"].append({"key": "a", "operator": "Exists"})
        updated = accept.accept_update(kind_named("Pod"), changed, current)
        assert updated["spec"]["nodeName"] == "c0w1"
        assert updated["metadata"]["generation"] == 2

    def test_status_keeps_what_a_writer_may_not_know(self) -> None:
        current = create(build_pod())
        updated = accept.accept_status(kind_named("Pod"), {**build_pod(), "status": {"phase": "Running"}}, current)
        assert updated["status"] == {"phase": "Running", "qosClass": "BestEffort"}
        assert updated["metadata"] is current["metadata"]

    @pytest.mark.parametrize(
        ("status", "field"),
        [
            (None, "status"),
            ([], "status"),
            ({"phase": "running"}, "status.phase"),
            ({"podIP": None, "startTime": "2025-01-31 10:00"}, "status.startTime"),
            ({"podIPs": ["11.1.1.1"]}, "status.podIPs[0]"),
            ({"conditions": [{"type": "Ready", "status": True}]}, "status.conditions[0].status"),
            (
                {"containerStatuses": [{"name": "main", "restartCount": "1"}]},
                "status.containerStatuses[0].restartCount",
            ),
            (
                {"containerStatuses": [{"name": "main", "state": {"runing": {}}}]},
                "status.containerStatuses[0].state.runing",
            ),
        ],
    )
    def test_a_status_that_kubernetes_cannot_read(self, status: Any, field: str) -> None:
        with pytest.raises(ObjectError) as caught:
            accept.accept_status(kind_named("Pod"), {**build_pod(), "status": status}, create(build_pod()))
        assert [field for field, _ in caught.value.problems] == [field]

    def test_what_else_a_status_holds_is_kept(self) -> None:
        status = {"phase": "Running", "nominatedNodeName": "c0w1", "qosClass": "BestEffort"}
        updated = accept.accept_status(kind_named("Pod"), {**build_pod(), "status": status}, create(build_pod()))
        assert updated["status"] == status


class TestDelete:
    def pod(self, **status: Any) -> Object:
        return {**create(build_pod(nodeName="c0w1", terminationGracePeriodSeconds=8)), "status": status}

    def plan(self, obj: Object, grace: int | None = None, now: float = NOW) -> Object | None:
        return accept.plan_delete(kind_named(obj["kind"]), obj, grace, None, now)

    def test_the_time_at_which_it_should_be_gone(self) -> None:
        marked = self.plan(self.pod())
        assert marked is not None
        assert marked["metadata"]["deletionTimestamp"] == "2025-01-31T10:00:08Z"
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 8
        assert not accept.is_finished_delete(marked)
        hurried = self.plan(marked, 3, NOW + 1)
        assert hurried is not None
        assert hurried["metadata"]["deletionTimestamp"] == "2025-01-31T10:00:03Z"
        assert self.plan(marked, 60) is marked
        assert self.plan(marked) is marked
        assert self.plan(marked, 0) is None

    def test_no_grace(self) -> None:
        assert self.plan(self.pod(), 0) is None
        assert self.plan(self.pod(phase="Failed")) is None
        assert self.plan(create(build_pod())) is None
        assert self.plan(create(build("Node"))) is None

    def test_the_object_that_is_meant(self) -> None:
        pod = self.pod()
        with pytest.raises(Conflict):
            accept.plan_delete(kind_named("Pod"), pod, None, "other", NOW)
        accept.plan_delete(kind_named("Pod"), pod, None, objects.uid_of(pod), NOW)

    def test_a_namespace(self) -> None:
        namespace = create(build("Namespace", "shop"))
        with pytest.raises(Conflict):
            accept.finish_namespace(namespace)
        marked = self.plan(namespace)
        assert marked is not None
        assert marked["status"]["phase"] == "Terminating"
        assert self.plan(marked) is marked
        assert not accept.is_finished_delete(marked)
        assert accept.is_finished_delete(accept.finish_namespace(marked))

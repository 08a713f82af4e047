"""What stands between clients and pods: ``<name>-head-svc``, ``<name>-serve-svc`` and the label ``ray.io/serve``.

Names, selectors and ports are KubeRay's. Unlike there, edits of type, annotations and ports of the manifest
are applied to services that exist already (kuberay#1092, #1115, #4756).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rayservice_operator.api import names
from rayservice_operator.cluster import services as cluster_services
from rayservice_operator.cluster.view import ClusterView as RayClusterView
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.decision import Action, Apply, MergePatch
from rayservice_operator.core.diff import covers
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, name_of, owner_reference, ref, uid_of
from rayservice_operator.service.apps import fresh, gets_requests, is_ready, pod_ip
from rayservice_operator.service.context import ClusterView, Context, Target


def serve_service_name(service: Manifest) -> str:
    """Name of the service in front of Serve: the user's own, else ``<name>-serve-svc``."""
    template = service["spec"].get("serveService") or {}
    return name_of(template) or names.serve_service_name(name_of(service))


def plan_services(context: Context, target: Target, view: ClusterView | None, *, split: bool = False) -> list[Action]:
    """Apply actions for both services, pointing to ``view``; none where everything is as wanted.

    split: the serve service points to the pods of both clusters that are labelled for it.
    """
    if view is None:
        return []
    stored = {name_of(child): child for child in context.snapshot.children if child.get("kind") == "Service"}
    cluster = view_of(view.manifest, context.config)  # parsed once for both
    selector = {names.CLUSTER: cluster.name, names.SERVE: "true"}
    if split and _all_named(context, view):
        selector = {names.RAYSERVICE: context.name, names.SERVE: "true"}
    wanted = (_head_service(context, cluster), _serve_service(context, target, cluster, selector))
    return [Apply(obj) for obj in wanted if not covers(stored.get(name_of(obj)), obj)]


def owned(context: Context, obj: Manifest, name: str) -> Manifest:
    """``obj`` (a Service, unless the caller makes it another kind) as a child of the RayService."""
    labels = {
        **labels_of(obj),
        names.ORIGIN_NAME: context.name,
        names.ORIGIN_KIND: "RayService",
        names.APP_NAME: names.APP_NAME_VALUE,
        names.CREATED_BY: names.CREATED_BY_VALUE,
    }
    annotations = (obj.get("metadata") or {}).get("annotations")
    meta: dict[str, Any] = {
        "name": name,
        "namespace": context.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(context.service)],
    }
    if annotations:
        meta["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": obj["spec"]}


def _head_service(context: Context, cluster: RayClusterView) -> Manifest:
    template = cluster_services.head_service(cluster)
    return owned(context, template, names.head_service_name(context.name))


def _all_named(context: Context, view: ClusterView) -> bool:
    """Whether every pod that takes requests has the label that a split selects by: none may be left out by it."""
    taking = [pod for pod in view.pods if gets_requests(pod)]
    return all(labels_of(pod).get(names.RAYSERVICE) == context.name for pod in taking)


def _serve_service(context: Context, target: Target, cluster: RayClusterView, selector: dict[str, str]) -> Manifest:
    template: Manifest = target.spec.get("serveService") or {}
    user: Manifest = template.get("spec") or {}
    spec = {
        "type": cluster.spec.head_group_spec.service_type or "ClusterIP",
        **user,
        "selector": selector,
        "ports": cluster_services.merged_ports(cluster_services.serve_ports(cluster), user.get("ports") or ()),
    }
    meta = {
        "labels": {**labels_of(template), names.SERVE: names.serve_service_name(context.name)},
        "annotations": (template.get("metadata") or {}).get("annotations"),
    }
    return owned(context, {"metadata": meta, "spec": spec}, serve_service_name(context.service))


def plan_serve_labels(
    context: Context,
    target: Target,
    views: Iterable[ClusterView | None],
    split: Mapping[str, set[str]] | None = None,
) -> list[Action]:
    """Patches of ``ray.io/serve`` where it differs from what the pod's HTTP proxy answers.

    split: by cluster, the UIDs of the pods that requests shall go to; all healthy ones where it is None. Pods of
    before this operator lack the label that a split selects by; they get it then. A pod that answers is left out only
    when those that were chosen are endpoints already: the network may follow later, and in another order.
    A stale observation changes nothing: requests do not go through the dashboard, so its silence must not take
    endpoints away.
    """
    actions: list[Action] = []
    chosen = frozenset().union(*split.values()) if split is not None else frozenset()
    made = chosen <= endpoint_pods(context)
    for view in views:
        observation = view.observation if view else None
        if view is None or observation is None or observation.error is not None:
            continue
        if not fresh(observation, context.now, context.config.stale_after_s):
            continue
        for pod in view.pods:
            if is_terminating(pod):
                continue
            serves = _serves(pod, observation.proxies, target)
            if split is not None and serves:
                serves = uid_of(pod) in chosen or (gets_requests(pod) and not made)
            wanted = {names.SERVE: "true" if serves else "false"}
            if split is not None:
                wanted[names.RAYSERVICE] = context.name
            if not covers(labels_of(pod), wanted):
                actions.append(MergePatch(ref(pod), {"metadata": {"labels": wanted}}))
    return actions


def kept_out(pod: Manifest, target: Target) -> bool:
    """Whether it is a head and ``excludeHeadPodFromServeSvc`` says that it gets no requests."""
    is_head = labels_of(pod).get(names.NODE_TYPE) == names.HEAD
    return is_head and bool(target.spec.get("excludeHeadPodFromServeSvc"))


def _serves(pod: Manifest, proxies: Any, target: Target) -> bool:
    return not kept_out(pod, target) and bool(proxies.get(pod_ip(pod)))


def port_of(pod: Mapping[str, Any], name: str) -> int:
    """Number of the Ray container's port of that name, else KubeRay's default for it."""
    for port in pod["spec"]["containers"][0].get("ports") or ():
        if port.get("name") == name:
            return int(port["containerPort"])
    return names.DEFAULT_HEAD_PORTS[name]


def endpoint_pods(context: Context, cluster: str | None = None, *, service_name: str = "") -> set[str]:
    """UIDs of the ready pods that the cluster's network really routes the serve service to, or another one of ours.

    From EndpointSlices, each pod once; with ``cluster`` only pods of that RayCluster.
    """
    service_name = service_name or serve_service_name(context.service)
    members = None
    if cluster is not None:
        view = context.clusters.get(cluster)
        members = {pod["metadata"]["uid"] for pod in view.pods} if view else set()
    found: set[str] = set()
    for slice_ in context.snapshot.endpoint_slices:
        if labels_of(slice_).get("kubernetes.io/service-name") != service_name:
            continue
        for endpoint in slice_.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            uid = (endpoint.get("targetRef") or {}).get("uid")
            if uid and ready is not False and (members is None or uid in members):
                found.add(str(uid))
    return found


def led_elsewhere(context: Context, cluster: str) -> bool:
    """Whether the serve service as it is stored selects other pods than those of that RayCluster, or these besides.

    Endpoint slices alone would not do: of before the last switch but one, they look right (history 2667).
    """
    wanted = serve_service_name(context.service)
    stored = (
        child for child in context.snapshot.children if child.get("kind") == "Service" and name_of(child) == wanted
    )
    return any((child["spec"].get("selector") or {}).get(names.CLUSTER) != cluster for child in stored)


def all_healthy_proxies_routed(view: ClusterView, target: Target) -> bool:
    """Whether every Ready pod that is to get requests has the label: before a switch, so that no pod gets them all."""
    return all(gets_requests(pod) for pod in able_pods(view, target))


def able_pods(view: ClusterView, target: Target) -> list[Manifest]:
    """Ready pods whose proxy answers, but for a head that is kept out: those that may get requests."""
    proxies = view.observation.proxies if view.observation else {}
    return [pod for pod in view.pods if is_ready(pod) and not is_terminating(pod) and _serves(pod, proxies, target)]

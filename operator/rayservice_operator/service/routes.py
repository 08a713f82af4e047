"""Requests by weights: a Gateway, its HTTPRoute, and a service for each cluster that the weights are given to.

Names and shapes are KubeRay's (facts: KubeRay 2.4). They are there whenever ``gatewayClassName`` is set, whatever the
strategy, so that clients of the gateway are led to the active cluster after every kind of upgrade. What does not
answer gets no weight: a gateway would answer its share of the requests with errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import services as cluster_services
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Action, Apply, Delete
from rayservice_operator.core.diff import covers
from rayservice_operator.core.objects import Manifest, generation_of, is_terminating, labels_of, name_of, ref, uid_of
from rayservice_operator.service.apps import gets_requests, is_ready
from rayservice_operator.service.context import ClusterView, Context
from rayservice_operator.service.endpoints import endpoint_pods, owned
from rayservice_operator.service.shares import WHOLE, Shares

API_VERSION: Final = "gateway.networking.k8s.io/v1"
GATEWAY_PORT: Final = 80
KINDS: Final = frozenset({"Gateway", "HTTPRoute"})


def gateway_class(service: Manifest) -> str:
    """``clusterUpgradeOptions.gatewayClassName``; empty: no gateway."""
    options = (service["spec"].get("upgradeStrategy") or {}).get("clusterUpgradeOptions") or {}
    return str(options.get("gatewayClassName") or "")


def plan_routes(context: Context, views: Iterable[ClusterView | None], shares: Shares | None) -> list[Action]:
    """Actions that bring gateway, route and services to what is wanted, and remove those that are not.

    views: the active cluster and then the pending one. Without the Gateway API installed the first of them fails.
    """
    there = [view for view in views if view is not None]
    wanted = _wanted(context, there, shares) if gateway_class(context.service) and there else []
    stored = {(child["kind"], name_of(child)): child for child in context.snapshot.children}
    kept = {(obj["kind"], name_of(obj)) for obj in wanted}
    ours = {key: child for key, child in stored.items() if key not in kept and _is_ours(context, child)}
    extra = [child for child in ours.values() if not is_terminating(child) and not _serves_yet(context, child)]
    return [
        *(Apply(obj) for obj in wanted if not covers(stored.get((obj["kind"], name_of(obj))), obj)),
        *(Delete(ref(child)) for child in extra),
    ]


def made(context: Context) -> bool:
    """Whether there is a route already, so that the Gateway API is installed."""
    return _child(context, "HTTPRoute") is not None


def arrived(context: Context, shares: Shares) -> bool:
    """Whether the gateway has taken over the weights of ``shares``."""
    route = _child(context, "HTTPRoute")
    if route is None or trouble(context):
        return False
    active, pending = context.active, context.pending
    views = [view for view in (active, pending) if view is not None]
    return bool(covers(route["spec"]["rules"], _rules(context, views, shares)))


def reaches(context: Context, view: ClusterView) -> bool:
    """Whether the network has endpoints of the cluster, so that requests may be sent there. True without a gateway.

    It knows of them some time after the pods are labelled, and a gateway answers 503 for a service without any.
    """
    return not gateway_class(context.service) or _answers(context, view)


def trouble(context: Context) -> str:
    """Why no requests can be moved by the gateway; empty when they can."""
    if not gateway_class(context.service):
        return ""
    for kind, types in (("Gateway", ("Accepted", "Programmed")), ("HTTPRoute", ("Accepted", "ResolvedRefs"))):
        child = _child(context, kind)
        if child is None:
            return f"{kind} {_name(context, kind)} is not there yet."
        conditions = _conditions(child)
        for type_ in types:
            found = find(conditions, type_) or {}
            fresh = int(found.get("observedGeneration") or 0) >= generation_of(child)
            if found.get("status") != "True" or not fresh:
                reason = found.get("message") or found.get("reason") if fresh else ""
                words = reason or "its controller has not answered; is there one for this class?"
                end = "" if words.endswith((".", "?", "!")) else "."
                return f"{kind} {name_of(child)} is not {type_}: {words}{end}"
    return ""


def _wanted(context: Context, views: list[ClusterView], shares: Shares | None) -> list[Manifest]:
    gateway = {
        "gatewayClassName": gateway_class(context.service),
        "listeners": [{"name": "http", "port": GATEWAY_PORT, "protocol": "HTTP"}],
    }
    parent = {"name": _name(context, "Gateway"), "namespace": context.namespace}
    route = {"parentRefs": [parent], "rules": _rules(context, views, shares)}
    stored = _child(context, "HTTPRoute")
    return [
        *(_service(context, view) for view in views),
        _ours(context, "Gateway", gateway),
        stored if stored and _too_early(context, views, stored) else _ours(context, "HTTPRoute", route),
    ]


def _too_early(context: Context, views: list[ClusterView], stored: Manifest) -> bool:
    """Whether the network does not know the one cluster that is to have everything yet, but still one that has it."""
    if len(views) != 1 or _answers(context, views[0]):
        return False
    backends = (backend for rule in stored["spec"].get("rules") or () for backend in rule.get("backendRefs") or ())
    weighted = {backend["name"] for backend in backends if backend.get("weight", 1)}
    others = (view for name, view in context.clusters.items() if name != views[0].name)
    return any(names.serve_service_name(view.name) in weighted and _answers(context, view) for view in others)


def _rules(context: Context, views: list[ClusterView], shares: Shares | None) -> list[dict[str, Any]]:
    """One rule for all paths, with the old cluster first."""
    weights = _weights(context, views, shares)
    backends = [
        {"name": names.serve_service_name(view.name), "port": _port(context, view), "weight": weights[view.name]}
        for view in views
    ]
    return [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}]


def _weights(context: Context, views: list[ClusterView], shares: Shares | None) -> Mapping[str, int]:
    if len(views) == 1:
        return {views[0].name: WHOLE}
    active, pending = views
    traffic = shares.pending_traffic if shares else 0
    if traffic and not _answers(context, pending):
        traffic = 0
    elif traffic and not _answers(context, active):
        traffic = WHOLE
    return {active.name: WHOLE - traffic, pending.name: traffic}


def _answers(context: Context, view: ClusterView) -> bool:
    reached = endpoint_pods(context, view.name, service_name=names.serve_service_name(view.name))
    able = (pod for pod in view.pods if gets_requests(pod) and is_ready(pod))
    return any(uid_of(pod) in reached and not is_terminating(pod) for pod in able)


def _port(context: Context, view: ClusterView) -> int:
    ports = cluster_services.serve_ports(view_of(view.manifest, context.config))
    return ports.get("serve") or next(iter(ports.values()))


def _service(context: Context, view: ClusterView) -> Manifest:
    """``<cluster>-serve-svc``: what a weight is given to.

    Its ports say that they speak HTTP: there are gateways that refuse a route to one that says TCP, as ours do
    elsewhere (Traefik 3.6).
    """
    cluster = view_of(view.manifest, context.config)
    ports = cluster_services.serve_ports(cluster)
    http = ({"name": name, "appProtocol": "http"} for name in ports)
    spec = {
        "type": "ClusterIP",
        "selector": {names.CLUSTER: view.name, names.SERVE: "true"},
        "ports": cluster_services.merged_ports(ports, http),
    }
    labels = {names.CLUSTER: view.name, names.SERVE: names.serve_service_name(view.name)}
    return owned(context, {"metadata": {"labels": labels}, "spec": spec}, names.serve_service_name(view.name))


def _ours(context: Context, kind: str, spec: Manifest) -> Manifest:
    obj = owned(context, {"spec": spec}, _name(context, kind))
    return {**obj, "apiVersion": API_VERSION, "kind": kind}


def _name(context: Context, kind: str) -> str:
    return f"{context.name}-{kind.lower()}"


def _child(context: Context, kind: str) -> Manifest | None:
    found = (child for child in context.snapshot.children if child["kind"] == kind)
    return next((child for child in found if name_of(child) == _name(context, kind)), None)


def _conditions(child: Manifest) -> list[Mapping[str, Any]]:
    """A Gateway's own; a route's are those about its one parent."""
    status: Manifest = child.get("status") or {}
    if child["kind"] == "Gateway":
        return list(status.get("conditions") or ())
    return [condition for parent in status.get("parents") or () for condition in parent.get("conditions") or ()]


def _is_ours(context: Context, child: Manifest) -> bool:
    """Made by :func:`plan_routes`: the two of the gateway, or a cluster's service that is not its head's."""
    if child["kind"] in KINDS:
        return name_of(child) == _name(context, child["kind"])
    cluster = labels_of(child).get(names.CLUSTER, "")
    return child["kind"] == "Service" and name_of(child) == names.serve_service_name(cluster)


def _serves_yet(context: Context, child: Manifest) -> bool:
    """A service whose cluster is there, on its way out: the gateway may still have requests for it."""
    cluster = labels_of(child).get(names.CLUSTER, "")
    return bool(gateway_class(context.service)) and child["kind"] == "Service" and cluster in context.clusters

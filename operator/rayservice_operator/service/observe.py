"""Which clusters are watched by an observer, and what it shall push to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rayservice_operator.core.decision import ObserveTarget, ServePush
from rayservice_operator.core.objects import Manifest, is_terminating, name_of, ref, uid_of
from rayservice_operator.serveconfig.scaling import scaled_apps, with_targets
from rayservice_operator.service import analysis, recovery
from rayservice_operator.service.apps import Phase, Standing, gets_requests, pod_ip, push_for
from rayservice_operator.service.context import ClusterView, Config, Context, Target, known_config
from rayservice_operator.service.endpoints import port_of
from rayservice_operator.service.status import active_config, pending_config
from rayservice_operator.service.strategies.base import Plan


def targets(
    context: Context, target: Target, plan: Plan, stands: Standing, analysed: analysis.State | None = None
) -> tuple[ObserveTarget, ...]:
    """One target for each cluster with a role whose head pod has an address. ``analysed``: of the pending cluster."""
    steady = not plan.pending and plan.roll is None and stands.phase is Phase.SERVING
    shares = plan.shares
    wanted = (
        (plan.active, active_config(context, target, plan), shares.active_capacity if shares else None),
        (plan.pending, pending_config(context, target, plan), shares.pending_capacity if shares else None),
    )
    views = ((context.live(name), config, capacity) for name, config, capacity in wanted if name)
    pending = context.live(plan.pending)
    orders = {} if pending is None else {pending.name: analysis.order(context, analysed, pending, context.active)}
    return tuple(
        replace(_target(context, target, view, config, capacity, fast=not steady), analysis=orders.get(view.name))
        for view, config, capacity in views
        if view is not None and view.head_ip
    )


def _target(
    context: Context, target: Target, view: ClusterView, config: Config | None, capacity: int | None, *, fast: bool
) -> ObserveTarget:
    head = view.head
    assert head is not None
    push = push_for(view, config, context.now, capacity)
    return ObserveTarget(
        cluster=ref(view.manifest),
        head_ip=view.head_ip,
        head_uid=uid_of(head),
        dashboard_port=port_of(head, "dashboard"),
        serve_port=port_of(head, "serve"),
        token_secret=_token_secret(view.manifest),
        push=_with_scale(context, view, config, push or _again(context, target, view)),
        fast=fast,
        routed=tuple(sorted(_routed(view))),
    )


def _routed(view: ClusterView) -> Iterator[str]:
    """Addresses of the pods that are labelled for requests."""
    for pod in view.pods:
        address = pod_ip(pod)
        if address and gets_requests(pod) and not is_terminating(pod):
            yield address


def _again(context: Context, target: Target, view: ClusterView) -> ServePush | None:
    """The config once more, though Ray has it: a step of the recovery."""
    attempt = recovery.attempt(context, target, view)
    return ServePush(target.config.hash, target.config.payload, attempt) if attempt and target.config else None


def _with_scale(context: Context, view: ClusterView, config: Config | None, push: ServePush | None) -> ServePush | None:
    """The push with the targets of external scalers kept: this cluster's own, or at first those of the active one."""
    if push is None or config is None:
        return push
    history, active = context.snapshot.revisions, context.active
    if view.applied_hash:
        former = config if view.applied_hash == config.hash else known_config(history, view.applied_hash)
        return replace(push, keep=scaled_apps(config.parsed, former.parsed if former else None))
    if active is None or active.name == view.name or active.observation is None:
        return push
    former = known_config(history, active.applied_hash)
    keep = scaled_apps(config.parsed, former.parsed if former else None)
    return replace(push, payload=with_targets(push.payload, keep, active.observation.applications)) if keep else push


def _token_secret(cluster: Manifest) -> str | None:
    options = cluster["spec"].get("authOptions") or {}
    if options.get("mode") != "token":
        return None
    return str(options.get("secretName") or name_of(cluster))

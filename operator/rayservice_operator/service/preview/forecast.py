"""From the contexts before and after a change to what will be done about it.

Roles come from ``strategies.plan``, states from ``decide.state_of``, in-place fields from ``inplace``, the config to
be pushed from ``status.active_config``: what the operator would decide, asked before it has to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.violations import Violation
from rayservice_operator.serveconfig.effect import ConfigEffect, Targets, effect
from rayservice_operator.serveconfig.rollout import Requests
from rayservice_operator.serveconfig.traits import Traits
from rayservice_operator.service import hashing, status, strategies
from rayservice_operator.service.context import PENDING, ClusterView, Config, Context, Target, build, known_config
from rayservice_operator.service.preview import cluster, notes
from rayservice_operator.service.preview.result import NO_IMPACT, Impact, Kind, Preview, impact_of
from rayservice_operator.service.preview.scene import Scene, is_readable
from rayservice_operator.service.preview.upgrades import Upgrade
from rayservice_operator.service.states import State, state_of
from rayservice_operator.service.strategies import needs
from rayservice_operator.service.strategies.base import Plan

_NOTHING: Final = Preview(Kind.NOTHING, "Nothing changes.")
_UNTOUCHED: Final = "No pod and no replica is touched."


def refused(violations: tuple[Violation, ...], *, has_former: bool) -> Preview:
    """A spec that the operator does not act on."""
    kept = " What runs now goes on with the last spec that was accepted." if has_former else " Nothing is built."
    return Preview(Kind.REFUSED, f"It is refused.{kept}", violations=violations)


def of_new(after: Context) -> Preview:
    """A RayService that is created."""
    if after.violations:
        return refused(after.violations, has_former=False)
    return _STATES[state_of(after)](None, after)


def of_change(seen: Scene) -> Preview:
    """A RayService that is changed."""
    before, after = seen.before, seen.after
    if after.violations:
        return replace(_refused(before, after), exact=seen.exact)
    return replace(_STATES[state_of(after)](before, after), exact=seen.exact)


def _refused(before: Context, after: Context) -> Preview:
    """Nothing of the spec counts but ``upgradeStrategy``: no part of a revision, it may turn the last good one."""
    told = refused(after.violations, has_former=before.target is not None)
    if after.target is None or state_of(after) is not State.MANAGED or not is_readable(after.service):
        return told
    meanwhile = _Case(before, after, after.target, strategies.plan(after)).preview()
    if meanwhile.changes_anything and meanwhile.kind is not Kind.SETTINGS:
        return replace(told, impact=meanwhile.impact, notes=(meanwhile.headline, *meanwhile.notes))
    return replace(told, notes=meanwhile.notes)


def _not_managed(_: Context | None, after: Context) -> Preview:
    who = after.service["spec"].get("managedBy") or "the deletion that is under way"
    return Preview(Kind.NOT_MANAGED, f"The operator leaves it to {who}: nothing is written.")


def _suspends(before: Context | None, after: Context) -> Preview:
    if before is None:
        return Preview(Kind.SUSPEND, "It is created suspended: nothing is built until spec.suspend is false.")
    if state_of(before) is State.SUSPENDED and state_of(after) is State.SUSPENDED:
        told = "It stays suspended; the change takes effect when spec.suspend is false again."
        return Preview(Kind.SETTINGS, told)
    pods = sum(cluster.size(needs.second_cluster(v.manifest["spec"], after.config))[0] for v in after.clusters.values())
    return Preview(
        Kind.SUSPEND,
        "The service is suspended: its clusters and services are deleted, and requests fail until it is resumed.",
        Impact(pods=pods, requests=Requests.FAIL, dips=True),
    )


def _resumes(before: Context | None, after: Context) -> Preview:
    assert after.target is not None
    resumed = _first(after, after.target, ())
    words = "The service is resumed: its deletion runs to its end first, then a cluster is built again"
    return replace(resumed, headline=f"{words}: {resumed.needs}.") if before is not None else resumed


def _managed(before: Context | None, after: Context) -> Preview:
    target = after.target
    assert target is not None
    return _Case(before, after, target, strategies.plan(after)).preview()


def _followed(context: Context, plan: Plan) -> Plan:
    """What the strategy plans once clusters that never served have gone, where it waits for that before all else."""
    if not plan.waiting or not plan.superseded or plan.replaces:
        return plan
    gone = {view.name for view in plan.superseded}
    stored = {key: value for key, value in context.stored.items() if key != PENDING}
    snapshot = replace(
        context.snapshot,
        service={**context.service, "status": stored},
        clusters=tuple(manifest for manifest in context.snapshot.clusters if name_of(manifest) not in gone),
    )
    return strategies.plan(build(snapshot, context.now))


@dataclass(frozen=True, slots=True)
class _Case:
    """A RayService that is looked after, with the plan for the spec as it will be."""

    before: Context | None
    after: Context
    target: Target
    plan: Plan

    def preview(self) -> Preview:
        settings = notes.settings(self.before.service, self.after.service) if self.before else ()
        going = notes.under_way(self.before, self.after, self.plan) if self.before else ()
        if self._as_before():
            told = self._only_settings(settings)
        elif self.after.active is None:
            told = self._without_cluster()
        elif hashing.matches(self.after.active.manifest, self.target.cluster_spec):
            told = self._same_cluster(self.after.active)
        else:
            told = self._other_cluster(self.after.active)
        if self.plan.hold is not None and told.kind in _BEGINNINGS and not self.plan.pending:
            told = replace(told, headline=f"Held back for now. Then: {told.headline}")
        return replace(told, notes=(*going, *told.notes, *(s for s in settings if s not in told.notes)))

    def _as_before(self) -> bool:
        """Whether neither roles nor what is in force become others by this change."""
        if self.before is None or self.before.target is None or state_of(self.before) is not State.MANAGED:
            return False
        roles = [_roles(plan) for plan in (strategies.plan(self.before), self.plan)]
        in_force = [_in_force(target) for target in (self.before.target, self.target)]
        fields = [
            cluster.in_place(context, target, self.plan)
            for context, target in ((self.before, self.before.target), (self.after, self.target))
        ]
        return roles[0] == roles[1] and in_force[0] == in_force[1] and fields[0] == fields[1]

    def _only_settings(self, settings: tuple[str, ...]) -> Preview:
        assert self.before is not None
        if settings:
            return Preview(Kind.SETTINGS, _UNTOUCHED)
        if told := notes.metadata(self.before.service, self.after.service):
            asks = notes.asks(self.before.service, self.after.service)
            words = "Only annotations or labels change."
            words = words if asks else f"{words} {_UNTOUCHED}"
            return Preview(Kind.METADATA, words, notes=told)
        return _NOTHING

    def _without_cluster(self) -> Preview:
        pending = self.after.pending
        if pending is not None and self.plan.pending == pending.name:
            return self._goes_on(pending)
        return _first(self.after, self.target, tuple(view.name for view in self.plan.superseded))

    def _same_cluster(self, active: ClusterView) -> Preview:
        """The active cluster stays; what differs of it changes in place."""
        told = self._pushed(active, status.active_config(self.after, self.target, self.plan))
        fields = cluster.in_place(self.after, self.target, self.plan)
        if fields:
            pods, gpus = cluster.growth(active.manifest["spec"], self.target.cluster_spec, self.after.config)
            return replace(
                told,
                kind=Kind.IN_PLACE,
                headline="The cluster is changed in place: none of its pods is replaced.",
                fields=fields,
                impact=replace(told.impact, extra_pods=pods, extra_pod_gpus=gpus),
            )
        if (self.after.pending_name and self.plan.pending != self.after.pending_name) or self.plan.back:
            words = f"{notes.named(active.name)} fits the spec again and goes on serving."
            return replace(told, kind=Kind.TAKEN_BACK, headline=words)
        return told

    def _pushed(self, view: ClusterView, wanted: Config | None) -> Preview:
        """A hot update of this cluster's Serve to ``wanted``."""
        if wanted is None:
            if self.target.config is None and self._config_of(view) is not None:
                words = (
                    "spec.serveConfigV2 is empty: nothing is pushed, and the applications that run stay as they are."
                )
                return Preview(Kind.SETTINGS, "No replica is touched.", notes=(words,))
            return _NOTHING
        has = self._config_of(view)
        if has is not None and has.hash == wanted.hash:
            return _NOTHING
        config = self._effect(has, wanted, view)
        return Preview(Kind.HOT_UPDATE, "The serve config is pushed to the running cluster.", impact_of(config), config)

    def _effect(self, has: Config | None, wanted: Config, view: ClusterView) -> ConfigEffect:
        former = has.parsed.document if has is not None else {"applications": []}
        return effect(former, wanted.parsed.document, self._traits(view), _targets(view))

    def _config_of(self, view: ClusterView) -> Config | None:
        """The config that this cluster's Serve has: by the hash in the status, else what was in force before."""
        own = self.before.target.config if self.before is not None and self.before.target is not None else None
        if not view.applied_hash:
            return own
        declared = self.before.target.declared if self.before is not None and self.before.target is not None else None
        known = [config for config in (own, declared) if config is not None and config.hash == view.applied_hash]
        return known[0] if known else known_config(self.after.snapshot.revisions, view.applied_hash) or own

    def _traits(self, view: ClusterView) -> Traits:
        seen = view.observation.ray_version if view.observation else ""
        return Traits.of(seen or str(view.manifest["spec"].get("rayVersion") or ""))

    def _other_cluster(self, active: ClusterView) -> Preview:
        """The active cluster does not fit: what the strategy does about it."""
        plan, target = _followed(self.after, self.plan), self.target
        fields = cluster.reasons(active, target.cluster_spec)
        stays = self.plan.active == active.name and not self.plan.pending
        # What is held back for good takes the config all the same, once a pending cluster is out of the way.
        held = plan if plan.refused or plan.held_back else self.plan
        pushed = self._pushed(active, status.active_config(self.after, target, held)) if stays else _NOTHING
        told = replace(pushed, fields=fields)
        if plan.refused or plan.held_back:
            return replace(told, kind=Kind.HELD_BACK, headline=plan.refused or plan.held_back)
        if plan.given_up:
            return replace(told, kind=Kind.GIVEN_UP, headline="The upgrade to this spec was given up before.")
        pending = self.after.pending
        if pending is not None and plan.pending == pending.name and not plan.back and _had(self.before, pending):
            return self._goes_on(pending)
        return Upgrade(self.after, target, plan, active, told, self._config_differs(active)).preview()

    def _goes_on(self, pending: ClusterView) -> Preview:
        """The change fits the cluster that is coming up: that one takes it over."""
        told = self._pushed(pending, status.pending_config(self.after, self.target, self.plan))
        pods, gpus = cluster.growth(pending.manifest["spec"], self.target.cluster_spec, self.after.config)
        return replace(
            told,
            kind=Kind.UPGRADE_GOES_ON,
            headline=f"{notes.named(pending.name)}, which is coming up, takes the change over before it serves.",
            fields=cluster.in_place(self.after, self.target, self.plan),
            impact=replace(told.impact, requests=Requests.SERVED, dips=False, extra_pods=pods, extra_pod_gpus=gpus),
        )

    def _config_differs(self, active: ClusterView) -> bool:
        has, wanted = self._config_of(active), self.target.config
        return wanted is not None and (has is None or has.hash != wanted.hash)


def _roles(plan: Plan) -> tuple[object, ...]:
    """What makes two plans the same to somebody who looks on."""
    superseded = tuple(view.name for view in plan.superseded)
    moves = (plan.back, plan.given_up, bool(plan.held_back), bool(plan.refused), plan.replaces, bool(plan.hold))
    return (plan.active, bool(plan.pending), superseded, bool(plan.roll), *moves)


def _in_force(target: Target) -> tuple[object, ...]:
    config = target.config.hash if target.config else ""
    return (config, hashing.cluster_hash(target.cluster_spec), target.failed, target.given_up)


def _had(before: Context | None, pending: ClusterView) -> bool:
    return before is not None and before.pending_name == pending.name


def _first(after: Context, target: Target, superseded: tuple[str, ...]) -> Preview:
    wanted = needs.second_cluster(target.cluster_spec, after.config)
    pods, gpus = cluster.size(wanted)
    traits = Traits.of(str(target.cluster_spec.get("rayVersion") or ""))
    config = effect({"applications": []}, target.config.parsed.document, traits) if target.config else None
    impact = impact_of(config) if config else NO_IMPACT
    return Preview(
        Kind.FIRST_CLUSTER,
        f"A first cluster is built: {wanted}.",
        replace(impact, extra_pods=pods, extra_pod_gpus=gpus, requests=Requests.SERVED, dips=False),
        config,
        needs=str(wanted),
        notes=tuple(f"RayCluster {name}, which never served, is deleted." for name in superseded),
    )


def _targets(view: ClusterView) -> Targets:
    """Replica targets of the deployments that the status of this cluster shows."""
    applications: Manifest = view.entry.get("applicationStatuses") or {}
    return {
        name: {
            deployment: told.get("replicasTarget") if isinstance(told.get("replicasTarget"), int) else None
            for deployment, told in (app.get("serveDeploymentStatuses") or {}).items()
        }
        for name, app in applications.items()
    }


_BEGINNINGS: Final = frozenset({Kind.NEW_CLUSTER, Kind.INCREMENTAL, Kind.ROLL, Kind.RECREATE})

_STATES: Final[dict[State, Callable[[Context | None, Context], Preview]]] = {
    State.LEAVING: _not_managed,
    State.FOREIGN: _not_managed,
    State.REQUESTED: _suspends,
    State.SUSPENDING: _suspends,
    State.SUSPENDED: _suspends,
    State.RESUMING: _resumes,
    State.REFUSED: _managed,
    State.MANAGED: _managed,
}

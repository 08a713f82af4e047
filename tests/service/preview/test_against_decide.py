"""The preview tells what ``decide`` then does: the same edits, given to both."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayservice_operator.api import names
from rayservice_operator.core.decision import Create, Decision, Delete, JsonPatch
from rayservice_operator.core.objects import Manifest
from rayservice_operator.serveconfig.rollout import Requests
from rayservice_operator.service import hashing, revisions
from rayservice_operator.service.context import load_config
from rayservice_operator.service.decide import decide
from rayservice_operator.service.preview import Kind, Live, Preview, preview
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    CONFIG,
    NOW,
    OTHER_SERVE_CONFIG,
    SERVE_CONFIG,
    after,
    application,
    cluster_spec,
    config_hash,
    observation,
    pod,
    pod_template,
    raycluster,
    rayservice,
    serving,
)
from tests.service.preview.scenarios import INCREMENTAL, revision

CONFIGS: Final = {
    "own": SERVE_CONFIG,
    "commented": f"# another way to write it\n{SERVE_CONFIG}",
    "other": OTHER_SERVE_CONFIG,
    "broken": "applications: 3",
    "empty": "",
}


def _workers(image: str = "ray:1", **group: Any) -> Manifest:
    spec = cluster_spec()
    spec["workerGroupSpecs"][0] |= {"template": pod_template(image), **group}
    return spec


CLUSTERS: Final = {
    "own": cluster_spec(),
    "more workers": _workers(replicas=4),
    "another limit": _workers(maxReplicas=9),
    "another group": cluster_spec(groups=("small", "large")),
    "new workers": _workers("ray:2"),
    "new": cluster_spec("ray:2"),
    "third": cluster_spec("ray:3"),
    "broken": cluster_spec(groups=("small", "small")),
}
STRATEGIES: Final[dict[str, Manifest | None]] = {
    "unset": None,
    "NewCluster": {"type": "NewCluster"},
    "NewClusterWithIncrementalUpgrade": {
        **INCREMENTAL,
        "clusterUpgradeOptions": {**INCREMENTAL["clusterUpgradeOptions"], "maxSurgePercent": 100},
    },
    "InPlace": {"type": "InPlace"},
    "Recreate": {"type": "Recreate"},
    "None": {"type": "None"},
    "paused": {"type": "NewCluster", "paused": True},
}


def steady() -> ServiceSnapshot:
    """One cluster that serves, all of it as declared."""
    snapshot = serving(pushed=config_hash())
    applied = {"specHash": hashing.cluster_hash(cluster_spec())}
    return _settled(_with_status(snapshot, applied=applied), revision(snapshot.service["spec"], 1))


def upgrading() -> ServiceSnapshot:
    """A second cluster comes up beside it."""
    now = steady()
    second = raycluster("demo-two", CLUSTERS["new"])
    spec = {**now.service["spec"], "rayClusterConfig": CLUSTERS["new"]}
    head = pod(second, "head", "10.0.1.1", ready=False)
    return replace(
        _with_status(now, spec=spec, pendingServiceStatus={"rayClusterName": "demo-two", "rayClusterStatus": {}}),
        clusters=(*now.clusters, second),
        pods={**now.pods, "demo-two": (head,)},
        revisions=(*now.revisions, revision(spec, 2)),
    )


def with_former() -> ServiceSnapshot:
    """The former cluster, of another spec, has not gone yet."""
    now = steady()
    former = raycluster("demo-zero", CLUSTERS["new"], annotations={names.DELETE_AFTER: "2027-01-15T09:00:00Z"})
    return replace(
        now, clusters=(*now.clusters, former), pods={**now.pods, "demo-zero": (pod(former, "head", "10.0.2.1"),)}
    )


STATES: Final = {"steady": steady, "upgrading": upgrading, "with a former cluster": with_former}


def _with_status(snapshot: ServiceSnapshot, spec: Manifest | None = None, **status: Any) -> ServiceSnapshot:
    service = copy.deepcopy(snapshot.service)
    service["status"] |= status
    return replace(snapshot, service=service if spec is None else {**service, "spec": spec})


def _settled(snapshot: ServiceSnapshot, *history: Manifest) -> ServiceSnapshot:
    return replace(snapshot, revisions=history)


@dataclass
class Done:
    """What a few decisions in a row do. pushed: config hash by cluster, where it is another one than it has."""

    pushed: dict[str, str]
    created: set[str]
    deleted: set[str]
    patched: set[str]
    pending: str
    active: str
    rolled: bool
    reasons: set[str]


def carry_out(snapshot: ServiceSnapshot) -> Done:
    """A few decisions; between them the status moves on, and clusters go that never served."""
    done = Done({}, set(), set(), set(), "", "", False, set())
    for _ in range(4):
        decision = decide(snapshot, NOW)
        _collect(done, decision, snapshot)
        if decision.status is None:
            break
        gone = done.deleted - {"demo-one"}
        snapshot = after(
            snapshot, decision, clusters=tuple(c for c in snapshot.clusters if c["metadata"]["name"] not in gone)
        )
    return done


def _collect(done: Done, decision: Decision, snapshot: ServiceSnapshot) -> None:
    for action in decision.actions:
        if isinstance(action, Create) and action.obj["kind"] == "RayCluster":
            done.created.add(action.obj["metadata"]["name"])
        if isinstance(action, Delete) and action.ref.kind == "RayCluster":
            done.deleted.add(action.ref.name)
        if isinstance(action, JsonPatch) and action.ref.kind == "RayCluster":
            paths = [op["path"] for op in action.operations if op["op"] != "test"]
            done.rolled |= any("rayservice.ray.io~1roll" in path for path in paths)
            if any(path.startswith("/spec/") for path in paths):
                done.patched.add(action.ref.name)
    for target in decision.observe or ():
        has = {"demo-one": config_hash()}.get(target.cluster.name)
        if target.push is not None and target.push.config_hash != has:
            done.pushed[target.cluster.name] = target.push.config_hash
    if decision.status is not None:
        done.pending = (decision.status.get("pendingServiceStatus") or {}).get("rayClusterName", "")
        done.active = (decision.status.get("activeServiceStatus") or {}).get("rayClusterName", "")
        done.reasons = {c["reason"] for c in decision.status["conditions"]}


def agrees(told: Preview, done: Done, before: ServiceSnapshot, edited: Manifest) -> None:
    """The preview's kind is what was done, and nothing else was."""
    was_pending = (before.service["status"].get("pendingServiceStatus") or {}).get("rayClusterName", "")
    existing = {cluster["metadata"]["name"] for cluster in before.clusters}
    new_pending = done.pending not in ("", was_pending)
    wanted = {
        Kind.NEW_CLUSTER: new_pending,
        Kind.INCREMENTAL: new_pending,
        Kind.ROLL: done.rolled,
        Kind.RECREATE: "demo-one" in done.deleted,
    }
    held = "Held back for now" in told.headline or any("Waiting for the former" in note for note in told.notes)
    for kind, happened in wanted.items():
        if told.kind is kind and not held:
            assert happened, kind
        if happened and kind not in (Kind.NEW_CLUSTER, Kind.INCREMENTAL) and told.kind is not Kind.REFUSED:
            assert told.kind is kind
    assert (told.kind is Kind.REFUSED) == bool(told.violations)
    assert told.violations or "ValidationFailed" not in done.reasons
    if told.kind is Kind.REFUSED:
        assert told.impact.requests is (Requests.FAIL if "demo-one" in done.deleted else Requests.SERVED)
        return
    if new_pending and told.kind is not Kind.RECREATE:
        assert told.kind in (Kind.NEW_CLUSTER, Kind.INCREMENTAL)
        assert (told.kind is Kind.INCREMENTAL) == (edited["spec"]["upgradeStrategy"]["type"].startswith("NewClusterW")
                                                   if edited["spec"].get("upgradeStrategy") else False)  # fmt: skip
        assert (told.impact.extra_pods == 0) == (done.pending in existing)
    if not done.rolled:
        assert bool(done.patched) == (told.kind in (Kind.IN_PLACE, Kind.UPGRADE_GOES_ON) and bool(told.fields))
    assert ("demo-one" in done.pushed) == _pushes(told)
    assert (told.kind is Kind.HELD_BACK) == bool(done.reasons & {"ChangeHeldBack", "NotInPlace"})
    if told.kind in (Kind.NOTHING, Kind.METADATA, Kind.SETTINGS):
        assert not (done.created | done.deleted | done.patched) - {"demo-zero"}
        assert done.pending == was_pending
    if told.kind is Kind.TAKEN_BACK:
        assert done.pending == ""
        assert "demo-two" in done.deleted
    if told.kind is Kind.UPGRADE_GOES_ON:
        assert done.pending == was_pending


def _pushes(told: Preview) -> bool:
    """Whether the cluster that serves gets another config."""
    return told.config is not None and told.kind is not Kind.UPGRADE_GOES_ON


EDITS = [
    (state, config, cluster, strategy)
    for state in STATES
    for config in CONFIGS
    for cluster in CLUSTERS
    for strategy in STRATEGIES
]


def _case(state: str, config: str, cluster: str, strategy: str) -> tuple[ServiceSnapshot, Manifest]:
    before = STATES[state]()
    spec: Manifest = {**before.service["spec"], "serveConfigV2": CONFIGS[config], "rayClusterConfig": CLUSTERS[cluster]}
    if STRATEGIES[strategy] is not None:
        spec["upgradeStrategy"] = STRATEGIES[strategy]
    metadata = {**before.service["metadata"], "generation": 2}
    return before, {**before.service, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_told_is_done(state: str, strategy: str) -> None:
    for config in CONFIGS:
        for cluster in CLUSTERS:
            before, edited = _case(state, config, cluster, strategy)
            live = Live(before.clusters, before.pods, before.revisions, before.observations, CONFIG, NOW)
            told = preview(before.service, edited, live=live)
            assert told.exact
            try:
                agrees(told, carry_out(replace(before, service=edited)), before, edited)
            except AssertionError as error:
                raise AssertionError(
                    f"{state}, {config} config, {cluster} cluster: {told.kind}, {told.lines()}"
                ) from error


@pytest.mark.parametrize("state", ["steady", "upgrading"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_status_alone_tells_the_same(state: str, strategy: str) -> None:
    """A webhook cannot look at the clusters; with the history it is as exact, without it mostly."""
    for config in CONFIGS:
        for cluster in CLUSTERS:
            before, edited = _case(state, config, cluster, strategy)
            live = Live(before.clusters, before.pods, before.revisions, before.observations, CONFIG, NOW)
            seen = preview(before.service, edited, live=live)
            history = preview(before.service, edited, live=Live(revisions=before.revisions, config=CONFIG, now=NOW))
            alone = preview(before.service, edited)
            assert history.exact
            assert (seen.kind, seen.impact, seen.fields) == (history.kind, history.impact, history.fields)
            assert seen.lines() == history.lines()
            assert alone.kind is seen.kind or not alone.exact


VARIANTS = st.sampled_from(
    [(config, cluster) for config in CONFIGS for cluster in CLUSTERS if "broken" not in (config, cluster)]
)


@settings(deadline=None, max_examples=60)
@given(one=VARIANTS, other=VARIANTS)
def test_nothing_is_told_exactly_where_nothing_differs(one: tuple[str, str], other: tuple[str, str]) -> None:
    """By the hashes that the operator goes by, and the fields that change in place."""
    before, after_ = (_file(*variant) for variant in (one, other))
    told = preview(before, after_)
    same = _essence(before) == _essence(after_)
    assert (told.kind is Kind.NOTHING) == same
    assert (told.impact == Preview(Kind.NOTHING, "").impact) >= same


def _file(config: str, cluster: str) -> Manifest:
    made = rayservice({"serveConfigV2": CONFIGS[config], "rayClusterConfig": copy.deepcopy(CLUSTERS[cluster])})
    made["metadata"] = {"name": "demo"}
    del made["status"]
    return made


def _essence(service: Manifest) -> tuple[Any, ...]:
    config = load_config(service["spec"]["serveConfigV2"])
    cluster = service["spec"]["rayClusterConfig"]
    in_place = [{key: group.get(key) for key in hashing.GROUP_FIELDS} for group in cluster["workerGroupSpecs"]]
    return (config.hash if config else "", hashing.cluster_hash(cluster), in_place)


def test_the_hash_in_the_status_is_what_a_spec_is_compared_with() -> None:
    """Not the former manifest: the operator may not have got round to it, or have given it up."""
    before, _ = _case("steady", "own", "new", "unset")
    behind = _with_status(before, spec={**before.service["spec"], "rayClusterConfig": CLUSTERS["new"]})
    back = {**behind.service, "spec": before.service["spec"]}
    told = preview(behind.service, back, live=Live(revisions=(revision(before.service["spec"], 1),)))
    assert told.exact
    assert told.kind in (Kind.NOTHING, Kind.TAKEN_BACK)
    assert revisions.spec_hash(back["spec"]) != revisions.spec_hash(behind.service["spec"])


def test_an_observation_tells_which_ray_runs() -> None:
    before, edited = _case("steady", "own", "own", "unset")
    text = SERVE_CONFIG.replace("user_config: {greeting: hello}", "max_ongoing_requests: 3")
    cluster = before.clusters[0]
    seen = {"demo-one": observation(cluster, application(), pushed=config_hash(text), ray_version="2.54.0")}
    service = copy.deepcopy(before.service)
    service["spec"]["serveConfigV2"] = text
    service["status"]["activeServiceStatus"]["appliedConfigHash"] = config_hash(text)
    gone = {**edited, "spec": {**edited["spec"], "serveConfigV2": text.replace("max_ongoing_requests: 3", "")}}
    told = preview(service, gone, live=Live(before.clusters, before.pods, before.revisions, seen, CONFIG, NOW))
    assert told.config is not None
    assert [cause.key for _, cause in told.config.ignored] == ["max_ongoing_requests"]

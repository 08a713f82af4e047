"""What the preview says of a changed serve config is what Ray's own functions say, field by field and in combination.

Ray's functions run in Ray's interpreter (``effect_oracle.py``), without a cluster; ``test_effect_against_real`` is the
same with one.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from rayservice_operator.serveconfig.differences import text
from rayservice_operator.serveconfig.effect import AppEffect, effect
from rayservice_operator.serveconfig.fields import DEPLOYMENT, Reach
from tests.ray import real_ray
from tests.serveconfig.changes import COMPANIONS, NO_VALUES, OUTER, VALUES, cases, document

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(300)]

Document = dict[str, Any]
ORACLE = real_ray.ROOT / "tests" / "ray" / "effect_oracle.py"


def ask_ray(pairs: Sequence[tuple[Document, Document]]) -> list[dict[str, str]]:
    """Ray's answer to each pair: the reach by deployment."""
    done = subprocess.run(
        [str(real_ray.ray_python()), str(ORACLE)], input=json.dumps(pairs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def ours(before: Document, after: Document) -> dict[str, str]:
    """The preview's answer in Ray's terms: what is ignored is unchanged, and a route is the ingress' own."""
    app: AppEffect = effect(before, after).applications[0]
    told = {deployment.name: deployment.reach for deployment in app.deployments}
    if any(cause.key == "route_prefix" for cause in app.causes):
        told["D"] = max(told["D"], Reach.RECONFIGURE, key=lambda reach: reach.rank)
    return {name: str(Reach.NONE if reach is Reach.IGNORED else reach) for name, reach in told.items()}


def _once_set() -> tuple[Document, Document]:
    return document({"max_replicas_per_node": 1}), document({"max_replicas_per_node": 2, "num_replicas": 3})


ROUTER = {"request_router_config": {"request_routing_stats_period_s": 5}}
SCALED = {"autoscaling_config": {"max_replicas": 3}}
LEAST = VALUES[f"{DEPLOYMENT}autoscaling_config.policy.policy_function"][1]
BY_LOAD = {"autoscaling_config": {"max_replicas": 3, "policy": {"policy_function": LEAST}}}


def swapped(of: Document) -> Document:
    """The same with its deployments in the other order."""
    app = of["applications"][0]
    return {**of, "applications": [{**app, "deployments": app["deployments"][::-1]}]}


def with_e(first: Document, second: Document) -> Document:
    """Both deployments declared."""
    deployments = [{"name": "D", **first}, {"name": "E", **second}]
    return {"applications": [{"name": "a", "import_path": "m:one", "deployments": deployments}]}


TOGETHER: dict[str, tuple[Document, Document]] = {
    "a placement option is taken along by another change": _once_set(),
    "a placement option is taken along by target_capacity": (
        document({"max_replicas_per_node": 1}, target_capacity=50),
        document({"max_replicas_per_node": 2}, target_capacity=60),
    ),
    "a placement option is taken along by another option that goes": (
        document({"max_replicas_per_node": 1, "max_queued_requests": 9}),
        document({"max_replicas_per_node": 2}),
    ),
    "a placement option goes": (document({"max_replicas_per_node": 1}), document()),
    "deployments without policies change places": (document(SCALED), swapped(document(SCALED))),
    "a policy and no policy change places": (with_e(SCALED, BY_LOAD), swapped(with_e(SCALED, BY_LOAD))),
    "a router moves to another deployment": (with_e(ROUTER, {}), with_e({}, ROUTER)),
    "an autoscaling config moves to another deployment": (with_e(SCALED, {}), with_e({}, SCALED)),
    "num_replicas becomes auto": (document({"num_replicas": 2}), document({"num_replicas": "auto"})),
    "auto gets bounds": (document({"num_replicas": "auto"}), document({"num_replicas": "auto", **SCALED})),
    "the application's logging beside the deployment's own": (
        document({"logging_config": {"log_level": "INFO"}}),
        document({"logging_config": {"log_level": "INFO"}}, {"logging_config": {"log_level": "DEBUG"}}),
    ),
    "the instance's logging beside the application's own": (
        document({}, {"logging_config": {"log_level": "INFO"}}),
        document({}, {"logging_config": {"log_level": "INFO"}}, logging_config={"log_level": "DEBUG"}),
    ),
    "numbers in another type": (
        document({"ray_actor_options": {"num_cpus": 1}}),
        document({"ray_actor_options": {"num_cpus": 1.0}}),
    ),
    "arguments in another type": (document({}, {"args": {"a": 1}}), document({}, {"args": {"a": 1.0}})),
    "an unknown key in a router": (
        document(ROUTER),
        document({"request_router_config": {**ROUTER["request_router_config"], "a_typo": 1}}),
    ),
    "an unknown key of autoscaling": (
        document(SCALED),
        document({"autoscaling_config": {"max_replicas": 3, "max": 1}}),
    ),
    "an unknown key": (document({"max_replica": 1}), document({"max_replica": 2})),
    "a resource of nothing": (document({"ray_actor_options": {}}), document({"ray_actor_options": {"num_gpus": 0}})),
}


def _random_document(choose: random.Random) -> Document:
    """Up to five fields of either deployment and of the application, each with one of its two values."""
    made = document()
    app = made["applications"][0]
    plain = [
        path
        for path in VALUES
        if path.startswith("applications")
        and path not in NO_VALUES | COMPANIONS.keys() | OUTER.keys()
        and path.removeprefix(DEPLOYMENT).removeprefix("applications[].").count(".") == 0
    ]
    for path in choose.sample(plain, choose.randint(0, 5)):
        value = choose.choice(VALUES[path])
        where = choose.choice(app["deployments"]) if path.startswith(DEPLOYMENT) else app
        where[path.rpartition(".")[2]] = value
    if choose.random() < 0.2:
        app["deployments"].reverse()
    return made


def _random_pairs() -> list[tuple[Document, Document]]:
    """Documents that differ a little, or altogether."""
    choose = random.Random(60)
    pairs = []
    while len(pairs) < 400:
        before = _random_document(choose)
        after = json.loads(text(before)) if choose.random() < 0.5 else _random_document(choose)
        app = after["applications"][0]
        for key, value in _random_document(choose)["applications"][0]["deployments"][0].items():
            if choose.random() < 0.5:
                app["deployments"][0][key] = value
        if len({d["name"] for d in app["deployments"]}) == 2:
            pairs.append((before, after))
    return pairs


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict[str, str]]]:
    """Ray's answers to everything below; asked at once, because starting its interpreter takes longest."""
    asked = {
        "each": [(case.before, case.after) for case in cases()],
        "together": list(TOGETHER.values()),
        "random": _random_pairs(),
    }
    answers = iter(ask_ray([pair for pairs in asked.values() for pair in pairs]))
    return {name: [next(answers) for _ in pairs] for name, pairs in asked.items()}


Told = dict[str, list[dict[str, str]]]


def test_each_field_does_what_ray_says(told: Told) -> None:
    every = list(cases())
    assert {case.name: answer for case, answer in zip(every, told["each"], strict=True)} == {
        case.name: ours(case.before, case.after) for case in every
    }


def test_changes_together_do_what_ray_says(told: Told) -> None:
    answers = dict(zip(TOGETHER, told["together"], strict=True))
    assert answers == {name: ours(*pair) for name, pair in TOGETHER.items()}


def test_random_configs_do_what_ray_says(told: Told) -> None:
    """Where Ray takes both of them: some combinations it refuses."""
    pairs = zip(_random_pairs(), told["random"], strict=True)
    taken = [(pair, answer) for pair, answer in pairs if "error" not in answer]
    assert len(taken) > 300
    wrong = [(pair, answer, ours(*pair)) for pair, answer in taken if answer != ours(*pair)]
    assert not wrong

"""What is refused, what is only told, and what is none of the webhook's business."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from rayservice_operator.admission.messages import as_violation
from rayservice_operator.admission.review import ReviewRequest, Verdict
from rayservice_operator.admission.reviewer import FAILED, Scope, reviewer
from rayservice_operator.core.findings import Finding, Severity
from rayservice_operator.core.objects import Manifest
from tests.admission.requests import request
from tests.models.manifests import changed, raycluster, rayservice

OPERATOR = "system:serviceaccount:ns:operator"
REVIEW = reviewer(Scope(OPERATOR))


def apps(*paths: str) -> dict[str, str]:
    """Applications with these import paths."""
    entries = (f"- {{name: a{i}, import_path: {path!r}, route_prefix: /{i}}}\n" for i, path in enumerate(paths))
    return {"spec.serveConfigV2": "applications:\n" + "".join(entries)}


GOOD = changed(rayservice(), apps("a:b"))
BAD = changed(rayservice(), apps("nonsense"))


def fields(verdict: Verdict) -> list[str]:
    """Places that are refused."""
    return [as_violation(problem).field for problem in verdict.errors]


def at(*indexes: int) -> list[str]:
    """Where import paths stand."""
    return [f"spec.serveConfigV2.applications[{index}].import_path" for index in indexes]


def test_a_new_object_is_refused_for_everything() -> None:
    assert fields(REVIEW(request(BAD))) == at(0)
    assert REVIEW(request(GOOD)) == Verdict()


@pytest.mark.parametrize("name", ["service", "cluster"])
def test_a_shape_that_cannot_be_read_is_refused(name: str) -> None:
    base, place = (rayservice(), "spec.rayClusterConfig") if name == "service" else (raycluster(), "spec")
    for changes in ({"spec": []}, {"spec": None}, {f"{place}.headGroupSpec": "x"}):
        assert REVIEW(request(changed(base, changes))).errors


UPDATES: Mapping[str, tuple[Mapping[str, str], Mapping[str, str], list[str], int]] = {
    # before, after, refused, told
    "mended": (apps("nonsense"), apps("a:b"), [], 0),
    "broken": (apps("a:b"), apps("nonsense"), at(0), 0),
    "another mistake in the same place": (apps("nonsense"), apps("rubbish"), at(0), 0),
    "one of two mended": (apps("nonsense", "rubbish"), apps("nonsense", "a:b"), [], 1),
    "a second one": (apps("nonsense"), apps("nonsense", "rubbish"), at(1), 1),
    "a second one just like it": (apps("nonsense"), apps("nonsense", "nonsense"), at(1), 1),
    "a good one put in front": (apps("nonsense"), apps("a:b", "nonsense"), [], 1),
    "the same one put in front": (apps("a:b", "nonsense"), apps("nonsense", "nonsense"), at(0), 1),
    "no YAML any more": (apps("nonsense"), {"spec.serveConfigV2": "{"}, ["spec.serveConfigV2"], 0),
}


@pytest.mark.parametrize(("before", "after", "refused", "told"), UPDATES.values(), ids=UPDATES)
def test_an_update_is_refused_for_what_it_brings_in(
    before: Mapping[str, str], after: Mapping[str, str], refused: list[str], told: int
) -> None:
    verdict = REVIEW(request(changed(rayservice(), after), changed(rayservice(), before)))
    assert fields(verdict) == refused
    assert len([line for line in verdict.warnings if line.endswith("(this was so before the change)")]) == told


def test_another_edit_of_a_wrong_one_passes_and_is_told() -> None:
    verdict = REVIEW(request(changed(BAD, {"spec.rayClusterDeletionDelaySeconds": 5}), BAD))
    assert verdict.errors == ()
    assert at(0)[0] in verdict.warnings[0]


SILENT: Mapping[str, ReviewRequest] = {
    "the operator itself": request(BAD, user=OPERATOR),
    "its status": request(BAD, GOOD, subresource="status"),
    "a deletion": request(BAD, operation="DELETE"),
    "a kind that nobody asked about": request({**BAD, "kind": "RayJob"}),
    "a label": request(changed(BAD, {"metadata.labels.team": "a"}), BAD),
    "a finalizer": request(changed(BAD, {"metadata.finalizers": ["x/y"]}), BAD),
    "an annotation of somebody's": request(changed(BAD, {"metadata.annotations[example.com/a]": "1"}), BAD),
    "what kubectl remembers": request(
        changed(BAD, {"metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]": "{}"}), BAD
    ),
    "a status written together": request(changed(BAD, {"status.numServeEndpoints": 1}), BAD),
    "one that is being deleted": request(changed(BAD, {"metadata.deletionTimestamp": "2026-01-01T00:00:00Z"}), GOOD),
    "another controller's": request(changed(BAD, {"spec.managedBy": "kueue.x-k8s.io/multikueue"})),
}


@pytest.mark.parametrize("asked", SILENT.values(), ids=SILENT)
def test_none_of_our_business(asked: ReviewRequest) -> None:
    assert REVIEW(asked) == Verdict()


def test_only_namespaces_that_are_looked_after() -> None:
    review = reviewer(Scope(namespaces=("a", "b")))
    assert review(request(BAD, namespace="c")) == Verdict()
    assert review(request(BAD, namespace="b")).errors


def test_without_an_own_user_nobody_is_taken_for_it() -> None:
    assert reviewer(Scope())(request(BAD, user="")).errors


def test_an_annotation_of_ours_is_a_setting() -> None:
    wrong = changed(GOOD, {"metadata.annotations[ray.io/initializing-timeout]": "soon"})
    assert fields(REVIEW(request(wrong, GOOD))) == ["metadata.annotations[ray.io/initializing-timeout]"]


def test_true_and_one_are_a_change() -> None:
    asked: list[Manifest] = []

    def check(manifest: Manifest) -> Iterable[Finding]:
        asked.append(manifest)
        return []

    before = changed(GOOD, {"spec.suspend": True})
    review = reviewer(Scope(), {"RayService": (check,)}, {})
    review(request(before, before))
    assert asked == []
    review(request(changed(GOOD, {"spec.suspend": 1}), before))
    assert len(asked) == 1


def test_a_cluster_of_a_service_is_judged_as_one() -> None:
    named_head = {"spec.headGroupSpec.headService.metadata.name": "mine"}
    assert REVIEW(request(changed(raycluster(), named_head))).errors == ()
    owner = {"metadata.ownerReferences": [{"kind": "RayService", "name": "s", "uid": "u", "controller": True}]}
    assert REVIEW(request(changed(raycluster(), {**named_head, **owner}))).errors


# -- further checks plugged in


def finding(severity: Severity, problem: str = "is odd") -> Finding:
    """A finding about the name."""
    return Finding("some-rule", severity, ("metadata", "name"), problem, "Change it")


def test_findings_refuse_or_warn_by_their_severity() -> None:
    def lint(manifest: Manifest) -> Iterable[Finding]:
        return [finding(severity, f"is {severity}") for severity in (Severity.HINT, Severity.WARNING, Severity.ERROR)]

    def preview(before: Manifest | None, after: Manifest) -> Iterable[str]:
        return ["one restart"] if before else ["a new cluster"]

    review = reviewer(Scope(), {"RayService": (lint,)}, {"RayService": (preview,)})
    verdict = review(request(GOOD))
    assert [as_violation(p).problem for p in verdict.errors] == ["is error"]
    assert verdict.warnings == (
        "metadata.name: is warning. Change it [some-rule]",
        "a new cluster",
        "metadata.name: is hint. Change it [some-rule]",
    )
    assert "one restart" in review(request(changed(GOOD, apps("c:d")), GOOD)).warnings


def test_what_two_checks_say_is_told_once() -> None:
    def lint(manifest: Manifest) -> Iterable[Finding]:
        return [finding(Severity.ERROR)]

    review = reviewer(Scope(), {"RayService": (lint, lint)}, {})
    assert len(review(request(GOOD)).errors) == 1


def test_a_check_that_fails_refuses_nothing_and_the_others_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Iterable[Any]:
        raise RuntimeError("oops")

    def lint(manifest: Manifest) -> Iterable[Finding]:
        return [finding(Severity.WARNING)]

    review = reviewer(Scope(), {"RayService": (broken, lint)}, {"RayService": (broken,)})
    with caplog.at_level(logging.ERROR):
        verdict = review(request(GOOD))
    assert verdict.errors == ()
    assert verdict.warnings == (FAILED, "metadata.name: is odd. Change it [some-rule]")
    assert "oops" in caplog.text


def test_when_the_old_object_cannot_be_judged_nothing_is_held_against_the_new_one() -> None:
    def check(manifest: Manifest) -> Iterable[Finding]:
        if manifest["spec"]["serveConfigV2"] == BAD["spec"]["serveConfigV2"]:
            raise RuntimeError("oops")
        return [finding(Severity.ERROR)]

    verdict = reviewer(Scope(), {"RayService": (check,)}, {})(request(GOOD, BAD))
    assert verdict.errors == ()
    assert FAILED in verdict.warnings

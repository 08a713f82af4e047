"""AdmissionReview in and out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.admission.review import BadReview, Verdict, answer, read
from rayservice_operator.core.violations import Violation
from tests.admission.requests import request
from tests.models.manifests import rayservice

REVIEW: dict[str, Any] = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "u-1",
        "kind": {"group": "ray.io", "version": "v1", "kind": "RayService"},
        "namespace": "team",
        "operation": "UPDATE",
        "userInfo": {"username": "jane", "groups": ["dev"]},
        "object": rayservice(),
        "oldObject": rayservice(),
        "dryRun": True,
    },
}


def test_what_is_read() -> None:
    found = read(json.dumps(REVIEW).encode())
    assert (found.uid, found.kind, found.namespace, found.operation) == ("u-1", "RayService", "team", "UPDATE")
    assert found.user == "jane"
    assert found.obj == found.old == rayservice()
    assert str(found) == "RayService team/example"


def test_an_allowed_one_says_no_more_than_that() -> None:
    said = json.loads(answer(request(rayservice()), Verdict()))
    assert said == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True},
    }


def test_a_refused_one_looks_like_the_servers_own_refusals() -> None:
    verdict = Verdict((Violation("spec.a", "is wrong", "Write b"),), ("careful",))
    response = json.loads(answer(request(rayservice()), verdict))["response"]
    assert response["allowed"] is False
    assert response["warnings"] == ["careful"]
    status = response["status"]
    assert (status["code"], status["reason"], status["status"]) == (422, "Invalid", "Failure")
    assert status["message"] == "spec.a: is wrong. Write b"
    assert (status["details"]["kind"], status["details"]["name"]) == ("RayService", "example")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["apiVersion", "request", *REVIEW["request"]]), JSON)
def test_anything_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    review = {**REVIEW, key: value} if key in REVIEW else {**REVIEW, "request": {**REVIEW["request"], key: value}}
    body = json.dumps(review).encode()
    if key in {"apiVersion", "uid"} or (key == "request" and not (isinstance(value, dict) and value.get("uid"))):
        with contextlib.suppress(BadReview):
            read(body)
        return
    found = read(body)
    assert isinstance(found.obj, dict)
    assert json.loads(answer(found, Verdict()))["response"]["uid"] == found.uid


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(BadReview):
        read(body)

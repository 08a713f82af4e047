"""What ``lint_manifest`` and ``lint_text`` promise besides the rules: objects, suppression, order, no exception."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayservice_operator.core.findings import Severity
from rayservice_operator.lint import BY_NAME, RULES, lint_manifest, lint_text
from rayservice_operator.lint.rules.refused import path_of
from tests.lint.fuzz import once

DATA = Path(__file__).resolve().parents[1] / "data" / "lint"
FAULTS = sorted((DATA / "faults").glob("*.yaml"))
CLEAN = sorted((DATA / "clean").glob("*.yaml"))


def manifests(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]


def fault(name: str) -> str:
    return (DATA / "faults" / f"{name}.yaml").read_text(encoding="utf-8")


def rules(text: str) -> list[str]:
    return [finding.rule for finding in lint_text(text)]


def test_names_are_unique_and_written_alike() -> None:
    assert len(BY_NAME) == len(RULES)
    assert all(name == name.lower() and " " not in name and "_" not in name for name in BY_NAME)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_tells_why_and_what_to_do(rule: Any) -> None:
    assert all(len(text) > 5 for text in (rule.title, rule.why, rule.fix, rule.example))
    assert not rule.title.endswith(".")


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: path.stem)
def test_findings_say_what_and_what_to_do(path: Path) -> None:
    for finding in lint_text(path.read_text(encoding="utf-8")):
        assert finding.problem
        assert finding.fix
        assert not finding.problem.endswith(".")
        assert not finding.fix.endswith(".")
        assert finding.rule in BY_NAME


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_a_clean_manifest_is_really_looked_at(path: Path) -> None:
    """One more fault in it is found: nothing hides it."""
    changed = copy.deepcopy(manifests(path)[-1])
    spec = changed["spec"].get("rayClusterConfig", changed["spec"])
    spec["headGroupSpec"].setdefault("rayStartParams", {})["object-store-memory"] = "1"
    assert [finding.rule for finding in lint_manifest(changed)] == ["object-store-memory"]


def test_other_kinds_are_passed_over() -> None:
    assert lint_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {TOKEN: abc}\n") == []
    assert lint_manifest({"apiVersion": "ray.io/v1", "kind": "RayJob", "spec": 3}) == []
    assert lint_manifest({}) == []


def test_each_manifest_of_a_file_has_its_own_places() -> None:
    one, two = fault("grace"), fault("loopback")
    found = lint_text(f"{one}---\n{two}")
    assert [finding.rule for finding in found] == ["grace-too-short", "http-host"]
    assert found[0].position is not None
    assert found[1].position is not None
    assert found[1].position.line > len(one.splitlines())


def test_findings_come_in_the_order_of_the_file() -> None:
    text = fault("grace").replace("num_replicas: 2", "num_replicas: 2\n            graceful_shutdown_timeout_s: 0")
    text = text.replace("route_prefix: /summarize", "route_prefix: summarize")
    assert rules(text) == ["route-prefix", "shutdown-without-grace", "grace-too-short"]


def test_lists_are_taken_apart() -> None:
    item = manifests(DATA / "faults" / "grace.yaml")[0]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [item]})
    assert rules(text) == ["grace-too-short"]


def test_an_annotation_switches_rules_off_for_its_object() -> None:
    annotated = 'metadata:\n  name: example\n  annotations: {ray.io/lint-ignore: "grace-too-short, http-host"}\n'
    text = fault("grace").replace("metadata:\n  name: example\n", annotated)
    assert rules(text) == []
    assert rules(f"{text}---\n{fault('grace')}") == ["grace-too-short"]


def test_rules_can_be_left_out_for_one_run() -> None:
    assert lint_text(fault("grace"), ignore={"grace-too-short"}) == []


def test_a_misspelt_rule_in_the_annotation_is_told_with_what_was_meant() -> None:
    (finding,) = lint_text(fault("ignore-unknown-rule"))
    assert finding.severity is Severity.WARNING
    assert finding.fix == "Write gpus-do-not-fit"


def test_the_place_of_broken_yaml_inside_the_serve_config_is_one_of_the_file() -> None:
    (finding,) = lint_text(fault("serve-config-tab"))
    assert finding.rule == "yaml"
    assert finding.position is not None
    assert "\t" in fault("serve-config-tab").splitlines()[finding.position.line - 1]


def test_templates_of_prompts_are_no_helm_templates() -> None:
    args = "        args:\n          chat_template: '{% for m in messages %}{{ m.content }}{% endfor %}'\n"
    text = fault("grace").replace("        deployments:\n", f"{args}        deployments:\n")
    assert rules(text) == ["grace-too-short"]


def test_broken_yaml_beside_a_prompt_is_told_as_that() -> None:
    text = fault("manifest-unclosed").replace("num_replicas: 2", 'user_config: {prompt: "{{ question }}"}')
    assert rules(text) == ["yaml"]


def test_files_that_are_no_manifests_can_be_passed_over() -> None:
    assert lint_text(fault("helm-template"), ignore={"helm-template"}) == []
    assert lint_text("a: [1", ignore={"yaml"}) == []


def test_secrets_are_never_repeated() -> None:
    for path in FAULTS:
        if "secret" in path.stem:
            for finding in lint_text(path.read_text(encoding="utf-8")):
                told = finding.problem + finding.fix
                assert not any(secret in told for secret in ("hunter2", "AKIA", "wJalr", "d41d8", "not-a-real"))


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (
            "spec.workerGroupSpecs[1].rayStartParams[num-cpus]",
            ("spec", "workerGroupSpecs", 1, "rayStartParams", "num-cpus"),
        ),
        ("metadata.annotations[ray.io/ft-enabled]", ("metadata", "annotations", "ray.io/ft-enabled")),
        ("spec.env[B].value", ("spec", "env", 1, "value")),
        ("", ()),
    ],
)
def test_a_field_in_words_is_a_path(field: str, path: tuple[str | int, ...]) -> None:
    assert path_of(field, {"spec": {"env": [{"name": "A"}, {"name": "B"}]}}) == path


# -- robustness ----------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _loadable(path: Path) -> list[dict[str, Any]]:
    try:
        return manifests(path)
    except yaml.YAMLError:
        return []


BASES = [m for path in [*FAULTS, *CLEAN] for m in _loadable(path) if str(m.get("kind", "")).startswith("Ray")]


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found.extend(places(child, (*path, key)))
    return found


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = replaced(copied[path[0]], path[1:], new)
    return copied


@pytest.mark.parametrize("values", [3, "NVIDIA-L4", {"a": 1}, None, [3, None]])
def test_values_of_a_node_affinity_may_be_of_any_shape(values: Any) -> None:
    """The pod template is Kubernetes' to check, and found by the fuzzer in CI."""
    expression = {"key": "nvidia.com/gpu.product", "operator": "In", "values": values}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }
    manifest = manifests(DATA / "faults" / "grace.yaml")[0]
    for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        group["template"]["spec"]["affinity"] = {"nodeAffinity": required}
    assert [finding.rule for finding in lint_manifest(manifest)] == ["grace-too-short"]


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_value_in_any_place_is_judged_and_never_raises(data: st.DataObject) -> None:
    manifest = copy.deepcopy(data.draw(st.sampled_from(BASES)))
    spec = manifest.get("spec")
    inside = isinstance(spec, dict) and isinstance(spec.get("serveConfigV2"), str) and data.draw(st.booleans())
    try:
        document = yaml.safe_load(spec["serveConfigV2"]) if inside else manifest
    except yaml.YAMLError:
        return
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([p for p in places(document) if p] or [()]))
        if path:
            document = replaced(document, path, data.draw(JUNK))
    if inside:
        spec["serveConfigV2"] = yaml.safe_dump(document, allow_unicode=True)
    else:
        manifest = document
    for finding in lint_manifest(manifest):
        assert finding.problem
        assert finding.rule in BY_NAME


@given(st.text(max_size=200) | st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged_and_never_raises(text: str | bytes) -> None:
    lint_text(text)


@given(st.sampled_from(FAULTS), st.integers(0, 4000), st.integers(0, 200), st.text(max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_file_cut_anywhere_never_raises(path: Path, at: int, length: int, put: str) -> None:
    text = path.read_text(encoding="utf-8")
    lint_text(text[:at] + put + text[at + length :])


def test_the_fuzz_target_finds_nothing_at_once() -> None:
    for seed in range(200):
        once(seed)

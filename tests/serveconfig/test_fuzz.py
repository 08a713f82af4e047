"""Fuzz target: no text makes the path from a file to its findings raise anything but the documented error.

Texts are mutations of the example manifests and of a few nasty ones: bytes, lines and YAML punctuation put in, taken
away, doubled and swapped. ``FUZZ_SECONDS`` is how long it goes on (``.ci/run``: 60); ``FUZZ_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayservice_operator.core.findings import Finding
from rayservice_operator.serveconfig.canonical import ServeConfigError, canonical_json, parse
from rayservice_operator.serveconfig.check import RULES, check
from rayservice_operator.serveconfig.source import SourceError, load_manifests

ROOT = Path(__file__).resolve().parents[2]

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("FUZZ_SEED", "20260"))

MOST_MEGABYTES = 200
"""Growth of the process over all texts: far below what one text could take if something were written out."""

MOST_SECONDS = 5
"""CPU time of one text; a text that takes minutes is what this is to find."""

MOST_KEPT = 300
"""Mutated texts that are mutated further."""

TOKENS = [
    "\t", "\r\n", "\n", " ", "  ", "- ", ": ", ":", "{", "}", "[", "]", '"', "'", "|", ">", "|+", ">-", "&a ", "*a",
    "<<: *a", "<<: [*a, *a]", "!!int ", "!!binary ", "!x ", "? ", "---\n", "...\n", "%YAML 1.2\n", "#", "~", "null",
    "yes", "1e999", ".nan", "0x", "-", "\0", "\ufeff", "\u2028", "\x85", "\U0001f600", "\\ud83d\\ude00", "{{ x }}",
    "applications:\n", "deployments:", "name: ", "num_replicas: ", "import_path: m:a", "autoscaling_config: ",
    "ray_actor_options: {", "runtime_env: ", "serveConfigV2: |\n", "serveConfigV2: ", "kind: List\nitems:\n- ",
    "[" * 70, "&a [*a, *a, *a, *a, *a, *a, *a, *a]", "99999999999999999999", "-1", "0.5", "''",
]  # fmt: skip

VALUES = [
    "null", "true", "1", "-1", "0", "0.5", "101", "1e999", "'5'", "text", "[]", "{}", "[1, x]", "{a: 1}", "[{name: x}]",
    "{CPU: 1}", "&a [1]", "*a", "!!str 5", "/x", "m:a", "auto", "yes", '"\\u0000"', "|\n  x", "\U0001f600",
]  # fmt: skip

KEYS = [
    "name", "applications", "import_path", "route_prefix", "deployments", "num_replicas", "autoscaling_config", "<<",
    "ray_actor_options", "max_ongoing_requests", "runtime_env", "logging_config", "user_config", "1", "~", "? x",
    "gang_scheduling_config", "placement_group_bundles", "serveConfigV2", "items", "kind", "\U0001f600", "num_gpu",
]  # fmt: skip

RICH = """\
apiVersion: ray.io/v1
kind: RayService
metadata: {name: rich}
spec:
  serveConfigV2: |
    proxy_location: EveryNode
    http_options: {port: 8000, request_timeout_s: 60}
    grpc_options:
      grpc_servicer_functions: [m:add]
    logging_config: {log_level: INFO, encoding: JSON}
    applications:
      - name: one
        route_prefix: /one
        import_path: m:app
        runtime_env:
          working_dir: https://example.com/code.zip
          env_vars: {A: "1"}
          pip: [requests]
        deployments:
          - name: A
            num_replicas: auto
            max_ongoing_requests: 10
            autoscaling_config:
              min_replicas: 1
              max_replicas: 4
              target_ongoing_requests: 3
              policy: {policy_function: m:policy}
            ray_actor_options:
              num_cpus: 1
              resources: {custom: 1}
              label_selector: {zone: in(a, b)}
          - name: B
            placement_group_bundles: [{CPU: 1, GPU: 1}]
            placement_group_strategy: PACK
            user_config:
              any: {thing: [1, 2]}
      - name: two
        route_prefix: /two
        import_path: m:other
        args: {x: 1}
        deployments:
          - name: C
            num_replicas: 4
            gang_scheduling_config:
              gang_size: 2
            deployment_actors:
              - name: tree
                actor_class: m:Tree
            request_router_config: {max_backoff_s: 1}
            backpressure_config: {status_code: 429, retry_after_s: 5}
  rayClusterConfig:
    rayVersion: 2.60.0
"""

NASTY = [
    "",
    "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nspec: {serveConfigV2: *c}\n",
    '{"kind": "RayService", "spec": {"serveConfigV2": "applications:\\n- name: \\"a\\"\\n"}}',
    "kind: List\nitems:\n- kind: A\n- kind: B\n  spec: {serveConfigV2: 'applications: []'}\n",
    "spec:\n  serveConfigV2: >\n    applications:\n\n      - name: a\n        import_path: m:a\n",
    "spec:\n  serveConfigV2: |2\n      applications: []\n     \n",
]


def corpus() -> list[str]:
    files = [*ROOT.glob("examples/*.yaml"), *ROOT.glob("tests/data/manifests/*.yaml")]
    assert len(files) > 5
    return [*(path.read_text() for path in sorted(files)), RICH, *NASTY]


def mutated(text: str, dice: random.Random, others: list[str]) -> str:
    """A text with a few changes."""
    for _ in range(dice.choice([1, 1, 2, 3, 8])):
        at = dice.randrange(len(text) + 1)
        to = min(len(text), at + dice.choice([0, 1, 1, 3, 20, 200]))
        change = dice.randrange(16)
        if change > 7:
            text = replaced(text, dice)
        elif change == 0:
            text = text[:at] + dice.choice(TOKENS) + text[at:]
        elif change == 1:
            text = text[:at] + dice.choice(TOKENS) + text[to:]
        elif change == 2:
            text = text[:at] + text[to:]
        elif change == 3:
            text = text[:to] + text[at:to] * dice.choice([1, 2, 30]) + text[to:]
        elif change in (4, 6, 7):
            rows = text.splitlines(keepends=True) or [""]
            one, other = dice.randrange(len(rows)), dice.randrange(len(rows))
            rows[one], rows[other] = " " * dice.randrange(4) + rows[other], rows[one]
            text = "".join(rows)
        else:
            other_text = dice.choice(others)
            start = dice.randrange(len(other_text) + 1)
            text = text[:at] + other_text[start : start + 300] + text[at:]
    return text[:200_000]


def replaced(text: str, dice: random.Random) -> str:
    """Another value, or another key, on one line: most of these are YAML still."""
    rows = text.splitlines(keepends=True) or [""]
    at = dice.randrange(len(rows))
    key, colon, _ = rows[at].partition(":")
    if dice.randrange(4):
        rows[at] = f"{key}{colon} {dice.choice(VALUES)}\n"
    else:
        rows[at] = rows[at].replace(key.strip(" -") or "x", dice.choice(KEYS), 1)
    return "".join(rows)


def run(text: str | bytes) -> Iterator[Finding]:
    """The whole path, as lint goes it."""
    try:
        documents = load_manifests(text, "fuzz.yaml")
    except SourceError as error:
        yield from error.findings
        return
    for document in documents:
        spec = document.manifest.get("spec")
        config_text = spec.get("serveConfigV2") if isinstance(spec, dict) else None
        if not isinstance(config_text, str):
            continue
        try:
            config = parse(config_text)
        except ServeConfigError as error:
            yield document.finding(error)
            continue
        if config is not None:
            canonical_json(config)
            for version in ("2.54.0", None):
                yield from map(document.placed, check(config.document, version))


@pytest.mark.timeout(SECONDS + 120)
def test_fuzz() -> None:
    dice = random.Random(SEED)
    texts = corpus()
    pool = list(texts)
    for text in texts:
        list(run(text))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = time.monotonic() + SECONDS
    slowest, counts = 0.0, {"texts": 0, "no YAML": 0, "with findings of check": 0, "clean": 0}
    while time.monotonic() < end:
        text = mutated(RICH if dice.randrange(2) else dice.choice(pool), dice, texts)
        start = time.process_time()
        source = text if dice.randrange(8) else text.encode("utf-16" if dice.randrange(2) else "utf-8")
        try:
            findings = list(run(source))
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\nseed {SEED}, text {counts['texts']}: {source!r:.3000}")
        slowest = max(slowest, time.process_time() - start)
        lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 2
        for finding in findings:
            assert finding.problem, finding
            assert finding.fix, finding
            assert finding.position is not None, (finding, text[:3000])
            assert 1 <= finding.position.line <= lines, (finding, text[:3000])
        rules = {finding.rule for finding in findings}
        counts["texts"] += 1
        counts["no YAML"] += "yaml" in rules
        counts["with findings of check"] += bool(rules & set(RULES))
        counts["clean"] += not rules
        if "yaml" not in rules and not dice.randrange(20):  # what is broken stays broken
            place = len(pool) if len(pool) < MOST_KEPT else dice.randrange(len(texts), MOST_KEPT)
            pool[place : place + 1] = [text]
    print(f"slowest {slowest:.2f} s of CPU, {counts}")
    # Or it would prove little.
    assert min(counts.values()) > max(3, counts["texts"] // 50), counts
    assert slowest < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024 < MOST_MEGABYTES

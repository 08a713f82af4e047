"""Previews, word for word.

``UPDATE_GOLDEN=1 pytest tests/service/preview/test_golden.py`` writes the expected file anew; read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rayservice_operator.service.preview import Preview, preview
from tests.service.preview.scenarios import scenarios

EXPECTED = Path(__file__).parent / "data" / "previews.md"
SCENARIOS = scenarios()


def told(name: str) -> Preview:
    scenario = SCENARIOS[name]
    return preview(scenario.before, scenario.after, live=scenario.live)


def page(name: str) -> str:
    found = told(name)
    impact = found.impact
    numbers = "; ".join(
        (
            f"replicas {'?' if impact.replicas is None else impact.replicas} ({impact.gpus:g} GPUs)",
            f"{impact.extra_replicas} more ({impact.extra_replica_gpus:g} GPUs)",
            f"pods {impact.pods}, {impact.extra_pods} more ({impact.extra_pod_gpus:g} GPUs)",
            f"requests: {impact.requests}{', less capacity' if impact.dips else ''}",
        )
    )
    lines = "\n".join(f"- {line}" for line in found.lines())
    return f"## {name}: {found.kind}{'' if found.exact else ' (not exact)'}\n{numbers}\n{lines}\n"


def expected() -> dict[str, str]:
    """By name; names may have a colon of their own."""
    parts = EXPECTED.read_text(encoding="utf-8").split("## ")[1:]
    return {part.splitlines()[0].rpartition(": ")[0]: f"## {part.rstrip()}\n" for part in parts}


@pytest.fixture(scope="module", autouse=True)
def _renewed() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text("\n".join(page(name) for name in SCENARIOS), encoding="utf-8")


@pytest.mark.parametrize("name", SCENARIOS)
def test_words(name: str) -> None:
    assert page(name) == expected()[name]


def test_every_page_has_a_scenario() -> None:
    assert expected().keys() == SCENARIOS.keys()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_first_line_is_the_headline_and_all_is_json(name: str) -> None:
    found = told(name)
    assert found.lines()[0] == found.headline
    assert all(line.strip() and "\n" not in line for line in found.lines())
    assert len(set(found.lines())) == len(found.lines())
    json.dumps(found.as_dict(), allow_nan=False)

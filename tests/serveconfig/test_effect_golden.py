"""What each field does when it is added, changed and removed: a table to be read.

``UPDATE_GOLDEN=1 pytest tests/serveconfig/test_effect_golden.py`` writes it anew. Whether it is true is tested in
``tests/ray``: there the same cases are put to Ray's own functions, and to a Ray that runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rayservice_operator.serveconfig.effect import ConfigEffect, effect
from rayservice_operator.serveconfig.fields import DEPLOYMENT, FIELDS, Reach
from tests.serveconfig.changes import REQUIRED, VALUES, Case, cases

EXPECTED = Path(__file__).parent / "golden" / "effects.md"
WHAT = ("added", "changed", "removed")


def reaches(told: ConfigEffect) -> str:
    """Of the whole; with a star where the deployment beside it is touched as well."""
    app = told.applications[0]
    beside = next(d.reach for d in app.deployments if d.name == "E")
    return f"{told.reach}{' *' if beside is not Reach.NONE else ''}"


def table() -> str:
    by_path: dict[str, dict[str, str]] = {}
    for case in cases():
        by_path.setdefault(case.path, {})[case.what] = reaches(effect(case.before, case.after))
    rows = ["| field | " + " | ".join(WHAT) + " |", "|---|" + "---|" * len(WHAT)]
    for path, told in by_path.items():
        rows.append(f"| `{path}` | " + " | ".join(told.get(what, "–") for what in WHAT) + " |")
    return "\n".join(rows) + "\n\n\\* other deployments of the application as well.\n"


def test_every_field_does_what_the_table_says() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(table(), encoding="utf-8")
    assert table().splitlines() == EXPECTED.read_text(encoding="utf-8").splitlines()


def test_a_field_of_one_deployment_touches_others_only_by_a_rebuild() -> None:
    case: Case
    for case in cases():
        if case.path.startswith(DEPLOYMENT):
            d, e = effect(case.before, case.after).applications[0].deployments
            assert e.reach is (Reach.REBUILD if d.reach is Reach.REBUILD else Reach.NONE), case.name


def test_the_cases_are_complete() -> None:
    found: dict[str, set[Any]] = {}
    for case in cases():
        found.setdefault(case.path, set()).add(case.what)
    for path in VALUES:
        wanted = {"changed"} if path in REQUIRED else set(WHAT)
        one, other = VALUES[path]
        assert found[path] == (wanted if one != other else wanted - {"changed"})
        assert path in FIELDS

"""docs/api.md names what there is: condition types, reasons, and what is not available."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest

from rayservice_operator.api import conditions
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.api.validation.unavailable import CLUSTER_FEATURES
from rayservice_operator.serveconfig.rollout import Requests
from rayservice_operator.service.apps import Phase
from rayservice_operator.service.preview import Kind
from scripts import changes_table

DOCS = Path(__file__).parents[2] / "docs"
WORDS = set(re.findall(r"[A-Za-z0-9]+", (DOCS / "api.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "vocabulary",
    [
        conditions.ServiceCondition,
        conditions.ServiceReason,
        conditions.ClusterCondition,
        conditions.ClusterReason,
        UpgradeType,
        Phase,
    ],
)
def test_names_every_word_of_the_vocabulary(vocabulary: type[enum.StrEnum]) -> None:
    assert {str(member) for member in vocabulary} - WORDS == set()


def test_names_what_is_not_available() -> None:
    assert {part for feature in CLUSTER_FEATURES for part in feature.path} - WORDS == set()


def test_the_words_of_a_preview_are_documented() -> None:
    page = (DOCS / "changes.md").read_text(encoding="utf-8")
    assert [word for word in (*Kind, *Requests) if f"`{word}`" not in page] == []


def test_the_tables_of_changes_are_those_of_the_code() -> None:
    page = (DOCS / "changes.md").read_text(encoding="utf-8")
    assert page == changes_table.with_tables(page), "run make docs"

"""docs/api.md names what there is: condition types, reasons, and what is not available."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest

from rayservice_operator.api import conditions
from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.api.validation.unavailable import CLUSTER_FEATURES
from rayservice_operator.service.apps import Phase

WORDS = set(re.findall(r"[A-Za-z0-9]+", (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")))


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

"""Fixtures of the tests that run applications on a real Ray."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where predictors and steps leave signs."""
    return tmp_path_factory.mktemp("marks")

"""docs/lint.md is what the rules say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rayservice_operator.lint import RULES
from rayservice_operator.lint.docs import page
from rayservice_operator.lint.rule import Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lint.md"
BROKEN_ON_PURPOSE = {"yaml", "helm-template"}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make docs"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_has_its_section(rule: Rule) -> None:
    assert f"\n### {rule.name}\n" in page()
    assert f"[{rule.name}](#{rule.name})" in page()


@pytest.mark.parametrize("rule", [r for r in RULES if r.name not in BROKEN_ON_PURPOSE], ids=lambda rule: rule.name)
def test_an_example_is_yaml(rule: Rule) -> None:
    yaml.safe_load(rule.example)

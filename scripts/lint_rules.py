"""Writes docs/lint.md from the rules in the code; ``--check`` only compares."""

from __future__ import annotations

import sys

from rayservice_operator.lint.docs import page
from scripts.generated import ROOT, run

PAGE = ROOT / "docs" / "lint.md"


if __name__ == "__main__":
    sys.exit(run({PAGE: page()}))

"""Writes docs/lint.md from the rules in the code; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from rayservice_operator.lint.docs import page

PAGE = Path(__file__).parents[1] / "docs" / "lint.md"


def main() -> int:
    wanted = page()
    if "--check" in sys.argv[1:]:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted
        if not same:
            print("docs/lint.md is not what the rules say; run make docs", file=sys.stderr)
        return int(not same)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

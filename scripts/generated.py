"""What the generators of documentation have in common: to write what is not there or is another, or with ``--check`` to
say so and change nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def run(files: Mapping[Path, str]) -> int:
    """Bring the files to these texts; the exit code: 1 if ``--check`` finds one that is another."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is not what the code says now; run make docs", file=sys.stderr)
        return int(bool(changed))
    for path in changed:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    return 0

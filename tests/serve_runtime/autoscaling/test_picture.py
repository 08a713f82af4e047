"""The picture in the docs is what the code draws today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_picture_of_the_docs_is_up_to_date() -> None:
    command = [sys.executable, "bench/autoscaling.py", "--svg", "docs/serve-runtime/autoscaling.svg", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

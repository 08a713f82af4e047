"""Running other programs, with errors that carry their output."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.localkube.errors import LocalKubeError


def run(
    argv: Sequence[object],
    *,
    input_text: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    hint: str = "",
    timeout: float | None = None,
) -> str:
    """Run to the end and return stdout; a failure shows the command, its last lines and what to do."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=input_text,
            stdin=subprocess.DEVNULL if input_text is None else None,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        msg = f"{words[0]} is not on this machine. {hint}".strip()
        raise LocalKubeError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"`{' '.join(words)}` did not end within {timeout:.0f} s. {hint}".strip()
        raise LocalKubeError(msg) from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        msg = f"`{' '.join(words)}` failed ({done.returncode}):\n{tail}\n{hint}".strip()
        raise LocalKubeError(msg)
    return done.stdout


def ok(argv: Sequence[str | Path], timeout: float = 10) -> bool:
    """Whether a program is there, answers in time and exits 0."""
    try:
        done = subprocess.run(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

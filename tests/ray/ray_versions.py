"""The Ray versions that our model of the serve config is compared with, each in a folder of the project's cache.

Only the newest needs all of Ray's dependencies and runs clusters (:mod:`tests.ray.real_ray`). The schemas of the
others import with those same dependencies, so their wheels alone are unpacked: about 75 MB each to download, once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.ray.real_ray import RAY_VERSION, ROOT, RayUnavailableError, ray_python

MATRIX = ("2.54.0", "2.57.0", RAY_VERSION)
"""Oldest first. 2.54 is the last one on pydantic 1; another one in between; the one that the models describe."""

WHEELS = Path(os.environ.get("RAY_TEST_WHEELS", ROOT / ".cache" / "raywheels"))

ORACLE = Path(__file__).with_name("schema_oracle.py")


def site_of(version: str) -> Path | None:
    """A folder to put first on the path; None for the version of the virtual environment. Downloads when absent.

    Raises RayUnavailableError.
    """
    if version == RAY_VERSION:
        return None
    site = WHEELS / version
    if site.exists():
        return site
    WHEELS.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=WHEELS))
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    # pip's own check of the environment has nothing to say about a folder beside it.
    pip = [uv, "pip", "install", "-p", str(ray_python())] if uv else [str(ray_python()), "-m", "pip", "install"]
    command = [*pip, "-q", "--no-deps", "--target", str(new), f"ray=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise RayUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")
    with contextlib.suppress(OSError):  # another process was first
        new.rename(site)
    shutil.rmtree(new, ignore_errors=True)
    return site


class Oracle:
    """A process that says what one version of Ray does with a config."""

    def __init__(self, version: str) -> None:
        self.version = version
        site = site_of(version)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHON"))}
        if site is not None:
            environment["PYTHONPATH"] = str(site)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [str(ray_python()), str(ORACLE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        said = self._answer()["version"]
        if said != version:
            raise RayUnavailableError(f"asked for Ray {version}, got {said}")

    def refusal(self, document: Any) -> dict[str, Any] | None:
        """None if Ray takes the config, else who refuses it, where (paths from the root) and with what words."""
        refused: dict[str, Any] | None = self._ask({"judge": document})["refused"]
        return refused

    def fields(self, classes: list[str]) -> dict[str, list[str]]:
        """The fields of those of Ray's models that this version has."""
        fields: dict[str, list[str]] = self._ask({"fields": classes})["fields"]
        return fields

    def _ask(self, question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RayUnavailableError(f"the schema of Ray {self.version} cannot be asked: {self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._log.close()


@contextlib.contextmanager
def oracle(version: str) -> Iterator[Oracle]:
    """An oracle for the length of a ``with`` block."""
    asked = Oracle(version)
    try:
        yield asked
    finally:
        asked.close()

"""What decides whether an image is built again, and that an edit of the project's settings doesn't reinstall Ray."""

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from e2e.images import inputs
from e2e.localkube import binaries, gobuild, versions

ROOT = Path(__file__).resolve().parents[2]


def test_fingerprints_differ_by_image_and_base() -> None:
    prints = {inputs.fingerprint(target, base) for target in ("operator", "runtime") for base in ("a", "b")}
    assert len(prints) == 4
    assert inputs.fingerprint("runtime", "a") == inputs.fingerprint("runtime", "a")


def test_requirements_follow_pyproject(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "requirements.py", ROOT / "pyproject.toml", tmp_path], check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    operator = (tmp_path / "operator.txt").read_text().splitlines()
    assert sorted(project["dependencies"]) == operator
    assert not any(line.startswith(("ray", "kubernetes")) for line in operator), "the operator's image has neither"
    extras = project["optional-dependencies"]
    runtime = sorted([*extras["runtime"], *extras["tasks"], *extras["otel"]])
    assert (tmp_path / "runtime.txt").read_text().splitlines() == runtime
    assert (tmp_path / "llm.txt").read_text().splitlines() == sorted(extras["llm"])


def test_every_program_has_a_version_and_a_source() -> None:
    assert versions.staging("v1.34.4") == "v0.34.4"
    for name in binaries.VERSIONS:
        own = (ROOT / "e2e" / "localkube" / "go" / name / "main.go").exists()
        assert own or name in gobuild.PACKAGES, name


def test_constraints_hold_an_exact_version_of_all_that_is_installed() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["runtime"], *extras["dev"]]:
        wanted = Requirement(text)
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, text


def test_the_llm_image_is_locked_to_what_is_wanted_of_it() -> None:
    wanted = _requirements(ROOT / "e2e" / "images" / "llm_cpu" / "requirements.txt")
    locked = {one.name: one.specifier for one in _requirements(ROOT / "constraints-llm-cpu.txt")}
    for requirement in wanted:
        (pin,) = locked[canonicalize_name(requirement.name)]
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement
    # The wheels that its overrides leave out, for their size.
    assert not [name for name in locked if name.startswith(("nvidia-", "cuda-")) or name in {"triton", "vllm"}]


def _requirements(path: Path) -> list[Requirement]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]

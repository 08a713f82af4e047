"""Every example is what it says: readable, valid, and its serve config names what is in the runtime image."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.validation import validate_rayservice
from rayservice_operator.serveconfig.canonical import parse

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rayservice(path: Path) -> dict[str, Any]:
    """Its one RayService."""
    (found,) = [document for document in documents(path) if document["kind"] == "RayService"]
    return found


def sources(module: str) -> list[Path]:
    """The files of a module or of a package, whose parts hold its deployments."""
    path = ROOT / module.replace(".", "/")
    return sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def test_there_are_examples() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "autoscaling-policies",
        "autoscaling",
        "gcs-fault-tolerance",
        "gpu-workers",
        "llm-openai-gpu",
        "llm-openai",
        "llm-prefill-decode-gpu",
        "llm-prefill-decode",
        "pipeline",
        "predictor",
        "prefetch",
        "quickstart",
        "sticky-routing",
        "tasks",
        "token-auth",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_has_no_violation(path: Path) -> None:
    service = rayservice(path)
    assert validate_rayservice(service, parse_rayservice(service)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_names_an_application_that_exists(path: Path) -> None:
    config = parse(rayservice(path)["spec"]["serveConfigV2"])
    assert config is not None
    for _, application in config.applications():
        module, _, variable = application["import_path"].partition(":")
        nodes = [node for file in sources(module) for node in ast.parse(file.read_text()).body]
        variables = {
            t.id for node in nodes if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
        }
        builders = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        assert variable in variables | builders
        steps = application.get("args", {}).get("steps", {})  # each of a pipeline's is a deployment
        assert {d["name"] for d in application.get("deployments", [])} <= classes | set(steps)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_objects_of_an_example_have_names_of_their_own(path: Path) -> None:
    names = [(document["kind"], document["metadata"]["name"]) for document in documents(path)]
    assert len(set(names)) == len(names)

"""Manifests to start from, and a way to change one place in them."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parents[1] / "data" / "manifests"


class DELETE:
    """As a value in ``changed``: remove the key."""


SERVE_CONFIG = """\
applications:
- name: fruit
  import_path: fruit.deployment:app
  route_prefix: /fruit
- name: math
  import_path: calculator.graph:app
  route_prefix: /calc
"""


def pod(name: str) -> dict[str, Any]:
    """A pod template with one container."""
    limits = {"cpu": "1", "memory": "2Gi"}
    container = {"name": name, "image": "rayproject/ray:2.60.0", "resources": {"limits": limits}}
    return {"spec": {"containers": [container]}}


def cluster_spec() -> dict[str, Any]:
    """A head and one worker group."""
    return {
        "rayVersion": "2.60.0",
        "headGroupSpec": {"rayStartParams": {"dashboard-host": "0.0.0.0"}, "template": pod("ray-head")},
        "workerGroupSpecs": [
            {"groupName": "small", "replicas": 1, "minReplicas": 1, "maxReplicas": 5, "template": pod("ray-worker")}
        ],
    }


def rayservice() -> dict[str, Any]:
    """A RayService that is served without complaint."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "example", "namespace": "default"},
        "spec": {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec()},
    }


def raycluster() -> dict[str, Any]:
    """A RayCluster that is run without complaint."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "example", "namespace": "default"},
        "spec": cluster_spec(),
    }


def changed(manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``manifest`` with ``changes``: ``{"spec.workerGroupSpecs[0].replicas": 3}``.

    A segment in brackets that is no number is a key: ``metadata.annotations[ray.io/ft-enabled]``. Missing
    mappings on the way are made; an index one past the end appends.
    """
    result = copy.deepcopy(dict(manifest))
    for path, value in copy.deepcopy(dict(changes)).items():
        keys = [int(part[1]) if part[1].isdigit() else part[1] or part[0] for part in _segments(path)]
        here: Any = result
        for key, following in itertools.pairwise(keys):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(here, list):
                if key == len(here):
                    here.append(empty)
                here = here[key]
            else:
                here = here.setdefault(key, empty)
        if value is DELETE:
            del here[keys[-1]]
        elif isinstance(here, list) and keys[-1] == len(here):
            here.append(value)
        else:
            here[keys[-1]] = value
    return result


def _segments(path: str) -> list[tuple[str, str]]:
    return [(match[1] or "", match[2] or "") for match in re.finditer(r"([^.\[\]]+)|\[([^\]]+)\]", path)]


def documents(kind: str, folder: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every object of ``kind`` in a folder of tests/data/manifests with the name of its file."""
    return [
        (path.stem, document)
        for path in sorted((DATA / folder).glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document and document["kind"] == kind
    ]

"""RayClusters and the pods made from them, word for word.

``UPDATE_GOLDEN=1 pytest tests/cluster/test_golden.py`` writes the expected files anew; read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayservice_operator.api import names
from rayservice_operator.api.validation import validate_raycluster
from rayservice_operator.cluster import connections
from rayservice_operator.cluster.pod import build_head, build_worker
from rayservice_operator.cluster.view import ClusterView, view_of
from rayservice_operator.core.config import OperatorConfig

DATA = Path(__file__).parent / "data"
CASES = sorted(path.stem for path in DATA.glob("*.yaml") if not path.stem.endswith(".pods"))


def view(case: str) -> ClusterView:
    cluster = yaml.safe_load((DATA / f"{case}.yaml").read_text())
    return view_of(cluster, OperatorConfig(version="test"))


@pytest.mark.parametrize("case", CASES)
def test_pods(case: str) -> None:
    found = view(case)
    assert validate_raycluster(found.obj, found.parsed, from_service=found.owned_by_service) == []
    pods: list[Any] = [build_head(found, slot=0)]
    pods += [build_worker(found, group, head_uid="head-uid") for group in found.workers]
    for pod in pods:
        _shorten(pod)
    expected = DATA / f"{case}.pods.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(yaml.dump_all(pods, sort_keys=True, width=110, Dumper=_NoAliases))
    assert list(yaml.safe_load_all(expected.read_text())) == pods


def _shorten(pod: Any) -> None:
    """The texts that run in the pod have tests of their own."""
    annotations = pod["metadata"]["annotations"]
    if names.PROXY_MODULE in annotations:
        assert annotations[names.PROXY_MODULE] == connections.MODULE
        annotations[names.PROXY_MODULE] = "(rayservice_proxy.py)"


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

"""The module that ends kept-alive connections: which pods get it, how it gets there, and what it does to answers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster import connections
from rayservice_operator.core.objects import Manifest
from tests.cluster.test_pod import env, head, ray, worker
from tests.cluster.world import group, of_service, raycluster, template

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


def served(**container: Any) -> Manifest:
    """A RayService's cluster with that Ray container in its workers."""
    return of_service(raycluster(group(template=template(**container))))


def has_module(pod: Manifest) -> bool:
    """Whether the module reaches the pod; all of it or nothing."""
    parts = {
        names.PROXY_MODULE in pod["metadata"]["annotations"],
        any(volume["name"] == connections.VOLUME for volume in pod["spec"].get("volumes", ())),
        any(mount["mountPath"] == connections.MOUNT for mount in ray(pod)["volumeMounts"]),
        any(connections.MODULE_NAME in word for word in ray(pod).get("args", ())),
    }
    assert len(parts) == 1
    return parts.pop()


def test_heads_and_workers_of_a_service_get_the_module() -> None:
    for pod in (head(served()), worker(served())):
        assert has_module(pod)
        assert CALLBACK not in env(pod)
        assert "PYTHONPATH" not in env(pod)
        assert env(pod)["KUBERAY_GEN_RAY_START_CMD"].startswith("ray start")
        assert "rayservice" not in env(pod)["KUBERAY_GEN_RAY_START_CMD"]
    assert connections.MOUNT not in str(worker(served())["spec"]["initContainers"])


def test_pods_that_are_not_ours_to_change_do_not() -> None:
    assert not has_module(worker(raycluster(group())))
    assert not has_module(worker(served(args=["ray start --address=x && sleep infinity"])))
    own = served(volumeMounts=[{"name": "x", "mountPath": connections.MOUNT}])
    assert names.PROXY_MODULE not in worker(own)["metadata"]["annotations"]
    assert len(ray(worker(own))["volumeMounts"]) == 2
    for key, value in ((names.DRAIN, "false"), (names.OVERWRITE_CONTAINER_CMD, "true")):
        cluster = served()
        cluster["metadata"]["annotations"] = {key: value}
        assert not has_module(worker(cluster))


def exported(mount: Path, environment: dict[str, str]) -> list[str]:
    """What the two variables are after the shell text in front of ``ray start``."""
    line = ray(worker(served()))["args"][0].replace(connections.MOUNT, str(mount))
    before = line[: line.index("ray start")]
    script = f'{before} echo "$PYTHONPATH" "${CALLBACK}"'
    done = subprocess.run(
        ["/bin/bash", "-c", "--", script],
        env={"PATH": "/usr/bin:/bin", "RAY_START_ULIMIT_OPEN_FILES": "64", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_what_image_or_template_have_set_stays(tmp_path: Path) -> None:
    (tmp_path / f"{connections.MODULE_NAME}.py").touch()
    ours = f"{connections.MODULE_NAME}:middlewares"
    assert exported(tmp_path, {}) == [str(tmp_path), ours]
    assert exported(tmp_path, {"PYTHONPATH": "/app"}) == [f"/app:{tmp_path}", ours]
    assert exported(tmp_path, {CALLBACK: "mine:callback"}) == [str(tmp_path), "mine:callback"]
    assert exported(tmp_path / "absent", {"PYTHONPATH": "/app"}) == ["/app"]


# --- the module itself


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    """The module as it lies in a pod, with files of its own."""
    path = tmp_path / f"{connections.MODULE_NAME}.py"
    path.write_text(connections.MODULE)
    (tmp_path / "draining").touch()  # the file of an annotation that is not there is empty
    spec = importlib.util.spec_from_file_location(connections.MODULE_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    loaded.LEAVING = tmp_path / "leaving"  # type: ignore[attr-defined]
    loaded.LOOK_EVERY_S = 0.0  # type: ignore[attr-defined]
    return loaded


HEADERS = [(b"content-type", b"text/plain"), (b"Connection", b"keep-alive")]


async def answer(app: Any, kind: str = "http") -> list[tuple[bytes, bytes]]:
    """Headers of one answer through the middleware."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    await app({"type": kind}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1] == {"type": "http.response.body", "body": b"x"}
    return list(sent[0]["headers"])


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"x"})


async def test_answers_end_their_connection_while_the_annotation_is_there(module: ModuleType, tmp_path: Path) -> None:
    app = module.CloseWhileDraining(application)
    assert await answer(app) == HEADERS
    (tmp_path / "draining").write_text("2026-01-01T00:00:00Z")
    assert await answer(app) == [HEADERS[0], (b"connection", b"close")]
    assert await answer(app, "websocket") == HEADERS
    (tmp_path / "draining").write_text("")  # taken back
    assert await answer(app) == HEADERS


async def test_the_hooks_file_counts_for_the_container_that_wrote_it(module: ModuleType) -> None:
    app = module.CloseWhileDraining(application)
    module.LEAVING.write_text("\n")
    assert (b"connection", b"close") in await answer(app)
    before = time.time() - 1000
    os.utime(module.LEAVING, (before, before))
    assert await answer(app) == HEADERS


async def test_files_are_looked_at_once_a_second(module: ModuleType, tmp_path: Path) -> None:
    module.LOOK_EVERY_S = 3600.0  # type: ignore[attr-defined]
    app = module.CloseWhileDraining(application)
    assert await answer(app) == HEADERS
    (tmp_path / "draining").write_text("now")
    assert await answer(app) == HEADERS

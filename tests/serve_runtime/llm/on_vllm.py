"""``serve_runtime.llm:openai`` on a real Ray with a real vLLM, adapters in a stand-in for an object store.

`make llm` runs this, and `make test` does not: it needs a virtual environment of 3.6 GB, named by ``RAY_TEST_VENV``,
with the extra ``llm`` (or its build for CPUs) and moto, about 3 GB of memory, and minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ray import real_ray
from tests.serve_runtime.live import Answer, Live, served, until

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(1200)]

MODEL, CONTEXT = "tiny", 512
ENGINE = {
    "enforce_eager": True,
    "max_model_len": CONTEXT,
    "max_num_seqs": 16,
    "gpu_memory_utilization": 0.05,
    "kv_cache_memory_bytes": 64 << 20,
}
"""Of engines that share a small machine."""
# By default Ray puts its workers behind all else that a machine does; these starts are long enough as they are.
ENVIRONMENT = {**real_ray.NO_TOKEN, "VLLM_NO_USAGE_STATS": "1", "RAY_worker_niceness": "0"}
STORE = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
_UPLOAD = """
import pathlib, sys, boto3
store, folder = boto3.client("s3"), pathlib.Path(sys.argv[1])
store.create_bucket(Bucket="bucket")
for file in folder.rglob("*"):
    if file.is_file():
        store.upload_file(str(file), "bucket", f"adapters/{file.relative_to(folder)}")
"""
_LOAD = """
import sys, time, ray
from ray import serve
ray.init(sys.argv[1], namespace="serve", logging_level="error", log_to_driver=False)
handle = serve.get_deployment_handle("LLM:tiny", "llm")
while (load := handle.load.remote().result())["running"] + load["waiting"] + load["kv_cache_usage"]:
    time.sleep(0.05)
"""


def python(*arguments: str, **env: str) -> str:
    """What the interpreter that has vLLM prints."""
    paths = {"PYTHONPATH": str(real_ray.ROOT), "RAY_AUTH_MODE": "disabled"}
    command = [str(real_ray.ray_python(install=False)), *arguments]
    done = subprocess.run(
        command, env={**os.environ, **paths, **env}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the model and its adapters; two of these are no good."""
    made = tmp_path_factory.mktemp("llm")
    python("-m", "serve_runtime.llm.samples", str(made))
    for name, text in {"unreadable": "{", "misfit": json.dumps({"peft_type": "LORA", "r": 64})}.items():
        (made / "adapters" / name).mkdir()
        (made / "adapters" / name / "adapter_config.json").write_text(text)
    return made


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[dict[str, str]]:
    """The environment that leads to the stand-in."""
    (port,) = real_ray.free_ports(1)
    env = {**STORE, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    server = subprocess.Popen(
        [str(real_ray.VENV / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            assert server.poll() is None, "the stand-in for an object store has ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        python("-c", _UPLOAD, str(folder / "adapters"), **env)
        yield env
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def live(folder: Path, store: dict[str, str]) -> Iterator[Live]:
    """One replica, and the ingress."""
    model = {
        "id": MODEL,
        "source": str(folder / "model"),
        "accelerator": {"kind": "cpu", "cpus": 0.5},
        "routing": "prefix",
        "lora": {"path": "s3://bucket/adapters", "max_rank": 8},
        "engine": {**ENGINE, "dtype": "bfloat16"},
        "health": {"idle_s": 5},
        "drain_timeout_s": 5,
    }
    app = {
        "name": "llm",
        "route_prefix": "/",
        "import_path": "serve_runtime.llm:openai",
        "args": {"models": [model], "ingress": {"replicas": 1, "num_cpus": 0, "retry_after_s": 3}},
    }
    env = {**store, **ENVIRONMENT}
    with served([app], env=env) as found:
        yield found


def complete(live: Live, **more: Any) -> Answer:
    """A completion."""
    return live.ask(
        "POST", "/v1/completions", {"model": MODEL, "prompt": "hi", "max_tokens": 8, "temperature": 0, **more}
    )


def text(answer: Answer) -> str:
    """What was completed."""
    assert answer.status == 200, answer.body
    return str(answer.json["choices"][0]["text"])


def test_a_stream_says_what_an_answer_says(live: Live) -> None:
    whole = text(complete(live))
    streamed = complete(live, stream=True)
    events = [line.removeprefix("data: ") for line in streamed.body.decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == whole


def test_chat_and_models(live: Live) -> None:
    answer = live.ask(
        "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    )
    assert answer.json["usage"]["completion_tokens"] == 4, "and the one model need not be named"
    ids = {each["id"] for each in live.ask("GET", "/v1/models").json["data"]}
    assert {MODEL, f"{MODEL}:formal", f"{MODEL}:casual"} <= ids, "whatever else is in the store"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "other"}, 404),
        ({"model": f"{MODEL}:"}, 404),
        ({"model": f"{MODEL}:../model"}, 404),
        ({"model": f"{MODEL}:absent"}, 404),
        ({"model": f"{MODEL}:unreadable"}, 422),
        ({"model": f"{MODEL}:misfit"}, 422),
        ({"prompt": "word " * CONTEXT}, 400),
        ({"prompt": "word " * CONTEXT, "stream": True}, 400),
        ({"prompt": {"a": 1}}, 400),
        ({"temperature": -1}, 400),
        ({"max_tokens": CONTEXT + 1}, 400),
    ],
)
def test_refusals(live: Live, change: dict[str, Any], status: int) -> None:
    answer = complete(live, **change)
    assert answer.status == status, answer.body
    error = answer.json["error"]
    assert error["message"]
    assert {"type", "param", "code"} <= error.keys()


def test_a_body_that_is_no_json(live: Live) -> None:
    answer = live.ask("POST", "/v1/completions", b'{"model":')
    assert answer.status == 400
    assert "JSON" in answer.json["error"]["message"]


def test_adapters_answer_differently(live: Live) -> None:
    answers = {name: text(complete(live, model=name)) for name in (MODEL, f"{MODEL}:formal", f"{MODEL}:casual")}
    assert len(set(answers.values())) == 3
    assert text(complete(live)) == answers[MODEL]


def test_clients_that_leave_take_their_requests_with_them(live: Live) -> None:
    for number in range(8):
        with live.connection() as to:
            body = {"model": MODEL, "prompt": f"{number}", "max_tokens": 480, "ignore_eos": True, "stream": True}
            to.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
            assert to.getresponse().read(10)
    python("-c", _LOAD, f"127.0.0.1:{live.ray.gcs_port}")


def test_what_is_measured(live: Live) -> None:
    names = (
        "ray_serve_runtime_llm_first_part_seconds_bucket",
        "ray_serve_runtime_llm_request_seconds_bucket",
        "ray_serve_runtime_llm_start_seconds_bucket",
        "ray_vllm_time_to_first_token_seconds_bucket",
        "ray_vllm_inter_token_latency_seconds_bucket",
        "ray_vllm_request_queue_time_seconds_bucket",
        "ray_vllm_prefix_cache_queries_total",
        "ray_vllm_kv_cache_usage_perc",
    )
    until(lambda: all(name in live.metrics() for name in names), live.ray)


def test_an_engine_that_dies_is_told_and_replaced(live: Live) -> None:
    """The last of these: it takes as long as a start."""
    engines = [pid for pid in live.ray.pids() if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(engines) == 1
    os.kill(engines[0], signal.SIGKILL)
    answer = complete(live)
    if answer.status != 200:  # and not, where the request waited for the new replica
        assert answer.status == 503, answer.body
        assert answer.headers["retry-after"] == "3"
    until(lambda: complete(live).status == 200, live.ray)

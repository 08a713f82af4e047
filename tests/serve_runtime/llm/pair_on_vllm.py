"""``serve_runtime.llm:prefill_decode`` on a real Ray with a real vLLM: both sides on one node, caches over NIXL.

`make llm` runs this, and `make test` does not (see ``on_vllm.py``); e2e has each side in a pod of its own.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_runtime import traces
from tests.serve_runtime.live import Answer, Live, served, until
from tests.serve_runtime.llm.on_vllm import ENGINE, ENVIRONMENT, python

pytestmark = [pytest.mark.real_ray, pytest.mark.timeout(1200)]

PROMPT = "Where a question begins like an earlier one, what was computed for the beginning can be used again. " * 2
EXPECTED = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
ids = torch.tensor([tokenizer(prompt).input_ids])
out = model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False)
print("TEXT:" + ascii(tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)))
"""
_SENT = re.compile(r"^ray_vllm_nixl_bytes_transferred_sum\{.*\} (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the model."""
    made = tmp_path_factory.mktemp("pair")
    python("-m", "serve_runtime.llm.samples", str(made))
    return made / "model"


@pytest.fixture(scope="module")
def live(folder: Path) -> Iterator[Live]:
    """One replica of each side, and the ingress."""
    side: dict[str, Any] = {"accelerator": {"kind": "cpu", "cpus": 0.5}, "drain_timeout_s": 5}
    app = {
        "name": "llm",
        "route_prefix": "/",
        "import_path": "serve_runtime.llm:prefill_decode",
        "runtime_env": {"env_vars": {"AWS_ENDPOINT_URL": "http://store"}},
        "args": {
            "model": {"id": "tiny", "source": str(folder)},
            "engine": {**ENGINE, "block_size": 32, "dtype": "float32"},
            "prefill": side,
            "decode": side,
            "without_prefill": {"timeout_s": 5},
            "ingress": {"replicas": 1, "num_cpus": 0, "retry_after_s": 3},
        },
    }
    env = {**ENVIRONMENT, **traces.ENVIRONMENT}
    with served([app], env=env) as found:
        yield found


def complete(live: Live, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """A completion."""
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 16, "temperature": 0, **more}
    return live.ask("POST", "/v1/completions", body, **(headers or {}))


def text(answer: Answer) -> str:
    """What was completed."""
    assert answer.status == 200, answer.body
    return str(answer.json["choices"][0]["text"])


def test_an_answer_is_transformers_and_its_cache_came_over_nixl(live: Live, folder: Path) -> None:
    said = python("-c", EXPECTED, str(folder), PROMPT, "16")
    (expected,) = [line.removeprefix("TEXT:") for line in said.splitlines() if line.startswith("TEXT:")]
    assert ascii(text(complete(live))) == expected
    streamed = complete(live, stream=True)
    events = [line.removeprefix("data: ") for line in streamed.body.decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    assert ascii("".join(json.loads(event)["choices"][0]["text"] for event in events)) == expected
    until(lambda: sum(float(value) for value in _SENT.findall(live.metrics())) > 0, live.ray)


def test_both_sides_are_in_the_callers_trace(live: Live) -> None:
    trace, headers = traces.parent()
    assert text(complete(live, headers, stream=False))
    until(lambda: traces.deployments(live, trace) >= {"Ingress", "Prefill:tiny", "Decode:tiny"}, live.ray)
    until(lambda: traces.names(live, trace) >= {*traces.RAYS, "prefill"}, live.ray)
    found = traces.spans(live, trace)
    assert {span["parent_id"] for span in found.values()} <= {*found, f"0x{headers['traceparent'].split('-')[2]}"}
    (ingress,) = [span for span in found.values() if "serve_runtime.outcome" in span["attributes"]]
    assert ingress["attributes"]["serve_runtime.model"] == "tiny"


def test_replicas_have_the_variables_of_the_application(live: Live) -> None:
    told = live.states()["llm"]["deployments"]
    engines = [each for name, each in told.items() if name.startswith(("Prefill:", "Decode:"))]
    assert len(engines) == 2
    for each in engines:
        environment = each["deployment_config"]["ray_actor_options"]["runtime_env"]["env_vars"]
        assert environment["AWS_ENDPOINT_URL"] == "http://store"


@pytest.mark.parametrize(
    ("change", "status"),
    [({"model": "other"}, 404), ({"prompt": "word " * 512}, 400), ({"temperature": -1}, 400)],
)
def test_mistakes_of_callers_are_told_by_either_side(live: Live, change: dict[str, Any], status: int) -> None:
    assert complete(live, **change).status == status


def test_a_change_of_arguments_replaces_both_sides_and_answers_go_on(live: Live) -> None:
    def replicas() -> set[str]:
        told = live.states()["llm"]["deployments"]
        sides = (each for name, each in told.items() if name.startswith(("Prefill:", "Decode:")))
        return {replica["replica_id"] for side in sides for replica in side["replicas"]}

    def renewed() -> bool:
        answer = complete(live)
        assert answer.status in {200, 503}, answer.body
        return live.running() and not before & replicas()

    said, before = text(complete(live)), replicas()
    assert len(before) == 2
    application = copy.deepcopy(live.config["applications"][0])
    application["args"]["engine"]["max_num_seqs"] = 8
    live.put([application])
    until(renewed, live.ray)
    assert text(complete(live)) == said


def test_without_prefill_it_is_503_until_there_is_some_again(live: Live) -> None:
    """The last of these: it takes as long as a start."""
    found = [pid for pid in live.ray.pids() if b"Prefill:tiny" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(found) == 1
    os.kill(found[0], signal.SIGKILL)
    refused = complete(live)
    if refused.status != 200:  # and not, where the new replica was there within the time
        assert refused.status == 503, refused.body
        assert refused.headers["retry-after"] == "3"
        assert refused.json["error"]["code"] in {"prefill_failed", "prefill_timeout"}
    until(lambda: complete(live).status == 200, live.ray)

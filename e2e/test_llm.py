"""``serve_runtime.llm:openai`` from its example manifest, with real vLLM on CPUs, through the operator."""

from pathlib import Path
from typing import Final

import pytest
import yaml

from e2e.llm import s3
from e2e.llm.asking import Asker
from e2e.rayservices import Service
from e2e.support import Kube, Object

pytestmark = [pytest.mark.llm, pytest.mark.timeout(1500)]

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "llm-openai.yaml"
TOKENS: Final = 24
PROMPT: Final = "The first words should be"
HELLO: Final = [{"role": "user", "content": "hello"}]
READY_SECONDS: Final = 900.0


def completion(model: str, **more: object) -> tuple[str, Object]:
    return "/v1/completions", {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, **more}


def chat(model: str, **more: object) -> tuple[str, Object]:
    return "/v1/chat/completions", {"model": model, "messages": HELLO, "max_tokens": TOKENS, "temperature": 0, **more}


@pytest.fixture(scope="module")
def asker(llm_image: None, kube: Kube, module_namespace: str) -> Asker:
    """The example, as it is."""
    kube.apply(EXAMPLE, module_namespace)
    service = Service(kube, module_namespace, "llm-openai")
    service.wait_settled(timeout=READY_SECONDS)
    return Asker(service)


def test_answers_token_by_token_as_transformers(asker: Asker) -> None:
    models, plain, chatted, streamed = asker.ask(
        ("/v1/models", None), completion("tiny"), chat("tiny"), chat("tiny", stream=True)
    )
    of_prompt, of_chat = asker.expected({"prompt": PROMPT, "tokens": TOKENS}, {"messages": HELLO, "tokens": TOKENS})
    assert [model["id"] for model in models["body"]["data"]] == ["tiny"]
    assert plain["body"]["choices"][0]["text"] == of_prompt["text"]
    assert plain["body"]["usage"]["completion_tokens"] == TOKENS
    assert chatted["body"]["choices"][0]["message"]["content"] == of_chat["text"]
    parts = [event["choices"][0]["delta"].get("content") or "" for event in streamed["events"] if event["choices"]]
    assert "".join(parts) == of_chat["text"]
    assert streamed["done"]
    # In pieces, not all at the end.
    assert sum(map(bool, parts)) > TOKENS // 4


def test_the_callers_mistakes_are_told_as_such(asker: Asker) -> None:
    unknown, oversized, malformed, typed, after = asker.ask(
        completion("nobody"),
        completion("tiny", prompt="word " * 2000),
        ("/v1/chat/completions", "{"),
        ("/v1/chat/completions", {"model": "tiny", "messages": "hello"}),
        completion("tiny"),
    )
    assert (unknown["status"], oversized["status"]) == (404, 400)
    assert malformed["status"] in {400, 422}
    assert typed["status"] in {400, 422}
    for refused in (unknown, oversized, malformed, typed):
        assert refused["body"]["error"]["message"]
    assert after["status"] == 200


def test_adapters_come_with_a_hot_update(asker: Asker) -> None:
    service = asker.service
    s3.start(service.kube, service.namespace)
    before = service.active()
    config = yaml.safe_load(service.get()["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    application["runtime_env"] = {"env_vars": s3.ENVIRONMENT}
    application["args"]["models"][0]["lora"] = {"path": f"s3://{s3.BUCKET}/tiny", "max_rank": 8}
    service.patch(serveConfigV2=yaml.safe_dump(config))
    service.wait_settled(timeout=READY_SECONDS)
    assert service.active() == before

    base, formal, casual, again, absent, path = asker.ask(
        completion("tiny"),
        completion("tiny:formal"),
        completion("tiny:casual"),
        completion("tiny:formal"),
        completion("tiny:absent"),
        completion("tiny:../model"),
    )
    expected = asker.expected(
        {"prompt": PROMPT, "tokens": TOKENS},
        *({"prompt": PROMPT, "tokens": TOKENS, "adapter": f"/models/adapters/{name}"} for name in ("formal", "casual")),
    )
    assert [answer["status"] for answer in (base, formal, casual, again)] == [200] * 4, (base, formal, casual, again)
    said = [answer["body"]["choices"][0]["text"] for answer in (base, formal, casual)]
    assert said == [answer["text"] for answer in expected]
    assert len(set(said)) == 3
    assert again["body"]["choices"][0]["text"] == said[1]
    assert (absent["status"], path["status"]) == (404, 404)


def test_weights_are_fetched_from_the_object_store(asker: Asker) -> None:
    kube, namespace = asker.service.kube, asker.service.namespace
    s3.start(kube, namespace)
    worker = asker.service.workers()[0]["metadata"]["name"]
    variables = [f"{name}={value}" for name, value in s3.ENVIRONMENT.items()]
    prefetch = ("python", "-m", "serve_runtime", "prefetch", f"s3://{s3.BUCKET}/tiny/formal", "--to=/tmp/fetched")
    assert kube.exec(namespace, worker, "env", *variables, *prefetch).splitlines()[-1] == "/tmp/fetched"
    # Byte by byte what the store was filled with; diff says nothing then.
    kube.exec(namespace, worker, "diff", "-r", "/models/adapters/formal", "/tmp/fetched")
    # What is there is used, and nobody is asked.
    nowhere = "AWS_ENDPOINT_URL=http://127.0.0.1:1"
    assert kube.exec(namespace, worker, "env", *variables, nowhere, *prefetch).splitlines()[-1] == "/tmp/fetched"

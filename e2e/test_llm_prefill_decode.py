"""``serve_runtime.llm:prefill_decode`` from its example manifest: two pods, the KV cache goes over NIXL."""

import re
from pathlib import Path
from typing import Final

import pytest

from e2e.llm.asking import Asker
from e2e.rayservices import Service, ray_pods
from e2e.support import Kube, Object

pytestmark = [pytest.mark.llm, pytest.mark.timeout(1500)]

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "llm-prefill-decode.yaml"
TOKENS: Final = 24
PROMPT: Final = (
    "Where a question begins like an earlier one, what was computed for the beginning can be used again. " * 2
)
HELLO: Final = [{"role": "user", "content": "hello"}]
READY_SECONDS: Final = 900.0
_METRICS: Final = (
    "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics', timeout=30).read().decode())"
)
_RECEIVED: Final = re.compile(r"^ray_vllm[:_]nixl_bytes_transferred_sum\{.*\} (\S+)$", re.MULTILINE)


def received(kube: Kube, namespace: str, pod: Object) -> float:
    """Bytes of KV cache that a pod has taken from others, by vLLM's own count."""
    metrics = kube.exec(namespace, pod["metadata"]["name"], "python", "-c", _METRICS, container="ray-worker")
    return sum(float(value) for value in _RECEIVED.findall(metrics))


def test_prefill_and_decode_on_two_pods(llm_image: None, kube: Kube, namespace: str) -> None:
    kube.apply(EXAMPLE, namespace)
    service = Service(kube, namespace, "llm-prefill-decode")
    service.wait_settled(timeout=READY_SECONDS)
    asker = Asker(service)
    body: Object = {"model": "tiny", "max_tokens": TOKENS, "temperature": 0}
    plain, chatted, streamed, unknown, oversized = asker.ask(
        ("/v1/completions", {**body, "prompt": PROMPT}),
        ("/v1/chat/completions", {**body, "messages": HELLO}),
        ("/v1/completions", {**body, "prompt": PROMPT, "stream": True}),
        ("/v1/completions", {**body, "prompt": PROMPT, "model": "nobody"}),
        ("/v1/completions", {**body, "prompt": "word " * 2000}),
    )
    of_prompt, of_chat = asker.expected({"prompt": PROMPT, "tokens": TOKENS}, {"messages": HELLO, "tokens": TOKENS})
    assert plain["body"]["choices"][0]["text"] == of_prompt["text"]
    assert chatted["body"]["choices"][0]["message"]["content"] == of_chat["text"]
    parts = [event["choices"][0]["text"] for event in streamed["events"] if event["choices"]]
    assert "".join(parts) == of_prompt["text"]
    assert (unknown["status"], oversized["status"]) == (404, 400)

    # What the prompt pod computed went to the answering pod.
    (prefill,) = ray_pods(kube, namespace, "ray.io/group=prefill")
    (decode,) = ray_pods(kube, namespace, "ray.io/group=decode")
    service.wait(lambda: received(kube, namespace, decode) > 0, "KV cache received by the decode pod")
    assert received(kube, namespace, prefill) == 0

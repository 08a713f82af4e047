"""Whether two kinds of replicas can hand a KV cache over: pure, each problem says what to change.

The sources of the rules are vLLM 0.29 (``kv_connector/v1/nixl``: ``compute_nixl_compatibility_hash``,
``_validate_remote_agent_handshake``) and Ray 2.60 (``NixlConnectorBackend``). There, what does not match fails at the
first request, in a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from serve_runtime.llm.args import Serving

MUST_MATCH: Final[dict[str, str]] = {
    "block_size": "blocks are copied one to one",
    "dtype": "the cache is in it",
    "kv_cache_dtype": "the cache is in it",
    "max_model_len": "a prompt that one side takes the other would refuse",
    "attention_backend": "it decides on how the cache is laid out",
    "attention_config": "it decides on how the cache is laid out",
    "disable_hybrid_kv_cache_manager": "it decides on how the cache is laid out",
    "speculative_config": "its state is part of what is handed over",
    "revision": "both need the same weights",
    "hf_overrides": "both need the same model",
    "rope_scaling": "both need the same model",
    "rope_theta": "both need the same model",
    "tokenizer_mode": "both must read a prompt as the same tokens",
    "tokenizer_revision": "both must read a prompt as the same tokens",
    "chat_template": "both must read a prompt as the same tokens",
    "mm_processor_kwargs": "both must read a prompt as the same tokens",
}
"""Engine arguments that must be the same on both sides, and why."""
PER_REPLICA: Final = ("VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_NIXL_SIDE_CHANNEL_PORT")
"""Environment that each replica has to have of its own; Ray sets it: the node's address, and a port by its rank."""
SAME_ENV: Final = ("UCX_TLS", "VLLM_KV_CACHE_LAYOUT", "VLLM_ATTENTION_BACKEND")
"""Environment without which two replicas find no common language unless it is the same."""
WORKER_PORTS: Final = range(10002, 20000)
"""Where Ray's workers listen unless told otherwise (``ray start``, ``--min-worker-port``)."""
EPHEMERAL: Final = 32768
"""From here on Linux gives ports to outgoing connections (``net.ipv4.ip_local_port_range``)."""
_UNSET: Final = object()


def both(prefill: Serving, decode: Serving, prefill_port: int, decode_port: int) -> Iterator[str]:
    """What is wrong with the pair, each as ``field: problem; what to do``."""
    yield from _engines(prefill.engine, decode.engine)
    yield from _parallel(prefill, decode)
    yield from _hardware(prefill, decode)
    yield from _environment(prefill.env, decode.env)
    yield from _ports(prefill, decode, prefill_port, decode_port)


def _engines(prefill: dict[str, Any], decode: dict[str, Any]) -> Iterator[str]:
    for name, why in MUST_MATCH.items():
        theirs, ours = prefill.get(name, _UNSET), decode.get(name, _UNSET)
        if theirs != ours:
            yield (
                f"decode.engine.{name}: is {_told(ours)}, but prefill has {_told(theirs)}, and {why}; "
                f"set it once, in engine.{name}"
            )


def _parallel(prefill: Serving, decode: Serving) -> Iterator[str]:
    for side, serving in (("prefill", prefill), ("decode", decode)):
        if serving.parallel.pipeline > 1:
            yield (
                f"{side}.parallel.pipeline: is {serving.parallel.pipeline}, but NIXL hands over whole caches only; "
                "use parallel.tensor"
            )
    theirs, ours = prefill.parallel.tensor, decode.parallel.tensor
    if max(theirs, ours) % min(theirs, ours):
        yield (
            f"decode.parallel.tensor: {ours} and prefill's {theirs} divide the cache in parts that do not fit; "
            "make one a multiple of the other"
        )


def _hardware(prefill: Serving, decode: Serving) -> Iterator[str]:
    theirs, ours = prefill.accelerator.kind, decode.accelerator.kind
    if theirs != ours:
        yield (
            f"decode.accelerator.kind: is {ours}, but prefill has {theirs}, and their caches are laid out differently; "
            "use the same kind for both"
        )


def _environment(prefill: dict[str, str], decode: dict[str, str]) -> Iterator[str]:
    for side, env in (("prefill", prefill), ("decode", decode)):
        for name in PER_REPLICA:
            if name in env:
                yield (
                    f"{side}.env.{name}: would be the same for every replica, but is the address of one; remove it, "
                    "Ray sets it to the address of the pod and a port of its own"
                )
    for name in SAME_ENV:
        if prefill.get(name) != decode.get(name):
            yield f"decode.env.{name}: is not that of prefill; set the same on both sides, or on none"


def _ports(prefill: Serving, decode: Serving, prefill_port: int, decode_port: int) -> Iterator[str]:
    ranges = {
        "prefill_port": range(prefill_port, prefill_port + ports_needed(prefill)),
        "decode_port": range(decode_port, decode_port + ports_needed(decode)),
    }
    for name, ports in ranges.items():
        taken = f"transfer.{name}: the replicas need the ports {ports.start} to {ports.stop - 1}"
        if _overlap(ports, WORKER_PORTS):
            yield f"{taken}, where Ray's workers listen; begin at {WORKER_PORTS.stop} or above"
        elif ports.stop > EPHEMERAL:
            yield f"{taken}, and from {EPHEMERAL} the kernel gives them to others; begin lower"
    if _overlap(*ranges.values()):
        first, second = sorted(ranges.values(), key=lambda ports: ports.start)
        yield (
            f"transfer.decode_port: {decode_port} and prefill_port {prefill_port} are {second.start - first.start} "
            f"apart, but the replicas need {len(first)} ports; set them further apart"
        )


def ports_needed(serving: Serving) -> int:
    """One for each worker of each replica that there may be."""
    most = serving.autoscaling.max_replicas if serving.autoscaling else serving.replicas or 1
    return most * serving.parallel.workers


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _told(value: object) -> str:
    return "not set" if value is _UNSET else repr(value)

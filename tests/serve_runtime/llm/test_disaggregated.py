"""Prefill and decode: which pairs are taken, what they are built with, what becomes of prompts. No Ray, no vLLM."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rayservice_operator.lint.rules.pairs import PAIRED
from serve_runtime.errors import Refusal, UnknownModel
from serve_runtime.llm import PrefillDecodeArgs
from serve_runtime.llm.disaggregated import checks
from serve_runtime.llm.disaggregated.args import WithoutPrefill
from serve_runtime.llm.disaggregated.configs import serving_args, without_prefill
from serve_runtime.llm.disaggregated.handover import GuardedHandle, NoCache

CPU = {"accelerator": {"kind": "cpu"}}


def pair(prefill: Any = None, decode: Any = None, **more: Any) -> PrefillDecodeArgs:
    """Arguments, on GPUs unless told."""
    return PrefillDecodeArgs.model_validate(
        {"model": {"id": "qwen"}, "prefill": prefill or {}, "decode": decode or {}, **more}
    )


def refused(*arguments: Any, **more: Any) -> str:
    """What is said of them."""
    with pytest.raises(ValidationError) as caught:
        pair(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("prefill", "decode", "more", "words"),
    [
        ({"engine": {"block_size": 16}}, {"engine": {"block_size": 32}}, {}, ("decode.engine.block_size", "16", "32")),
        ({"engine": {"block_size": 16}}, {}, {}, ("decode.engine.block_size: is not set", "engine.block_size")),
        ({}, {"engine": {"max_model_len": 512}}, {}, ("decode.engine.max_model_len", "prefill has not set")),
        ({}, CPU, {}, ("decode.accelerator.kind: is cpu", "prefill has gpu")),
        ({"parallel": {"tensor": 3}}, {"parallel": {"tensor": 2}}, {}, ("decode.parallel.tensor", "multiple")),
        ({"parallel": {"pipeline": 2}}, {}, {}, ("prefill.parallel.pipeline", "parallel.tensor")),
        ({"env": {"VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.1"}}, {}, {}, ("prefill.env.VLLM_NIXL", "Ray sets it")),
        ({"env": {"UCX_TLS": "rc"}}, {"env": {"UCX_TLS": "tcp"}}, {}, ("decode.env.UCX_TLS", "same")),
        ({"replicas": 5}, {}, {"transfer": {"decode_port": 20004}}, ("transfer.decode_port", "further apart")),
        ({}, {}, {"transfer": {"prefill_port": 10002}}, ("transfer.prefill_port", "Ray's workers", "20000")),
        ({}, {}, {"transfer": {"decode_port": 40000}}, ("transfer.decode_port", "32768")),
        (CPU, CPU, {"transfer": {"buffer": "host"}}, ("transfer.buffer", "leave it out")),
        ({}, {}, {"transfer": {"extra": {"kv_lease_duration": 3}}}, ("lease_s",)),
        ({"engine": {"kv_transfer_config": {}}}, {}, {}, ("prefill.engine.kv_transfer_config", "both sides")),
        ({}, {}, {"engine": {"model": "x"}}, ("engine.model", "source")),
        (
            {"autoscaling": {"min_replicas": 0, "max_replicas": 2}},
            {},
            {"connect_at_start": True},
            ("connect_at_start", "leave it out"),
        ),
        ({"replicas": 1, "atoscaling": {}}, {}, {}, ("prefill.atoscaling",)),
    ],
)
def test_what_does_not_fit_is_refused_and_told(prefill: Any, decode: Any, more: Any, words: tuple[str, ...]) -> None:
    said = refused(prefill, decode, **more)
    for word in words:
        assert word in said


def test_lint_knows_what_must_match() -> None:
    assert set(checks.MUST_MATCH) == PAIRED


def test_all_problems_are_told_at_once() -> None:
    said = refused({"engine": {"dtype": "half", "block_size": 16}}, {"parallel": {"pipeline": 2}})
    for field in ("engine.dtype", "engine.block_size", "decode.parallel.pipeline"):
        assert field in said


@given(
    st.dictionaries(st.sampled_from(sorted(checks.MUST_MATCH)), st.integers(1, 3)),
    st.dictionaries(st.sampled_from(sorted(checks.MUST_MATCH)), st.integers(1, 3)),
)
def test_a_pair_is_taken_exactly_if_its_engines_match(prefill: dict[str, Any], decode: dict[str, Any]) -> None:
    if prefill == decode:
        pair({"engine": prefill}, {"engine": decode})
    else:
        said = refused({"engine": prefill}, {"engine": decode})
        for name in prefill.keys() | decode.keys():
            assert (f"decode.engine.{name}:" in said) == (prefill.get(name) != decode.get(name))


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 2, 4, 8]), st.integers(20000, 32000), st.data())
def test_replicas_that_are_let_through_never_share_a_port(
    prefills: int, decodes: int, tensor: int, first: int, data: st.DataObject
) -> None:
    second = data.draw(st.integers(max(20000, first - 600), min(32700, first + 600)))
    side = {"parallel": {"tensor": tensor}}
    ports: list[int] = []
    for count, base in ((prefills, first), (decodes, second)):
        ports += [base + rank * tensor + worker for rank in range(count) for worker in range(tensor)]
    transfer = {"prefill_port": first, "decode_port": second}
    try:
        pair({**side, "replicas": prefills}, {**side, "replicas": decodes}, transfer=transfer)
    except ValidationError:
        assert len(set(ports)) < len(ports) or max(ports) >= checks.EPHEMERAL
    else:
        assert len(set(ports)) == len(ports)
        assert max(ports) < checks.EPHEMERAL


def test_both_sides_are_told_how_to_hand_over() -> None:
    built = serving_args(pair(CPU, CPU, engine={"block_size": 32}, transfer={"interfaces": ["eth0"], "lease_s": 20}))
    prefill, decode = built["prefill_config"], built["decode_config"]
    handover = {
        "kv_connector": "NixlConnector",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"kv_lease_duration": 20},
        "kv_buffer_device": "cpu",
        "kv_connector_module_path": "serve_runtime.llm.disaggregated.resting",
    }
    assert prefill["engine_kwargs"] == {"block_size": 32, "kv_transfer_config": {**handover, "kv_role": "kv_producer"}}
    assert decode["engine_kwargs"] == {"block_size": 32, "kv_transfer_config": {**handover, "kv_role": "kv_consumer"}}
    for side in (prefill, decode):
        assert side["runtime_env"]["env_vars"].items() >= {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "eth0"}.items()
    assert prefill["experimental_configs"]["NIXL_SIDE_CHANNEL_PORT_BASE"] == 20000
    assert decode["experimental_configs"]["NIXL_SIDE_CHANNEL_PORT_BASE"] == 22000
    assert decode["experimental_configs"]["_prewarm_prefill_decode"] is True
    assert without_prefill(decode["experimental_configs"]) == WithoutPrefill()


def test_on_gpus_ucx_chooses_the_network_unless_told() -> None:
    def environment(**transfer: Any) -> Any:
        return serving_args(pair(transfer=transfer))["decode_config"]["runtime_env"]["env_vars"]

    assert environment() == {}
    assert environment(network="tcp") == {"UCX_TLS": "tcp,cuda_copy"}
    said = serving_args(pair({"env": {"UCX_TLS": "rc,cuda"}}, {"env": {"UCX_TLS": "rc,cuda"}}))
    assert said["prefill_config"]["runtime_env"]["env_vars"] == {"UCX_TLS": "rc,cuda"}
    kv = serving_args(pair(transfer={"buffer": "host"}))["prefill_config"]["engine_kwargs"]["kv_transfer_config"]
    assert kv["kv_buffer_device"] == "cpu"


def test_a_side_has_what_is_common_and_its_own() -> None:
    args = pair({"engine": {"max_num_seqs": 4}}, {"routing": "least_kv"}, engine={"max_num_seqs": 8, "dtype": "half"})
    assert args.side("prefill").engine == {"max_num_seqs": 4, "dtype": "half"}
    assert args.side("decode").engine == {"max_num_seqs": 8, "dtype": "half"}
    assert args.side("decode").routing == "least_kv"


def test_nobody_is_waited_for_where_there_may_be_nobody() -> None:
    idle = {"autoscaling": {"min_replicas": 0, "max_replicas": 2}}
    assert pair().connects()
    assert pair({}, idle).connects()
    assert not pair(idle).connects()
    assert not pair(connect_at_start=False).connects()


# What becomes of prompts.


class RayActorError(Exception):
    """As Ray's, told by its name."""


class DiedError(RayActorError):
    """A replica is gone."""


class WrappedError(Exception):
    """As Ray wraps what was raised elsewhere."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class ErrorChunk:
    """As ray.serve.llm's ErrorResponse."""

    def __init__(self, code: int) -> None:
        self.error = type("Info", (), {"code": code, "message": "no"})()


class Stream:
    """One replica's answer: a chunk, an exception, None for an end without either, or «hang»."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    async def __anext__(self) -> Any:
        if self._plan == "hang":
            await asyncio.Event().wait()
        if self._plan is None:
            raise StopAsyncIteration
        if isinstance(self._plan, Exception):
            raise self._plan
        return self._plan


class Replicas:
    """A handle, whose calls go by a plan."""

    def __init__(self, *plans: Any) -> None:
        self._plans = list(plans)
        self.streams: list[Stream] = []
        self.said: dict[str, Any] = {}

    def options(self, **options: Any) -> Replicas:
        self.said |= options
        return self

    @property
    def chat(self) -> Replicas:
        return self

    deployment_name = "Prefill:qwen"

    def remote(self, *_: Any) -> Stream:
        self.streams.append(Stream(self._plans[len(self.streams)]))
        return self.streams[-1]


def ask(*plans: Any, **rules: Any) -> tuple[Any, list[str], Replicas]:
    """What the orchestrator gets, a refusal being returned; the outcomes noted; and the replicas."""
    replicas, noted = Replicas(*plans), list[str]()
    guarded = GuardedHandle(replicas, WithoutPrefill(**rules), lambda outcome, _: noted.append(outcome))

    async def first() -> Any:
        answer = guarded.options(session_id="a").chat.remote("request", None)
        assert not replicas.streams, "nothing is sent before the first chunk is asked for"
        try:
            got = await anext(answer)
            with pytest.raises(StopAsyncIteration):
                await anext(answer)
            return got
        except Refusal as refusal:
            return refusal

    return asyncio.run(first()), noted, replicas


def test_a_chunk_is_handed_on() -> None:
    got, noted, replicas = ask("chunk")
    assert (got, noted, replicas.said) == ("chunk", ["ok"], {"session_id": "a"})


def test_the_callers_mistake_stays_the_callers() -> None:
    got, noted, _ = ask(chunk := ErrorChunk(400), then="local")
    assert got is chunk
    assert noted == ["refused"]
    got, noted, replicas = ask(WrappedError(UnknownModel("no such adapter")), then="local")
    assert (got.status, noted, len(replicas.streams)) == (404, ["refused"], 1)


def test_a_replica_that_dies_is_replaced_by_another() -> None:
    assert ask(DiedError(), "chunk")[:2] == ("chunk", ["ok"])
    got, noted, replicas = ask(DiedError(), DiedError(), "never", tries=2)
    assert (got.status, got.code, noted, len(replicas.streams)) == (503, "prefill_failed", ["failed"], 2)


@pytest.mark.parametrize("plan", [ValueError("bug"), None, ErrorChunk(500), WrappedError(RuntimeError("engine"))])
def test_a_failure_is_503_or_the_decode_replica_reads_the_prompt(plan: Any) -> None:
    got, noted, replicas = ask(plan)
    assert (got.status, got.code, noted, len(replicas.streams)) == (503, "prefill_failed", ["failed"], 1)
    assert "bug" not in got.message
    got, noted, _ = ask(plan, then="local")
    assert isinstance(got, NoCache)
    assert got.kv_transfer_params is None
    assert noted == ["failed"]


def test_a_replica_that_takes_too_long_is_told_to_stop() -> None:
    got, noted, replicas = ask("hang", timeout_s=0.01)
    assert (got.status, got.code, noted) == (503, "prefill_timeout", ["timeout"])
    assert replicas.streams[0].cancelled
    got, noted, replicas = ask("hang", timeout_s=0.01, then="local")
    assert isinstance(got, NoCache)
    assert replicas.streams[0].cancelled


def test_when_the_client_goes_the_replica_is_told_to_stop() -> None:
    replicas, noted = Replicas("hang"), list[str]()
    guarded = GuardedHandle(replicas, WithoutPrefill(), lambda outcome, _: noted.append(outcome))

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(guarded.chat.remote("request", None))

    asyncio.run(leave())
    assert replicas.streams[0].cancelled
    assert noted == ["cancelled"]


def test_everything_else_of_the_handle_is_rays() -> None:
    assert GuardedHandle(Replicas(), WithoutPrefill(), lambda *_: None).deployment_name == "Prefill:qwen"

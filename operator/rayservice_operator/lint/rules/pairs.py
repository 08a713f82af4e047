"""Rules about the two sides of ``serve_runtime.llm:prefill_decode``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.served import PREFILL_DECODE, Served, served
from rayservice_operator.lint.subject import App, Subject

# serve_runtime.llm.disaggregated.checks.MUST_MATCH: its builder refuses a pair that differs in one of these.
PAIRED: Final = frozenset(
    {
        "attention_backend",
        "attention_config",
        "block_size",
        "chat_template",
        "disable_hybrid_kv_cache_manager",
        "dtype",
        "hf_overrides",
        "kv_cache_dtype",
        "max_model_len",
        "mm_processor_kwargs",
        "revision",
        "rope_scaling",
        "rope_theta",
        "speculative_config",
        "tokenizer_mode",
        "tokenizer_revision",
    }
)
_NONE: Final = object()


def sides(subject: Subject) -> Iterator[tuple[App, Served, Served]]:
    """Applications with both sides written out: prefill, then decode."""
    for app in subject.apps:
        if app.data.get("import_path") == PREFILL_DECODE:
            found = list(served(app.data, app.path))
            if len(found) == 2:
                yield app, found[0], found[1]


def _pd_engine(subject: Subject) -> Iterator[Problem]:
    for _, prefill, decode in sides(subject):
        for name in sorted(PAIRED):
            theirs, ours = prefill.engine.get(name, _NONE), decode.engine.get(name, _NONE)
            if theirs != ours:
                side, other = (decode, "prefill") if ours is not _NONE else (prefill, "decode")
                problem = f"is not that of {other}: the KV cache of one side is of no use to the other"
                yield Problem((*side.path, "engine", name), problem, f"Set {name} once, in engine of args")


def _pd_ratio(subject: Subject) -> Iterator[Problem]:
    for app, prefill, decode in sides(subject):
        scaled = all(isinstance(side.data.get("autoscaling"), dict) for side in (prefill, decode))
        if scaled and app.data.get("autoscaling_policy") is None:
            problem = "scales both sides apart from each other: no autoscaling_policy keeps them in step"
            fix = "Set autoscaling_policy with the policy prefill_decode of serve_runtime.autoscaling"
            yield Problem(app.path, problem, fix)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "pd-engine",
        Severity.ERROR,
        "The engines of prefill and decode do not match",
        "The KV cache of one side is of no use to the other; serve_runtime.llm:prefill_decode refuses to build the "
        "application.",
        "Set what both need in engine of args, and only what may differ on a side.",
        "import_path: serve_runtime.llm:prefill_decode\nargs:\n  prefill: {engine: {block_size: 16}}\n"
        "  decode: {engine: {block_size: 32}}",
        _pd_engine,
    ),
    Rule(
        "pd-ratio",
        Severity.HINT,
        "Prefill and decode scale apart from each other",
        "Prompts without decode replicas wait with their caches held, decode replicas without prompts cost money.",
        "Set the application's autoscaling_policy to serve_runtime.autoscaling's prefill_decode.",
        "import_path: serve_runtime.llm:prefill_decode\nargs:\n  prefill: {autoscaling: {max_replicas: 4}}\n"
        "  decode: {autoscaling: {max_replicas: 4}}",
        _pd_ratio,
    ),
)

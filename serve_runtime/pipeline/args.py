"""Arguments of ``serve_runtime.pipeline:app``: steps by name, strict, every refusal names its field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve_runtime.strict import Strict
from serve_runtime.web.dotted import PATTERN

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
INPUT = "input"
"""What steps name in ``after`` for the request's body; no step may have this name."""
INGRESS = "Pipeline"
"""The deployment that takes the requests; no step may have this name."""


class When(Strict):
    """A condition on the result of a step, or on the input: ``{of: classify, at: [label], is: equal, to: cat}``.

    at: keys and indices into the result. A result that has no such place does not meet the condition.
    """

    of: Name
    at: list[str | int] = Field(default_factory=list)
    is_: Literal["equal", "unequal", "above", "below", "in", "true", "false"] = Field(default="true", alias="is")
    to: Any = None

    @model_validator(mode="after")
    def _consistent(self) -> When:
        if self.is_ in {"above", "below"} and (isinstance(self.to, bool) or not isinstance(self.to, int | float)):
            raise ValueError(f"to: {self.is_} needs a number")
        if self.is_ == "in" and not isinstance(self.to, list):
            raise ValueError("to: in needs a list")
        if self.is_ in {"true", "false"} and self.to is not None:
            raise ValueError(f"to: {self.is_} compares with nothing; leave it out")
        return self


class Step(Strict):
    """A class with ``predict(item)``, in a deployment of the step's name; or a way to combine results, in the ingress.

    after: whose results it takes. One is passed as it is, several as a mapping by name. each: its one input is a
    list, and each element is a call of its own. needs: with several inputs, whether one that was skipped skips this
    step too (all), or only all of them do (any). optional: when it fails, it counts as skipped.
    """

    use: Annotated[str, Field(pattern=PATTERN)] | None = None
    init: dict[str, Any] = Field(default_factory=dict)
    combine: Literal["mean", "vote", "first", "list"] | None = None
    after: list[Name] = Field(default_factory=lambda: [INPUT], min_length=1)
    when: When | None = None
    each: bool = False
    needs: Literal["all", "any"] = "all"
    optional: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Step:
        if (self.use is None) == (self.combine is None):
            raise ValueError("set either `use`, a class, or `combine`")
        if self.combine is not None and (self.init or self.each):
            raise ValueError("`init` and `each` belong to `use`; `combine` has neither")
        if self.each and len(self.after) != 1:
            raise ValueError("each: takes one input, a list; `after` names several")
        if len(set(self.after)) != len(self.after):
            raise ValueError("after: names a step twice")
        return self


class PipelineArgs(Strict):
    """``args`` of the application. output: the step, or the steps, whose results are the answer; default the last."""

    steps: dict[Name, Step] = Field(min_length=1)
    output: list[Name] | None = Field(default=None, min_length=1)
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    timeout_s: float | None = Field(default=60, gt=0)
    retry_after_s: float = Field(default=1, ge=0)
    max_fan_out: int = Field(default=256, ge=1, description="Elements of a list that a step with `each` takes")
    max_ongoing_requests: int = Field(default=64, ge=1)
    max_queued_requests: int = Field(default=1000, ge=-1)
    caller_errors: list[Annotated[str, Field(pattern=PATTERN)]] = Field(default_factory=list)
    log_encoding: Literal["JSON", "TEXT"] = "JSON"

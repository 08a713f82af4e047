"""Arguments of ``serve_runtime.llm:prefill_decode``: one model, two kinds of replicas, and what is between them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serve_runtime.llm.args import Accelerator, Ingress, Model, Serving
from serve_runtime.llm.disaggregated import checks
from serve_runtime.strict import Strict

PREFILL_PORTS: Final = 20000
DECODE_PORTS: Final = 22000
"""First side-channel ports, as Ray's (2.60, ``NixlConnectorBackend``, ``PDServingArgs``): above its workers' ports."""
Port = Annotated[int, Field(ge=1024, le=65535)]


_SIDES: Final = ("prefill", "decode")


class Transfer(Strict):
    """How the KV cache of a prompt gets from the replica that read it to the replica that answers: NIXL.

    buffer: ``device`` lets the network read the memory of GPUs, ``host`` copies through the node's memory first, for
        networks that cannot.
    network: what UCX uses. ``auto`` lets it choose on GPUs (RDMA where there is some) and is ``tcp`` on CPUs; ``tcp``
        is TCP only.
    interfaces: names of the network interfaces to use (eth0; mlx5_0:1 for RDMA); without it, all.
    on_failure: of a transfer. ``recompute``: the decode replica reads the prompt itself, the caller waits longer;
        ``fail``: the caller gets 503.
    lease_s: how long a prefill replica keeps the cache of a prompt for a decode replica that gives no sign of life.
    prefill_port, decode_port: of the first replica of each side, for the handshake; each worker takes one more.
    extra: more of ``kv_connector_extra_config``, by vLLM's names.
    """

    buffer: Literal["device", "host"] = "device"
    network: Literal["auto", "tcp"] = "auto"
    interfaces: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@-]+$")]] = Field(default_factory=list)
    on_failure: Literal["recompute", "fail"] = "recompute"
    lease_s: int = Field(default=30, ge=6, le=3600)
    prefill_port: Port = PREFILL_PORTS
    decode_port: Port = DECODE_PORTS
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Transfer:
        if "kv_lease_duration" in self.extra:
            raise ValueError("extra.kv_lease_duration: use the argument lease_s")
        if "connectors" in self.extra:
            raise ValueError("extra.connectors: NIXL alone is built here; for several use ray.serve.llm")
        return self


class WithoutPrefill(Strict):
    """What a decode replica does for a prompt that no prefill replica reads.

    timeout_s: until a prefill replica has answered, the wait for a free one included. With prefill.autoscaling.
        min_replicas: 0 it has to cover the start of a replica.
    tries: a prompt is given to so many replicas, one after the other, when they die over it.
    then: ``refuse`` answers 503 with Retry-After; ``local`` lets the decode replica read the prompt itself, which
        holds up the answers that it is writing.
    """

    timeout_s: PositiveFloat = 60
    tries: PositiveInt = 2
    then: Literal["refuse", "local"] = "refuse"


class PrefillDecodeArgs(Strict):
    """``args`` of ``serve_runtime.llm:prefill_decode``.

    engine: arguments of vLLM's engine for both sides; those of a side have precedence.
    connect_at_start: a decode replica shakes hands with every prefill replica there is before it counts as ready, so
        that no request waits for it. Default: unless prefill scales to zero.
    """

    model: Model
    engine: dict[str, Any] = Field(default_factory=dict)
    prefill: Serving
    decode: Serving
    transfer: Transfer = Transfer()
    without_prefill: WithoutPrefill = WithoutPrefill()
    connect_at_start: bool | None = None
    ingress: Ingress = Ingress()

    @model_validator(mode="before")
    @classmethod
    def _one_transfer(cls, given: Any) -> Any:
        places = {"engine": given, **{f"{side}.engine": given.get(side) for side in _SIDES}} if _is_map(given) else {}
        for where, holder in places.items():
            if _is_map(holder) and _is_map(engine := holder.get("engine")) and "kv_transfer_config" in engine:
                raise ValueError(f"{where}.kv_transfer_config: use the argument transfer, which sets it for both sides")
        return given

    @model_validator(mode="after")
    def _consistent(self) -> PrefillDecodeArgs:
        problems = [
            *checks.both(
                self.side("prefill"), self.side("decode"), self.transfer.prefill_port, self.transfer.decode_port
            )
        ]
        if self.transfer.buffer == "host" and self.decode.accelerator.kind == "cpu":
            problems.append("transfer.buffer: the memory of CPUs is the host's; leave it out")
        if self.connect_at_start and self.scales_to_zero("prefill"):
            problems.append(
                "connect_at_start: prefill.autoscaling.min_replicas is 0, there may be nobody; leave it out"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def side(self, name: Literal["prefill", "decode"]) -> Serving:
        """One side with what is common to both. Raises ValueError for an engine argument that has another place."""
        own: Serving = getattr(self, name)
        if not self.engine:
            return own
        return Serving.model_validate(own.model_dump(exclude_unset=True) | {"engine": self.engine | own.engine})

    def scales_to_zero(self, name: Literal["prefill", "decode"]) -> bool:
        """Whether there may be no replica of this side."""
        scaling = getattr(self, name).autoscaling
        return scaling is not None and scaling.min_replicas == 0

    def connects(self) -> bool:
        """Whether decode replicas shake hands before they count as ready."""
        return not self.scales_to_zero("prefill") if self.connect_at_start is None else self.connect_at_start

    def on_cpus(self) -> bool:
        """Whether there is no GPU anywhere; both sides are alike in that."""
        accelerator: Accelerator = self.decode.accelerator
        return accelerator.kind == "cpu"


def _is_map(value: object) -> bool:
    return isinstance(value, dict)

"""From arguments to the two configs that ``ray.serve.llm`` takes: pure, JSON out."""

from __future__ import annotations

from typing import Any, Final

from serve_runtime.llm import configs
from serve_runtime.llm.disaggregated.args import PrefillDecodeArgs, Transfer, WithoutPrefill

CONNECTOR: Final = "NixlConnector"
RESTING: Final = "serve_runtime.llm.disaggregated.resting"
PREFILL: Final = "serve_runtime.llm.disaggregated.servers:Prefill"
DECODE: Final = "serve_runtime.llm.disaggregated.servers:Decode"
SETTINGS: Final = "serve_runtime.disaggregated"
"""The key in ``experimental_configs`` under which a decode replica finds its :class:`WithoutPrefill`."""
PORT: Final = "NIXL_SIDE_CHANNEL_PORT_BASE"
CONNECT: Final = "_prewarm_prefill_decode"
"""Keys of Ray's own in ``experimental_configs`` (2.60, ``nixl.py``, ``pd_server.py``)."""


def serving_args(args: PrefillDecodeArgs) -> dict[str, Any]:
    """What ``PDServingArgs`` takes. Raises ValueError that names the side and the field."""
    return {
        "prefill_config": _side(args, "prefill", PREFILL),
        "decode_config": _side(args, "decode", DECODE),
        "ingress_cls_config": configs.ingress_class_config(args.ingress),
        "ingress_deployment_config": configs.ingress_config(args.ingress),
    }


def _side(args: PrefillDecodeArgs, name: Any, server: str) -> dict[str, Any]:
    serving = args.side(name)
    try:
        config = configs.llm_config(args.model, serving, server=server)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    config["engine_kwargs"]["kv_transfer_config"] = kv_transfer(args.transfer, name, on_cpus=args.on_cpus())
    config["runtime_env"]["env_vars"] = (
        network(args.transfer, on_cpus=args.on_cpus()) | config["runtime_env"]["env_vars"]
    )
    own = config["experimental_configs"]
    if name == "prefill":
        own[PORT] = args.transfer.prefill_port
    else:
        own[PORT] = args.transfer.decode_port
        own[CONNECT] = args.connects()
        own[SETTINGS] = args.without_prefill.model_dump(mode="json")
    return config


def kv_transfer(transfer: Transfer, name: str, *, on_cpus: bool) -> dict[str, Any]:
    """vLLM's ``kv_transfer_config`` of one side. The engine's id is made unique by Ray."""
    found: dict[str, Any] = {
        "kv_connector": CONNECTOR,
        "kv_role": "kv_producer" if name == "prefill" else "kv_consumer",
        "kv_load_failure_policy": transfer.on_failure,
        "kv_connector_extra_config": {"kv_lease_duration": transfer.lease_s} | transfer.extra,
    }
    if on_cpus or transfer.buffer == "host":
        found["kv_buffer_device"] = "cpu"
    if on_cpus:
        found["kv_connector_module_path"] = RESTING
    return found


def network(transfer: Transfer, *, on_cpus: bool) -> dict[str, str]:
    """Environment of UCX, which moves the bytes for NIXL.

    On CPUs TCP alone: pods on one node are one machine to UCX, which would then try shared memory that they do not
    share. On GPUs its own choice, unless TCP is asked for; ``cuda_copy`` then is how it gets at their memory.
    """
    found: dict[str, str] = {}
    if on_cpus:
        found["UCX_TLS"] = "tcp"
    elif transfer.network == "tcp":
        found["UCX_TLS"] = "tcp,cuda_copy"
    if transfer.interfaces:
        found["UCX_NET_DEVICES"] = ",".join(transfer.interfaces)
    return found


def without_prefill(experimental: dict[str, Any]) -> WithoutPrefill:
    """The settings of a decode replica, from its config."""
    return WithoutPrefill.model_validate(experimental.get(SETTINGS, {}))

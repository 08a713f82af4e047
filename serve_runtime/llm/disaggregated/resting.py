"""vLLM's NIXL connector for CPUs: the thread that moves caches sleeps while there are none to move.

NIXL's Python API fixes the pause of its progress thread at 0 (1.3.2, ``_api.py``, ``pthrDelay``): the thread asks the
network again and again, and keeps a processor of each worker busy even while nobody asks anything. Beside a GPU that is
a good bargain. On CPUs it is the processor that should compute. With a pause it waits for events of the network, which
wake it at once.

vLLM imports this module by ``kv_connector_module_path``. The class keeps its name, by which vLLM and Ray know what it
needs.
"""

from __future__ import annotations

from typing import Any, Final

from nixl import _api
from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlConnector

__all__ = ["NixlConnector"]

PAUSE_US: Final = 10_000
"""Microseconds at least; NIXL counts in whole milliseconds. As long as it waits for no event at all."""

_Config: Any = _api.nixlBind.nixlAgentConfig


class Resting(_Config):  # type: ignore[misc]
    """The settings of a NIXL agent, whose thread pauses whatever is asked for."""

    @property
    def pthrDelay(self) -> int:  # noqa: N802 - NIXL's name
        """Microseconds."""
        return int(_Config.pthrDelay.fget(self))

    @pthrDelay.setter
    def pthrDelay(self, microseconds: int) -> None:  # noqa: N802
        _Config.pthrDelay.fset(self, max(microseconds, PAUSE_US))


_api.nixlBind.nixlAgentConfig = Resting

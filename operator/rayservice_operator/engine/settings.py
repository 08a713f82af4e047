"""How one operator process runs; what its decisions depend on is ``core.config``."""

from __future__ import annotations

from dataclasses import dataclass

from rayservice_operator.admission.settings import AdmissionSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """``namespaces`` empty: all. ``http_port`` 0: a free one. ``admission`` None: no webhook. Times in seconds."""

    namespaces: tuple[str, ...] = ()
    workers: int = 8
    qps: float = 50.0
    burst: int = 100
    http_host: str = ""
    http_port: int = 8080
    leader_elect: bool = False
    lease_namespace: str = "default"
    lease_name: str = "rayservice-operator"
    identity: str = ""
    stop_grace_s: float = 8.0
    admission: AdmissionSettings | None = None

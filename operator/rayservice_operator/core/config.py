"""Settings of the operator that decisions depend on; read once from the environment by ``cli``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    """Defaults are KubeRay's outcome unless design.md says otherwise. Times in seconds.

    ``stale_after_s``: an observation older than this is no longer told as present news.
    ``capacity_check``: whether it is looked for room before an upgrade begins.
    ``first_observation_grace_s``: after a start, statuses of before are kept this long without an observation.
    """

    version: str = "dev"
    cluster_domain: str = "cluster.local"
    default_deletion_delay_s: int = 60
    zero_downtime: bool = True
    inject_probes: bool = True
    inject_init_container: bool = True
    login_shell: bool = False
    head_cluster_ip_service: bool = False
    ulimit_open_files: int = 65536
    stale_after_s: float = 15.0
    first_observation_grace_s: float = 20.0
    capacity_check: bool = True
    default_env: tuple[tuple[str, str], ...] = ()
    managed_by: frozenset[str] = field(default_factory=lambda: frozenset({"", "ray.io/kuberay-operator"}))

"""What the engine needs from those who watch live Serve instances (``ray.observer``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rayservice_operator.core.decision import ObserveTarget
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Ref
from rayservice_operator.core.observation import ServeObservation


class Observers(Protocol):
    """A pool of observers, one for each live cluster. All but ``close`` return at once."""

    def sync(self, service_key: Key, targets: tuple[ObserveTarget, ...]) -> None:
        """From now on exactly these clusters are to be observed for that RayService; none: it is gone."""

    def get(self, cluster: Ref) -> ServeObservation | None:
        """The newest observation of a RayCluster."""

    def load(self, cluster: Ref) -> Mapping[str, int] | None:
        """Serve replicas by pod address; None while unknown."""

    async def close(self) -> None:
        """End all observers."""


class NoObservers:
    """Sees nothing: for tests, and where no Serve is to be watched."""

    def sync(self, service_key: Key, targets: tuple[ObserveTarget, ...]) -> None:
        """Nothing is observed."""

    def get(self, cluster: Ref) -> ServeObservation | None:
        """No observation."""

    def load(self, cluster: Ref) -> Mapping[str, int] | None:
        """Unknown."""

    async def close(self) -> None:
        """Nothing to end."""

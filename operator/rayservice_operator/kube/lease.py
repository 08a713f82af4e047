"""Leadership by a coordination.k8s.io Lease, with client-go's times and rules.

Clocks of two machines are never compared: a lease counts as left when this process has seen it unchanged for the
lease's duration.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from rayservice_operator.core.objects import Manifest, metadata
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from rayservice_operator.kube.resources import reference

log = logging.getLogger(__name__)

LEASE_DURATION_S: Final = 15.0
RENEW_DEADLINE_S: Final = 10.0
RETRY_PERIOD_S: Final = 2.0


class LeadershipLost(Exception):  # noqa: N818
    """Another may lead from now on: this process must stop writing at once."""


class LeaderElector:
    """Takes, keeps and gives back one Lease. ``identity`` must be unique to this process."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_duration_s: float = LEASE_DURATION_S,
        renew_deadline_s: float = RENEW_DEADLINE_S,
        retry_period_s: float = RETRY_PERIOD_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self._api = api
        self._ref = reference("Lease", namespace, name)
        self._duration = lease_duration_s
        self._deadline = renew_deadline_s
        self._period = retry_period_s
        self._monotonic = monotonic
        self._seen: tuple[str, float] | None = None  # resourceVersion, when we saw it first
        self._lease: Manifest | None = None
        self.leading = False

    async def acquire(self) -> None:
        """Wait until this process leads."""
        announced = ""
        while True:
            try:
                holder = await self._try()
            except ApiError as error:
                holder = ""
                log.warning("leadership: %s; again in %.0f s", error.message, self._period)
            if self.leading:
                log.info("leading as %s", self.identity)
                return
            if holder and holder != announced:
                announced = holder
                log.info("standing by: %s leads", holder)
            await asyncio.sleep(self._period * random.uniform(1.0, 1.2))

    async def keep(self) -> None:
        """Renew for ever. Raises LeadershipLost when that fails for longer than the deadline, or another took over."""
        renewed = self._monotonic()
        while True:
            await asyncio.sleep(self._period)
            try:
                async with asyncio.timeout(max(0.1, renewed + self._deadline - self._monotonic())):
                    holder = await self._try()
            except (ApiError, TimeoutError) as error:
                log.warning("leadership could not be renewed: %s", error)
                if self._monotonic() - renewed >= self._deadline:
                    self.leading = False
                    raise LeadershipLost(f"no renewal for {self._deadline:.0f} s") from error
                continue
            if not self.leading:
                raise LeadershipLost(f"{holder or 'somebody else'} leads now")
            renewed = self._monotonic()

    async def release(self) -> None:
        """Give it back, so that a standby takes over within seconds. Best effort."""
        if not self.leading or self._lease is None:
            return
        self.leading = False
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._api.merge_patch(self._ref, {"metadata": self._condition(self._lease), "spec": spec})
        except ApiError as error:
            log.warning("the lease was not given back: %s", error.message)
        else:
            log.info("the lease was given back")

    async def _try(self) -> str:
        """One attempt to take or renew; sets ``leading``. Returns who holds the lease."""
        try:
            lease = await self._api.get(self._ref)
        except NotFound:
            self.leading = False
            created = await self._create()
            if created is None:
                return ""
            lease = created
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        version = str(metadata(lease).get("resourceVersion", ""))
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._monotonic())
        if holder == self.identity:
            taken = {"renewTime": _now(), "leaseDurationSeconds": round(self._duration)}
        else:
            self.leading = False
            left_in = self._seen[1] + float(spec.get("leaseDurationSeconds") or self._duration) - self._monotonic()
            if holder and left_in > 0:
                return holder
            taken = {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": round(self._duration),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
            }
        try:
            self._lease = await self._api.merge_patch(self._ref, {"metadata": self._condition(lease), "spec": taken})
        except (Conflict, NotFound):
            return holder  # somebody was faster, or our own unanswered write arrived: look again
        self.leading = True
        return self.identity

    async def _create(self) -> Manifest | None:
        lease = {
            "apiVersion": self._ref.api_version,
            "kind": "Lease",
            "metadata": {"name": self._ref.name, "namespace": self._ref.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": round(self._duration),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }
        try:
            return await self._api.create(lease)
        except AlreadyExists:
            return None

    @staticmethod
    def _condition(lease: Manifest) -> Manifest:
        return {"resourceVersion": metadata(lease)["resourceVersion"]}


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

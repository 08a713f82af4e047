"""Where the serving certificate comes from: the operator's own Secret, or files that somebody else renews."""

from __future__ import annotations

import asyncio
import base64
import datetime
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from rayservice_operator.admission import renewal
from rayservice_operator.admission.pki import Pair
from rayservice_operator.admission.renewal import Material
from rayservice_operator.admission.settings import AdmissionSettings
from rayservice_operator.core.objects import Manifest, metadata
from rayservice_operator.kube.api import KubeApi
from rayservice_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from rayservice_operator.kube.resources import reference

log = logging.getLogger(__name__)

MAX_TRIES: Final = 5
"""Attempts to write the Secret while other replicas do so too; each one that loses finds the other's work."""

CERT_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"


class Unavailable(Exception):  # noqa: N818
    """There is no certificate to serve for now; the message says why and what would help."""


class CertificateSource(Protocol):
    """Asked again and again; returns the same as long as nothing is new. Both raise Unavailable."""

    async def fetch(self) -> Pair:
        """What is to be served."""

    async def announce(self) -> None:
        """See to it that the API server trusts what is served."""


def utc_now() -> datetime.datetime:
    """The time of day."""
    return datetime.datetime.now(tz=datetime.UTC)


class BuiltIn:
    """Certificates of the operator's own, kept in a Secret that all replicas share.

    Whoever finds something to renew writes it, on condition that nobody else has meanwhile; and whoever finds the
    webhook configuration not to trust what the Secret says puts that right. So no leader is needed.
    """

    def __init__(
        self, api: KubeApi, settings: AdmissionSettings, now: Callable[[], datetime.datetime] = utc_now
    ) -> None:
        self._api = api
        self._settings = settings
        self._now = now
        self._secret = reference("Secret", settings.namespace, settings.secret)
        self._bundle = b""

    async def fetch(self) -> Pair:
        """The serving certificate of the Secret, made or renewed if need be."""
        try:
            material = await self._agreed()
        except ApiError as error:
            raise Unavailable(
                f"Secret {self._settings.namespace}/{self._settings.secret} for the webhook's certificate: "
                f"{error.message}"
            ) from error
        self._bundle = material.bundle
        return material.serving

    async def _agreed(self) -> Material:
        """What the Secret holds, renewed if need be."""
        for _ in range(MAX_TRIES):
            try:
                found: Manifest | None = await self._api.get(self._secret)
            except NotFound:
                found = None
            material = renewal.from_secret((found or {}).get("data"))
            wanted = renewal.renewed(material, self._settings.hosts, self._now(), self._settings.lifetimes)
            if wanted is None:
                return material
            try:
                await self._write(found, wanted)
            except (AlreadyExists, Conflict, NotFound):
                continue  # another replica was faster, or somebody removed it: look again
            log.info("admission: certificates renewed in Secret %s", self._settings.secret)
            return wanted
        raise Unavailable(f"Secret {self._settings.secret} changes faster than it can be read")

    async def _write(self, found: Manifest | None, material: Material) -> None:
        data = renewal.to_secret(material)
        if found is not None:
            version = {"resourceVersion": metadata(found)["resourceVersion"]}
            await self._api.merge_patch(self._secret, {"metadata": version, "data": data})
            return
        await self._api.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": self._secret.name, "namespace": self._secret.namespace},
                "data": data,
            }
        )

    async def announce(self) -> None:
        """Put the authorities into every webhook of the configuration that says otherwise."""
        if not self._settings.configuration:
            return
        target = reference("ValidatingWebhookConfiguration", "", self._settings.configuration)
        wanted = base64.b64encode(self._bundle).decode()
        try:
            if operations := _corrections(await self._api.get(target), wanted):
                await self._api.json_patch(target, operations)
                log.info("admission: %s trusts the present certificates", target.name)
        except ApiError as error:
            raise Unavailable(
                f"ValidatingWebhookConfiguration {target.name} was not told whom to trust, so the webhook is not "
                f"called: {error.message}"
            ) from error


def _corrections(configuration: Manifest, wanted: str) -> list[dict[str, Any]]:
    operations: list[dict[str, Any]] = []
    for index, webhook in enumerate(configuration.get("webhooks") or ()):
        if (webhook.get("clientConfig") or {}).get("caBundle") != wanted:
            place = f"/webhooks/{index}"
            # The list may have been changed since: then the place is another's.
            operations.append({"op": "test", "path": f"{place}/name", "value": webhook["name"]})
            operations.append({"op": "add", "path": f"{place}/clientConfig/caBundle", "value": wanted})
    return operations


class Files:
    """``tls.crt`` and ``tls.key`` in a folder: a mounted Secret of cert-manager's or of the user's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self) -> Pair:
        """What the files hold now."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Pair:
        try:
            return Pair((self._folder / CERT_FILE).read_bytes(), (self._folder / KEY_FILE).read_bytes())
        except OSError as error:
            raise Unavailable(
                f"{error.filename}: {error.strerror}; put the certificate and its key into the Secret of type "
                "kubernetes.io/tls that the chart's values name"
            ) from error

    async def announce(self) -> None:
        """Nothing: who renews the files tells the API server."""

"""When the built-in certificates are renewed, and in which order, so that no call fails meanwhile.

Everything is read from the Secret and the clock: every replica comes to the same step, and one that dies between two
of them leaves nothing half done.

An authority is renewed in two steps. First it only becomes trusted: it joins the bundle, which goes to the webhook
configuration, while the old one goes on signing what is served. Once every API server has surely heard of it
(``Lifetimes.overlap``), serving certificates come from it. The old one stays trusted until it ends.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography import x509

from rayservice_operator.admission import pki
from rayservice_operator.admission.pki import Pair
from rayservice_operator.admission.settings import Lifetimes

CA_CERT: Final = "ca.crt"
CA_KEY: Final = "ca.key"
CERT: Final = "tls.crt"
KEY: Final = "tls.key"


@dataclass(frozen=True, slots=True)
class Material:
    """What the Secret holds. ``bundle``: the authorities to be trusted, newest first; ``authority_key`` is the first's.

    All PEM; empty or broken where nobody, or somebody else, wrote it.
    """

    bundle: bytes = b""
    authority_key: bytes = b""
    serving: Pair = field(default_factory=lambda: Pair(b"", b""))


def from_secret(data: Mapping[str, str] | None) -> Material:
    """The ``data`` of the Secret, whatever is in it."""

    def read(key: str) -> bytes:
        try:
            return base64.b64decode((data or {}).get(key) or "", validate=True)
        except (binascii.Error, ValueError):
            return b""

    return Material(read(CA_CERT), read(CA_KEY), Pair(read(CERT), read(KEY)))


def to_secret(material: Material) -> dict[str, str]:
    """The ``data`` of the Secret."""
    parts = {
        CA_CERT: material.bundle,
        CA_KEY: material.authority_key,
        CERT: material.serving.cert,
        KEY: material.serving.key,
    }
    return {key: base64.b64encode(value).decode() for key, value in parts.items()}


def renewed(material: Material, hosts: Sequence[str], now: datetime.datetime, lifetimes: Lifetimes) -> Material | None:
    """What the Secret shall hold instead; None when it is all right. ``now`` with a time zone."""
    changed = _with_authority(material, now, lifetimes)
    changed = _with_serving(changed, hosts, now, lifetimes)
    return changed if changed != material else None


def usable(material: Material, hosts: Sequence[str], now: datetime.datetime) -> bool:
    """Whether a client that trusts the bundle takes the serving certificate."""
    served, trusted = pki.certificates(material.serving.cert), pki.certificates(material.bundle)
    return (
        bool(served)
        and pki.belong(served[0], material.serving.key)
        and set(hosts) <= pki.hosts_of(served[0])
        and _valid(served[0], now)
        and any(pki.signed_by(served[0], authority) and _valid(authority, now) for authority in trusted)
    )


def _with_authority(material: Material, now: datetime.datetime, lifetimes: Lifetimes) -> Material:
    """The authorities: those that have ended left out, a new one in front when it is time or the key is lost."""
    known = pki.certificates(material.bundle)
    trusted = [authority for authority in known if _valid(authority, now)]
    ours = bool(trusted) and trusted[0] == known[0] and pki.belong(trusted[0], material.authority_key)
    if ours and not _due(trusted[0], now, lifetimes.authority):
        return material if trusted == known else replace(material, bundle=_bundle(trusted))
    new = pki.new_authority(now, lifetimes.authority)
    return replace(material, bundle=new.cert + _bundle(trusted), authority_key=new.key)


def _with_serving(material: Material, hosts: Sequence[str], now: datetime.datetime, lifetimes: Lifetimes) -> Material:
    newest = pki.certificates(material.bundle)[0]
    if usable(material, hosts, now):
        served = pki.certificates(material.serving.cert)[0]
        known_everywhere = now - newest.not_valid_before_utc - pki.CLOCK_SKEW >= lifetimes.overlap
        if not _due(served, now, lifetimes.serving) or not known_everywhere:
            return material
    authority = Pair(pki.pem(newest), material.authority_key)
    return replace(material, serving=pki.issue(authority, hosts, now, lifetimes.serving))


def _bundle(authorities: Sequence[x509.Certificate]) -> bytes:
    return b"".join(map(pki.pem, authorities))


def _valid(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _due(certificate: x509.Certificate, now: datetime.datetime, lifetime: datetime.timedelta) -> bool:
    """Whether less than a third of a certificate's time is left.

    Measured by its own time too, so that a setting that was made longer does not renew without end.
    """
    own = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < min(own, lifetime) / 3

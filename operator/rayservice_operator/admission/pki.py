"""X.509 for the webhook: a certificate authority of the operator's own, and the serving certificates that it signs."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW: Final = datetime.timedelta(minutes=5)
"""Certificates count from so long ago: the API server's clock may be behind ours."""

_AUTHORITY: Final = "rayservice-operator admission CA"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM. ``cert`` may be a chain, its own certificate first."""

    cert: bytes
    key: bytes


def new_authority(now: datetime.datetime, lifetime: datetime.timedelta) -> Pair:
    """A self-signed CA; ``now`` with a time zone."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The time tells one authority from the next, to people and to verifiers that choose by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_AUTHORITY} {now:%Y-%m-%dT%H:%M:%SZ}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, hosts: Sequence[str], now: datetime.datetime, lifetime: datetime.timedelta) -> Pair:
    """A serving certificate for ``hosts`` (DNS names and IP addresses), never outliving its authority."""
    (parent, *_) = x509.load_pem_x509_certificates(authority.cert)
    parent_key = _load_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rayservice-operator admission")]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, parent.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, parent.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return _pair(builder.sign(parent_key, hashes.SHA256()), key)


def certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates in ``pem``; empty when it holds none or cannot be read."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def pem(certificate: x509.Certificate) -> bytes:
    """The text of one certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def belong(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether ``key`` (PEM) is the private key of ``certificate``."""
    try:
        return _load_key(key).public_key() == certificate.public_key()
    except (ValueError, TypeError):
        return False


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` made ``certificate``."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def hosts_of(certificate: x509.Certificate) -> frozenset[str]:
    """DNS names and IP addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    dns: list[str] = names.get_values_for_type(x509.DNSName)
    return frozenset(dns) | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded: PrivateKeyTypes = serialization.load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError("not a key of ours")
    return loaded


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        pem(certificate),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )

"""A server's TLS context whose certificate can be exchanged while connections are open."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator

from rayservice_operator.admission.pki import Pair


class BadCertificate(Exception):  # noqa: N818
    """A certificate and key that cannot be served; what was served before still is."""


class ServerTls:
    """``context`` is for the server; new connections get the newest certificate, open ones keep theirs."""

    def __init__(self) -> None:
        self.context = _new_context()
        self.loaded: Pair | None = None

    def load(self, pair: Pair) -> bool:
        """Serve ``pair`` from now on; whether it is another than before. Raises BadCertificate."""
        if pair == self.loaded:
            return False
        with _as_file(pair.cert + b"\n" + pair.key) as path:
            try:
                # Tried apart: a context into which a certificate without its key was loaded would serve neither.
                _new_context().load_cert_chain(path, password=_no_password)
                self.context.load_cert_chain(path, password=_no_password)
            except (ssl.SSLError, ValueError, OSError) as error:
                reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                raise BadCertificate(f"the certificate and its key cannot be used: {reason}") from error
        self.loaded = pair
        return True


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    """An encrypted key must end in an error, not in a question on a terminal."""
    return ""


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file with ``content``; ``ssl`` takes nothing else. In memory where the system can do that: the
    container's file system is read-only, and a private key has no business on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name

"""How the webhook is served; read from the environment by ``cli``."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DEFAULT_PORT: Final = 9443
DEFAULT_FOLDER: Final = Path("/etc/rayservice-operator/admission")


class Certificates(enum.StrEnum):
    """Where the serving certificate comes from: made and renewed here, or read from files that others renew."""

    BUILTIN = "builtin"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long certificates live; each is renewed when a third of that is left.

    A third of ``serving`` has to be longer than ``overlap`` and the time between two looks together: for so long a
    certificate that is due may have to wait for a new authority to become known.
    """

    authority: datetime.timedelta = datetime.timedelta(days=3650)
    serving: datetime.timedelta = datetime.timedelta(days=90)
    overlap: datetime.timedelta = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """``hosts``: names by which the API server calls. ``port`` 0: a free one. Times in seconds.

    ``secret`` (in ``namespace``) keeps what ``BUILTIN`` makes; ``configuration`` is the ValidatingWebhookConfiguration
    that is told whom to trust, none when empty. ``folder`` holds ``tls.crt`` and ``tls.key`` for ``FILES``.
    ``own_user``: the operator's user name. ``linger_s``: for so long after the order to stop calls are answered,
    because the way to this pod is forgotten only by and by.
    """

    certificates: Certificates = Certificates.BUILTIN
    host: str = ""
    port: int = DEFAULT_PORT
    hosts: tuple[str, ...] = ()
    namespace: str = "default"
    secret: str = "rayservice-operator-admission"
    configuration: str = ""
    folder: Path = DEFAULT_FOLDER
    own_user: str = ""
    linger_s: float = 5.0
    check_every_s: float = 60.0
    retry_s: float = 5.0
    lifetimes: Lifetimes = field(default_factory=Lifetimes)

"""What ends a prefetch. Each has an exit code of its own, and its text says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from serve_runtime.commands.units import size


class PrefetchError(Exception):
    """Ends the command."""

    exit_code = 1


class SourceError(PrefetchError):
    """The source has not got it, or does not give it; trying again is of no use."""

    exit_code = 3


class UnreachableError(PrefetchError):
    """Try after try brought not one more byte."""

    exit_code = 4


class NoSpaceError(PrefetchError):
    """The cache is full."""

    exit_code = 5


class BusyError(PrefetchError):
    """Another prefetch of the same has held the lock too long."""

    exit_code = 6


class BrokenError(Exception):
    """A try failed in a way that another one may not: a connection that broke, a server that is busy.

    afresh: what was received so far is not to be trusted.
    """

    def __init__(self, message: str, *, afresh: bool = False) -> None:
        super().__init__(message)
        self.afresh = afresh


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def of_disk(error: OSError, where: Path) -> PrefetchError:
    """What an error of the file system under the cache means."""
    if error.errno in _FULL:
        return NoSpaceError(f"{where} is full ({error.strerror}). {HOW_TO_GET_SPACE}")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return PrefetchError(
            f"{where} cannot be written ({error.strerror}). Set securityContext.fsGroup of the pod to the group of "
            "its user, or mount the volume without readOnly"
        )
    return PrefetchError(f"{where}: {error}")


HOW_TO_GET_SPACE = (
    "Give the volume more room (sizeLimit of an emptyDir and the node's disk, storage of a PersistentVolumeClaim), "
    "leave files out with --exclude, or choose another --to"
)


def too_small(needed: int, free: int, where: Path) -> NoSpaceError:
    """Told before the first byte."""
    return NoSpaceError(f"{size(needed)} are still to come and {where} has {size(free)} free. {HOW_TO_GET_SPACE}")

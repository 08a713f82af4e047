"""Errors in the log text of Ray Serve replicas and containers, cleaned and cut. Pure.

Formats: Ray Serve's own lines begin with a level and a time (``ERROR 2026-01-31 12:00:00,000 app_Main x7k2 -- …``), or
are JSON objects with ``levelname`` and ``message``; Python tracebacks follow unmarked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rayservice_operator.cli.human import clean
from rayservice_operator.core.objects import Manifest

_TEMP_DIR: Final = "/tmp/ray"
"""Where Ray keeps its sessions, unless the head's ``rayStartParams.temp-dir`` says otherwise."""

MAX_LINES: Final = 12
MAX_LINE: Final = 300

_LEVELED: Final = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|^\[.*?\] ?(?:[\w./:-]+ )*(ERROR|WARNING|INFO)\b")
_ERROR: Final = re.compile(
    r"^(?:ERROR|CRITICAL|FATAL)\b|^Traceback \(most recent call last\)|\b(?:ERROR|FATAL|CRITICAL)\b"
)
_EXCEPTION: Final = re.compile(r"^[\w.]*(?:Error|Exception|Exit|Interrupt)\b")


@dataclass(frozen=True, slots=True)
class ErrorBlock:
    """``source``: pod and file. ``lines``: the newest error in it with its traceback, without colour codes."""

    source: str
    lines: tuple[str, ...]


_NOT_IN_A_FILE_NAME: Final = re.compile(r"[^\x20-\x7E]|[<>:\"/\\|?*]")
"""What Ray writes as an underscore (``ray.serve._private.constants.FILE_NAME_REGEX``)."""


def folder(cluster: Manifest) -> str:
    """Where the pods of a RayCluster have Ray Serve's log files."""
    head = (cluster.get("spec") or {}).get("headGroupSpec") or {}
    return f"{(head.get('rayStartParams') or {}).get('temp-dir') or _TEMP_DIR}/session_latest/logs/serve"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A replica's log file; ``replica`` is its id."""

    name: str
    replica: str


def log_files(listing: str, app: str = "", deployment: str = "") -> list[LogFile]:
    """The replica logs in an ``ls`` of the folder, of that application and deployment if given.

    Ray 2.60 names them ``replica_<application>_<deployment>_<id>.log``; the id has no underscore.
    """
    wanted = [re.escape(_NOT_IN_A_FILE_NAME.sub("_", part)) if part else ".+" for part in (app, deployment)]
    # An application without a name has no part of its own.
    pattern = re.compile(
        rf"replica_{wanted[0]}_{wanted[1]}_([^_]+)\.log" if app or deployment else r"replica_.+_([^_]+)\.log"
    )
    found = (pattern.fullmatch(name.strip()) for name in listing.splitlines())
    return [LogFile(match[0], match[1]) for match in found if match]


def newest_error(source: str, text: str) -> ErrorBlock | None:
    """The last error of a log, with what belongs to it; None where there is none."""
    lines = [entry for raw in clean(text).splitlines() for entry in _plain(raw).split("\n")]
    starts = [i for i, entry in enumerate(lines) if _ERROR.search(entry)]
    if not starts:
        return None
    begin = starts[-1]
    # A traceback belongs to the error line before it.
    while begin > 0 and not _LEVELED.match(lines[begin]) and not _ends(lines, begin - 1):
        begin -= 1
    end = next((i for i in range(begin + 1, len(lines)) if _LEVELED.match(lines[i])), len(lines))
    block = [entry[:MAX_LINE].rstrip() for entry in lines[begin:end] if entry.strip()]
    return ErrorBlock(source, tuple(_cut(block)))


def _ends(lines: list[str], index: int) -> bool:
    """Whether the line is the end of another message: one with a level that is no error."""
    found = _LEVELED.match(lines[index])
    return bool(found) and not _ERROR.search(lines[index])


def _plain(raw: str) -> str:
    """A JSON log line as text; anything else as it is."""
    if not raw.startswith("{"):
        return raw
    try:
        entry = json.loads(raw)
    except ValueError:
        return raw
    if not isinstance(entry, dict) or "message" not in entry:
        return raw
    level = entry.get("levelname") or entry.get("level") or "INFO"
    trace = f"\n{entry['exc_text']}" if entry.get("exc_text") else ""
    return f"{level} {entry.get('asctime', '')} {entry['message']}{trace}"


def _cut(block: list[str]) -> Iterator[str]:
    """At most MAX_LINES lines: the first ones and the last ones, where tracebacks say most."""
    if len(block) <= MAX_LINES:
        yield from block
        return
    yield from block[:3]
    yield f"… {len(block) - MAX_LINES + 1} lines left out …"
    yield from block[len(block) - (MAX_LINES - 4) :]

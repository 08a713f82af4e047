"""Times as the API writes them (RFC 3339, UTC, whole seconds) and as the core counts them (epoch seconds)."""

from __future__ import annotations

import datetime


def to_rfc3339(epoch_seconds: float) -> str:
    """``1700000000.7`` -> ``2023-11-14T22:13:20Z``."""
    moment = datetime.datetime.fromtimestamp(int(epoch_seconds), tz=datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str | None) -> float | None:
    """Epoch seconds of an RFC 3339 time; None for nothing or for what is no time (status is not ours alone)."""
    if not text:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()

"""Names of the rules that judge a serve config, and where its paths begin."""

from __future__ import annotations

from typing import Final

from rayservice_operator.core.findings import Path

ROOT: Final[Path] = ("spec", "serveConfigV2")

UNKNOWN_KEY: Final = "unknown-key"
NEWER_FIELD: Final = "newer-field"
DEPRECATED_FIELD: Final = "deprecated-field"
CONVERTED_VALUE: Final = "converted-value"
WRONG_TYPE: Final = "wrong-type"
BAD_VALUE: Final = "bad-value"
MISSING_FIELD: Final = "missing-field"

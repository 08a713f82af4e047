"""What Serve logs and traces."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from rayservice_operator.serveconfig.model.base import FormerlyWhole, Part, Version
from rayservice_operator.serveconfig.model.values import refuse, shown

LEVELS: Final = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")
LEVEL_NUMBERS: Final = (50, 40, 30, 20, 10, 0)

ENCODINGS: Final = ("TEXT", "JSON")

LOG_RECORD_ATTRIBUTES: Final = frozenset({
    "args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname", "levelno", "lineno",
    "message", "module", "msecs", "msg", "name", "pathname", "process", "processName", "relativeCreated", "stack_info",
    "thread", "threadName", "taskName",
})  # fmt: skip


def _one_of(choices: tuple[str, ...]) -> Any:
    def validate(value: str) -> str:
        if value not in choices:
            like = next((choice for choice in choices if choice.casefold() == value.casefold()), None)
            fix = f"Write {like}" if like else f"Write one of {', '.join(choices)}"
            raise refuse(f"{shown(value)} is none of {', '.join(choices)}", fix)
        return value

    return validate


def _log_level(value: Any) -> Any:
    if isinstance(value, bool | int):
        if value not in LEVEL_NUMBERS:
            raise refuse(f"{shown(value)} is no log level", f"Write one of {', '.join(LEVELS)}")
        return value
    if not isinstance(value, str):
        raise refuse(f"{shown(value)} is no log level", f"Write one of {', '.join(LEVELS)}")
    return _one_of(LEVELS)(value)


def _attribute(value: str) -> str:
    if value not in LOG_RECORD_ATTRIBUTES:
        known = ", ".join(sorted(LOG_RECORD_ATTRIBUTES))
        raise refuse(f"{shown(value)} is no attribute of Python's log records", f"Write one of {known}")
    return value


class LoggingConfig(Part):
    """``logging_config`` of Serve, of an application or of a deployment."""

    LABEL: ClassVar[str] = "logging_config"
    STRICT_SINCE: ClassVar[Version | None] = (2, 46)

    encoding: Annotated[str, AfterValidator(_one_of(ENCODINGS))] = "TEXT"
    log_level: Annotated[Any, FormerlyWhole(), BeforeValidator(_log_level)] = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[Annotated[str, AfterValidator(_attribute)]] = []


class TracingConfig(Part):
    """``tracing_config``: OpenTelemetry spans of Serve's own parts."""

    LABEL: ClassVar[str] = "tracing_config"
    STRICT_SINCE: ClassVar[Version | None] = (2, 59)

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01

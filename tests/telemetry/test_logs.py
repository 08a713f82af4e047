"""Log lines: one line each, for people or machines."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from rayservice_operator.telemetry import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_has_the_fields_apart(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    logging.getLogger("x").info("made %s", "it", extra={"object": "RayService/ns/svc"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"], line["object"]) == (
        "info",
        "x",
        "made it",
        "RayService/ns/svc",
    )
    assert line["time"].endswith("Z")


def test_a_traceback_stays_on_the_json_line(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("oh")
    (text,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(text)["exception"]


def test_text_ends_with_the_fields(stream: io.StringIO) -> None:
    logs.configure("text", "info", stream)
    logging.getLogger("x").warning("hm", extra={"object": "a", "failures": 2})
    assert stream.getvalue().endswith("WARNING hm object=a failures=2\n")


def test_the_level_counts_and_kopf_speaks_only_when_something_is_wrong(stream: io.StringIO) -> None:
    logs.configure("text", "info", stream)
    logging.getLogger("x").debug("no")
    logging.getLogger("kopf.objects").info("no")
    assert stream.getvalue() == ""
    logging.getLogger("kopf.objects").error("yes")
    assert "yes" in stream.getvalue()

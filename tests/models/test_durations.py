"""Durations in annotations."""

from __future__ import annotations

import pytest

from rayservice_operator.api.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("1m1s500ms", 61.5),
        (" 5m ", 300),
        ("0", 0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 m", "5d", "1.5", "h", "1h garbage", "٣"])
def test_no_duration(text: str) -> None:
    assert parse_duration(text) is None

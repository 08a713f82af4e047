"""Whether the answer to a smoke request is the expected one."""

from __future__ import annotations

import json
from typing import Any, Final

from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.measurements import SmokeRequest

MAX_QUOTED: Final = 80
MAX_BODY_QUOTED: Final = 200


def problem(request: SmokeRequest, status: int, body: bytes) -> str:
    """What is wrong with an answer, in words; empty for the expected one."""
    if request.status is None:
        if not 200 <= status <= 299:
            return f"HTTP {status} instead of 200 to 299{_told(body)}"
    elif status != request.status:
        return f"HTTP {status} instead of {request.status}{_told(body)}"
    if request.json is None:
        return ""
    try:
        answer = json.loads(body)
    except ValueError:
        return f"the answer is no JSON{_told(body)}"
    return mismatch(json.loads(request.json), answer)


def mismatch(expected: Any, actual: Any, path: str = "$") -> str:
    """The first place where ``actual`` lacks something of ``expected``; empty when it has all of it.

    Objects may have more fields than are expected. Lists have as many items, matched one by one. 1 and 1.0 are the
    same number; true is none.

    >>> mismatch({"choices": [{"index": 0}]}, {"choices": [{"index": 1, "text": "x"}], "id": 7})
    '$.choices[0].index is 1, not 0'
    """
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return f"{path} is {_quoted(actual)}, not an object"
        for key, value in expected.items():
            if key not in actual:
                return f"{path}.{key} is missing"
            if found := mismatch(value, actual[key], f"{path}.{key}"):
                return found
        return ""
    if isinstance(expected, list):
        if not isinstance(actual, list):
            return f"{path} is {_quoted(actual)}, not a list"
        if len(actual) != len(expected):
            return f"{path} has {len(actual)} items, not {len(expected)}"
        pairs = enumerate(zip(expected, actual, strict=True))
        return next((found for i, (e, a) in pairs if (found := mismatch(e, a, f"{path}[{i}]"))), "")
    same_kind = isinstance(expected, bool) == isinstance(actual, bool)
    return "" if same_kind and expected == actual else f"{path} is {_quoted(actual)}, not {_quoted(expected)}"


def _quoted(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), MAX_QUOTED)


def _told(body: bytes) -> str:
    text = " ".join(body[:4096].decode(errors="replace").split())
    return f": {shorten(text, MAX_BODY_QUOTED)}" if text else ""

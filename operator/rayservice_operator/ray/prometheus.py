"""Prometheus: what a server answers to a query, and what pods export in its text format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from rayservice_operator.core.measurements import PrometheusQuery, QuerySample
from rayservice_operator.ray.http import TooLongError, read
from rayservice_operator.service.analysis.windows import Series

_PARTS: Final = ("_bucket{", "_count{")


def histograms(body: bytes, families: Iterable[str]) -> dict[Series, float]:
    """Buckets and counts of these histograms in a pod's exposition, by name and labels.

    The exporter of a Ray node has hundreds of kilobytes of other series, and the parser takes its time: so lines are
    chosen first, as bytes. Raises ValueError for what is no such text.
    """
    wanted = tuple(f"{family}{part}".encode() for family in families for part in _PARTS)
    lines = [line for line in body.split(b"\n") if line.startswith(wanted)]
    text = b"\n".join(lines).decode() + "\n"
    return {
        (sample.name, frozenset(sample.labels.items())): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class NoValueError(Exception):
    """Prometheus gives no value; the text says why."""


def value_of(status: int, body: bytes) -> float | None:
    """The one value in an answer of Prometheus' ``/api/v1/query``; None where the query has no data.

    Raises NoValueError. Nothing of a body that is not Prometheus' is told: who writes a query may not be who may read
    what that address says.
    """
    try:
        answer: Any = json.loads(body)
        kind = answer["status"]
        if kind == "error":
            raise NoValueError(f"{answer.get('errorType')}: {answer.get('error')}"[:300])
        data = answer["data"]
        result = data["result"]
        if data["resultType"] == "scalar":
            return float(result[1])
        if data["resultType"] != "vector":
            raise NoValueError(f"the query gives a {data['resultType']}, not one value")
        if not result:
            return None
        if len(result) > 1:
            raise NoValueError(f"the query gives {len(result)} series, not one; aggregate them, as with sum()")
        return float(result[0]["value"][1])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise NoValueError(f"HTTP {status}, and the answer is not that of a Prometheus server") from None


async def query(http: aiohttp.ClientSession, what: PrometheusQuery) -> QuerySample:
    """Both queries at once. Never raises."""
    queries = [what.candidate] if what.stable is None else [what.candidate, what.stable]
    try:
        values = await asyncio.gather(*(_asked(http, what, text) for text in queries))
    except NoValueError as error:
        return QuerySample(error=str(error))
    return QuerySample(values[0], values[1] if len(values) > 1 else None)


async def _asked(http: aiohttp.ClientSession, what: PrometheusQuery, text: str) -> float | None:
    timeout = aiohttp.ClientTimeout(total=what.timeout_s, sock_connect=what.timeout_s)
    try:
        async with http.get(
            f"{what.address}/api/v1/query", params={"query": text}, timeout=timeout, allow_redirects=False
        ) as response:
            status, body = response.status, await read(response)
    except TimeoutError:
        raise NoValueError(f"no answer within {what.timeout_s:g} s") from None
    except TooLongError:
        raise NoValueError("its answer is too long") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoValueError(f"the connection failed: {type(error).__name__}") from None
    return value_of(status, body)

"""One call for many requests, and each request its own outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from serve_runtime.errors import Failed

Compute: TypeAlias = Callable[[list[Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error`` where there is one, else ``value``. size: requests in the call that gave it."""

    value: Any = None
    error: Exception | None = None
    size: int = 1


async def compute(items: list[Any], call: Compute, at_fault: Callable[[Exception], bool]) -> list[Outcome]:
    """An outcome for each item, in order.

    An exception among the results is that one's outcome. Where the call raises what is a caller's mistake
    (``at_fault``), nobody knows whose: each item is computed alone, so that only those at fault hear of it.
    """
    try:
        results = _checked(await call(items), len(items))
    except Exception as error:
        if len(items) > 1 and at_fault(error):
            return [outcome for item in items for outcome in await compute([item], call, at_fault)]
        return [Outcome(error=error, size=len(items)) for _ in items]
    return [
        Outcome(error=result, size=len(items)) if isinstance(result, Exception) else Outcome(result, size=len(items))
        for result in results
    ]


def _checked(results: Any, wanted: int) -> Sequence[Any]:
    """The results, one for each item. Raises Failed otherwise: arrays count along their first axis."""
    try:
        found = len(results)
    except TypeError:
        raise Failed(f"predict_batch returned a {type(results).__name__}, not one result for each item") from None
    if isinstance(results, str | bytes | dict) or found != wanted:
        raise Failed(f"predict_batch returned {found} results ({type(results).__name__}) for {wanted} items")
    return results  # type: ignore[no-any-return]

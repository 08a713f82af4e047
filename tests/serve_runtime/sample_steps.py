"""Steps of the pipeline tests. Imported by replicas of the real Ray too."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

from serve_runtime.errors import BadInput


class Add:
    """Adds; of a mapping the sum. Negative numbers are the caller's mistake, 13 its own."""

    def __init__(self, amount: float = 1) -> None:
        self._amount = amount

    def predict(self, item: Any) -> float:
        """A number."""
        if isinstance(item, dict):
            return float(sum(item.values()))
        if item < 0:
            raise BadInput("no negative numbers", details=[item])
        if item == 13:
            raise ZeroDivisionError("the secret of the machine room")
        return float(item + self._amount)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Another amount."""
        self._amount = float(config["amount"])


class Large:
    """Makes a large result, and sizes one up."""

    def predict(self, item: Any) -> Any:
        """Bytes of a number, a number of bytes."""
        if isinstance(item, int) and item < 0:
            raise BadInput("no negative sizes")
        return bytes(int(item)) if isinstance(item, int | float) else len(item)


class Holds:
    """Holds each call until a file is there; counts those that were cancelled in another file."""

    def __init__(self, marks: str) -> None:
        self._marks = pathlib.Path(marks)

    async def predict(self, item: Any) -> Any:
        """The item."""
        (self._marks / f"begun-{item}").touch()
        try:
            while not (self._marks / "go").exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            (self._marks / f"cancelled-{item}").touch()
            raise
        return item

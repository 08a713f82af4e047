"""Predictors of the tests: plain classes, as users write them. Imported by replicas of the real Ray too."""

from __future__ import annotations

import asyncio
import pathlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel

from serve_runtime.errors import BadInput, UnknownModel
from serve_runtime.observe import tracing


class Point(BaseModel):
    """What Linear takes."""

    x: float
    weight: int = 1


class Linear:
    """y = slope * x; negative x is the caller's mistake."""

    def __init__(self, slope: float = 2.0) -> None:
        self.slope = slope

    def predict(self, item: Point) -> dict[str, float]:
        """One."""
        if item.x < 0:
            raise BadInput("x must not be negative")
        if item.weight == 13:
            raise ZeroDivisionError("the secret of the machine room")
        return {"y": self.slope * item.x * item.weight}

    def reconfigure(self, config: dict[str, Any]) -> None:
        """A new slope."""
        self.slope = float(config["slope"])


class Batched:
    """Answers with the size of the batch it was in."""

    def __init__(self, hold_s: float = 0.0) -> None:
        self._hold_s = hold_s

    def predict_batch(self, items: list[int]) -> list[Any]:
        """Negative numbers refuse the batch, 100 only itself."""
        if any(item < 0 for item in items):
            raise ValueError("negative")
        time.sleep(self._hold_s)
        return [LookupError("a hundred") if item == 100 else {"item": item, "size": len(items)} for item in items]


class Streams:
    """Counts. ``marks`` is a directory in which each stream that was closed leaves a file."""

    def __init__(self, marks: str) -> None:
        self._marks = pathlib.Path(marks)
        self.released = threading.Event()

    def stream(self, item: dict[str, Any]) -> Iterator[Any]:
        """``count`` numbers; with ``fails`` an error after them; ``forever`` until closed."""
        if item.get("refuse"):
            raise BadInput("refused before the first item")
        try:
            number = 0
            while number < item.get("count", 3) or item.get("forever"):
                yield (
                    "x" * item["size"]
                    if "size" in item
                    else number
                    if not item.get("text")
                    else f"line {number}\nof it"
                )
                number += 1
                if item.get("forever"):
                    time.sleep(0.01)
            if item.get("fails"):
                raise RuntimeError("in the middle")
        finally:
            (self._marks / str(item.get("name", "stream"))).touch()


class AsyncStreams(Streams):
    """The same in the event loop."""

    async def stream(self, item: dict[str, Any]) -> AsyncIterator[Any]:  # type: ignore[override]
        """Numbers until closed."""
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.01)
        finally:
            (self._marks / str(item.get("name", "stream"))).touch()


class Waits:
    """Waits for a file. Tells how many requests wait, and how many were cancelled."""

    waiting = 0
    cancelled = 0

    def __init__(self, until: str) -> None:
        self._until = pathlib.Path(until)

    async def predict(self, item: dict[str, Any]) -> dict[str, int]:
        """With ``look`` at once."""
        if item.get("look"):
            return {"waiting": self.waiting, "cancelled": self.cancelled}
        self.waiting += 1
        try:
            while not self._until.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return {"waiting": self.waiting, "cancelled": self.cancelled}


class Named:
    """One of many models. Closing it leaves a file."""

    def __init__(self, model_id: str, marks: str, factor: int = 1, broken: bool = False) -> None:
        if broken:
            raise OSError("the weights are gone")
        if model_id == "nobody":
            raise UnknownModel("nobody is no model")
        self._marks = pathlib.Path(marks)
        (self._marks / f"began-{model_id}-{secrets.token_hex(4)}").touch()
        while model_id == "late" and not (self._marks / "late").exists():
            time.sleep(0.01)
        self._id, self._factor = model_id, factor

    def predict(self, item: float) -> dict[str, Any]:
        """Its name and the product."""
        return {"model": self._id, "value": item * self._factor}

    def check_health(self) -> None:
        """Ill while there is a file that says so."""
        if (self._marks / f"ill-{self._id}").exists():
            raise RuntimeError("ill on purpose")

    def close(self) -> None:
        """Marks it."""
        (self._marks / f"closed-{self._id}").touch()


class Raw:
    """Takes and gives bytes."""

    def predict(self, item: bytes) -> bytes:
        """Backwards."""
        return item[::-1]


class Traced:
    """Tells what it would send along to others."""

    def predict(self, item: Any) -> dict[str, str]:
        """``{"traceparent"}``, empty where the request is not traced."""
        return {"traceparent": tracing.headers().get("traceparent", "")}

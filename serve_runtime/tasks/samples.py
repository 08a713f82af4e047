"""Handlers for examples, tests and first steps."""

from __future__ import annotations

import time
from collections import Counter

from pydantic import BaseModel

from serve_runtime.errors import BadInput, Unavailable


class Text(BaseModel):
    """A text, and how long pretending to think about it shall take."""

    text: str
    seconds: float = 0.0


class WordCount:
    """Counts words. ``at_most`` words are taken."""

    def __init__(self, at_most: int = 1_000_000) -> None:
        self._at_most = at_most

    def predict(self, item: Text) -> dict[str, int]:
        """Word to how often it occurs."""
        time.sleep(item.seconds)
        words = item.text.split()
        if len(words) > self._at_most:
            raise BadInput(f"{len(words)} words; at most {self._at_most} are taken")
        return dict(Counter(words))


def echo(item: object) -> object:
    """What it is given."""
    return item


def unlucky(item: object) -> object:
    """Never works: what is it like to be retried and to become a dead letter?"""
    raise Unavailable(f"not today: {item}")

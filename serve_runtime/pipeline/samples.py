"""Steps to try pipelines with; they need nothing but Python."""

from __future__ import annotations

import re
from typing import Any


class Clean:
    """Text in lower case, without what is no word."""

    def predict(self, item: str) -> str:
        """Words with one space between them."""
        return " ".join(re.findall(r"\w+", item.lower()))


class Score:
    """The share of words that are in a list. ``reconfigure({"words": […]})`` replaces the list."""

    def __init__(self, words: list[str]) -> None:
        self._words = set(words)

    def predict(self, item: str) -> float:
        """0 to 1."""
        words = item.split()
        return sum(word in self._words for word in words) / len(words) if words else 0.0

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Another list."""
        self._words = set(config["words"])


class Say:
    """A sentence for what reaches it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def predict(self, item: Any) -> dict[str, Any]:
        """``{"verdict", "of"}``."""
        return {"verdict": self._text, "of": item}

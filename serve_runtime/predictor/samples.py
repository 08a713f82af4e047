"""Predictors to try the application with; they need nothing but Python."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Scorer:
    """Scores texts by a weight for each word; a new model of weights needs no restart.

    ``cost_s`` is what one call costs, however many texts are in it, as on a GPU: so batching shows.
    """

    def __init__(
        self, weights: dict[str, float] | None = None, cost_s: float = 0.02, weights_file: str | None = None
    ) -> None:
        """weights: by word in lower case; weights_file has more, as JSON. cost_s: seconds."""
        self._weights = dict(weights or {})
        if weights_file is not None:
            self._weights |= json.loads(Path(weights_file).read_text())
        self._cost_s = cost_s

    def predict_batch(self, items: list[str]) -> list[dict[str, float]]:
        """``{"score"}`` for each text."""
        time.sleep(self._cost_s)
        return [{"score": self._score(item)} for item in items]

    def stream(self, item: str) -> Iterator[dict[str, Any]]:
        """The score as it grows, word by word."""
        words = item.split()
        for count in range(1, len(words) + 1):
            yield {"word": words[count - 1], "score": self._score(" ".join(words[:count]))}

    def reconfigure(self, config: dict[str, Any]) -> None:
        """``{"weights": {word: weight}}`` replaces them all."""
        self._weights = {str(word): float(weight) for word, weight in config["weights"].items()}

    def _score(self, text: str) -> float:
        return sum(self._weights.get(word, 0.0) for word in text.lower().split())

"""Answers of pure functions about JSON, remembered by its content: a spec is parsed when it changes, not each time."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """The answers to the last ``size`` questions. Only a digest of a question is kept, so a long one costs no memory.

    An answer is handed out many times and must be immutable. What ``answer`` raises is not remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, V] = OrderedDict()

    def get(self, question: Any, answer: Callable[[], V]) -> V:
        """The answer to ``question`` (JSON data), worked out by ``answer`` if it is not known."""
        key = hashlib.blake2b(json.dumps(question).encode(), digest_size=16).digest()
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._known[key] = answer()
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return self._known[key]

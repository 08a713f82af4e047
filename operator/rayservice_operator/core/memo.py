"""Answers of pure functions about JSON, remembered by its content: a spec is parsed when it changes, not each time."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """The answers to the last ``size`` questions. Only a digest of a question is kept, so a long one costs no memory.

    An answer is handed out many times and must be immutable. What ``answer`` raises is not remembered. May be asked
    from several threads (admission reviews have one of their own); two that ask the same at once both work it out.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, question: Any, answer: Callable[[], V]) -> V:
        """The answer to ``question`` (JSON data), worked out by ``answer`` if it is not known."""
        key = hashlib.blake2b(json.dumps(question).encode(), digest_size=16).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = answer()
        with self._lock:
            self._known[key] = found
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return found

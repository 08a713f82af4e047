"""An instance of a predictor with the requests that use it: it is closed once, and never under a request."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

_LOG = logging.getLogger("ray.serve")


class RetiredError(RuntimeError):
    """The model was unloaded between being found and being used; find it again."""


class Loaded:
    """One model in memory.

    illness: what its last health check said; empty where it is well.
    """

    def __init__(self, model: str, predictor: Any, *, grace_s: float = 0.0) -> None:
        self.model = model
        self.predictor = predictor
        self.illness = ""
        self._grace_s = grace_s
        self._users = 0
        self._retired = False
        self._closed = False
        self._changed = threading.Condition()

    @property
    def users(self) -> int:
        """Requests that use it now."""
        return self._users

    def take(self, *, again: bool = False) -> None:
        """Begins a use; each needs its :meth:`give_back`. ``again``: for somebody who uses it already, who may go on
        after it was retired. Raises RetiredError.
        """
        with self._changed:
            if self._closed or (self._retired and not again):
                raise RetiredError(self.model)
            self._users += 1

    def give_back(self) -> None:
        """Ends a use. The last one of a retired model closes it."""
        with self._changed:
            self._users -= 1
            self._changed.notify_all()
            last = self._retired and self._users == 0
        if last:
            self._close()

    @contextlib.contextmanager
    def lease(self, *, again: bool = False) -> Iterator[Any]:
        """The predictor for the length of a ``with`` block. Raises RetiredError."""
        self.take(again=again)
        try:
            yield self.predictor
        finally:
            self.give_back()

    def retire(self) -> None:
        """Nobody begins to use it any more; closed when nobody does. Waits for that up to its grace, so that memory
        is free before the next model is loaded. May be called again, and from any thread but the event loop's.
        """
        with self._changed:
            self._retired = True
            unused = self._changed.wait_for(lambda: self._users == 0, self._grace_s)
        if unused:
            self._close()

    # Ray Serve's multiplexing calls this in a thread when it unloads a model; later the garbage collector does,
    # when nobody can be using it.
    __del__ = retire

    def _close(self) -> None:
        with self._changed:
            first, self._closed = not self._closed, True
            predictor, self.predictor = self.predictor, None
        close = getattr(predictor, "close", None)
        if first and close is not None:
            try:
                close()
            except Exception:
                _LOG.exception("closing model %r failed", self.model)

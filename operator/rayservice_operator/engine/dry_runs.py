"""Answers to server-side dry runs, kept for the decisions that asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from rayservice_operator.core.decision import DryRunResult
from rayservice_operator.core.keys import Key

MAX_PER_KEY = 512
"""A RayCluster asks once for its head and once for each worker group, of which the CRD allows 250."""

MAX_KEYS = 2000


class DryRunCache:
    """Per reconciled object the newest answers, by the key of the ``DryRun`` action."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, OrderedDict[str, DryRunResult]] = OrderedDict()

    def put(self, key: Key, question: str, answer: DryRunResult) -> None:
        """Remember; the oldest answers go where there are too many."""
        mine = self._answers.setdefault(key, OrderedDict())
        mine[question] = answer
        mine.move_to_end(question)
        if len(mine) > MAX_PER_KEY:
            mine.popitem(last=False)
        self._answers.move_to_end(key)
        if len(self._answers) > MAX_KEYS:
            self._answers.popitem(last=False)

    def view(self, key: Key) -> Mapping[str, DryRunResult]:
        """A copy of the answers for ``key``."""
        return dict(self._answers.get(key, ()))

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._answers.pop(key, None)

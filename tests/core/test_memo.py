"""Remembered answers: asked once for each content, forgotten beyond the size, errors not kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rayservice_operator.core.memo import Memo


def test_an_answer_is_worked_out_once_for_each_content() -> None:
    memo: Memo[list[int]] = Memo(2)
    calls: list[int] = []

    def ask(question: object, answer: int) -> list[int]:
        def work() -> list[int]:
            calls.append(answer)
            return [answer]

        return memo.get(question, work)

    assert ask({"a": [1]}, 1) is ask({"a": [1]}, 2)
    assert ask({"a": [True]}, 3) == [3], "1 and true are not the same"
    ask({"a": [1]}, 4)  # used again, so the other one goes first
    ask({"b": None}, 5)
    assert ask({"a": [1]}, 6) == [1]
    assert ask({"a": [True]}, 7) == [7]
    assert calls == [1, 3, 5, 7]


def test_what_is_raised_is_not_remembered() -> None:
    memo: Memo[int] = Memo(2)
    with pytest.raises(ZeroDivisionError):
        memo.get("q", lambda: 1 // 0)
    assert memo.get("q", lambda: 0) == 0
    assert memo.get("q", lambda: 1) == 0, "an answer that counts as false is one too"


def test_several_threads_may_ask() -> None:
    """Small, so that answers are pushed out all the time; without a lock this raises KeyError in a moment."""
    memo: Memo[int] = Memo(2)

    def ask(start: int) -> list[int]:
        return [memo.get(number % 5, lambda number=number: number % 5) for number in range(start, start + 5000)]  # type: ignore[misc]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(4)))
    assert all(found == [number % 5 for number in range(start, start + 5000)] for start, found in enumerate(answers))
    assert len(memo._known) <= 2

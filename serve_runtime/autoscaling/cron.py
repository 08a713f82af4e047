"""Five-field cron expressions and when they fire next in a time zone. Pure: the moment is an argument.

Fields are minute, hour, day of month, month, day of week; each ``*``, a number, a range ``a-b``, a step ``*/n`` or
``a-b/n``, or a list of those; months and days by English three-letter name too, Sunday is 0 or 7. As in cron(5), a day
matches by either of the two day fields when both are restricted. No ``@daily``, seconds, ``L``, ``W``, ``#``, ``?``.

Daylight saving: a wall-clock time that is skipped fires as much later as the gap is long, so that no window is lost;
one that comes twice fires the first time only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS: Final = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
                  "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}  # fmt: skip
_DAYS: Final = {n: i for i, n in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_Field: TypeAlias = tuple[str, int, int, dict[str, int]]
_FIELDS: Final[tuple[_Field, ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_PART: Final = re.compile(r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_LONGEST_PAUSE_DAYS: Final = 366 * 8 + 2
"""29 February may be eight years away (1896, 2096): an expression silent for longer never fires."""


class CronError(ValueError):
    """An expression or time zone that means nothing; the text names the field and what it may be."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; ``text`` is the original."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def on(self, day: date) -> bool:
        """Whether it fires on this day."""
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_date or by_weekday) if self.either_day else (by_date and by_weekday)

    def next_after(self, now: float, zone: ZoneInfo) -> float:
        """The first epoch second after ``now`` at which it fires. Raises CronError if it never does."""
        # A day is begun early and finished whole: a skipped wall-clock time may fire past midnight, and out of order.
        today = datetime.fromtimestamp(now, zone).date() - timedelta(days=1)
        for offset in range(_LONGEST_PAUSE_DAYS):
            day = today + timedelta(days=offset)
            if self.on(day) and (later := [at for at in self._moments(day, zone) if at > now]):
                return min(later)
        raise CronError(f"cron expression {self.text!r} never fires: no such day; correct day of month and month")

    def _moments(self, day: date, zone: ZoneInfo) -> Iterator[float]:
        """All epoch seconds of a day at which it fires; ``fold=0`` is the first of two, and the late side of a gap."""
        for hour in self.hours:
            for minute in self.minutes:
                yield datetime.combine(day, time(hour, minute), zone).astimezone(UTC).timestamp()


def parse(text: str) -> Cron:
    """Raises CronError, which names the field, also for an expression that never fires, such as 30 February."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise CronError(
            f"cron expression {text!r} has {len(parts)} fields; write five: minute hour day-of-month month day-of-week"
        )
    minutes, hours, days, months, weekdays = (
        _field(text, part, spec) for part, spec in zip(parts, _FIELDS, strict=True)
    )
    cron = Cron(
        text,
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(day % 7 for day in weekdays),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )
    cron.next_after(0.0, ZoneInfo("UTC"))
    return cron


def zone(name: str) -> ZoneInfo:
    """Raises CronError for a name that the time zone database does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronError(f"time zone {name!r} is not known; use a name such as Europe/Berlin or UTC") from error


def _field(text: str, part: str, field: _Field) -> set[int]:
    """All numbers that one field stands for."""
    name, low, high, names = field

    def number(word: str) -> int:
        value = names.get(word.lower(), -1) if not word.isdecimal() else int(word)
        if not low <= value <= high:
            known = f" or {'/'.join(names)}" if names else ""
            raise CronError(f"cron expression {text!r}: {name} {word!r} is not one of {low}-{high}{known}")
        return value

    found: set[int] = set()
    for piece in part.split(","):
        match = _PART.fullmatch(piece)
        if match is None or (match["step"] and not match["all"] and not match["high"]):
            raise CronError(f"cron expression {text!r}: {name} {piece!r} is none of *, n, a-b, */n, a-b/n")
        first = low if match["all"] else number(match["low"])
        last = high if match["all"] else number(match["high"] or match["low"])
        step = int(match["step"] or 1)
        if first > last or step < 1:
            raise CronError(f"cron expression {text!r}: {name} {piece!r} is empty; write a-b with a ≤ b and a step ≥ 1")
        found.update(range(first, last + 1, step))
    return found

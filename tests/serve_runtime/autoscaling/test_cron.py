"""When cron expressions fire, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_runtime.autoscaling import cron

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def following(text: str, at: datetime, zone: ZoneInfo) -> datetime:
    """The next moment, in the zone."""
    return datetime.fromtimestamp(cron.parse(text).next_after(at.timestamp(), zone), zone)


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("0 8 * * mon-fri", "2026-11-27T08:00", "2026-11-30T08:00"),  # a Friday, at that very minute
        ("*/20 * * * *", "2026-11-27T08:01", "2026-11-27T08:20"),
        ("0 0 29 2 *", "2026-11-27T00:00", "2028-02-29T00:00"),
        ("30 6 1 jan,jul *", "2026-11-27T00:00", "2027-01-01T06:30"),
        ("0 12 13 * 5", "2026-11-27T13:00", "2026-12-04T12:00"),  # both day fields: either one
        ("0 12 * * 7", "2026-11-27T13:00", "2026-11-29T12:00"),  # 7 is Sunday
        ("0 12 * * SUN", "2026-11-27T13:00", "2026-11-29T12:00"),
        ("10-30/10 4 * * *", "2026-11-27T04:10", "2026-11-27T04:20"),
    ],
)
def test_it_fires_next(text: str, at: str, expected: str) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=BERLIN)
    assert following(text, now, BERLIN) == datetime.fromisoformat(expected).replace(tzinfo=BERLIN)


def test_a_time_that_is_skipped_in_spring_fires_as_much_later() -> None:
    midnight = datetime(2026, 3, 29, tzinfo=BERLIN)
    assert following("30 2 * * *", midnight, BERLIN).isoformat() == "2026-03-29T03:30:00+02:00"


def test_skipped_times_and_real_ones_fire_in_the_order_of_time() -> None:
    at = datetime(2026, 3, 29, 3, 10, tzinfo=BERLIN)  # ten minutes after the gap; 02:45 would be 03:45
    assert following("45 2,3 * * *", at, BERLIN).isoformat() == "2026-03-29T03:45:00+02:00"


def test_a_time_that_comes_twice_in_autumn_fires_once() -> None:
    midnight = datetime(2026, 11, 1, tzinfo=NEW_YORK)
    first = following("30 1 * * *", midnight, NEW_YORK)
    assert first.isoformat() == "2026-11-01T01:30:00-04:00"
    assert following("30 1 * * *", first, NEW_YORK).isoformat() == "2026-11-02T01:30:00-05:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 8 * *", "has 4 fields; write five"),
        ("@daily", "has 1 fields"),
        ("60 8 * * *", "minute '60' is not one of 0-59"),
        ("0 24 * * *", "hour '24' is not one of 0-23"),
        ("0 8 * * fry", "day of week 'fry' is not one of 0-7 or sun/mon"),
        ("0 8 L * *", "day of month 'L'"),
        ("0 18-8 * * *", "hour '18-8' is empty"),
        ("0 */0 * * *", "hour '*/0' is empty"),
        ("0 8/2 * * *", "hour '8/2' is none of"),
        ("0 8 , * *", "day of month '' is none of"),
        ("0 8 30 2 *", "never fires"),
        ("٣ 8 * * *", "minute '٣' is none of"),
    ],
)
def test_what_means_nothing_is_refused_with_the_field(text: str, says: str) -> None:
    with pytest.raises(cron.CronError) as error:
        cron.parse(text)
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "/etc/passwd", "../UTC"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(cron.CronError, match="is not known; use a name such as Europe/Berlin"):
        cron.zone(name)


@settings(deadline=None)
@given(
    minute=st.sampled_from(["*", "0", "*/7", "5,50", "10-20"]),
    hour=st.sampled_from(["*", "3", "*/5", "22-23"]),
    days=st.sampled_from(["* * *", "1-9 * *", "* * 1-5", "*/2 * 3"]),
    at=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001
)
def test_it_is_the_first_minute_that_matches_each_field(minute: str, hour: str, days: str, at: datetime) -> None:
    expression = cron.parse(f"{minute} {hour} {days}")
    now = at.replace(tzinfo=UTC)
    found = datetime.fromtimestamp(expression.next_after(now.timestamp(), ZoneInfo("UTC")), UTC)
    candidate = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while not (
        expression.on(candidate.date())
        and candidate.hour in expression.hours
        and candidate.minute in expression.minutes
    ):
        candidate += timedelta(minutes=1)
    assert found == candidate


@settings(deadline=None)
@given(
    text=st.sampled_from(["*/15 * * * *", "30 1,2,3 * * *", "0 0 * * *", "59 23 * * sun"]),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    now=st.integers(min_value=1_700_000_000, max_value=1_900_000_000),
)
def test_it_is_always_later_and_never_skips_a_firing(text: str, zone: str, now: int) -> None:
    expression, place = cron.parse(text), ZoneInfo(zone)
    found = expression.next_after(now, place)
    assert found > now
    assert expression.next_after(found - 1, place) == found

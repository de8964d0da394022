"""When the practice is open: Monday to Thursday 8 to 17, Friday 8 to 13, not on holidays."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/Chicago")
OPENING = 8 * 60
LUNCH = (12 * 60, 13 * 60)


def closing(day: date) -> int:
    """Minutes after midnight."""
    return 13 * 60 if day.weekday() == 4 else 17 * 60


@cache
def is_open(day: date) -> bool:
    return day.weekday() < 5 and day not in holidays(day.year)


def next_open(day: date) -> date:
    """`day`, or the first open day after it."""
    while not is_open(day):
        day += timedelta(days=1)
    return day


@cache
def holidays(year: int) -> frozenset[date]:
    thanksgiving = _nth(year, 11, 3, 4)
    last_monday_of_may = date(year, 5, 31) - timedelta(days=date(year, 5, 31).weekday())
    return frozenset(
        [
            date(year, 1, 1),
            last_monday_of_may,
            date(year, 7, 4),
            _nth(year, 9, 0, 1),
            thanksgiving,
            thanksgiving + timedelta(days=1),
            date(year, 12, 24),
            date(year, 12, 25),
            date(year, 12, 31),
        ]
    )


def today(now: datetime | None = None) -> date:
    """The practice's calendar day at `now`, by default the present. Not the machine's: where that
    keeps UTC, its day begins while the practice still writes the evening's stamps.
    """
    return (now or datetime.now(UTC)).astimezone(ZONE).date()


def to_utc(day: date, minutes: int) -> datetime:
    """Wall clock of the practice → naive UTC, for change stamps."""
    hour, minute = divmod(minutes, 60)
    local = datetime.combine(day, time(hour, minute), ZONE)
    return local.astimezone(UTC).replace(tzinfo=None)


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))

"""The guard's rule, to the second, over both changes of the clock, and every way to ask for an
exception.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from etl_pipeline.window import ZONE, BusinessHours, Outcome, decide, now, parse_switch

HOURS = BusinessHours()
SPRING = (2026, 3, 8)  # 02:00 becomes 03:00
AUTUMN = (2026, 11, 1)  # 02:00 becomes 01:00 again


def clinic(*parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=ZONE, fold=fold)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("day", [(2026, 1, 15), (2026, 7, 15), SPRING, AUTUMN, (2028, 2, 29)])
@pytest.mark.parametrize(
    ("clock", "closed"),
    [
        ((0, 0, 0), False),
        ((1, 30, 0), False),
        ((5, 59, 59), False),
        ((6, 0, 0), True),
        ((6, 0, 1), True),
        ((12, 0, 0), True),
        ((20, 59, 59), True),
        ((21, 0, 0), False),
        ((23, 59, 59), False),
    ],
)
def test_edges_to_the_second(
    day: tuple[int, int, int], clock: tuple[int, int, int], closed: bool
) -> None:
    at = clinic(*day, *clock)
    assert HOURS.contains(at) is closed
    assert HOURS.contains(at.astimezone(UTC)) is closed


def test_a_microsecond_before_the_edges() -> None:
    assert not HOURS.contains(clinic(2026, 7, 15, 5, 59, 59, 999_999))
    assert HOURS.contains(clinic(2026, 7, 15, 20, 59, 59, 999_999))


@pytest.mark.parametrize(
    ("utc", "closed"),
    [
        # Winter is UTC-6, summer UTC-5: the same UTC hour is inside on one side and outside on the
        # other.
        (datetime(2026, 1, 15, 11, 30, tzinfo=UTC), False),  # 05:30 CST
        (datetime(2026, 7, 15, 11, 30, tzinfo=UTC), True),  # 06:30 CDT
        (datetime(2026, 1, 16, 2, 30, tzinfo=UTC), True),  # 20:30 CST
        (datetime(2026, 7, 16, 2, 30, tzinfo=UTC), False),  # 21:30 CDT
        (datetime(2026, 3, 7, 11, 30, tzinfo=UTC), False),  # the day before spring forward
        (datetime(2026, 3, 8, 11, 30, tzinfo=UTC), True),  # the day itself, 06:30 CDT
        (datetime(2026, 10, 31, 11, 30, tzinfo=UTC), True),
        (datetime(2026, 11, 1, 11, 30, tzinfo=UTC), False),  # the day itself, 05:30 CST
    ],
)
def test_the_wall_clock_decides_not_utc(utc: datetime, closed: bool) -> None:
    assert HOURS.contains(utc) is closed


def test_both_passes_of_the_repeated_hour_are_open() -> None:
    first, second = clinic(*AUTUMN, 1, 30), clinic(*AUTUMN, 1, 30, fold=1)
    assert second.astimezone(UTC) - first.astimezone(UTC) == timedelta(hours=1)
    assert not HOURS.contains(first)
    assert not HOURS.contains(second)


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 1, 15), 9), ((2026, 3, 7), 8), ((2026, 10, 31), 10)]
)
def test_length_of_the_night(day: tuple[int, int, int], hours: int) -> None:
    opening = clinic(*day, 21)
    length = HOURS.next_closing(opening) - opening.astimezone(UTC)
    assert length == timedelta(hours=hours)


@pytest.mark.parametrize("day", [(2026, 1, 15), SPRING, AUTUMN])
def test_next_opening(day: tuple[int, int, int]) -> None:
    opens = clinic(*day, 21).astimezone(UTC)
    for clock in ((6, 0, 0), (13, 0, 0), (20, 59, 59)):
        assert HOURS.next_opening(clinic(*day, *clock)) == opens
    assert opens - clinic(*day, 6).astimezone(UTC) == timedelta(hours=15)
    late = clinic(*day, 22, 15)
    assert HOURS.next_opening(late) == late


def test_next_closing_is_always_ahead() -> None:
    assert HOURS.next_closing(clinic(2026, 1, 15, 5)) == clinic(2026, 1, 15, 6)
    assert HOURS.next_closing(clinic(2026, 1, 15, 6)) == clinic(2026, 1, 16, 6)
    assert HOURS.next_closing(clinic(2026, 1, 15, 22)) == clinic(2026, 1, 16, 6)


def test_every_minute_of_the_year_agrees_with_next_opening() -> None:
    """From any minute, the next opening is open, and one second before it is closed unless it was
    open already.
    """
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at.year == 2026:
        opening = HOURS.next_opening(at)
        assert not HOURS.contains(opening)
        if opening != at:
            assert HOURS.contains(opening - timedelta(seconds=1))
            assert opening - at <= timedelta(hours=15)
        at += timedelta(minutes=7)


def test_a_time_without_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="no zone"):
        HOURS.contains(datetime(2026, 1, 15, 12))


def test_now_is_aware() -> None:
    assert now().utcoffset() == timedelta(0)


NOON = clinic(2026, 7, 15, 12)
NIGHT = clinic(2026, 7, 15, 22)


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("by", [None, "run", "variable"])
@pytest.mark.parametrize("permitted", [True, False])
@pytest.mark.parametrize("at", [NOON, NIGHT])
def test_every_combination(at: datetime, permitted: bool, by: str | None, scheduled: bool) -> None:
    decision = decide(at, scheduled=scheduled, override_by=by, override_permitted=permitted)
    if at is NIGHT:
        expected = Outcome.OPEN
    elif by and permitted:
        expected = Outcome.OVERRIDE
    else:
        expected = Outcome.WAITING if scheduled else Outcome.REFUSED
    assert decision.outcome is expected
    assert decision.allowed is (expected in (Outcome.OPEN, Outcome.OVERRIDE))
    assert decision.override_by == by
    assert ("not true in this container" in decision.reason) is (
        at is NOON and by is not None and not permitted
    )


def test_a_waiting_run_says_until_when_and_how_long() -> None:
    at = clinic(*SPRING, 8, 0, 30)
    decision = decide(at, scheduled=True, waiting_since=at - timedelta(minutes=30))
    assert decision.opens_at == "2026-03-08T21:00:00-05:00"
    assert decision.closes_at == "2026-03-09T06:00:00-05:00"
    assert decision.decided_at == "2026-03-08T08:00:30-05:00"
    assert decision.waited_seconds == 1800
    assert "waiting until Sun 21:00 CDT" in decision.reason


def test_the_record_is_json_with_its_verdict() -> None:
    assert decide(NIGHT, scheduled=True).to_dict() == {
        "allowed": True,
        "outcome": "open",
        "reason": "22:00:00 CDT is outside business hours (06:00 to 21:00)",
        "decided_at": "2026-07-15T22:00:00-05:00",
        "opens_at": "2026-07-15T22:00:00-05:00",
        "closes_at": "2026-07-16T06:00:00-05:00",
        "override_by": None,
        "override_permitted": False,
        "waited_seconds": 0,
    }


@pytest.mark.parametrize("yes", [True, "true", " TRUE ", "1", "yes", "on"])
def test_switch_yes(yes: object) -> None:
    assert parse_switch(yes) is True


@pytest.mark.parametrize("no", [None, False, "", "false", "0", "no", "off"])
def test_switch_no(no: object) -> None:
    assert parse_switch(no) is False


@pytest.mark.parametrize("neither", ["maybe", "2", "truee", "{}"])
def test_switch_neither_is_never_a_yes(neither: object) -> None:
    assert parse_switch(neither) is None

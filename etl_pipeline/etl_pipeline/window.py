"""When the pipeline may read the clinic's database, and when it may not. Pure; knows nothing of
Airflow.

The rule: from 06:00:00 to 20:59:59 (America/Chicago, wall clock) the source belongs to the
practice, because a load monopolises the clinic's MySQL server. At 21:00:00 the window opens, at
06:00:00 it closes again. Daylight saving changes at 02:00, inside the open window, so the wall
clock decides and no day has a gap; only the *length* of the open window changes (8 h in March, 10 h
in November).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/Chicago")
CLOSES = time(6)
OPENS = time(21)
OVERRIDE_SWITCH = "ETL_ALLOW_BUSINESS_HOURS_OVERRIDE"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off", "none"})


def now() -> datetime:
    """The present moment, aware, UTC. The only clock of the guard."""
    return datetime.now(UTC)


def parse_switch(value: object) -> bool | None:
    """`True` or `False` for what a person may write as a switch, `None` for anything else.

    A value that is neither is the caller's to report; it never counts as a yes.
    """
    if value is None:
        return False
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


@dataclass(frozen=True)
class BusinessHours:
    """The hours, by the wall clock of `zone`, in which the source is not touched: `closes` up to,
    without, `opens`.
    """

    closes: time = CLOSES
    opens: time = OPENS
    zone: ZoneInfo = ZONE

    def local(self, at: datetime) -> datetime:
        """`at` on the clinic's clock. Raises ValueError for a time without zone: it could be any
        hour there.
        """
        if at.tzinfo is None or at.utcoffset() is None:
            raise ValueError("reading the clinic's clock: the time has no zone")
        return at.astimezone(self.zone)

    def contains(self, at: datetime) -> bool:
        """Whether `at` is in business hours, that is, whether the window is closed."""
        return self.closes <= self.local(at).time() < self.opens

    def next_opening(self, at: datetime) -> datetime:
        """The first moment from `at` on (UTC) at which the window is open; `at` itself when it is
        open now.
        """
        if not self.contains(at):
            return at.astimezone(UTC)
        return datetime.combine(self.local(at).date(), self.opens, self.zone).astimezone(UTC)

    def next_closing(self, at: datetime) -> datetime:
        """The first moment after `at` (UTC) at which business hours begin."""
        local = self.local(at)
        day = local.date() if local.time() < self.closes else local.date() + timedelta(days=1)
        return datetime.combine(day, self.closes, self.zone).astimezone(UTC)


class Outcome(StrEnum):
    """What the guard decided."""

    OPEN = "open"
    OVERRIDE = "override"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True)
class GuardDecision:
    """One decision of the guard, as it is logged, handed on and recorded in `etl.runs.guard`.

    Times are ISO 8601 with the offset of the clinic. `waited_seconds` counts from the first time
    the guard said "waiting". `override_by` names who asked to ignore business hours (`run` or
    `variable`), whether or not it was granted and whether or not it was needed.
    """

    outcome: Outcome
    reason: str
    decided_at: str
    opens_at: str
    closes_at: str
    override_by: str | None = None
    override_permitted: bool = False
    waited_seconds: int = 0

    @property
    def allowed(self) -> bool:
        """Whether the source may be read now."""
        return self.outcome in (Outcome.OPEN, Outcome.OVERRIDE)

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with `allowed`."""
        return {"allowed": self.allowed, **asdict(self), "outcome": self.outcome.value}


def decide(
    at: datetime,
    *,
    scheduled: bool,
    override_by: str | None = None,
    override_permitted: bool = False,
    waiting_since: datetime | None = None,
    hours: BusinessHours | None = None,
) -> GuardDecision:
    """Decide whether a run may read the source at `at`.

    - window open: allowed.
    - closed, override asked for and permitted by the container: allowed, and recorded as an
      override.
    - closed, a scheduled run: it waits. A refused override is said in the reason, and does not end
      the waiting.
    - closed, any other run (a person, a backfill): refused at once, so that nobody is surprised at
      21:00.
    """
    hours = hours or BusinessHours()
    local = hours.local(at)
    opens = hours.local(hours.next_opening(at))
    waited = max(0, round((at - waiting_since).total_seconds())) if waiting_since else 0

    def decision(outcome: Outcome, reason: str) -> GuardDecision:
        return GuardDecision(
            outcome=outcome,
            reason=reason,
            decided_at=local.isoformat(timespec="seconds"),
            opens_at=opens.isoformat(timespec="seconds"),
            closes_at=hours.local(hours.next_closing(at)).isoformat(timespec="seconds"),
            override_by=override_by,
            override_permitted=override_permitted,
            waited_seconds=waited,
        )

    clock = f"{local:%H:%M:%S %Z}"
    span = f"{hours.closes:%H:%M} to {hours.opens:%H:%M}"
    if not hours.contains(at):
        return decision(Outcome.OPEN, f"{clock} is outside business hours ({span})")
    if override_by and override_permitted:
        return decision(
            Outcome.OVERRIDE,
            f"{clock} is inside business hours ({span}); the {override_by} asked to ignore them"
            " and the container permits it",
        )
    refused = (
        f"; the {override_by} asked to ignore them,"
        f" but {OVERRIDE_SWITCH} is not true in this container"
        if override_by
        else ""
    )
    if scheduled:
        return decision(
            Outcome.WAITING,
            f"{clock} is inside business hours ({span}){refused};"
            f" waiting until {opens:%a %H:%M %Z}",
        )
    return decision(Outcome.REFUSED, f"{clock} is inside business hours ({span}){refused}")

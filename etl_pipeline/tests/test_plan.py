"""What is read tonight, decided by a pure function from what both servers say."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from etl_pipeline.catalog import Facts, Table
from etl_pipeline.plan import (
    BELIEVED_NIGHTS,
    BUCKETS_FROM,
    Knowledge,
    State,
    TablePlan,
    Watermark,
    plan,
    widens,
)
from etl_pipeline.target import RawTable
from etl_pipeline.types import Column

NOW = datetime(2026, 11, 27, 3, 0, 0)
FACTS = Facts(NOW - timedelta(days=3), NOW - timedelta(days=900), 500, 9000, 501, NOW)
KEY = Column("VisitNum", "bigint", "bigint(20)", 19, 0, nullable=False)
STAMP = Column("DateTStamp", "timestamp", "timestamp", auto_stamp=True, nullable=False)
VISIT = Table("visit", (KEY, STAMP), ("VisitNum",), 500, frozenset({"VisitNum"}), FACTS)
RAW = RawTable(
    "visit",
    {"VisitNum": "bigint", "DateTStamp": "timestamp with time zone"},
    ("VisitNum",),
    file=77,
)
STATE = State(FACTS.text(), settled=True, raw_file=77, rows=500, nights=1)


def quiet_day() -> date:
    """A day that is not visit's own night, so that only what a test changes decides."""
    days = (date(2026, 11, 27) + timedelta(days=n) for n in range(BELIEVED_NIGHTS))
    return next(d for d in days if action(today=d) == "unchanged")


def action(*args: Any, **options: Any) -> str:  # noqa: ANN401
    return planned(*args, **options).action


def planned(
    table: Table = VISIT,
    raw: RawTable | None = RAW,
    state: State | None = STATE,
    today: date | None = None,
    **options: Any,  # noqa: ANN401
) -> TablePlan:
    known = Knowledge(
        {"visit": Watermark("DateTStamp", "2026-11-20 10:00:00.000000")},
        {} if state is None else {"visit": state},
        today or quiet_day(),
    )
    (found,) = plan([table], {} if raw is None else {"visit": raw}, known, **options)
    return found


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, written_at=NOW - timedelta(days=2)),
        replace(FACTS, created_at=NOW),
        replace(FACTS, rows=501),
        replace(FACTS, bytes=9001),
        replace(FACTS, next_key=502),
        replace(FACTS, written_at=None),
    ],
)
def test_any_fact_that_moved_is_a_reason_to_read(facts: Facts) -> None:
    assert action(replace(VISIT, facts=facts)) == "incremental"


def test_unchanged_is_believed_only_of_a_copy_that_is_where_it_was() -> None:
    assert action() == "unchanged"
    assert action(raw=replace(RAW, file=78)) == "incremental"
    assert action(state=None) == "incremental"
    assert action(raw=None) == "full"


def test_a_write_just_before_the_look_may_have_had_a_follower() -> None:
    assert FACTS.settled
    assert not replace(FACTS, written_at=NOW - timedelta(seconds=1)).settled
    assert not replace(FACTS, written_at=None).settled
    assert action(state=replace(STATE, settled=False)) == "incremental"


def test_who_names_a_table_or_asks_for_all_rows_gets_them_read() -> None:
    assert action(only=["visit"]) == "incremental"
    assert action(full=True) == "full"


def test_each_table_is_read_once_a_week_whatever_the_server_says() -> None:
    assert action(state=replace(STATE, nights=BELIEVED_NIGHTS)) == "incremental"
    days = [date(2026, 11, 27) + timedelta(days=n) for n in range(BELIEVED_NIGHTS)]
    assert [action(today=day) for day in days].count("incremental") == 1
    # Not twice in one day, though.
    assert {action(today=day, state=replace(STATE, nights=0)) for day in days} == {"unchanged"}


def test_counts_stand_for_keys_only_where_the_server_keeps_them_and_raw_is_known() -> None:
    written = replace(FACTS, written_at=NOW, engine="MyISAM")
    visit = replace(VISIT, facts=written)
    assert (planned(visit).action, planned(visit).raw_rows) == ("incremental", 500)
    assert planned(replace(visit, facts=replace(written, engine="InnoDB"))).raw_rows is None
    assert planned(replace(visit, vouched="DateTStamp")).raw_rows is None
    assert planned(visit, raw=replace(RAW, file=78)).raw_rows is None
    assert planned(visit, state=None).raw_rows is None
    days = [date(2026, 11, 27) + timedelta(days=n) for n in range(BELIEVED_NIGHTS)]
    assert [planned(visit, today=day).raw_rows for day in days].count(None) == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("smallint", "integer", True),
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("bigint", "numeric(20,0)", True),
        ("bigint", "numeric(20,2)", False),
        ("smallint", "numeric(7,2)", True),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(12,4)", True),
        ("numeric(10,2)", "numeric(12,6)", False),
        ("numeric(10,2)", "numeric(10,1)", False),
        ("real", "double precision", True),
        ("double precision", "real", False),
        ("double precision", "numeric(10,2)", False),
        ("date", "timestamp without time zone", True),
        ("timestamp without time zone", "date", False),
        ("integer", "text", True),
        ("text", "integer", False),
        ("bytea", "interval", False),
    ],
)
def test_a_type_is_wider_when_every_value_has_its_place(old: str, new: str, expected: bool) -> None:
    assert widens(old, new) is expected


def test_a_table_without_a_stamp_is_told_apart_by_its_size_and_key() -> None:
    raw = replace(RAW, columns={"VisitNum": "bigint"})
    small = Table("visit", (KEY,), ("VisitNum",), BUCKETS_FROM - 1)
    assert action(small, raw) == "full"
    assert action(replace(small, estimated_rows=BUCKETS_FROM), raw) == "buckets"
    large = replace(small, estimated_rows=BUCKETS_FROM)
    assert action(large, raw, replace(STATE, moved=0.3)) == "buckets"
    assert action(large, raw, replace(STATE, moved=0.31)) == "full"
    text = Column("VisitNum", "varchar", "varchar(9)", nullable=False)
    named = Table("visit", (text,), ("VisitNum",), BUCKETS_FROM)
    assert action(named, replace(raw, columns={"VisitNum": "text"})) == "full"
    wide = replace(KEY, full_type="bigint(20) unsigned")
    unsigned = replace(named, columns=(wide,))
    assert action(unsigned, replace(raw, columns={"VisitNum": "numeric(20,0)"})) == "full"

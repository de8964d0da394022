"""Full and incremental loads against real databases; every expectation is written out by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg2
import pytest
from scratch import ROOT, Databases

from etl_pipeline import pipeline
from etl_pipeline.errors import Busy, PipelineError

pytestmark = pytest.mark.database

VISITS = """
CREATE TABLE visit (
  VisitNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  Note text,
  Fee double NOT NULL DEFAULT 0,
  DateTStamp timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()
) ENGINE=MyISAM
"""


@pytest.fixture
def visits(databases: Databases) -> Databases:
    """Three visits with the same stamp, loaded."""
    databases.on_source(
        VISITS,
        "INSERT INTO visit VALUES (1, 'a', 10, '2026-01-05 10:00:00'),"
        " (2, 'b', 20, '2026-01-05 10:00:00'), (3, 'c', 30, '2026-01-05 10:00:00')",
    )
    databases.run("first")
    return databases


def notes(databases: Databases) -> list[tuple[int, str]]:
    return databases.on_analytics('select "VisitNum", "Note" from raw.visit order by 1')


def watermark(databases: Databases) -> str:
    return databases.on_analytics("select value from etl.watermarks")[0][0]


def test_first_load(visits: Databases) -> None:
    assert notes(visits) == [(1, "a"), (2, "b"), (3, "c")]
    assert watermark(visits) == "2026-01-05 10:00:00.000000"
    # With room for the updates that a stamp is there for.
    options = "select reloptions from pg_class where oid = 'raw.visit'::regclass"
    assert visits.on_analytics(options) == [(["fillfactor=90"],)]
    key = "select pg_get_constraintdef(oid) from pg_constraint where contype = 'p' and conrelid = "
    assert visits.on_analytics(f"{key}'raw.visit'::regclass") == [('PRIMARY KEY ("VisitNum")',)]


def test_lag_is_how_long_ago_the_source_last_wrote(visits: Databases) -> None:
    visits.on_source("INSERT INTO visit (Note, DateTStamp) VALUES ('x', UTC_TIMESTAMP())")
    visits.on_source(f"UPDATE visit SET DateTStamp = DateTStamp - INTERVAL {(days := 9)} DAY")
    lag = visits.run()["visit"].lag
    assert lag is not None
    assert days - 1 < lag / 86_400 < days + 1
    assert visits.on_analytics("select lag from etl.tables where run_id = 'r1'") == [(lag,)]


def test_inserts_updates_and_deletes_and_nothing_else(visits: Databases) -> None:
    before = visits.on_analytics('select _loaded_at from raw.visit where "VisitNum" = 1')
    visits.on_source(
        "UPDATE visit SET Note = 'B', DateTStamp = '2026-01-06 08:00:00' WHERE VisitNum = 2",
        "DELETE FROM visit WHERE VisitNum = 3",
        "INSERT INTO visit VALUES (4, 'd', 40, '2026-01-06 08:00:01')",
    )
    result = visits.run("second")["visit"]
    assert (result.strategy, result.rows_read, result.rows_written) == ("incremental", 3, 3)
    assert notes(visits) == [(1, "a"), (2, "B"), (4, "d")]
    assert watermark(visits) == "2026-01-06 08:00:01.000000"
    # An unchanged row keeps the moment at which it was last changed.
    assert visits.on_analytics('select _loaded_at from raw.visit where "VisitNum" = 1') == before


def test_a_row_written_in_the_second_of_the_watermark(visits: Databases) -> None:
    visits.on_source("INSERT INTO visit VALUES (9, 'late', 1, '2026-01-05 10:00:00')")
    assert visits.run("second")["visit"].rows_written == 1
    assert (9, "late") in notes(visits)


def test_a_change_with_an_equal_stamp_is_seen(visits: Databases) -> None:
    visits.on_source(
        "UPDATE visit SET Note = 'z', DateTStamp = '2026-01-05 10:00:00' WHERE VisitNum = 1"
    )
    visits.run("second")
    assert notes(visits)[0] == (1, "z")


def test_a_new_row_far_behind_the_watermark_is_found_by_its_key(visits: Databases) -> None:
    visits.on_source("INSERT INTO visit VALUES (8, 'restored', 1, '2020-01-01 00:00:00')")
    visits.run("second")
    assert (8, "restored") in notes(visits)
    assert watermark(visits) == "2026-01-05 10:00:00.000000"


def test_rows_lost_in_raw_come_back(visits: Databases) -> None:
    visits.on_source("UPDATE visit SET DateTStamp = '2026-03-01 00:00:00' WHERE VisitNum = 1")
    visits.run("second")
    visits.on_analytics("truncate raw.visit")
    visits.run("third")
    assert notes(visits) == [(1, "a"), (2, "b"), (3, "c")]


def test_nothing_changed_writes_nothing(visits: Databases) -> None:
    assert visits.run("second")["visit"].rows_written == 0
    assert visits.run("third", full=True)["visit"].rows_written == 0


def test_full_load_of_a_table_without_a_stamp(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE definition (DefNum bigint PRIMARY KEY, ItemName varchar(20))",
        "INSERT INTO definition VALUES (1, 'one'), (2, 'two'), (3, NULL)",
    )
    databases.run("first")
    # What dbt builds on raw must survive, and so must what is granted on it.
    databases.on_analytics("create view public.names as select * from raw.definition")
    databases.on_source(
        "UPDATE definition SET ItemName = '' WHERE DefNum = 3",
        "DELETE FROM definition WHERE DefNum = 1",
    )
    result = databases.run("second")["definition"]
    assert (result.strategy, result.rows_read, result.rows_written) == ("full", 2, 2)
    rows = databases.on_analytics('select "DefNum", "ItemName" from public.names order by 1')
    databases.on_analytics("drop view public.names")
    assert rows == [(2, "two"), (3, "")]


def test_a_table_of_nothing_but_its_key(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE link (a varchar(9) COLLATE utf8mb3_bin, _new int, PRIMARY KEY (_new, a))",
        "INSERT INTO link VALUES ('x', 1), ('X', 1), ('y', 2)",
    )
    databases.run("first")
    databases.on_source(
        "DELETE FROM link WHERE a = 'x'", "INSERT INTO link VALUES ('x', 3), ('z', 0)"
    )
    result = databases.run("second")["link"]
    assert (result.strategy, result.rows_read, result.rows_written) == ("full", 4, 3)
    rows = databases.on_analytics("select a, _new from raw.link order by _new")
    assert rows == [("z", 0), ("X", 1), ("y", 2), ("x", 3)]


def test_composite_text_key(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE pair (a varchar(9) COLLATE utf8mb3_bin, b int, v int, SecDateTEdit timestamp"
        " DEFAULT current_timestamp() ON UPDATE current_timestamp(), PRIMARY KEY (b, a))",
        "INSERT INTO pair VALUES ('x', 1, 1, '2026-01-01'), ('X', 1, 2, '2026-01-01'),"
        " ('it''s', 2, 3, '2026-01-01')",
    )
    databases.run("first")
    databases.on_source(
        "DELETE FROM pair WHERE v = 1", "INSERT INTO pair VALUES ('\"q', 3, 4, '2019-01-01')"
    )
    databases.run("second")
    rows = databases.on_analytics("select a, b, v from raw.pair order by v")
    assert rows == [("X", 1, 2), ("it's", 2, 3), ('"q', 3, 4)]
    assert pipeline.verify(databases.settings, run_id="second").ok


def test_new_column_is_added_and_filled_for_old_rows(visits: Databases) -> None:
    visits.on_analytics("create view public.v as select * from raw.visit")
    visits.on_source("ALTER TABLE visit ADD COLUMN IsMirrored tinyint NOT NULL DEFAULT 1")
    result = visits.run("second")["visit"]
    visits.on_analytics("drop view public.v")
    assert (result.strategy, result.rows_written) == ("full", 3)
    assert visits.on_analytics('select distinct "IsMirrored" from raw.visit') == [(1,)]


def test_a_widened_column_is_altered_under_the_views_that_read_it(visits: Databases) -> None:
    visits.on_source("ALTER TABLE visit ADD COLUMN Kind tinyint NOT NULL DEFAULT 7")
    visits.run("second")
    visits.on_analytics(
        """
        create role reader;
        create view public.kinds as select "VisitNum", "Kind" as kind from raw.visit;
        create view public."Kinds of kinds" as
            select k.kind + 1 as more, v."Note" from public.kinds as k
            inner join raw.visit as v on v."VisitNum" = k."VisitNum";
        comment on view public.kinds is 'it''s dbt''s';
        grant select on public.kinds to reader with grant option;
        grant select on public."Kinds of kinds" to public;
        """
    )
    visits.on_source(
        "ALTER TABLE visit MODIFY Kind int NOT NULL", "UPDATE visit SET Kind = 70000",
        "UPDATE visit SET DateTStamp = '2020-01-01'",
    )  # fmt: skip
    result = visits.run("third")["visit"]
    assert (result.error, result.strategy, result.rows_written) == (None, "full", 3)
    try:
        assert visits.on_analytics('select distinct more from public."Kinds of kinds"') == [
            (70001,)
        ]
        assert visits.on_analytics(
            "select obj_description('public.kinds'::regclass),"
            " has_table_privilege('reader', 'public.kinds', 'select with grant option'),"
            " has_table_privilege('reader', 'public.\"Kinds of kinds\"', 'select')"
        ) == [("it's dbt's", True, True)]
        # What cannot be put back refuses the change, and leaves all as it was.
        visits.on_analytics("create materialized view public.kept as select kind from public.kinds")
        visits.on_source("ALTER TABLE visit MODIFY Kind bigint NOT NULL")
        error = str(visits.run("fourth")["visit"].error)
        assert "materialized view public.kept" in error
        assert "drop materialized view public.kept" in error
        assert visits.on_analytics("select count(*) from public.kinds") == [(3,)]
    finally:
        visits.on_analytics(
            "drop materialized view if exists public.kept; drop view public.kinds cascade;"
            " drop owned by reader; drop role reader"
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("MODIFY Fee decimal(10,2)", ['"Fee"', "double precision", "numeric(10,2)", "alter table"]),
        ("DROP COLUMN Note", ['"Note"', "vanished", "drop column"]),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (VisitNum, Fee)", ["primary key", "add primary key"]),
    ],
)
def test_incompatible_drift_fails_its_table_with_the_way_out(
    visits: Databases, change: str, words: list[str]
) -> None:
    visits.on_source(f"ALTER TABLE visit {change}", "CREATE TABLE other (id int PRIMARY KEY)")
    results = visits.run("second")
    assert results["other"].error is None
    for word in ["visit", *words]:
        assert word in str(results["visit"].error)
    assert notes(visits) == [(1, "a"), (2, "b"), (3, "c")]


def test_excluded_tables_and_columns_never_arrive(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE tmppatient (id int PRIMARY KEY)",
        "CREATE TABLE temppopup_bak_20200424 (id int PRIMARY KEY)",
        "CREATE TABLE preference (PrefNum int PRIMARY KEY, PrefName text, ValueString text)",
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE userod (UserNum int PRIMARY KEY, UserName text, Password text)",
    )
    assert list(databases.run()) == ["userod"]
    columns = "select column_name from information_schema.columns where table_schema = 'raw'"
    assert sorted(databases.on_analytics(columns)) == [
        ("UserName",), ("UserNum",), ("_loaded_at",),
    ]  # fmt: skip


def test_a_column_that_a_rule_leaves_out_by_now_leaves_raw_as_well(visits: Databases) -> None:
    """An older version copied it; what a rule calls a secret is not kept."""
    visits.on_source("ALTER TABLE visit ADD COLUMN AccessToken varchar(9) NOT NULL DEFAULT 'hush'")
    visits.on_analytics(
        'alter table raw.visit add column "AccessToken" text;'
        ' create view public.v as select "VisitNum" from raw.visit'
    )
    result = visits.run("second")["visit"]
    assert (result.error, result.rows_written) == (None, 0)
    columns = "select column_name from information_schema.columns where table_schema = 'raw'"
    assert ("AccessToken",) not in visits.on_analytics(columns)
    assert visits.on_analytics("select count(*) from public.v") == [(3,)]
    visits.on_analytics("drop view public.v")


def test_a_failed_table_does_not_stop_the_others_and_a_retry_loads_only_it(
    databases: Databases,
) -> None:
    databases.on_source(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE b (id int PRIMARY KEY, shape geometry)",
        "CREATE TABLE c (id int PRIMARY KEY)",
    )
    first = databases.run("night")
    assert [name for name, result in first.items() if not result.ok] == ["b"]
    assert databases.on_analytics("select status from etl.runs") == [("failed",)]
    databases.on_source("ALTER TABLE b DROP COLUMN shape")
    assert list(databases.run("night")) == ["b"]
    assert databases.on_analytics("select status from etl.runs") == [("success",)]
    report = pipeline.report(databases.settings, run_id="night")
    assert [t.table for t in report.tables] == ["a", "b", "c"]


def test_only_named_tables(visits: Databases) -> None:
    visits.on_source("CREATE TABLE other (id int PRIMARY KEY)")
    assert list(visits.run("second", tables=["visit"])) == ["visit"]
    with pytest.raises(PipelineError, match="no such table"):
        visits.run("third", tables=["nowhere"])


def test_second_run_is_refused_while_one_is_at_work(visits: Databases) -> None:
    holder = psycopg2.connect(visits.analytics.dsn, password=os.environ["TEST_ANALYTICS_PASSWORD"])
    with holder.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s)", [0x64656E74616C])
        with pytest.raises(Busy, match="another run"):
            visits.run("second")
    holder.close()
    assert visits.run("second")["visit"].ok


def test_killed_between_stage_and_commit(visits: Databases) -> None:
    """A SIGKILL while the merge waits for a lock: nothing is lost, nothing is done twice."""
    visits.on_source(
        "DELETE FROM visit WHERE VisitNum = 3",
        "INSERT INTO visit VALUES (4, 'd', 40, '2026-01-06 08:00:01')",
    )
    blocker = psycopg2.connect(visits.analytics.dsn, password=os.environ["TEST_ANALYTICS_PASSWORD"])
    with blocker.cursor() as cursor:
        cursor.execute("lock table raw.visit in share mode")
        process = subprocess.Popen(
            [sys.executable, "-m", "etl_pipeline", "run", "--run-id", "killed"],
            env={**visits.environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        waiting += " and datname = current_database()"
        deadline = time.monotonic() + 30
        while visits.on_analytics(waiting) != [(1,)] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert visits.on_analytics(waiting) == [(1,)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    blocker.rollback()
    blocker.close()
    assert notes(visits) == [(1, "a"), (2, "b"), (3, "c")]
    assert watermark(visits) == "2026-01-05 10:00:00.000000"
    states = "select run_id, status from etl.runs order by started_at"
    assert visits.on_analytics(states)[-1] == ("killed", "running")
    deadline = time.monotonic() + 30
    while visits.on_analytics(waiting) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    visits.run("next")
    assert notes(visits) == [(1, "a"), (2, "b"), (4, "d")]
    assert visits.on_analytics(states) == [
        ("first", "success"), ("killed", "failed"), ("next", "success"),
    ]  # fmt: skip


def test_readers_see_the_old_rows_until_the_commit_and_never_wait(visits: Databases) -> None:
    reader = psycopg2.connect(visits.analytics.dsn, password=os.environ["TEST_ANALYTICS_PASSWORD"])
    with reader.cursor() as cursor:
        # A reader that stays in its transaction holds its lock through the whole load.
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select count(*) from raw.visit")
        assert cursor.fetchone() == (3,)
        visits.on_source("DELETE FROM visit WHERE VisitNum < 3")
        assert visits.run("second", full=True)["visit"].ok
        cursor.execute("select count(*) from raw.visit")
        assert cursor.fetchone() == (3,)
    reader.close()
    assert notes(visits) == [(3, "c")]

"""Tables over a few connections at once; the end of the window; a person who interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from scratch import ROOT, Databases

from etl_pipeline import pipeline

pytestmark = pytest.mark.database

TABLES = 6
ROWS = 3_000


@pytest.fixture
def several(databases: Databases) -> Databases:
    """Six tables, the first the smallest."""
    for n in range(TABLES):
        databases.on_source(
            f"CREATE TABLE t{n} (id bigint PRIMARY KEY, note text) ENGINE=MyISAM",
            f"INSERT INTO t{n} SELECT seq, REPEAT('x', 50) FROM seq_1_to_{ROWS + n}",
        )
    return databases


def counts(databases: Databases) -> dict[str, int]:
    """Rows of each table that raw has."""
    names = databases.on_analytics(
        "select relname from pg_class where relnamespace = to_regnamespace('raw')"
        " and relkind = 'r' order by 1"
    )
    return {
        name: databases.on_analytics(f'select count(*) from raw."{name}"')[0][0]
        for (name,) in names
    }


ALL = {f"t{n}": ROWS + n for n in range(TABLES)}


@pytest.mark.parametrize("connections", [1, 2, 8])
def test_every_table_is_loaded_once_whatever_the_connections(
    several: Databases, connections: int
) -> None:
    results = several.run("first", connections=connections)
    assert list(results) == sorted(ALL)
    assert counts(several) == ALL
    assert [line.split("]")[0] for line in several.log] == [f"[{n}/6" for n in range(1, 7)]
    assert several.on_analytics("select count(*), sum(rows_read) from etl.tables") == [
        (TABLES, sum(ALL.values()))
    ]


def test_the_largest_is_begun_first(several: Databases) -> None:
    several.run("first", connections=1)
    begun = several.on_analytics("select table_name from etl.tables order by started_at")
    assert begun == [(f"t{n}",) for n in reversed(range(TABLES))]


def test_the_source_is_read_on_while_a_merge_waits(several: Databases) -> None:
    """One connection to the source: it is free again once the first table's rows are read."""
    several.run("first")
    several.on_source(*(f"UPDATE t{n} SET note = 'new' WHERE id = 1" for n in range(TABLES)))
    loaded = "select count(*) from etl.tables where run_id = 'second' and status = 'success'"
    with several.analytics.cursor() as cursor, ThreadPoolExecutor(1) as other:
        cursor.execute("begin; lock table raw.t5 in share mode")
        run = other.submit(several.run, "second", connections=1)
        try:
            deadline = time.monotonic() + 30
            while several.on_analytics(loaded) != [(TABLES - 1,)]:
                assert time.monotonic() < deadline, "the other tables wait as well"
                time.sleep(0.05)
        finally:
            cursor.execute("commit")
        assert {r.rows_written for r in run.result().values()} == {1}


def test_a_failure_costs_its_table_and_no_other(several: Databases) -> None:
    several.on_source("ALTER TABLE t2 ADD COLUMN shape geometry")
    several.run("first")
    several.on_source("ALTER TABLE t2 DROP COLUMN shape")
    several.on_analytics("alter table raw.t4 add constraint odd check (note <> 'y')")
    several.on_source("UPDATE t4 SET note = 'y' WHERE id = 1", "UPDATE t5 SET note = 'z'")
    results = several.run("second")
    assert [name for name, result in results.items() if not result.ok] == ["t4"]
    assert counts(several) == ALL
    several.on_analytics("alter table raw.t4 drop constraint odd")
    assert several.run("second").keys() == {"t4"}


def test_a_window_that_is_over_leaves_the_source_alone(several: Databases) -> None:
    several.run("first", tables=["t3"])
    over = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    results = several.run("second", until=over)
    assert {result.error for result in results.values()} == {
        f"loading table {name}: the window closed at 12:00 UTC;"
        " hint: the next run begins with what is left"
        for name in ALL
    }
    assert counts(several) == {"t3": ROWS + 3}
    assert several.on_analytics("select status from etl.runs order by started_at") == [
        ("success",), ("failed",),
    ]  # fmt: skip
    assert all(result.ok for result in several.run("third").values())
    assert counts(several) == ALL


def test_another_try_is_worth_it_unless_a_person_has_to_mend_it(several: Databases) -> None:
    def run(name: str, until: datetime | None = None) -> pipeline.RunResult:
        return pipeline.run(several.settings, run_id=name, until=until, log=several.log.append)

    good = run("first")
    assert (good.error, good.lasting) == (None, False)
    several.on_source("ALTER TABLE t2 ADD COLUMN shape geometry")
    blocked = run("second")
    assert (blocked.error, blocked.lasting) == (
        f'1 of {TABLES} tables failed: mapping table t2: column "shape" has type geometry, which is'
        " unknown\nhint: add the type to etl_pipeline/types.py or the column to"
        " etl_pipeline/exclusions.py",
        True,
    )
    several.on_analytics("alter table raw.t4 add constraint odd check (note <> 'y')")
    several.on_source("UPDATE t4 SET note = 'y' WHERE id = 1")
    both = run("third")
    assert not both.lasting, "t4 may do better"
    assert str(both.error).startswith(f"2 of {TABLES} tables failed: mapping table t2: ")
    assert run("third", datetime.now(UTC)).lasting, "the window is over"


def test_a_window_that_closes_meanwhile_keeps_what_is_loaded(several: Databases) -> None:
    """A table that somebody has locked is being read when the window closes; others had time."""
    several.run("first", tables=["t3"])
    several.on_source("UPDATE t3 SET note = 'new' WHERE id = 1", "LOCK TABLES t3 WRITE")
    until = datetime.now(UTC) + timedelta(seconds=10)
    try:
        results = several.run("second", connections=2, until=until)
    finally:
        several.on_source("UNLOCK TABLES")
    assert [name for name, result in results.items() if not result.ok] == ["t3"]
    assert "the window closed" in str(results["t3"].error)
    assert counts(several) == ALL
    assert several.run("third")["t3"].rows_written == 1


def test_a_window_far_away_changes_nothing(several: Databases) -> None:
    began = time.monotonic()
    several.run("first", until=datetime.now(UTC) + timedelta(hours=5))
    assert counts(several) == ALL
    # Its timer holds nobody up.
    assert time.monotonic() - began < 60


def test_a_person_who_interrupts_gets_an_end_and_keeps_what_is_loaded(several: Databases) -> None:
    several.run("first", tables=["t3"])
    several.on_source("UPDATE t3 SET note = 'new' WHERE id = 1")
    with several.analytics.cursor() as cursor:
        cursor.execute("begin; lock table raw.t3 in share mode")
        process = subprocess.Popen(
            [sys.executable, "-m", "etl_pipeline", "run", "--run-id", "interrupted"],
            env={**several.environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        )
        deadline = time.monotonic() + 30
        while several.on_analytics(waiting) != [(1,)] and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        cursor.execute("commit")
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted: loaded tables are kept; run again to go on"
    assert "Traceback" not in err
    # The same run again loads what is missing alone.
    assert "t3" in several.run("interrupted")
    assert counts(several) == ALL
    assert pipeline.verify(several.settings, run_id="interrupted").ok

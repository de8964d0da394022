"""Verification finds what is wrong in raw, and only that; reports hold no values."""

from __future__ import annotations

import json
import os
import re
import time

import psycopg2
import pytest
from scratch import Databases
from test_load import VISITS

from etl_pipeline import pipeline

pytestmark = pytest.mark.database


@pytest.fixture
def loaded(databases: Databases) -> Databases:
    databases.on_source(
        VISITS,
        "INSERT INTO visit VALUES (1, 'a', 10.1, '2026-01-05 10:00:00'),"
        " (2, 'b', 20.2, '2026-01-05 10:00:00')",
        "CREATE TABLE label (id varchar(9) PRIMARY KEY, amount double)",
        "INSERT INTO label VALUES ('x', 0.3), ('y', NULL)",
        "CREATE TABLE hollow (id int PRIMARY KEY)",
    )
    databases.run()
    return databases


def outcome(databases: Databases) -> dict[str, tuple[str, tuple[str, ...]]]:
    verification = pipeline.verify(databases.settings, run_id="r1")
    return {c.table: (c.outcome, c.differences) for c in verification.checks}


def test_all_agree(loaded: Databases) -> None:
    match = ("match", ())
    assert outcome(loaded) == {"hollow": match, "label": match, "visit": match}
    stored = loaded.on_analytics("select verification -> 'ok' from etl.runs")
    assert stored == [(True,)]


@pytest.mark.parametrize(
    ("damage", "table", "differences"),
    [
        ('delete from raw.visit where "VisitNum" = 1', "visit", ("1 row missing in raw",)),
        ('update raw.visit set "VisitNum" = 7 where "VisitNum" = 1', "visit",
         ("1 row missing in raw", "1 row too many in raw")),
        ('update raw.visit set "Fee" = "Fee" + 0.0001 where "VisitNum" = 2', "visit",
         ("Fee in 1 row",)),
        ('update raw.visit set "Note" = upper("Note")', "visit", ("Note in 2 rows",)),
        ('update raw.visit set "Note" = null, "Fee" = 7 where "VisitNum" = 2', "visit",
         ("Note in 1 row", "Fee in 1 row")),
        ("update raw.label set id = 'z' where id = 'y'", "label",
         ("1 row missing in raw", "1 row too many in raw")),
        ("update raw.label set amount = 0.4 where id = 'x'", "label", ("amount in 1 row",)),
        ("insert into raw.hollow values (0)", "hollow", ("1 row too many in raw",)),
        ("update raw.visit set \"DateTStamp\" = now() where \"VisitNum\" = 1", "visit",
         ("DateTStamp in 1 row",)),
        # What changes places leaves every sum, minimum and maximum as it was.
        ('update raw.visit set "Fee" = case "VisitNum" when 1 then 20.2 else 10.1 end', "visit",
         ("Fee in 2 rows",)),
    ],
)  # fmt: skip
def test_damage_is_found(
    loaded: Databases, damage: str, table: str, differences: tuple[str, ...]
) -> None:
    loaded.on_analytics(damage)
    assert outcome(loaded)[table] == ("differs", differences)
    assert not pipeline.verify(loaded.settings, run_id="r1").ok
    assert loaded.cli("verify").returncode == 1


def test_what_differs_is_shown_without_a_value_of_the_practice(loaded: Databases) -> None:
    loaded.on_analytics(
        'update raw.visit set "Note" = \'Zanzibar\', "Fee" = 47.11 where "VisitNum" = 2'
    )
    loaded.on_analytics('update raw.visit set "Note" = null where "VisitNum" = 1')
    assert loaded.cli("verify").stdout.splitlines() == [
        "visit: differs, 2 rows at the source, 2 in raw; Note in 2 rows, Fee in 1 row",
        "  visit VisitNum 1, Note: text of 1 characters at the source, NULL in raw",
        "  visit VisitNum 2, Note: text of 1 characters at the source, text of 8 characters in raw",
        "  visit VisitNum 2, Fee: a double at the source, a double in raw",
        "2 of 3 tables match the source",
    ]


def test_damage_behind_the_watermark_is_no_change_of_the_source(loaded: Databases) -> None:
    """The practice works on while a row that nobody touched is wrong in raw."""
    loaded.on_source("INSERT INTO visit VALUES (3, 'c', 5, '2026-01-05 10:11:00')")
    loaded.run("r2")
    loaded.on_source("INSERT INTO visit (Note) VALUES ('new')")
    loaded.on_analytics('update raw.visit set "Fee" = 1 where "VisitNum" = 3')
    # Its stamp lies within the overlap: the load may have come a moment too early.
    changed = ("1 row missing in raw", "Fee in 1 row")
    assert outcome(loaded)["visit"] == ("changed", changed)
    loaded.on_analytics('update raw.visit set "Fee" = 5 where "VisitNum" = 3')
    loaded.on_analytics('update raw.visit set "Fee" = 1 where "VisitNum" = 2')
    assert outcome(loaded)["visit"] == ("differs", ("1 row missing in raw", "Fee in 1 row"))


def test_damage_in_one_bucket_of_many_is_found_and_little_is_read(databases: Databases) -> None:
    databases.on_source(
        VISITS,
        "INSERT INTO visit SELECT seq, 'note', 10, '2026-01-05 10:00:00' FROM seq_1_to_20000",
    )
    databases.run()
    databases.on_analytics(
        'update raw.visit set "Note" = \'nota\' where "VisitNum" in (7, 19999);'
        ' delete from raw.visit where "VisitNum" = 7777;'
        " insert into raw.visit select 7e6, 'x', 1, now()"
    )
    assert outcome(databases)["visit"] == (
        "differs", ("1 row missing in raw", "1 row too many in raw", "Note in 2 rows"),
    )  # fmt: skip


def test_what_was_proved_and_not_written_since_is_only_counted(loaded: Databases) -> None:
    time.sleep(3)
    loaded.run("r2")
    match, unchanged = ("match", ()), ("unchanged", ())
    assert outcome(loaded) == {"hollow": match, "label": match, "visit": match}
    # InnoDB keeps no time of writing of a table that was never written.
    assert outcome(loaded) == {"hollow": match, "label": unchanged, "visit": unchanged}
    loaded.on_source("UPDATE label SET amount = 0.5 WHERE id = 'x'")
    loaded.on_analytics('delete from raw.visit where "VisitNum" = 1')
    assert outcome(loaded) == {
        "hollow": match,
        "label": ("changed", ("amount in 1 row",)),
        "visit": ("differs", ("1 row missing in raw",)),
    }


def test_a_source_that_moved_on_is_no_fault(loaded: Databases) -> None:
    loaded.on_source("INSERT INTO visit (Note) VALUES ('new')")
    assert outcome(loaded)["visit"][0] == "changed"
    assert pipeline.verify(loaded.settings, run_id="r1").ok


def test_a_blocked_table_is_not_said_to_be_empty(loaded: Databases) -> None:
    loaded.on_source("ALTER TABLE visit DROP COLUMN Fee")
    done = loaded.cli("verify")
    assert done.returncode == 1
    told = next(line for line in done.stdout.splitlines() if line.startswith("visit: "))
    assert told.startswith("visit: not compared: ")
    assert "Fee" in told


def test_a_table_that_was_never_loaded_is_missing(loaded: Databases) -> None:
    loaded.on_source("CREATE TABLE fresh (id int PRIMARY KEY)")
    assert outcome(loaded)["fresh"][0] == "missing"


def test_report_and_status(loaded: Databases) -> None:
    pipeline.verify(loaded.settings, run_id="r1")
    report = pipeline.report(loaded.settings, run_id="r1")
    assert (report.status, report.rows_read, report.failed) == ("success", 4, ())
    assert "3 tables agree with the source" in report.to_text()
    json.dumps(report.to_dict())
    status = pipeline.status(loaded.settings)
    assert {t.table: t.rows for t in status.tables} == {"hollow": 0, "label": 2, "visit": 2}
    assert status.last_run is not None
    assert status.last_run["run_id"] == "r1"
    json.dumps(status.to_dict())


def counted(databases: Databases) -> dict[str, int | None]:
    status = pipeline.status(databases.settings)
    assert all((t.rows is None) == (t.rows_as_of is None) for t in status.tables)
    return {t.table: t.rows for t in status.tables} | {"all": status.rows}


@pytest.fixture
def twenty(databases: Databases) -> Databases:
    """Twenty visits and two labels, loaded; Postgres forms its own opinion of neither."""
    databases.on_source(
        VISITS,
        "INSERT INTO visit (Fee, DateTStamp) SELECT seq, '2026-01-05 10:00:00' FROM seq_1_to_20",
        "CREATE TABLE label (id int PRIMARY KEY)",
        "INSERT INTO label VALUES (1), (2)",
    )
    databases.run()
    databases.on_analytics(
        "alter table raw.visit set (autovacuum_enabled = off);"
        " alter table raw.label set (autovacuum_enabled = off)"
    )
    return databases


def test_rows_are_counted_by_every_kind_of_load(twenty: Databases) -> None:
    assert counted(twenty) == {"visit": 20, "label": 2, "all": 22}
    twenty.on_source("INSERT INTO visit (Note) VALUES ('new')")
    result = twenty.run("r2", tables=["visit"])["visit"]
    assert (result.strategy, result.rows_after) == ("incremental", 21)
    assert counted(twenty) == {"visit": 21, "label": 2, "all": 23}
    twenty.on_source("DELETE FROM visit WHERE VisitNum = 1", "DELETE FROM label WHERE id = 1")
    twenty.run("r3", full=True)
    assert counted(twenty) == {"visit": 20, "label": 1, "all": 21}
    report = pipeline.report(twenty.settings, run_id="r3")
    assert {t.table: t.rows_after for t in report.tables} == {"visit": 20, "label": 1}


def test_a_load_that_failed_leaves_the_count_of_the_last_good_one(twenty: Databases) -> None:
    twenty.on_analytics("alter table raw.visit add constraint odd check (\"Note\" <> 'new')")
    twenty.on_source("INSERT INTO visit (Note) VALUES ('new')")
    assert not twenty.run("r2")["visit"].ok
    assert counted(twenty) == {"visit": 20, "label": 2, "all": 22}


def test_a_verification_counts_what_a_person_did_to_raw_and_the_next_load_again(
    twenty: Databases,
) -> None:
    twenty.on_analytics("truncate raw.visit; insert into raw.label values (3)")
    assert not pipeline.verify(twenty.settings, run_id="r1").ok
    assert counted(twenty) == {"visit": 0, "label": 3, "all": 3}
    twenty.run("r2", tables=["visit"])
    assert counted(twenty) == {"visit": 20, "label": 3, "all": 23}
    # Asked for once more under the same name, a run's verification is gone and its counts too.
    twenty.run("r1", tables=["label"])
    assert counted(twenty) == {"visit": 20, "label": 2, "all": 22}


def test_an_altered_table_was_not_counted_by_the_verification(twenty: Databases) -> None:
    twenty.on_source("ALTER TABLE visit ADD COLUMN IsMirrored tinyint NOT NULL DEFAULT 1")
    assert outcome(twenty)["visit"] == ("uncompared", ("its columns are others now",))
    assert counted(twenty) == {"visit": 20, "label": 2, "all": 22}


def test_bookkeeping_of_an_older_version_says_that_it_did_not_count(twenty: Databases) -> None:
    pipeline.verify(twenty.settings, run_id="r1")
    twenty.on_analytics(
        "alter table etl.tables drop column rows_after;"
        " alter table etl.runs drop column verified_at"
    )
    assert counted(twenty) == {"visit": None, "label": None, "all": None}
    text = twenty.cli("status").stdout
    assert re.search(r"^visit +- +2026-01-05 10:00:00 ", text, re.MULTILINE), text
    twenty.run("r2", tables=["visit"])
    assert counted(twenty) == {"visit": 20, "label": None, "all": None}
    pipeline.verify(twenty.settings, run_id="r2")
    assert counted(twenty) == {"visit": 20, "label": 2, "all": 22}


def test_the_bookkeeping_is_brought_up_to_date_without_waiting_for_readers(
    twenty: Databases,
) -> None:
    reader = psycopg2.connect(twenty.analytics.dsn, password=os.environ["TEST_ANALYTICS_PASSWORD"])
    with reader.cursor() as cursor:
        cursor.execute("select count(*) from etl.tables, etl.runs")
        twenty.on_source("INSERT INTO visit (Note) VALUES ('new')")
        assert twenty.run("r2")["visit"].ok
    reader.close()


@pytest.mark.parametrize(("changed", "estimate"), [(1, 20), (5, 25)])
def test_the_planner_is_told_of_a_notable_change(
    twenty: Databases, changed: int, estimate: int
) -> None:
    twenty.on_source(f"INSERT INTO visit (Fee) SELECT seq FROM seq_1_to_{changed}")
    assert twenty.run("r2")["visit"].strategy == "incremental"
    known = "select reltuples::int from pg_class where oid = 'raw.visit'::regclass"
    assert twenty.on_analytics(known) == [(estimate,)]


CANARY = "Zanzibar-Canary-4711"


def test_no_value_of_a_row_in_any_output(databases: Databases) -> None:
    """The canary breaks COPY on its way (a text that Postgres is told to read as a number)."""
    databases.on_source(
        "CREATE TABLE patient (PatNum bigint PRIMARY KEY, LName varchar(40))",
        f"INSERT INTO patient VALUES (1, '{CANARY}')",
    )
    databases.run("good")
    databases.on_analytics(
        'alter table raw.patient add constraint odd check (length("LName") < 30)'
    )
    databases.on_source(f"UPDATE patient SET LName = '{CANARY} and much longer than that'")
    results = databases.run("bad")
    assert "check_violation" in str(results["patient"].error)
    databases.on_analytics("alter table raw.patient drop constraint odd")
    databases.on_analytics("create domain public.few as text check (length(value) < 5)")
    databases.on_analytics("alter table raw.patient alter \"LName\" type public.few using ''")
    outputs = [str(results), "\n".join(databases.log)]
    for command in (["run"], ["run", "--json"], ["verify"], ["status"], ["plan"]):
        done = databases.cli(*command)
        outputs += [done.stdout, done.stderr]
    outputs.append(str(databases.on_analytics("select * from etl.runs")))
    outputs.append(str(databases.on_analytics("select * from etl.tables")))
    databases.on_analytics("drop schema raw cascade; drop domain public.few")
    assert CANARY not in "\n".join(outputs)
    assert "Canary" not in "\n".join(outputs)

"""Verification finds what is wrong in raw, and only that; reports hold no values."""

from __future__ import annotations

import json

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
        ('delete from raw.visit where "VisitNum" = 1', "visit",
         ("rows", "keys", "Fee", "DateTStamp")),
        ('update raw.visit set "VisitNum" = 7 where "VisitNum" = 1', "visit", ("keys",)),
        ('update raw.visit set "Fee" = "Fee" + 1 where "VisitNum" = 2', "visit", ("Fee",)),
        ("update raw.label set id = 'z' where id = 'y'", "label", ("keys",)),
        ("update raw.label set amount = 0.4 where id = 'x'", "label", ("amount",)),
        ("insert into raw.hollow values (0)", "hollow", ("rows",)),
        ("update raw.visit set \"DateTStamp\" = now() where \"VisitNum\" = 1", "visit",
         ("DateTStamp",)),
    ],
)  # fmt: skip
def test_damage_is_found(
    loaded: Databases, damage: str, table: str, differences: tuple[str, ...]
) -> None:
    loaded.on_analytics(damage)
    assert outcome(loaded)[table] == ("differs", differences)
    assert not pipeline.verify(loaded.settings, run_id="r1").ok
    assert loaded.cli("verify").returncode == 1


def test_a_source_that_moved_on_is_no_fault(loaded: Databases) -> None:
    loaded.on_source("INSERT INTO visit (Note) VALUES ('new')")
    assert outcome(loaded)["visit"][0] == "changed"
    assert pipeline.verify(loaded.settings, run_id="r1").ok


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

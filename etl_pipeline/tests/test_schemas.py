"""A schema's life on real databases: what diff, refresh, history and a run say of it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scratch import Databases

from etl_pipeline import pipeline, schemas

pytestmark = pytest.mark.database

VISIT = """
CREATE TABLE visit (
  VisitNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  Note varchar(20),
  Hours int NOT NULL,
  DateTStamp timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  KEY (DateTStamp)
) ENGINE=MyISAM
"""
RECALL = "CREATE TABLE recall (RecallNum bigint PRIMARY KEY, Days int NOT NULL) ENGINE=MyISAM"


@pytest.fixture
def clinic(databases: Databases, tmp_path: Path) -> Databases:
    databases.on_source(VISIT, RECALL, "CREATE TABLE tmpvisit (id int) ENGINE=MyISAM")
    models = tmp_path / "dbt" / "models"
    models.mkdir(parents=True)
    reads = """select "VisitNum", "Note" from {{ source('opendental', 'visit') }}"""
    (models / "stg_visit.sql").write_text(reads)
    (models / "mart_visit.sql").write_text("select * from {{ ref('stg_visit') }}")
    databases.environ["DBT_PROJECT_DIR"] = str(tmp_path / "dbt")
    return databases


def kept(databases: Databases) -> int:
    return databases.on_analytics("select count(*) from etl.schemas")[0][0]


def changed(databases: Databases, *command: str) -> list[str]:
    done = databases.cli("schema", *command, "--json")
    assert done.stderr == ""
    return [c["text"] for c in json.loads(done.stdout)["changes"]]


def test_the_life_of_a_schema(clinic: Databases, tmp_path: Path) -> None:
    file = str(tmp_path / "tables.yml")
    nothing = clinic.cli("schema", "diff", "--exit-code")
    assert (nothing.returncode, nothing.stdout) == (
        0,
        "no schema is kept yet: the next run keeps one, or"
        " `python -m etl_pipeline schema refresh`\n",
    )
    assert clinic.cli("schema", "history").stdout == "no schema is kept yet\n"
    assert clinic.on_analytics("select to_regnamespace('etl') is null") == [(True,)]
    first = clinic.cli("schema", "refresh", "--file", file)
    assert first.stdout == f"the first schema that is kept\nwrote {file}\n"
    walk = [
        (
            "ALTER TABLE visit ADD IsNew tinyint NOT NULL, DROP KEY DateTStamp",
            ["visit gains column IsNew tinyint(4)", "visit loses its index on DateTStamp"],
        ),
        (
            "ALTER TABLE visit CHANGE Note Remark varchar(20)",
            [
                "visit has a column Note that seems to be called Remark now;"
                " dbt: stg_visit and 1 downstream"
            ],
        ),
        (
            "ALTER TABLE visit MODIFY Hours bigint NOT NULL",
            ["visit changes column Hours from int(11) to bigint(20)"],
        ),
        ("DROP TABLE recall", ["recall is gone"]),
        (RECALL.replace("recall", "sheet"), ["sheet is a new table of 2 columns"]),
        (
            "RENAME TABLE visit TO encounter",
            ["visit seems to be called encounter now; dbt: mart_visit, stg_visit"],
        ),
    ]
    for statement, told in walk:
        clinic.on_source(statement)
        assert changed(clinic, "diff") == told
        assert changed(clinic, "diff") == told  # looking changes nothing
        assert clinic.cli("schema", "diff").returncode == 0
        assert clinic.cli("schema", "diff", "--exit-code").returncode == 1
        assert changed(clinic, "refresh", "--file", file) == told
        assert changed(clinic, "refresh", "--file", file) == []
        assert clinic.cli("schema", "diff", "--exit-code").returncode == 0
    same = clinic.cli("schema", "diff").stdout
    assert same.startswith("no change since 20")
    assert same.endswith(" UTC; before: `python -m etl_pipeline schema history`\n")
    done = clinic.cli("schema", "history", "--json")
    past = json.loads(done.stdout)["schemas"]
    assert [s["changes"] and [c["text"] for c in s["changes"]] for s in past] == [
        # Today's models are not those of then.
        *([line.split(";")[0] for line in told] for _, told in reversed(walk)),
        None,
    ]
    lines = clinic.cli("schema", "history", "--limit", "1").stdout.splitlines()
    assert lines[0].endswith(" UTC, refresh")
    assert lines[1:] == ["  visit seems to be called encounter now"]


def test_a_run_keeps_the_schema_and_reports_what_changed(clinic: Databases) -> None:
    clinic.run("r1")
    assert pipeline.report(clinic.settings, run_id="r1").schema_changes == ()
    clinic.run("r2")
    assert kept(clinic) == 1
    clinic.on_source(
        "ALTER TABLE visit ADD IsMirrored tinyint NOT NULL",
        "CREATE TABLE tmpmore (id int) ENGINE=MyISAM",
        "INSERT INTO visit (Note, Hours, IsMirrored) VALUES ('x', 1, 0)",
    )
    clinic.log.clear()
    clinic.run("r3")
    change = "visit gains column IsMirrored tinyint(4)"
    assert [line for line in clinic.log if line.startswith("schema")] == [f"schema: {change}"]
    report = pipeline.report(clinic.settings, run_id="r3")
    assert report.schema_changes == (change,)
    assert report.to_text().splitlines()[1] == f"schema: {change}"
    assert report.to_dict()["schema_changes"] == [change]
    seen = clinic.on_analytics("select run_id from etl.schemas order by taken_at")
    assert seen == [("r1",), ("r3",)]
    # Again, as a scheduler does after a failure: what the first try has seen stays.
    clinic.on_analytics("update etl.runs set status = 'failed' where run_id = 'r3'")
    clinic.on_source("DROP TABLE recall")
    clinic.run("r3")
    report = pipeline.report(clinic.settings, run_id="r3")
    assert report.schema_changes == (change, "recall is gone")


def test_a_report_of_very_many_changes_is_cut(clinic: Databases) -> None:
    clinic.run("r1")
    columns = ", ".join(f"ADD Is{n:02} tinyint" for n in range(42))
    clinic.on_source(f"ALTER TABLE visit {columns}")
    clinic.run("r2")
    report = pipeline.report(clinic.settings, run_id="r2")
    assert len(report.schema_changes) == 42
    told = [line for line in report.to_text().splitlines() if line.startswith("schema: ")]
    assert told[39:] == [
        "schema: visit gains column Is39 tinyint(4)",
        "schema: 2 more: `python -m etl_pipeline schema history --limit 1`",
    ]


def test_bookkeeping_of_an_older_version_is_added_to(clinic: Databases) -> None:
    clinic.run("r1")
    clinic.on_analytics("drop table etl.schemas; alter table etl.runs drop column schema_changes")
    assert "no schema is kept yet" in clinic.cli("schema", "diff").stdout
    assert clinic.cli("status").returncode == 0
    clinic.run("r2")
    assert kept(clinic) == 1


def test_what_a_blocked_night_has_seen_is_kept(clinic: Databases) -> None:
    clinic.run("r1")
    clinic.on_source("ALTER TABLE visit DROP Note")
    done = clinic.cli("run", "--run-id", "r2")
    assert done.returncode == 1
    told = "visit loses column Note varchar(20); dbt: stg_visit and 1 downstream"
    assert f"schema: {told}" in done.stderr.splitlines()
    assert pipeline.report(clinic.settings, run_id="r2").schema_changes == (told,)
    *table, why = clinic.cli("status").stdout.splitlines()[2:]
    assert table == [
        "table   rows  changed up to (UTC)  hours since load  last run",
        "recall     0                    -               0.0",
        "visit      0                    -               0.0  failed",
    ]
    assert why.startswith('failed: visit: planning table visit: column "Note" vanished')


def test_a_vanished_column_says_who_reads_it_and_keeps_its_values(clinic: Databases) -> None:
    clinic.on_source("INSERT INTO visit (Note, Hours) VALUES ('a', 1), (NULL, 2)")
    clinic.run("r1")
    clinic.on_source("ALTER TABLE visit DROP Note")
    statements = (
        'create schema if not exists kept; create table kept."visit_Note" as'
        ' select "VisitNum", "Note" from raw."visit"; alter table raw."visit" drop column "Note";'
    )
    planned = clinic.cli("plan").stdout.splitlines()
    assert planned[-3:-1] == [
        'blocked: planning table visit: column "Note" vanished from the source',
        'hint: take "Note" out of stg_visit, or put null in its place, and `dbt build --select'
        f" stg_visit+`, then `psql -c '{statements}'` keeps its values in kept.\"visit_Note\"",
    ]
    try:
        clinic.on_analytics(statements)
        assert clinic.run("r2")["visit"].ok
        kept = 'select "VisitNum", "Note" from kept."visit_Note" order by 1'
        assert clinic.on_analytics(kept) == [(1, "a"), (2, None)]
    finally:
        clinic.on_analytics("drop schema kept cascade")


def test_the_file_of_tables(clinic: Databases, tmp_path: Path) -> None:
    clinic.on_source(
        "INSERT INTO recall VALUES (1, 30), (2, 60)",
        "CREATE TABLE loose (Note text) ENGINE=MyISAM",
        "CREATE TABLE place (PlaceNum bigint PRIMARY KEY, Spot point) ENGINE=MyISAM",
        "CREATE TABLE yes (`on` int, `no: 1` enum('a','é: #'), PRIMARY KEY (`on`, `no: 1`))"
        " ENGINE=MyISAM DEFAULT CHARSET=utf8mb4",
    )
    file = tmp_path / "tables.yml"
    assert clinic.cli("schema", "refresh", "--file", str(file)).returncode == 0
    assert (
        file.read_text()
        == """\
# generated by etl_pipeline schema refresh; do not edit; overrides go to overrides.yml
# rows: as the server estimates them
loose:
  strategy: excluded
  reason: no primary key
place:
  strategy: blocked
  reason: 'mapping table place: column "Spot" has type point, which is unknown'
recall:
  strategy: full
  primary_key:
  - RecallNum
  size: tiny
  rows: 2
  columns:
    RecallNum: bigint(20)
    Days: int(11)
tmpvisit:
  strategy: excluded
  reason: conversion leftover
visit:
  strategy: incremental
  change_stamp: DateTStamp
  change_stamp_indexed: true
  primary_key:
  - VisitNum
  size: tiny
  rows: 0
  columns:
    VisitNum: bigint(20)
    Note: varchar(20)
    Hours: int(11)
    DateTStamp: timestamp
'yes':
  strategy: full
  primary_key:
  - 'on'
  - 'no: 1'
  size: tiny
  rows: 0
  columns:
    'on': int(11)
    'no: 1': 'enum(''a'',''é: #'')'
"""
    )


def test_a_file_of_a_person_is_not_overwritten(clinic: Databases, tmp_path: Path) -> None:
    file = tmp_path / "overrides.yml"
    file.write_text("visit: {strategy: full}\n")
    done = clinic.cli("schema", "refresh", "--file", str(file))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: writing {file}: the file there was not generated\nhint: name another with --file\n"
    )
    assert file.read_text() == "visit: {strategy: full}\n"
    nowhere = tmp_path / "none" / "tables.yml"
    done = clinic.cli("schema", "refresh", "--file", str(nowhere))
    assert done.stderr.startswith(f"error: writing {nowhere}: No such file or directory\n")
    # What could not be told to the end is not kept either.
    assert "no schema is kept yet" in clinic.cli("schema", "diff").stdout


def test_two_at_once_keep_one_schema(clinic: Databases, tmp_path: Path) -> None:
    clinic.run("r1")
    clinic.on_source("ALTER TABLE visit ADD IsNew tinyint NOT NULL")
    clinic.on_analytics("begin; lock table etl.schemas in share row exclusive mode")
    try:
        with ThreadPoolExecutor(2) as both:
            asked = [
                both.submit(schemas.refresh, clinic.settings, tmp_path / f"{n}.yml") for n in "ab"
            ]
            waiting = "select count(*) from pg_locks where relation = 'etl.schemas'::regclass"
            deadline = time.monotonic() + 20
            while clinic.on_analytics(f"{waiting} and not granted") != [(2,)]:
                assert time.monotonic() < deadline
                assert not any(a.done() for a in asked)
                time.sleep(0.02)
            clinic.on_analytics("commit")
            found = [len(a.result().changes) for a in asked]
    finally:
        clinic.on_analytics("rollback")
    assert sorted(found) == [0, 1]
    assert kept(clinic) == 2

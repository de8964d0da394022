"""The demo's profile clinic: as wide as the real one, as large as asked, and the same each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pymysql
import pytest
from scratch import Databases

from etl_pipeline.errors import PipelineError
from opendental_demo import clinic, schema
from opendental_demo.clinic_tables import clinic_tables
from opendental_demo.database import Marker

SCALE = 0.0005
TINY = ("--profile", "clinic", "--scale", str(SCALE))
KEYLESS = {
    "tempimageconv", "tempimageconv2", "tempinsplan_bak_20200424", "temppopup_bak_20200424",
    "tempprocedurecode_bak_20240617", "tempschedule_bak_20200424", "tempscheduleop_bak_20200424",
    "tmpdocument", "tmpimages", "tmppatient",
}  # fmt: skip


def demo(databases: Databases, *args: str) -> str:
    done = databases.cli(*args, module="opendental_demo")
    assert done.returncode == 0, done.stderr
    return done.stderr


def named(databases: Databases) -> Databases:
    environ = {k.replace("OPENDENTAL", "DEMO"): v for k, v in databases.environ.items()}
    return replace(databases, environ={**databases.environ, **environ})


@pytest.fixture(scope="module")
def source(created: Databases) -> Iterator[Databases]:
    """A clinic of seed 1 in a database of its own, which nobody changes."""
    name = created.environ["OPENDENTAL_SOURCE_DB"] + "_clinic"
    created.on_source(f"CREATE DATABASE {name} DEFAULT CHARACTER SET utf8mb3")
    connection = pymysql.connect(
        host=created.environ["OPENDENTAL_SOURCE_HOST"],
        port=int(created.environ["OPENDENTAL_SOURCE_PORT"]),
        user=created.environ["OPENDENTAL_SOURCE_USER"],
        password=created.environ["OPENDENTAL_SOURCE_PASSWORD"],
        database=name,
        init_command="SET sql_mode = '', time_zone = '+00:00'",
    )
    environ = {**created.environ, "OPENDENTAL_SOURCE_DB": name}
    databases = named(replace(created, source=connection, environ=environ))
    try:
        demo(databases, "load", *TINY, "--seed", "1")
        yield databases
    finally:
        connection.close()
        created.on_source(f"DROP DATABASE {name}")


@pytest.fixture
def empty(databases: Databases) -> Databases:
    return named(databases)


def facts(databases: Databases, columns: str, view: str, where: str = "1") -> list[tuple]:
    return databases.on_source(
        f"SELECT {columns} FROM information_schema.{view} WHERE table_schema = DATABASE()"
        f" AND table_name <> 'demo_marker' AND {where}"
    )


def checksums(databases: Databases) -> dict[str, int]:
    names = ", ".join(f"`{name}`" for name in clinic_tables())
    found = databases.on_source(f"CHECKSUM TABLE {names}")
    return {name.partition(".")[2]: number for name, number in found}


def counts(databases: Databases) -> dict[str, int]:
    return dict(facts(databases, "table_name, table_rows", "tables"))


@pytest.mark.database
def test_as_many_tables_columns_and_rows_as_the_clinic_has(source: Databases) -> None:
    tables = clinic_tables()
    assert len(tables) == 446
    assert sum(t.rows for t in tables.values()) == 20_455_158
    widths = dict(facts(source, "table_name, COUNT(*)", "columns", "1 GROUP BY table_name"))
    assert widths == {t.name: t.width for t in tables.values()}
    assert counts(source) == {
        t.name: max(1, round(t.rows * SCALE)) if t.rows else 0 for t in tables.values()
    }
    assert list(counts(source).values()).count(0) == 219
    assert set(facts(source, "engine, table_collation", "tables")) == {
        ("MyISAM", "utf8mb3_general_ci")
    }


@pytest.mark.database
def test_keys_stamps_and_their_indexes_are_the_vendors(source: Databases) -> None:
    primary = dict(facts(source, "table_name, column_name", "columns", "column_key = 'PRI'"))
    assert set(clinic_tables()) - set(primary) == KEYLESS
    assert primary["paysplit"] == "SplitNum"
    kinds = {
        (table, column): (kind, "on update" in extra.lower())
        for table, column, kind, extra in facts(
            source, "table_name, column_name, data_type, extra", "columns"
        )
    }
    for table in clinic_tables().values():
        if table.on_update:
            assert kinds[table.name, table.on_update] == ("timestamp", True)
        if table.at_insert:
            assert kinds[table.name, table.at_insert] == ("datetime", False)
    indexed = set(facts(source, "table_name, column_name", "statistics", "seq_in_index = 1"))
    for name, column, has_index in (
        ("paysplit", "SecDateTEdit", True), ("task", "SecDateTEdit", True),
        ("securitylog", "LogDateTime", True), ("entrylog", "EntryDateTime", True),
        ("commlog", "DateTStamp", False), ("procnote", "EntryDateTime", False),
        ("payment", "SecDateTEdit", False), ("labcase", "DateTStamp", False),
    ):  # fmt: skip
        assert ((name, column) in indexed) == has_index, name
        assert (name, column) in kinds


@pytest.mark.database
def test_values_are_as_awkward_as_a_clinics(source: Databases) -> None:
    def share(table: str, condition: str) -> float:
        return float(source.on_source(f"SELECT AVG({condition}) FROM {table}")[0][0])

    assert share("securitylog", "SecurityLogNum % 53 = 0") == 0
    assert 0.1 < share("paysplit", "PatNum = 0") < 0.3
    assert share("paysplit", "ClinicNum = 0") == 1
    assert 0.02 < share("paysplit", "ProcDate = '0001-01-01'") < 0.09
    assert 0.01 < share("commlog", "Note IS NULL") < 0.09
    assert 0 < share("commlog", "Note LIKE '%\n%'") < 1
    assert share("paysplit", "SplitAmt = ROUND(SplitAmt, 2)") == 1
    assert share("paysplit", "SplitAmt <> ROUND(SplitAmt)") > 0.5
    # Stamps rise with the key, several rows share one, and none lies behind the end of the books.
    rows = [
        r
        for (r,) in source.on_source(
            "SELECT LogDateTime FROM securitylog ORDER BY 1 * SecurityLogNum"
        )
    ]
    assert rows == sorted(rows)
    assert len(rows) / 30 < len(set(rows)) < len(rows) / 10
    assert (rows[-1] - rows[0]).days > 3500
    end = datetime(clinic.END.year, clinic.END.month, clinic.END.day)
    for table in clinic_tables().values():
        for stamp in filter(None, (table.on_update, table.at_insert)):
            newest = source.on_source(f"SELECT MAX({stamp}) FROM {table.name}")[0][0]
            assert newest is None or newest < end, table.name


@pytest.mark.database
def test_a_row_has_about_the_bytes_of_the_clinics(source: Databases) -> None:
    sizes = {name: data / rows for name, data, rows in facts(
        source, "table_name, data_length, table_rows", "tables", "table_rows > 0")}  # fmt: skip
    for name in ("securitylog", "sheetfield", "commlog", "procedurelog", "inseditlog", "rxnorm"):
        assert 0.7 < sizes[name] / clinic_tables()[name].row_bytes < 1.2, name


@pytest.mark.database
def test_an_advance_changes_what_it_says_and_nothing_else(
    source: Databases, empty: Databases
) -> None:
    demo(empty, "load", *TINY, "--seed", "1")
    assert demo(empty, "load", *TINY, "--seed", "1").startswith("nothing to do")
    rows, before = counts(empty), checksums(empty)
    assert before == checksums(source), "same seed, same rows"
    began = empty.on_source("SELECT NOW()")[0][0]
    told = demo(empty, "advance", "--percent", "20")
    inserts, updates, deletes = map(int, re.search(
        r"(\d+) inserts, (\d+) updates, (\d+) deletes", told).groups())  # fmt: skip

    now, after = counts(empty), checksums(empty)
    assert sum(now.values()) - sum(rows.values()) == inserts - deletes
    moving = {name for name, number in rows.items() if number >= 100} - KEYLESS
    assert {name for name in rows if before[name] != after[name]} == moving
    stamped = {t.name: t.on_update for t in clinic_tables().values() if t.on_update}
    appended = moving - set(stamped) - {"sheetfield"}
    assert {"securitylog", "securityloghash", "procnote", "rxnorm"} <= appended
    for name in appended:
        assert now[name] - rows[name] == round(rows[name] * 0.2)
    assert now["sheetfield"] == rows["sheetfield"]

    found = 0
    for name in moving & set(stamped):
        key = clinic_tables()[name].key
        newest = source.on_source(f"SELECT MAX({key}) FROM {name}")[0][0]
        touched = f"SELECT COUNT(*) FROM {name} WHERE {stamped[name]} >= '{began}' AND {key} "
        added = empty.on_source(f"{touched} > {newest}")[0][0]
        changed = empty.on_source(f"{touched} <= {newest}")[0][0]
        assert added == round(rows[name] * 0.03)
        assert changed == pytest.approx(rows[name] * 0.16, rel=0.3, abs=4)
        inserts -= added
        found += changed
    assert inserts == sum(now[name] - rows[name] for name in appended)
    rewritten = updates - found
    assert rewritten == pytest.approx(rows["sheetfield"] * 0.2, rel=0.1)
    assert deletes == pytest.approx(sum(rows[n] for n in moving & set(stamped)) * 0.01, rel=0.5)

    without_stamps = sums(empty)
    empty.environ |= {"DEMO_PROFILE": "clinic", "DEMO_SCALE": str(SCALE)}
    demo(empty, "load", "--reset")
    demo(empty, "advance", "--percent", "20")
    assert sums(empty) == without_stamps
    demo(empty, "advance")
    assert sums(empty) != without_stamps


def sums(databases: Databases) -> list[tuple]:
    return databases.on_source(" UNION ALL ".join(
        f"SELECT '{table}', COUNT(*), SUM({value}), BIT_XOR({clinic_tables()[table].key})"
        f" FROM {table}"
        for table, value in (
            ("paysplit", "SplitAmt"), ("procedurelog", "CRC32(ProcDate) + ProcFee"),
            ("sheetfield", "CRC32(FieldValue)"), ("securitylog", "CRC32(LogText)"),
        )
    ))  # fmt: skip


@pytest.mark.database
def test_a_clinic_and_a_practice_do_not_take_each_others_place_unasked(
    source: Databases, empty: Databases
) -> None:
    demo(empty, "load", *TINY, "--seed", "2")
    first, other = checksums(source), checksums(empty)
    large = [t.name for t in clinic_tables().values() if t.rows * SCALE > 20]
    assert [name for name in large if first[name] == other[name]] == [], "another seed, others"
    practice = ("load", "--scale", "0.01", "--end-date", "2026-03-02")
    refused = empty.cli(*practice, module="opendental_demo")
    assert (refused.returncode, refused.stderr.splitlines()[:2]) == (
        1,
        [
            "error: loading the demo: the database holds profile clinic, seed 2, scale 0.0005,"
            " end date 2026-01-01",
            "hint: python -m opendental_demo load --reset",
        ],
    )
    assert empty.cli("advance", "--days", "2", module="opendental_demo").returncode == 1
    demo(empty, *practice, "--reset")
    assert "claimsnapshot" not in counts(empty)
    assert len(counts(empty)) == len(schema.tables())
    # A marker of the time before there were profiles.
    empty.on_source("ALTER TABLE demo_marker DROP COLUMN profile, DROP COLUMN advances")
    assert demo(empty, *practice).startswith("nothing to do: seed 1, scale 0.01")
    demo(empty, "advance", "--days", "1")
    refused = empty.cli("load", *TINY, module="opendental_demo")
    assert refused.returncode == 1
    assert "hint: python -m opendental_demo load --profile clinic --reset\n" in refused.stderr
    assert empty.cli("advance", "--percent", "2", module="opendental_demo").returncode == 1


def test_a_server_that_cannot_count_is_refused_before_anything_is_created() -> None:
    class MySql:
        """Answers the one question that may be asked of it."""

        def engines(self) -> list[tuple[str, str]]:
            return [("InnoDB", "DEFAULT"), ("MyISAM", "YES"), ("FEDERATED", "NO")]

    marker = Marker(1, 1.0, clinic.END, clinic.END, "clinic")
    with pytest.raises(PipelineError, match=r"sequence engine(.|\n)*hint: point DEMO_SOURCE_HOST"):
        clinic.load(MySql(), marker, print)
    with pytest.raises(PipelineError):
        clinic.require_sequences([("SEQUENCE", "NO")])
    clinic.require_sequences([("InnoDB", "DEFAULT"), ("SEQUENCE", "YES")])

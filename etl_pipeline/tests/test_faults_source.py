"""A table is changed while it is read: the others go on, one more run mends it."""

from __future__ import annotations

import re

import pytest
from differ import differences
from faulty import (
    Background,
    Outcome,
    attempt,
    forget,
    large,
    settle,
    source_proxy,
    source_session,
    stamp,
    through,
    wait_until,
)
from proxy import DOWN, UP, Action, Fault, Link
from scratch import Databases

pytestmark = pytest.mark.database


def beside(databases: Databases, *statements: str) -> tuple[Action, list[Background[None]]]:
    """An action that starts statements at the source, and goes on when they wait or are done."""
    started: list[Background[None]] = []

    def work() -> None:
        session = source_session(databases.environ)
        try:
            with session.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            session.close()

    def action(_: Link) -> None:
        work_beside = Background(work)
        started.append(work_beside)
        session = source_session(databases.environ)
        try:
            with session.cursor() as cursor:

                def waits() -> bool:
                    return work_beside.done or bool(
                        cursor.execute(
                            "SELECT ID FROM information_schema.PROCESSLIST"
                            " WHERE DB = DATABASE() AND STATE LIKE 'Waiting for%lock'"
                        )
                    )

                wait_until("the statement beside is done or waits for the reader", waits)
        finally:
            session.close()

    return action, started


def mend(databases: Databases, outcome: Outcome) -> None:
    """Do what the errors say: each blocked table names the statement that mends it."""
    for number in range(6):
        texts = "\n".join(outcome.failed.values())
        statements = re.findall("alter table [^;]+;", texts)
        if not statements:
            return
        for statement in statements:
            databases.on_analytics(statement)
        outcome = attempt(databases, f"mended {number}", full=True)


ALTERATIONS: dict[str, tuple[str, ...]] = {
    "column added": ("ALTER TABLE bulk ADD COLUMN Extra int NOT NULL DEFAULT 7 AFTER Small",),
    "column dropped": ("ALTER TABLE bulk DROP COLUMN Note",),
    "type widened": (
        "ALTER TABLE bulk MODIFY Small int NOT NULL",
        "UPDATE bulk SET Small = 70000 WHERE BulkNum % 3 = 0",
    ),
    "table dropped": ("DROP TABLE bulk",),
    "table renamed": ("RENAME TABLE bulk TO bulk_of_old",),
    "table replaced": (
        "RENAME TABLE bulk TO bulk_of_old",
        "CREATE TABLE bulk (BulkNum bigint NOT NULL PRIMARY KEY, Other text)",
        "INSERT INTO bulk VALUES (1, 'x')",
    ),
    "rows changed and deleted": (
        "UPDATE bulk SET Pad = 'short' WHERE BulkNum % 4 = 1",
        "DELETE FROM bulk WHERE BulkNum % 4 = 2",
        "INSERT INTO bulk (Small, Note, Pad) SELECT 1, 'late', 'late' FROM seq_1_to_50",
        "UPDATE bulk SET BulkNum = BulkNum + 10000 WHERE BulkNum % 4 = 3",
    ),
}


@pytest.mark.parametrize(
    ("stage", "engine", "alteration"),
    [
        ("first", "MyISAM", "column added"),
        ("again", "InnoDB", "column added"),
        ("again", "MyISAM", "column dropped"),
        ("first", "InnoDB", "type widened"),
        ("again", "MyISAM", "type widened"),
        ("first", "MyISAM", "table dropped"),
        ("again", "InnoDB", "table renamed"),
        ("first", "MyISAM", "table replaced"),
        ("first", "MyISAM", "rows changed and deleted"),
        ("again", "MyISAM", "rows changed and deleted"),
        ("again", "InnoDB", "rows changed and deleted"),
    ],
)
def test_table_altered_while_it_is_read(
    databases: Databases, stage: str, engine: str, alteration: str
) -> None:
    """DDL and changes that arrive in the middle of a table's rows."""
    large(databases, engine)
    databases.on_source(
        "CREATE TABLE zebra (ZebraNum int PRIMARY KEY)", "INSERT INTO zebra VALUES (1)"
    )
    if stage == "again":
        settle(databases)
        databases.on_source(f"UPDATE bulk SET Small = 5, DateTStamp = {stamp(1, 'BulkNum')}")
    action, started = beside(databases, *ALTERATIONS[alteration])
    with source_proxy(databases) as proxy:
        fault = proxy.arm(Fault(DOWN, action, at_byte=1_000_000))
        outcome = attempt(through(databases, source=proxy), full=stage == "again")
        assert fault.fired.is_set()
    for statements in started:
        statements.result()
    assert outcome.error is None, "the other tables go on"
    assert differences(databases.environ, ["zebra"]) == []
    mend(databases, attempt(databases, "next"))
    settle(databases)


@pytest.mark.parametrize("alteration", [a for a in ALTERATIONS if a != "rows changed and deleted"])
def test_table_altered_between_statements(databases: Databases, alteration: str) -> None:
    """DDL just before each statement that names the table: planned and read in two shapes."""
    with source_proxy(databases) as proxy:
        for nth in range(1, 30):
            forget(databases)
            databases.on_source("DROP TABLE IF EXISTS bulk, bulk_of_old")
            large(databases, rows=20)
            if nth % 2:
                attempt(databases, "loaded")
            action, started = beside(databases, *ALTERATIONS[alteration])
            fault = proxy.arm(Fault(UP, action, at_text=b"bulk", nth=nth))
            attempt(through(databases, source=proxy), "faulty", full=True)
            for statements in started:
                statements.result()
            if not fault.fired.is_set():
                assert nth > 1, "no statement names the table"
                break
            mend(databases, attempt(databases, "next"))
            settle(databases)
        else:
            pytest.fail("no end of statements")
    settle(databases)

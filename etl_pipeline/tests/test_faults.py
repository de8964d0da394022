"""Faults on the way, on real servers: nothing is lost, nothing is repeated, one more run mends it.

Written from the promises alone (`README.md`, `types.py`), so they have to hold for any loader. Most
faults are made by a proxy (`proxy.py`) at an exact byte or at a statement. Every test ends with one
more run, a verification and `differ.py`, which shares no code with the package.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg2.errors
import pytest
from conftest import needed
from differ import differences
from faulty import (
    PAIR_ROWS,
    PAIRS,
    TABLES,
    Background,
    Outcome,
    Watcher,
    analytics_proxy,
    analytics_session,
    attempt,
    attempt_now,
    check_whole,
    fill,
    forget,
    large,
    live,
    measured,
    quiet,
    raw_state,
    settle,
    source_proxy,
    source_session,
    stamp,
    through,
    wait_until,
)
from proxy import DOWN, UP, Action, Fault, Link, Proxy, set_zone
from scratch import ROOT, Databases

from etl_pipeline import pipeline
from etl_pipeline.errors import Busy

pytestmark = pytest.mark.database

STAGES = ("first", "incremental")
SIDES = ("source", "analytics")


def wired(databases: Databases, side: str, proxy: Proxy) -> Databases:
    return through(databases, **{side: proxy})


def proxy_of(databases: Databases, side: str) -> Proxy:
    return source_proxy(databases) if side == "source" else analytics_proxy(databases)


def data_way(side: str) -> str:
    """The way that rows take through the proxy of a side."""
    return DOWN if side == "source" else UP


# Nothing happens: what the other tests stand on.


def test_business_arrives(databases: Databases) -> None:
    """Inserts, changes and deletes in every kind of table arrive, and nothing else is written."""
    fill(databases)
    settle(databases)
    for step in range(1, 5):
        live(databases, step)
        settle(databases)
    outcome = attempt(databases, "idle")
    assert {name: t.rows_written for name, t in outcome.tables.items()} == dict.fromkeys(TABLES, 0)


def test_changes_of_the_key_and_of_everything_at_once(databases: Databases) -> None:
    """Keys that move, a table that is emptied, one that is refilled with the same keys."""
    fill(databases)
    settle(databases)
    databases.on_source(
        "UPDATE visit SET VisitNum = VisitNum + 100000 WHERE VisitNum % 2",
        "UPDATE code SET CodeText = CONCAT(CodeText, '!')",
        "UPDATE link SET ToNum = ToNum + 1 ORDER BY ToNum DESC",
        "DELETE FROM letter",
        f"INSERT INTO nothing SELECT seq, CONCAT('n', seq), {stamp(2, 'seq')} FROM seq_1_to_9",
    )
    settle(databases)
    databases.on_source(
        f"INSERT INTO letter SELECT seq, 'again', {stamp(3, 'seq')} FROM seq_1_to_12",
        "DELETE FROM nothing",
        "TRUNCATE fee",
    )
    settle(databases)


# The network: cut, closed, stalled, slow, gone.


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("stage", STAGES)
def test_connection_ends_at_any_byte(databases: Databases, stage: str, side: str) -> None:
    """RST or FIN at bytes spread over the whole run, mostly within a row: all or nothing."""
    fill(databases)
    way = data_way(side)
    with proxy_of(databases, side) as proxy:
        wired_databases = wired(databases, side, proxy)
        total = measured(wired_databases, proxy, "measure")[way]
        if stage == "incremental":
            live(databases, 1)
            total = measured(wired_databases, proxy, "measure again")[way]
        fired = 0
        for number, share in enumerate((0.02, 0.3, 0.5, 0.7), start=2):
            if stage == "first":
                forget(databases)
            live(databases, number)
            before = {} if stage == "first" else raw_state(databases)
            action: Action = Link.cut if number % 2 else Link.close
            fault = proxy.arm(Fault(way, action, at_byte=int(total * share)))
            outcome = attempt(wired_databases, f"faulty {number}")
            fired += fault.fired.is_set()
            proxy.heal()
            quiet(databases)
            check_whole(databases, f"faulty {number}", before)
            if not outcome.ok:  # the same run again goes on where it was
                attempt(databases, f"faulty {number}")
            settle(databases)
        assert fired >= 3, "most of the bytes were never reached"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("stage", STAGES)
def test_network_that_stays_away(databases: Databases, stage: str, side: str) -> None:
    """The connection is cut and no new one is possible: an error that says so, and nothing lost."""
    fill(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
    before = raw_state(databases)
    with proxy_of(databases, side) as proxy:
        wired_databases = wired(databases, side, proxy)
        fault = proxy.arm(Fault(data_way(side), proxy.outage, at_byte=40_000))
        outcome = attempt(wired_databases)
        assert fault.fired.is_set()
        assert not outcome.ok
        again = attempt(wired_databases)
        assert not again.ok, "there is no way to the server"
        proxy.heal()
    quiet(databases)
    check_whole(databases, "faulty", before)
    settle(databases)


@pytest.mark.parametrize("side", SIDES)
def test_network_that_stalls(databases: Databases, side: str) -> None:
    """Silence in the middle of a table, then all goes on: the run succeeds."""
    fill(databases)
    with proxy_of(databases, side) as proxy:
        fault = proxy.arm(Fault(data_way(side), lambda _: time.sleep(0.7), at_byte=150_000))
        outcome = attempt(wired(databases, side, proxy))
        assert fault.fired.is_set()
        assert (outcome.error, outcome.failed) == (None, {})
    assert differences(databases.environ) == []
    settle(databases)


def test_network_that_trickles(databases: Databases) -> None:
    """Both ways in small pieces: the run succeeds, first and incremental."""
    fill(databases)
    with source_proxy(databases) as source, analytics_proxy(databases) as analytics:
        slow = through(databases, source=source, analytics=analytics)
        for run in range(2):
            for proxy, way in ((source, DOWN), (analytics, UP)):
                proxy.arm(Fault(way, Link.trickle, at_byte=5_000))
            outcome = attempt(slow, f"slow {run}")
            assert (outcome.error, outcome.failed) == (None, {})
            assert differences(databases.environ) == []
            live(databases, run + 1)
    settle(databases)


# The commit and its surroundings.


COMMIT_FAULTS: dict[str, tuple[int, Action]] = {
    # The bytes of the word that pass, and what happens then.
    "before": (0, Link.cut),
    "within": (4, Link.cut),
    "after": (1000, Link.lose_answer),
}


@pytest.mark.parametrize(
    ("stage", "table", "moment"),
    [
        ("first", "visit", "before"),
        ("first", "pairplain", "after"),
        ("incremental", "visit", "before"),
        ("incremental", "visit", "after"),
        ("full", "pairplain", "within"),
        ("new column", "visit", "before"),
    ],
)
def test_cut_at_each_commit(databases: Databases, stage: str, table: str, moment: str) -> None:
    """The network breaks before, within or after each COMMIT of a run, one after the other.

    After: the server has committed and the run does not learn of it.
    """
    fill(databases)
    into, action = COMMIT_FAULTS[moment]
    with analytics_proxy(databases) as proxy:
        wired_databases = through(databases, analytics=proxy)
        settle(databases)
        for nth in range(1, 60):
            if stage == "first":
                forget(databases)
                if nth % 2:  # the bookkeeping alone is there already
                    attempt(databases, "other", tables=["nothing"])
            live(databases, nth)
            if stage == "new column":
                databases.on_source(f"ALTER TABLE visit ADD COLUMN Extra{nth} int DEFAULT {nth}")
            before = raw_state(databases, [table])
            fault = proxy.arm(Fault(UP, action, at_text=b"commit", nth=nth, into=into))
            outcome = attempt(wired_databases, f"faulty {nth}", tables=[table])
            proxy.heal()
            quiet(databases)
            if stage != "new column":  # which may be there, empty as yet
                check_whole(databases, f"faulty {nth}", before)
            if not fault.fired.is_set():
                assert (outcome.error, outcome.failed) == (None, {})
                assert nth > 2, "a run without commits"
                break
            attempt(databases, f"faulty {nth}", tables=[table])
            assert differences(databases.environ, [table]) == []
        else:
            pytest.fail("no end of commits")
    settle(databases)


def test_lost_connections_are_pipeline_errors(databases: Databases) -> None:
    """`run` raises `PipelineError` and nothing else, wherever the target is lost."""
    fill(databases)
    settle(databases)
    with analytics_proxy(databases) as proxy:
        wired_databases = through(databases, analytics=proxy)
        total = measured(wired_databases, proxy, "measure", tables=["fee"])[UP]
        foreign, failures = [], 0
        for offset in range(0, total, max(total // 25, 1)):
            fault = proxy.arm(Fault(UP, Link.cut, at_byte=offset))
            outcome = attempt(wired_databases, f"faulty {offset}", tables=["fee"])
            assert fault.fired.is_set()
            failures += not outcome.ok
            if outcome.foreign:
                foreign.append((offset, type(outcome.error).__name__))
            proxy.heal()
            quiet(databases)
    settle(databases)
    assert foreign == []
    # A cut after a worker's last commit harms nobody.
    assert failures > 15


# Servers that end the session themselves.


def killer(databases: Databases, verb: str) -> Action:
    """Ends the source's thread of this connection, or its statement."""

    def kill(link: Link) -> None:
        session = source_session(databases.environ)
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT ID FROM information_schema.PROCESSLIST"
                    f" WHERE HOST LIKE '%:{link.port}' AND DB = DATABASE()"
                )
                (thread,) = cursor.fetchone()
                cursor.execute(f"{verb} {thread}")
        finally:
            session.close()

    return kill


def terminator(databases: Databases, function: str) -> Action:
    """Ends the target's backend of this connection, or its statement."""

    def terminate(link: Link) -> None:
        session = analytics_session(databases)
        session.autocommit = True
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    f"select {function}(pid) from pg_stat_activity"
                    " where client_port = %s and datname = current_database()",
                    [link.port],
                )
                assert cursor.fetchall() == [(True,)]
        finally:
            session.close()

    return terminate


@pytest.mark.parametrize("verb", ["KILL", "KILL QUERY"])
@pytest.mark.parametrize("stage", STAGES)
def test_source_thread_killed_mid_table(databases: Databases, stage: str, verb: str) -> None:
    """The reading thread is killed while it sends a large table: that table fails, none is torn."""
    fill(databases)
    large(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
        databases.on_source(
            f"UPDATE bulk SET Pad = REVERSE(CONCAT(Pad, 1)), DateTStamp = {stamp(1, 'BulkNum')}"
        )
    before = raw_state(databases)
    with source_proxy(databases) as proxy:
        fault = proxy.arm(Fault(DOWN, killer(databases, verb), at_byte=1_000_000))
        outcome = attempt(through(databases, source=proxy))
        assert fault.fired.is_set()
        assert list(outcome.failed) == ["bulk"], "the others go on, over a new connection"
        assert list(outcome.tables) == sorted([*TABLES, "bulk"])
    quiet(databases)
    check_whole(databases, "faulty", before)
    assert differences(databases.environ, TABLES) == []
    settle(databases)


@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
@pytest.mark.parametrize("stage", STAGES)
def test_target_backend_ended_mid_copy(databases: Databases, stage: str, function: str) -> None:
    """The writing backend is terminated, or its COPY cancelled, while rows arrive."""
    fill(databases)
    large(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
        databases.on_source(
            f"UPDATE bulk SET Pad = REVERSE(CONCAT(Pad, 1)), DateTStamp = {stamp(1, 'BulkNum')}"
        )
    before = raw_state(databases)
    with analytics_proxy(databases) as proxy:
        fault = proxy.arm(Fault(UP, terminator(databases, function), at_byte=1_000_000))
        outcome = attempt(through(databases, analytics=proxy))
        assert fault.fired.is_set()
        assert not outcome.ok
    quiet(databases)
    check_whole(databases, "faulty", before)
    settle(databases)


# The table itself is changed while it is read.


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


# The target refuses.


@pytest.fixture
def refusing(databases: Databases) -> Iterator[Callable[[str], None]]:
    """Makes raw.visit refuse to be created, or every fiftieth of its rows, with a SQLSTATE.

    Brings an error to the very row and with the code of the server's own; a disk that is really
    full and a real deadlock have tests of their own below.
    """

    def refuse(sqlstate: str) -> None:
        databases.on_analytics(
            "create function public.refuse_row() returns trigger language plpgsql as $$ begin"
            f" raise exception 'row of %', new.\"Note\" using errcode = '{sqlstate}'; end $$"
        )
        databases.on_analytics(
            "create function public.refuse_table() returns event_trigger language plpgsql as $$"
            " begin if exists (select from pg_event_trigger_ddl_commands()"
            " where object_identity = 'raw.visit')"
            f" then raise exception 'no' using errcode = '{sqlstate}'; end if; end $$"
        )
        if databases.on_analytics("select 1 where to_regclass('raw.visit') is not null"):
            databases.on_analytics(
                "create trigger refuse before insert or update on raw.visit for each row"
                ' when (new."VisitNum" % 50 = 1) execute function public.refuse_row()'
            )
        databases.on_analytics(
            "create event trigger refuse on ddl_command_end execute function public.refuse_table()"
        )

    yield refuse
    accept(databases)


def accept(databases: Databases) -> None:
    databases.on_analytics(
        "set client_min_messages = warning; drop event trigger if exists refuse;"
        " drop function if exists public.refuse_row() cascade;"
        " drop function if exists public.refuse_table() cascade"
    )


@pytest.mark.parametrize(
    ("stage", "sqlstate", "word"),
    [
        ("first", "53100", "free disk space"),
        ("incremental", "53100", "free disk space"),
        ("incremental", "40P01", "deadlock"),
        ("incremental", "42501", "grant"),
    ],
)
def test_target_refuses_one_table(
    databases: Databases, refusing: Callable[[str], None], stage: str, sqlstate: str, word: str
) -> None:
    """Disk full, deadlock, no right: that table fails with its reason, the others are loaded."""
    fill(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
    before = raw_state(databases, ["visit"])
    refusing(sqlstate)
    outcome = attempt(databases)
    assert outcome.error is None
    assert list(outcome.failed) == ["visit"]
    assert sqlstate in outcome.failed["visit"]
    assert word in outcome.failed["visit"]
    assert raw_state(databases, ["visit"]) == before
    assert differences(databases.environ, [t for t in TABLES if t != "visit"]) == []
    accept(databases)
    again = attempt(databases)
    assert list(again.tables) == ["visit"], "a retry loads what is missing and nothing else"
    settle(databases)


@pytest.fixture
def small_disk(databases: Databases) -> Iterator[Callable[[bool], None]]:
    """Has new tables of the analytics database made on a disk of 64 MB, or where they always are.

    TEST_ANALYTICS_SMALL_DISK: a file system of that size in the server's container.
    """
    folder = f"{needed('TEST_ANALYTICS_SMALL_DISK')}/{uuid.uuid4().hex}"
    name = databases.on_analytics("select current_database()")[0][0]
    # A tablespace has to belong to the server's own user, who is not the test's.
    databases.on_analytics(f"copy (select 1) to program 'mkdir -m 700 {folder}'")
    databases.on_analytics(f"create tablespace small location '{folder}'")

    def use(small: bool) -> None:
        databases.on_analytics(
            f'alter database "{name}" set default_tablespace = {"small" if small else "pg_default"}'
        )

    yield use
    databases.on_analytics(
        f'alter database "{name}" reset default_tablespace;'
        " set client_min_messages = warning; drop schema if exists raw cascade"
    )
    databases.on_analytics("drop tablespace small")
    databases.on_analytics(f"copy (select 1) to program 'rm -r {folder}'")


def hoard(databases: Databases, megabytes: int) -> None:
    """Rows that no compression makes smaller, into the table `hoard`."""
    columns = ", ".join(f"MD5(seq * 31 + {n})" for n in range(30))
    databases.on_source(
        "CREATE TABLE IF NOT EXISTS hoard (HoardNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " Pad text NOT NULL, DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP"
        " ON UPDATE CURRENT_TIMESTAMP) ENGINE=MyISAM",
        f"INSERT INTO hoard (Pad) SELECT CONCAT({columns}) FROM seq_1_to_{megabytes * 1000}",
    )


@pytest.mark.parametrize("stage", STAGES)
def test_disk_full_on_the_target(
    databases: Databases, small_disk: Callable[[bool], None], stage: str
) -> None:
    """The disk of one table ends in the middle of its rows: the others are loaded, none is torn."""
    fill(databases)
    settle(databases)
    if stage == "incremental":
        hoard(databases, 20)
        small_disk(True)
        assert attempt(databases, "it still fits").ok
        before = raw_state(databases, ["hoard"])
        databases.on_source("UPDATE hoard SET Pad = REVERSE(Pad)")
        hoard(databases, 40)
    else:
        small_disk(True)
        before = {}
        hoard(databases, 80)
    live(databases, 1)
    outcome = attempt(databases)
    assert outcome.error is None
    assert list(outcome.failed) == ["hoard"]
    assert "disk_full (53100)" in outcome.failed["hoard"]
    assert "free disk space" in outcome.failed["hoard"]
    assert raw_state(databases, ["hoard"]) == before
    assert differences(databases.environ, TABLES) == []
    small_disk(False)
    if stage == "incremental":
        databases.on_analytics("alter table raw.hoard set tablespace pg_default")
    assert attempt(databases).ok
    settle(databases)


# Others at the target: dbt, readers.


def blocked(databases: Databases) -> bool:
    """Some session of this database waits for a lock."""
    return bool(
        databases.on_analytics(
            "select 1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
    )


@pytest.mark.parametrize(
    "lock",
    [
        "lock table raw.visit in access exclusive mode",
        "lock table raw.visit in share mode",
        "select * from raw.visit for update",
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_lock_of_another_session(databases: Databases, lock: str, full: bool) -> None:
    """dbt holds a lock on a raw table: the run waits or fails that table, and nothing is lost."""
    fill(databases)
    settle(databases)
    live(databases, 1)
    session = analytics_session(databases)
    try:
        session.cursor().execute(lock)
        run = Background(lambda: attempt(databases, full=full))
        wait_until("the run waits or ends", lambda: run.done or blocked(databases))
        session.rollback()
    finally:
        session.close()
    outcome = run.result()
    assert outcome.error is None
    assert set(outcome.failed) <= {"visit"}
    settle(databases)


@pytest.mark.parametrize("victim", ["run", "dbt"])
def test_deadlock_with_dbt(databases: Databases, victim: str) -> None:
    """The run has the view and wants the table, dbt the other way round: one of them is ended.

    The one whose deadlock_timeout is over first, as the server decides it.
    """
    fill(databases)
    settle(databases)
    databases.on_analytics(
        'create schema staging; create view staging.visits as select "Minutes" from raw.visit'
    )
    databases.on_source("ALTER TABLE visit MODIFY Minutes bigint")
    live(databases, 1)
    before = raw_state(databases, ["visit"])
    session = analytics_session(databases)
    error = None
    try:
        with session.cursor() as cursor:
            cursor.execute(f"set deadlock_timeout = '{'20s' if victim == 'run' else '10ms'}'")
            session.commit()
            cursor.execute("select 1 from raw.visit")
            run = Background(lambda: attempt_now(databases, "faulty"))
            wait_until("the run waits for the table", lambda: run.done or blocked(databases))
            assert not run.done
            try:
                cursor.execute("select count(*) from staging.visits")
            except psycopg2.errors.DeadlockDetected as detected:
                error = detected
        session.rollback()
    finally:
        session.close()
    outcome = run.result()
    assert outcome.error is None
    if victim == "run":
        assert error is None
        assert list(outcome.failed) == ["visit"]
        assert "deadlock_detected (40P01)" in outcome.failed["visit"]
        quiet(databases)
        assert raw_state(databases, ["visit"]) == before
    else:
        assert error is not None
        assert outcome.failed == {}
    assert differences(databases.environ, [t for t in TABLES if t != "visit"]) == []
    settle(databases)
    # The view is there whoever was ended, and reads what came.
    (there,) = databases.on_source("SELECT COUNT(*) FROM visit")
    assert databases.on_analytics("select count(*) from staging.visits") == [there]


def test_long_reading_transaction(databases: Databases) -> None:
    """dbt reads in one transaction while a run goes on: it keeps its state, the run succeeds."""
    fill(databases)
    settle(databases)
    live(databases, 1)
    session = analytics_session(databases)
    session.set_session(isolation_level="REPEATABLE READ")
    try:
        with session.cursor() as cursor:
            seen = []
            for _ in range(2):
                cursor.execute('select * from raw.visit order by "VisitNum"')
                seen.append(cursor.fetchall())
                outcome = attempt(databases, f"beside a reader {len(seen)}")
                assert (outcome.error, outcome.failed) == (None, {})
                live(databases, 1 + len(seen))
            assert seen[0] == seen[1]
    finally:
        session.close()
    settle(databases)


def reader(databases: Databases, trouble: list[str]) -> Action:
    """An action that reads raw as dbt does; what it had to wait for, or saw half, is trouble.

    The run stands still meanwhile, so a lock is had at once or never.
    """

    def read(_: Link) -> None:
        session = analytics_session(databases)
        try:
            with session.cursor() as cursor:
                cursor.execute("set lock_timeout = '1s'")
                for name in PAIRS:
                    cursor.execute(
                        f'select count(*), count(distinct "Gen"), sum("Amount") from raw.{name}'
                    )
                    assert cursor.fetchone() == (PAIR_ROWS, 1, 0)
        except Exception as error:
            trouble.append(type(error).__name__)
        finally:
            session.close()

    return read


def add_columns(databases: Databases, number: int) -> None:
    databases.on_source(
        *(f"ALTER TABLE {t} ADD COLUMN Extra{number} int DEFAULT {number}" for t in PAIRS)
    )


@pytest.mark.parametrize("table", PAIRS)
@pytest.mark.parametrize("change", ["rows", "new column"])
def test_readers_wait_for_no_commit(databases: Databases, change: str, table: str) -> None:
    """A run held still before each of its commits: raw can be read all the same, old rows whole.

    The one exception is the statement that adds a column.
    """
    fill(databases)
    settle(databases)
    trouble: list[str] = []
    with analytics_proxy(databases) as proxy:
        wired_databases = through(databases, analytics=proxy)
        for nth in range(1, 60):
            live(databases, nth)
            if change == "new column":
                add_columns(databases, nth)
            fault = proxy.arm(Fault(UP, reader(databases, trouble), at_text=b"commit", nth=nth))
            # One table: another would add its column while this one is held.
            outcome = attempt(wired_databases, f"held {nth}", tables=[table])
            assert (outcome.error, outcome.failed) == (None, {})
            if not fault.fired.is_set():
                break
    assert trouble[1 if change == "new column" else 0 :] == []
    settle(databases)


def test_readers_wait_for_no_row(databases: Databases) -> None:
    """A run held still while rows are on their way, also those of a new column: raw can be read."""
    fill(databases)
    settle(databases)
    trouble: list[str] = []
    with source_proxy(databases) as proxy:
        wired_databases = through(databases, source=proxy)
        add_columns(databases, 0)
        total = measured(wired_databases, proxy, "measure", tables=list(PAIRS))[DOWN]
        for number in range(1, 12):
            live(databases, number)
            add_columns(databases, number)
            fault = proxy.arm(Fault(DOWN, reader(databases, trouble), at_byte=total * number // 12))
            outcome = attempt(wired_databases, f"held {number}", tables=list(PAIRS))
            assert (outcome.error, outcome.failed) == (None, {})
            assert fault.fired.is_set()
    assert trouble == []
    settle(databases)


# Clocks.


def test_stamps_behind_the_watermark(databases: Databases) -> None:
    """Rows that are inserted while the source's clock is hours behind are found by their keys."""
    fill(databases)
    settle(databases)
    live(databases, 2)
    settle(databases)
    databases.on_source(
        "SET timestamp = UNIX_TIMESTAMP('2025-05-31 03:00:00')",
        "INSERT INTO visit (Note, Fee, IsDone, VisitDate, Began)"
        " SELECT 'late', seq, 0, '2025-05-05', '2025-05-05 10:00:00' FROM seq_1_to_30",
        "INSERT INTO letter (Body) VALUES ('late')",
        "INSERT INTO nothing (NothingNum) VALUES (1)",
        "SET timestamp = DEFAULT",
    )
    settle(databases)


@pytest.mark.parametrize("first", [True, False])
def test_stamps_in_the_future(databases: Databases, first: bool) -> None:
    """The source's clock was ahead for a while: later changes with right stamps still arrive."""
    fill(databases)
    if not first:
        settle(databases)
    databases.on_source(
        "UPDATE visit SET Note = 'ahead', SecDateTEdit = UTC_TIMESTAMP() + INTERVAL 300 DAY"
        " WHERE VisitNum = 5"
    )
    settle(databases)
    databases.on_source("UPDATE visit SET Note = 'later', Fee = Fee + 1 WHERE VisitNum % 5 = 2")
    outcome = attempt(databases, "back in time")
    assert (outcome.error, outcome.failed) == (None, {})
    assert differences(databases.environ) == []


def test_nights_of_the_clock_change(databases: Databases) -> None:
    """Both servers' sessions begin in America/Chicago; rows change in the nights of the change.

    The hour from 06:00 UTC of 2025-11-02 has the same wall clock as the one from 07:00; on
    2026-03-08 there is no wall clock from 02:00 to 03:00. The source's zone is set by the proxy at
    the login. Where the server has no zones by name, its fixed offset stands in.
    """
    (named,) = databases.on_source(
        "SELECT CONVERT_TZ('2025-11-02 06:30', 'UTC', 'America/Chicago')"
    )
    login = set_zone("America/Chicago" if named[0] else "-06:00")
    (name,) = databases.on_analytics("select current_database()")[0]
    databases.on_source(
        "CREATE TABLE night (NightNum int NOT NULL AUTO_INCREMENT PRIMARY KEY, Note text,"
        " Wall datetime(6), Stamp timestamp NULL, DateTStamp timestamp NOT NULL"
        " DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
        *(
            "INSERT INTO night (Note, Wall, Stamp, DateTStamp)"
            f" SELECT '', '{wall}' + INTERVAL seq * 5 MINUTE, '{utc}' + INTERVAL seq * 5 MINUTE,"
            f" '2025-11-01 00:00:00' + INTERVAL seq MINUTE FROM seq_0_to_60"
            for wall, utc in (
                ("2025-11-01 23:59:59.123456", "2025-11-02 05:00:00"),
                ("2026-03-08 00:30:00", "2026-03-08 06:00:00"),
            )
        ),
    )
    databases.on_analytics(f"alter database {name} set timezone = 'America/Chicago'")
    try:
        with source_proxy(databases, login=login) as proxy:
            zoned = through(databases, source=proxy)
            settle(zoned)
            moments = (
                "2025-11-02 05:50:00",
                "2025-11-02 06:30:00",
                "2025-11-02 06:55:00",
                "2025-11-02 07:05:00",
                "2025-11-02 07:30:00",
                "2025-11-02 08:10:00",
                "2026-03-08 07:30:00",
                "2026-03-08 07:59:59",
                "2026-03-08 08:00:00",
                "2026-03-08 08:30:00",
                "2026-03-08 09:10:00",
            )
            for number, moment in enumerate(moments, start=1):
                databases.on_source(
                    f"SET timestamp = UNIX_TIMESTAMP('{moment}')",
                    f"UPDATE night SET Note = '{moment}'"
                    f" WHERE NightNum IN ({number}, {number + 70})",
                    f"DELETE FROM night WHERE NightNum = 30 + {number}",
                    "INSERT INTO night (Note) VALUES ('new')",
                    "SET timestamp = DEFAULT",
                )
                outcome = attempt(zoned, moment)
                assert (outcome.error, outcome.failed) == (None, {})
                assert {t.strategy for t in outcome.tables.values()} == {"incremental"}
                assert differences(databases.environ) == []
            settle(zoned)
    finally:
        databases.on_analytics(f"alter database {name} reset timezone")
    settle(databases)


# Two at once.


def test_second_run_is_refused(databases: Databases) -> None:
    """One run is in the middle of a table: a second, in this process or another, gets `Busy`."""
    fill(databases)
    go_on, reached = threading.Event(), threading.Event()

    def hold(_: Link) -> None:
        reached.set()
        assert go_on.wait(60)

    with source_proxy(databases) as proxy:
        fault = proxy.arm(Fault(DOWN, hold, at_byte=100_000))
        first = Background(lambda: attempt(through(databases, source=proxy), "one"))
        try:
            wait_until("the first run is at work", reached.is_set)
            for run_id in ("two", "one"):
                assert isinstance(attempt_now(databases, run_id).error, Busy)
            other = databases.cli("run", "--json", "--run-id", "three")
            assert (other.returncode, other.stdout) == (1, "")
            assert "error:" in other.stderr
            assert "Traceback" not in other.stderr
        finally:
            go_on.set()
        outcome = first.result()
        assert fault.fired.is_set()
    assert (outcome.error, outcome.failed) == (None, {})
    assert databases.on_analytics("select run_id, status from etl.runs") == [("one", "success")]
    settle(databases)


@pytest.mark.parametrize("stage", STAGES)
def test_many_runs_start_together(databases: Databases, stage: str) -> None:
    """Whoever comes second gets `Busy`, also when not even the schemas are there."""
    fill(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
    for turn in range(4):
        if stage == "first":
            forget(databases)
        quiet(databases)
        together = threading.Barrier(4)

        def start(number: int, together: threading.Barrier, turn: int) -> Outcome:
            together.wait(60)
            return attempt_now(databases, f"{turn} {number}")

        runs = [Background(partial(start, n, together, turn)) for n in range(4)]
        outcomes = [run.result() for run in runs]
        assert any(o.ok for o in outcomes)
        assert [o.error for o in outcomes if not o.ok and not isinstance(o.error, Busy)] == []
        assert differences(databases.environ) == []
    settle(databases)


# SIGKILL.


class Process:
    """`python -m etl_pipeline …` as a process of its own."""

    def __init__(self, databases: Databases, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "etl_pipeline", *args],
            env={**databases.environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> int:
        return self._process.wait(60)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """kill -9; nothing happens to a process that has ended."""
        self._process.kill()
        self._process.wait(60)


def test_killed_at_any_time(databases: Databases) -> None:
    """kill -9 at moments spread over a run: the next run goes on, and no reader sees a half."""
    fill(databases)
    began = time.monotonic()
    assert Process(databases, "run").wait() == 0
    duration = time.monotonic() - began
    with Watcher(databases):
        for number in range(1, 12):
            if number % 3 == 0:
                forget(databases)
            live(databases, number)
            before = raw_state(databases)
            process = Process(databases, "run", "--run-id", f"faulty {number}")
            time.sleep(duration * (0.3 + 0.065 * number))  # before a third Python is still starting
            process.kill()
            quiet(databases)
            check_whole(databases, f"faulty {number}", before)
            settle(databases, f"faulty {number}" if number % 2 else None)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage(databases: Databases, stage: str) -> None:
    """kill -9 at bytes and at commits of a run: where it died does not depend on the clock."""
    fill(databases)
    with source_proxy(databases) as source, analytics_proxy(databases) as analytics:
        wired_databases = through(databases, source=source, analytics=analytics)
        settle(databases)
        places: list[tuple[Proxy, dict[str, Any]]] = [
            (source, {"direction": UP, "at_byte": 400}),
            (source, {"direction": DOWN, "at_byte": 60_000}),
            (analytics, {"direction": UP, "at_byte": 90_000}),
            *(
                (analytics, {"direction": UP, "at_text": b"commit", "nth": n, "into": into})
                for n, into in ((1, 0), (3, 1000), (6, 0), (9, 1000), (12, 0))
            ),
        ]
        come = 0
        with Watcher(databases):
            for number, (proxy, place) in enumerate(places, start=1):
                if stage == "first":
                    forget(databases)
                live(databases, number)
                before = raw_state(databases)
                reached, killed = threading.Event(), threading.Event()

                def hold(
                    link: Link, reached: threading.Event = reached, killed: threading.Event = killed
                ) -> None:
                    reached.set()
                    killed.wait(60)
                    link.close()

                proxy.arm(Fault(action=hold, **place))
                process = Process(wired_databases, "run", "--run-id", f"faulty {number}")
                try:
                    wait_until(
                        f"the run comes to {place} or ends",
                        lambda r=reached, p=process: r.is_set() or p.ended,
                    )
                finally:
                    process.kill()
                    killed.set()
                come += reached.is_set()
                proxy.heal()
                quiet(databases)
                check_whole(databases, f"faulty {number}", before)
                settle(databases, f"faulty {number}" if number % 2 else None)
        assert come >= 6, "most of the places were never reached"


# Privacy.


CHANGED = "DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
CANARY = "kanarienvogel"
NUMBER = 1987654321  # a canary that fits an int and no smallint


class Cage:
    """Everything that leaves the package: lines, exceptions, tracebacks, streams, tables."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.records: list[str] = []
        self.said: list[str] = []

    def run(self, name: str, databases: Databases | None = None, **options: Any) -> Outcome:  # noqa: ANN401
        """A run in this process; its exception is kept as a log would print it."""
        target = databases or self.databases
        outcome = attempt(target, name, **options)
        if outcome.error is not None:
            self.said += [repr(outcome.error), *traceback.format_exception(outcome.error)]
        self.said += [json.dumps(t.to_dict()) for t in outcome.tables.values()]
        return outcome

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        done = self.databases.cli(*args)
        self.said += [done.stdout, done.stderr]
        return done

    def escaped(self) -> list[str]:
        """Where a canary was seen."""
        texts = [*self.said, *self.records, *self.databases.log]
        for (table,) in self.databases.on_analytics(
            "select table_name from information_schema.tables where table_schema = 'etl'"
        ):
            texts += [
                text
                for (text,) in self.databases.on_analytics(f"select t::text from etl.{table} t")
            ]
        return [t for t in texts if CANARY in t.lower() or str(NUMBER) in t]


PROVOCATIONS: dict[str, tuple[str, ...]] = {
    "text too narrow": ("alter table raw.bird alter \"Note\" type varchar(3) using ''",),
    "text to number": ('alter table raw.bird alter "Note" type integer using 0',),
    "text to date": ('alter table raw.bird alter "Note" type date using null',),
    "number too narrow": ('alter table raw.bird alter "Big" type smallint using 0',),
    "check": ("alter table raw.bird add constraint no_bird check (\"Note\" = '') not valid",),
    "duplicate text": (
        'delete from raw.bird where "BirdNum" > 1',
        'create unique index one_bird on raw.bird ("Same")',
    ),
    "duplicate number": (
        'delete from raw.bird where "BirdNum" > 1',
        'create unique index one_bird on raw.bird ("Big")',
    ),
    "foreign key": (
        'delete from raw.bird where "BirdNum" > 1',
        "create table raw.nest (note text primary key)",
        'alter table raw.bird add constraint no_nest foreign key ("Note") references raw.nest'
        " not valid",
    ),
    "wide index": (
        "delete from raw.bird",
        'create index wide_bird on raw.bird ("Wide")',
    ),
    "trigger that speaks": (
        "create function raw.speak() returns trigger language plpgsql as $$ begin raise exception"
        " 'row %', new using detail = new::text, hint = new::text; end $$",
        "create trigger speak before insert or update on raw.bird for each row"
        " execute function raw.speak()",
    ),
    "trigger that whispers": (
        "create function raw.whisper() returns trigger language plpgsql as $$ begin"
        " raise warning 'row %', new; raise log 'row %', new; return new; end $$",
        "create trigger whisper before insert or update on raw.bird for each row"
        " execute function raw.whisper()",
    ),
    "trigger that casts": (
        "create function raw.cast_it() returns trigger language plpgsql as $$ begin"
        ' perform new."Note"::date; return new; end $$',
        "create trigger cast_it before insert or update on raw.bird for each row"
        " execute function raw.cast_it()",
    ),
}


def birds(databases: Databases) -> None:
    """Two tables whose every text is a canary: also keys, default values, and a wide one."""
    text = f"CONCAT('{CANARY} ', seq, ' ', MD5(seq))"
    databases.on_source(
        "CREATE TABLE bird (BirdNum bigint PRIMARY KEY, Note text, Same varchar(60),"
        f" Short char(50), Big int, Wide mediumtext, Kind varchar(60) DEFAULT '{CANARY} default',"
        f" {CHANGED})",
        "INSERT INTO bird (BirdNum, Note, Same, Short, Big, Wide, DateTStamp)"
        f" SELECT seq, {text}, '{CANARY} same', {text}, {NUMBER},"
        " (SELECT GROUP_CONCAT(MD5(CONCAT(s.seq, '" + CANARY + "')) SEPARATOR ' " + CANARY + "')"
        f" FROM seq_1_to_200 s), {stamp(0, 'seq')} FROM seq_1_to_60",
        f"CREATE TABLE birdkey (Code varchar(80) PRIMARY KEY, Note text, {CHANGED})",
        f"INSERT INTO birdkey SELECT {text}, {text}, {stamp(0, 'seq')} FROM seq_1_to_60",
    )


@pytest.fixture
def cage(databases: Databases) -> Iterator[Cage]:
    """Listens to all loggers as well."""
    cage = Cage(databases)
    handler = logging.Handler()
    handler.emit = lambda record: cage.records.append(  # type: ignore[method-assign]
        logging.Formatter().format(record)
    )
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        yield cage
    finally:
        logging.root.removeHandler(handler)
        logging.root.setLevel(level)


def test_errors_of_the_target_hold_no_value(databases: Databases, cage: Cage) -> None:
    """Postgres quotes values in its messages, details and contexts: none of them gets out."""
    birds(databases)
    failures = 0
    for number, (name, statements) in enumerate(PROVOCATIONS.items(), start=1):
        forget(databases)
        settle(databases)
        databases.on_source(
            f"UPDATE bird SET Short = REVERSE(Short), DateTStamp = {stamp(number, 'BirdNum')}"
        )
        for statement in statements:
            databases.on_analytics(statement)
        for full in (False, True):
            quiet(databases)
            outcome = cage.run(f"{name} {full}", full=full)
            assert outcome.error is None
            assert "birdkey" not in outcome.failed
            failures += len(outcome.failed)
        quiet(databases)
        if number % 6 == 0:  # the command line is the same code below, so twice will do
            assert cage.command("run", "--json").returncode == 1
            cage.command("verify", "--json")
            cage.command("status")
        pipeline.verify(databases.settings, run_id=f"{name} True")
        cage.said.append(pipeline.report(databases.settings, run_id=f"{name} True").to_text())
        assert cage.escaped() == [], name
    assert failures >= len(PROVOCATIONS), "most of the provocations did nothing"
    forget(databases)
    settle(databases)


def test_errors_on_the_way_hold_no_value(databases: Databases, cage: Cage) -> None:
    """The same for cut connections, killed threads, and an account that may not read."""
    birds(databases)
    large(databases, rows=60)
    databases.on_source(f"UPDATE bulk SET Pad = REPEAT('{CANARY} ', 9000)")
    settle(databases)
    for side in SIDES:
        actions: list[Action] = [Link.cut, Link.close]
        if side == "source":
            actions += [killer(databases, "KILL"), killer(databases, "KILL QUERY")]
        else:
            actions += [
                terminator(databases, "pg_terminate_backend"),
                terminator(databases, "pg_cancel_backend"),
            ]
        with proxy_of(databases, side) as proxy:
            for number, action in enumerate(actions):
                for at_byte in (9_000, 700_000):
                    forget(databases)
                    fault = proxy.arm(Fault(data_way(side), action, at_byte=at_byte))
                    cage.run(f"{side} {number} {at_byte}", wired(databases, side, proxy))
                    assert fault.fired.is_set()
                    proxy.heal()
                    quiet(databases)
    assert cage.escaped() == []

    user = f"etl_{os.urandom(4).hex()}"
    name = databases.environ["OPENDENTAL_SOURCE_DB"]
    databases.on_source(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY} password'",
        f"GRANT SELECT ON {name}.birdkey TO {user}@'%'",
        f"GRANT SELECT (BirdNum, Note) ON {name}.bird TO {user}@'%'",
    )
    try:
        poor = replace(
            databases,
            environ={
                **databases.environ,
                "OPENDENTAL_SOURCE_USER": user,
                "OPENDENTAL_SOURCE_PASSWORD": f"{CANARY} password",
            },
        )
        cage.run("poor", poor)
        cage.run("poor tables", poor, tables=["bird", "birdkey"])
        poor.environ["OPENDENTAL_SOURCE_PASSWORD"] = f"{CANARY} wrong"
        assert cage.run("no way in", poor).error is not None
    finally:
        databases.on_source(f"DROP USER {user}@'%'")
    assert cage.escaped() == []
    settle(databases)

"""The target refuses, or others are at work there: one table fails or waits, and is mended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg2.errors
import pytest
from conftest import needed
from differ import differences
from faulty import (
    PAIR_ROWS,
    PAIRS,
    STAGES,
    TABLES,
    Background,
    analytics_proxy,
    analytics_session,
    attempt,
    attempt_now,
    fill,
    live,
    measured,
    quiet,
    raw_state,
    settle,
    source_proxy,
    through,
    wait_until,
)
from proxy import DOWN, UP, Action, Fault, Link
from scratch import Databases

pytestmark = pytest.mark.database

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
        before = raw_state(databases, ["hoard"])
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

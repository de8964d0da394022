"""Faults on the way, on real servers: nothing is lost, nothing is repeated, one more run mends it.

Written from the promises alone (`README.md`, `types.py`), so they have to hold for any loader. Most
faults are made by a proxy (`proxy.py`) at an exact byte or at a statement. Every test ends with one
more run, a verification and `differ.py`, which shares no code with the package.
"""

from __future__ import annotations

import time

import pytest
from differ import differences
from faulty import (
    TABLES,
    analytics_proxy,
    analytics_session,
    attempt,
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
)
from proxy import DOWN, UP, Action, Fault, Link, Proxy
from scratch import Databases

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
        for number, share in enumerate((0.02, 0.25, 0.45, 0.6, 0.75, 0.9), start=2):
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
        assert fired >= 4, "most of the bytes were never reached"


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
        fault = proxy.arm(Fault(data_way(side), proxy.outage, at_byte=150_000))
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
        fault = proxy.arm(Fault(data_way(side), lambda _: time.sleep(1.5), at_byte=150_000))
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


@pytest.mark.parametrize("moment", COMMIT_FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_cut_at_each_commit(databases: Databases, stage: str, moment: str) -> None:
    """The network breaks before, within or after each COMMIT of a run, one after the other.

    After: the server has committed and the run does not learn of it.
    """
    fill(databases)
    into, action = COMMIT_FAULTS[moment]
    tables = ["visit", "pairplain"]
    with analytics_proxy(databases) as proxy:
        wired_databases = through(databases, analytics=proxy)
        settle(databases)
        for nth in range(1, 60):
            if stage == "first":
                forget(databases)
                if nth % 2:  # the bookkeeping alone is there already
                    attempt(databases, "other", tables=["fee"])
            live(databases, nth)
            before = raw_state(databases, tables)
            fault = proxy.arm(Fault(UP, action, at_text=b"commit", nth=nth, into=into))
            outcome = attempt(wired_databases, f"faulty {nth}", tables=tables)
            proxy.heal()
            quiet(databases)
            check_whole(databases, f"faulty {nth}", before)
            if not fault.fired.is_set():
                assert (outcome.error, outcome.failed) == (None, {})
                assert nth > 2, "a run without commits"
                break
            attempt(databases, f"faulty {nth}", tables=tables)
            assert differences(databases.environ, tables) == []
        else:
            pytest.fail("no end of commits")
    settle(databases)


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
        fault = proxy.arm(Fault(DOWN, killer(databases, verb), at_byte=2_000_000))
        outcome = attempt(through(databases, source=proxy))
        assert fault.fired.is_set()
        assert not outcome.ok
    quiet(databases)
    check_whole(databases, "faulty", before)
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
        fault = proxy.arm(Fault(UP, terminator(databases, function), at_byte=2_000_000))
        outcome = attempt(through(databases, analytics=proxy))
        assert fault.fired.is_set()
        assert not outcome.ok
    quiet(databases)
    check_whole(databases, "faulty", before)
    settle(databases)

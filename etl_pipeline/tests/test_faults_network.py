"""The network and the sessions break: nothing is lost or repeated, one more run mends it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from differ import differences
from faulty import (
    SIDES,
    STAGES,
    TABLES,
    analytics_proxy,
    attempt,
    check_whole,
    data_way,
    fill,
    forget,
    killer,
    large,
    live,
    measured,
    proxy_of,
    quiet,
    raw_state,
    settle,
    source_proxy,
    stamp,
    terminator,
    through,
    wired,
)
from proxy import DOWN, UP, Action, Fault, Link
from scratch import Databases

pytestmark = pytest.mark.database

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


def with_much_to_read(databases: Databases, stage: str) -> dict[str, Any]:
    """A practice with a large table, all of it to be read; the state of raw."""
    fill(databases)
    large(databases)
    if stage == "incremental":
        settle(databases)
        live(databases, 1)
        databases.on_source(
            f"UPDATE bulk SET Pad = REVERSE(CONCAT(Pad, 1)), DateTStamp = {stamp(1, 'BulkNum')}"
        )
    return raw_state(databases)


@pytest.mark.parametrize("verb", ["KILL", "KILL QUERY"])
@pytest.mark.parametrize("stage", STAGES)
def test_source_thread_killed_mid_table(databases: Databases, stage: str, verb: str) -> None:
    """The reading thread is killed while it sends a large table: that table fails, none is torn."""
    before = with_much_to_read(databases, stage)
    with source_proxy(databases) as proxy:
        # Another table travels over another connection meanwhile.
        fault = proxy.arm(Fault(DOWN, killer(databases, verb), at_byte=1_000_000, of_one=True))
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
    before = with_much_to_read(databases, stage)
    with analytics_proxy(databases) as proxy:
        fault = proxy.arm(Fault(UP, terminator(databases, function), at_byte=1_000_000))
        outcome = attempt(through(databases, analytics=proxy))
        assert fault.fired.is_set()
        assert not outcome.ok
    quiet(databases)
    check_whole(databases, "faulty", before)
    settle(databases)

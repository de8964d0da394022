"""Clocks that step, runs at the same time, kill -9: one more run mends it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import pytest
from differ import differences
from faulty import (
    STAGES,
    Background,
    Outcome,
    Watcher,
    analytics_proxy,
    attempt,
    attempt_now,
    check_whole,
    fill,
    forget,
    live,
    quiet,
    raw_state,
    settle,
    source_proxy,
    through,
    wait_until,
)
from proxy import DOWN, UP, Fault, Link, Proxy, set_zone
from scratch import ROOT, Databases

from etl_pipeline.errors import Busy

pytestmark = pytest.mark.database

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

"""A limit of bytes per second is one for all readers of a run."""

from __future__ import annotations

import pytest
from scratch import Databases

from etl_pipeline.pace import Pace
from etl_pipeline.settings import Settings
from etl_pipeline.source import Source


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_bytes_have_their_time() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    for size in (500, 1000, 0):
        pace.spend(size)
    assert clock.slept == [0.5, 1.0, 0.0]


def test_readers_share_it() -> None:
    """Two that come at the same moment: the second waits for the first one's bytes as well."""
    waits: list[float] = []
    pace = Pace(1000, lambda: 7.0, waits.append)
    pace.spend(500)
    pace.spend(500)
    assert waits == [0.5, 1.0]


def test_a_pause_is_not_made_up_for() -> None:
    clock = Clock()
    pace = Pace(1000, lambda: clock.now, clock.sleep)
    pace.spend(1000)
    clock.now += 3600
    pace.spend(1000)
    assert clock.slept == [1.0, 1.0]


def test_without_a_limit_nobody_waits() -> None:
    def never(_seconds: float) -> None:
        pytest.fail("it slept")

    Pace(None, sleep=never).spend(10**12)


@pytest.mark.database
def test_every_byte_of_a_table_counts(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE visit (VisitNum bigint PRIMARY KEY, Note text) ENGINE=MyISAM",
        "INSERT INTO visit SELECT seq, REPEAT('x', 100) FROM seq_1_to_20000",
    )
    waits: list[float] = []
    pace = Pace(1.0, lambda: 0.0, waits.append)
    with Source(databases.settings.source, pace) as source:
        (table,) = source.tables()
        sizes = [len(chunk) for _, chunk in source.stream(table, table.columns)]
    # One byte a second, by a clock that stands still.
    assert waits == [sum(sizes[: n + 1]) for n in range(len(sizes))]
    assert sum(sizes) > 2_000_000


@pytest.mark.database
def test_a_run_under_a_limit_arrives(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE visit (VisitNum bigint PRIMARY KEY, Note text) ENGINE=MyISAM",
        "INSERT INTO visit SELECT seq, REPEAT('x', 100) FROM seq_1_to_20000",
    )
    databases.environ["OPENDENTAL_SOURCE_MAX_MB_PER_SECOND"] = "2"
    assert Settings.from_env(databases.environ).source.bytes_per_second == 2_000_000
    assert databases.run("r1")["visit"].rows_written == 20_000

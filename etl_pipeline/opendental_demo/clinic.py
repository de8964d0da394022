"""Profile `clinic`: a source as large and as wide as a real clinic's, filled by the server itself.

The rows mean nothing to each other; what counts is their number, their size and how they change.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import date
from threading import Event, Lock
from time import monotonic

import pymysql

from etl_pipeline.errors import PipelineError, describe
from etl_pipeline.types import quoted
from opendental_demo import schema
from opendental_demo.clinic_fill import Filling
from opendental_demo.clinic_tables import Column, clinic_tables
from opendental_demo.database import Database, Marker

# The books end on this day whatever the day of the load, so that seed and scale decide every row.
END = date(2026, 1, 1)
CONNECTIONS = 2
ROWS_PER_INSERT = 250_000
SECONDS_PER_LINE = 3
# Their rows carry no stamp and are written anew whenever the form is saved.
REWRITTEN = ("sheetfield",)
SMALLEST_ADVANCED = 100
# Hundredths of a percent of a table's rows, for each percent of an advance.
UPDATED, INSERTED, DELETED = 80, 15, 5
_WHOLE = 10_000
# Coprime to _WHOLE: neighbouring keys fall far apart.
_SPREAD = 3_919


def require_sequences(engines: Iterable[tuple[str, str]]) -> None:
    """Refuse a server that cannot count for us.

    Args:
        engines: name and support (`YES`, `DEFAULT`, …) as in `information_schema.ENGINES`.

    Raises:
        PipelineError: the sequence engine is missing.
    """
    if not any(name == "SEQUENCE" and support in ("YES", "DEFAULT") for name, support in engines):
        raise PipelineError(
            "loading the clinic: the server lacks MariaDB's sequence engine, which makes the rows",
            "point DEMO_SOURCE_HOST at a MariaDB, or load --profile practice",
        )


def fillings(seed: int, scale: float, end: date) -> list[Filling]:
    """One for each table that has rows at all, largest first; each gets at least one row."""
    used = [t for t in clinic_tables().values() if t.rows]
    used.sort(key=lambda t: t.rows * t.row_bytes, reverse=True)
    rows = {t.name: max(1, round(t.rows * scale)) for t in used}
    parents = {t.key: 0 for t in clinic_tables().values() if t.key}
    found = [Filling(t, rows[t.name], seed, parents, end) for t in used]
    for filling in found:
        if filling.table.key:
            parents[filling.table.key] = max(parents[filling.table.key], filling.last_key)
    return found


def load(database: Database, marker: Marker, talk: Callable[[str], None]) -> None:
    """Drop our tables, create all 446 and fill them; `marker` is set when all is done."""
    require_sequences(database.engines())
    began = monotonic()
    statements = [table.ddl for table in clinic_tables().values()]
    with _explained("creating the tables"):
        database.create([schema.marker_statement(), *statements], clinic_tables())
    talk(f"created {len(statements)} tables in {monotonic() - began:.1f} s")
    count = _Load(database, fillings(marker.seed, marker.scale, marker.end), talk).run()
    database.mark(marker)
    talk(f"loaded {count} rows, scale {marker.scale:g}, in {monotonic() - began:.1f} s")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except pymysql.MySQLError as error:
        known = describe(error)
        raise PipelineError(f"{what}: {known.message}", known.hint) from None


class _Load:
    """Two connections side by side take the tables from one queue."""

    def __init__(
        self, database: Database, queue: list[Filling], talk: Callable[[str], None]
    ) -> None:
        self._settings = database.settings
        self._queue = deque(queue)
        self._tables, self._rows = len(queue), sum(f.rows for f in queue)
        self._talk = talk
        self._lock, self._stop = Lock(), Event()
        self._done_tables = self._done_rows = 0

    def run(self) -> int:
        """Returns the number of rows."""
        began = monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            workers = {pool.submit(self._work) for _ in range(CONNECTIONS)}
            try:
                while workers:
                    done, workers = wait(workers, SECONDS_PER_LINE, FIRST_EXCEPTION)
                    for worker in done:
                        worker.result()
                    self._talk(
                        f"{self._done_tables} of {self._tables} tables,"
                        f" {self._done_rows} of {self._rows} rows, {monotonic() - began:.0f} s"
                    )
            finally:
                self._stop.set()
        return self._done_rows

    def _work(self) -> None:
        with Database(self._settings) as database:
            while True:
                with self._lock:
                    if not self._queue or self._stop.is_set():
                        return
                    filling = self._queue.popleft()
                with _explained(f"filling {filling.table.name}"):
                    self._fill(database, filling)

    def _fill(self, database: Database, filling: Filling) -> None:
        name = quoted(filling.table.name)
        database.run(f"ALTER TABLE {name} DISABLE KEYS")
        for first in range(1, filling.last_key + 1, ROWS_PER_INSERT):
            if self._stop.is_set():
                return
            last = min(first + ROWS_PER_INSERT - 1, filling.last_key)
            written = database.run(filling.load(first, last))
            with self._lock:
                self._done_rows += written
        database.run(f"ALTER TABLE {name} ENABLE KEYS")
        with self._lock:
            self._done_tables += 1


def advance(
    database: Database, marker: Marker, percent: float, talk: Callable[[str], None]
) -> dict[str, int]:
    """Change `percent` of every table that the clinic writes to; counts by action.

    A table with a change stamp gets updates, inserts and hard deletes, one without gets inserts,
    and those of `REWRITTEN` updates. Tables below 100 rows and those without a key
    stay as they are.
    """
    counts = dict.fromkeys(("insert", "update", "delete"), 0)
    began = last = monotonic()
    found = [f for f in fillings(marker.seed, marker.scale, marker.end) if f.table.key]
    for place, filling in enumerate(found):
        with _explained(f"advancing {filling.table.name}"):
            rows = database.count(filling.table.name)
            if rows >= SMALLEST_ADVANCED:
                for action, number in _advance_table(database, filling, marker, rows, percent):
                    counts[action] += number
        if monotonic() - last >= SECONDS_PER_LINE:
            last = monotonic()
            talk(f"{place + 1} of {len(found)} tables, {last - began:.0f} s")
    return counts


def _advance_table(
    database: Database, filling: Filling, marker: Marker, rows: int, percent: float
) -> Iterable[tuple[str, int]]:
    table = filling.table
    name, largest = quoted(table.name), database.largest(table.name, table.key)
    start = zlib.crc32(f"{marker.seed}/{table.name}/{marker.advances}".encode()) % _WHOLE
    turn = f"(seq * {_SPREAD} + {start}) % {_WHOLE}"
    # From the numbers to the rows: a scan of the table for its update takes ten times as long.
    some = f"seq_1_to_{max(1, largest)} STRAIGHT_JOIN {name} ON {quoted(table.key)} = seq"
    stamped = bool(table.on_update)
    updated = (UPDATED if stamped else 100 if table.name in REWRITTEN else 0) * percent
    if updated:
        change = _change(filling, marker.advances + 1)
        yield "update", database.run(f"UPDATE {some} SET {change} WHERE {turn} < {updated}")  # noqa: S608
    if stamped:
        gone = f"{turn} >= {updated} AND {turn} < {updated + DELETED * percent}"
        yield "delete", database.run(f"DELETE {name} FROM {some} WHERE {gone}")
    if stamped or table.name not in REWRITTEN:
        added = max(1, round(rows * (INSERTED if stamped else 100) * percent / _WHOLE))
        yield "insert", database.run(filling.append(largest + 1, largest + added))


def _change(filling: Filling, advances: int) -> str:
    """SET clause that makes a row another one: money, else text, else a number outside indexes."""
    table = filling.table
    plain = [
        c
        for c in table.columns
        if c.name not in (table.key, table.on_update, table.at_insert)
        and not c.name.endswith("Num")
    ]
    kinds: tuple[tuple[str, Callable[[Column], str]], ...] = (
        ("double", lambda c: f"{quoted(c.name)} + 1"),
        ("text", lambda c: f"concat('{advances}. ', substr(ifnull({quoted(c.name)}, ''), 4))"),
        ("varchar", lambda c: f"concat('{advances}. ', substr({quoted(c.name)}, 4, 40))"),
        ("smallint", lambda c: f"{quoted(c.name)} + 1"),
        ("tinyint", lambda c: f"({quoted(c.name)} + 1) % 5"),
    )
    return next(
        f"{quoted(c.name)} = {value(c)}" for kind, value in kinds for c in plain if kind in c.kind
    )

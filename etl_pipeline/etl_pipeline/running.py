"""The tables of one run, over a few connections at once.

Each worker has a connection of its own to either side, takes the largest table that is left, and
goes on after a failure. Two servers and this process share the work of one table unevenly, so one
stream leaves cores idle: a second one uses them (`cargo xtask bench etl`). Few are enough, and the
practice's server has to serve the practice.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import psycopg2
import pymysql

from etl_pipeline import tracking
from etl_pipeline.errors import PipelineError, WindowClosed, describe
from etl_pipeline.load import load_table
from etl_pipeline.plan import TablePlan, Watermark
from etl_pipeline.settings import Settings
from etl_pipeline.source import Source
from etl_pipeline.target import Target
from etl_pipeline.tracking import TableResult

CONNECTIONS = 2


def load_tables(
    settings: Settings,
    plans: Sequence[TablePlan],
    watermarks: Mapping[str, Watermark],
    run_id: str,
    *,
    connections: int = CONNECTIONS,
    until: datetime | None = None,
    done: Callable[[TableResult], None],
) -> tuple[TableResult, ...]:
    """Load what `plans` say, record what failed; results in the order of `plans`.

    Args:
        connections: tables that are read at once, each over one connection to either side.
        until: aware; then the source is left at once. What is loaded stays; a table that is being
            read, and each that was not begun, has failed, and the next run begins with it.
        done: told of each result as it comes, one at a time, from a worker's thread.

    Raises:
        Exception: the first that no table can be blamed for (the analytics database was lost); the
            other workers are stopped in the middle of their tables.
    """
    crew = _Crew(settings, plans, watermarks, run_id, done)
    closing = None
    if until is not None:
        seconds = (until - datetime.now(UTC)).total_seconds()
        if seconds <= 0:
            # At once and not by a timer, which a small table could outrun.
            crew.close(until)
        else:
            closing = threading.Timer(seconds, crew.close, [until])
            closing.daemon = True
            closing.start()
    threads = [
        threading.Thread(target=crew.work, name=f"etl-{n}", daemon=True)
        for n in range(min(connections, len(plans)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        # Ctrl-C, or a scheduler that ends the task: nothing is half-done, tables commit whole.
        crew.stop()
        for thread in threads:
            thread.join()
        raise
    finally:
        if closing is not None:
            closing.cancel()
    if crew.failure is not None:
        raise crew.failure
    return tuple(crew.results[plan.table.name] for plan in plans)


class _Crew:
    def __init__(
        self,
        settings: Settings,
        plans: Sequence[TablePlan],
        watermarks: Mapping[str, Watermark],
        run_id: str,
        done: Callable[[TableResult], None],
    ) -> None:
        self.settings = settings
        self.watermarks = watermarks
        self.run_id = run_id
        self.done = done
        # The largest first: a large one that begins last would be waited for alone.
        self.left = deque(
            sorted(plans, key=lambda p: -(p.table.facts.bytes if p.table.facts else 0))
        )
        self.results: dict[str, TableResult] = {}
        self.failure: BaseException | None = None
        self.lock = threading.Lock()
        self.stopped = False
        self.closed: WindowClosed | None = None
        self.open: set[Source | Target] = set()

    def work(self) -> None:
        """Take tables until none is left; a thread's whole life."""
        try:
            with Target(self.settings.analytics) as target, self._held(target):
                while self._some_left():
                    with Source(self.settings.source) as source, self._held(source):
                        self._tables_over(source, target)
                self._leave_rest(target)
        except BaseException as error:
            with self.lock:
                if self.failure is None and not self.stopped:
                    self.failure = error
            self.stop()

    def stop(self) -> None:
        """Take no further table, and give up those in hand."""
        with self.lock:
            self.stopped = True
            for connection in self.open:
                connection.abort()

    def close(self, at: datetime) -> None:
        """The window is over: leave the source, and say so of every table that is not loaded."""
        with self.lock:
            self.closed = WindowClosed(
                f"the window closed at {at:%H:%M %Z}", "the next run begins with what is left"
            )
            for connection in self.open:
                # What is read already may still be merged: that costs the source nothing.
                if isinstance(connection, Source):
                    connection.abort()

    def _leave_rest(self, target: Target) -> None:
        while self.closed is not None and (plan := self._next()) is not None:
            self._finished(record_failure(target, plan, self.run_id, self.closed))

    def _tables_over(self, source: Source, target: Target) -> None:
        """Load until nothing is left, or a failure has made the source's connection useless."""
        while self.closed is None and (plan := self._next()) is not None:
            name = plan.table.name
            try:
                result = load_table(source, target, plan, self.run_id, self.watermarks.get(name))
            except (PipelineError, psycopg2.Error, pymysql.MySQLError, OSError) as error:
                if target.connection.closed or self.stopped:
                    raise
                why = self.closed or error
                self._finished(record_failure(target, plan, self.run_id, why))
                return
            self._finished(result)

    def _finished(self, result: TableResult) -> None:
        with self.lock:
            self.results[result.table] = result
            self.done(result)

    def _next(self) -> TablePlan | None:
        with self.lock:
            return self.left.popleft() if self.left and not self.stopped else None

    def _some_left(self) -> bool:
        with self.lock:
            return bool(self.left) and not self.stopped and self.closed is None

    @contextlib.contextmanager
    def _held(self, connection: Source | Target) -> Iterator[None]:
        """Known to `stop` for as long as it is open."""
        with self.lock:
            self.open.add(connection)
        try:
            yield
        finally:
            with self.lock:
                self.open.discard(connection)


def record_failure(
    target: Target, plan: TablePlan, run_id: str, error: BaseException
) -> TableResult:
    """Keep that a table failed, in words that name it and hold no value of a row."""
    safe = describe(error)
    message = safe.message
    if plan.table.name not in message:
        message = f"loading table {plan.table.name}: {message}"
    text = f"{message}; hint: {safe.hint}" if safe.hint else message
    strategy = plan.action if plan.loads else "full"
    result = TableResult(plan.table.name, strategy, error=text)
    with target.transaction() as cursor:
        now = cursor.rows("select clock_timestamp()")[0][0]
        tracking.record_table(cursor, run_id, result, now)
    return result

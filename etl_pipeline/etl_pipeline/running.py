"""The tables of one run, over a few connections at once.

Each worker has a connection of its own to the analytics database, borrows one to the source, takes
the largest table that is left, and goes on after a failure. It gives the source back once a table
is read: there is one worker more than connections to the source, so that these are never idle while
an index is built or rows are merged. Two servers and this process share the work of one table
unevenly, so one stream leaves cores idle: a second one uses them (`cargo xtask bench etl`). Few are
enough, and the practice's server has to serve the practice.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import psycopg2
import pymysql

from etl_pipeline import tracking
from etl_pipeline.errors import PipelineError, WindowClosed, describe
from etl_pipeline.load import Load
from etl_pipeline.pace import Pace
from etl_pipeline.plan import TablePlan, Watermark
from etl_pipeline.progress import Progress
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
    progress: Progress | None = None,
    done: Callable[[TableResult], None],
) -> tuple[TableResult, ...]:
    """Load what `plans` say, record what failed; results in the order of `plans`.

    Args:
        connections: tables that are read at once, each over one connection to the source.
        until: aware; then the source is left at once. What is loaded stays; a table that is being
            read, and each that was not begun, has failed, and the next run begins with it.
        progress: told what is in hand.
        done: told of each result as it comes, one at a time, from a worker's thread.

    Raises:
        Exception: the first that no table can be blamed for (the analytics database was lost); the
            other workers are stopped in the middle of their tables.
    """
    progress = progress or Progress()
    crew = _Crew(settings, plans, watermarks, run_id, connections, progress, done)
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
        for n in range(min(connections + 1, len(plans)))
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
        crew.leave()
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
        connections: int,
        progress: Progress,
        done: Callable[[TableResult], None],
    ) -> None:
        self.settings = settings
        self.progress = progress
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
        self.pace = Pace(settings.source.bytes_per_second)
        self.open: set[Source | Target] = set()
        # None stands for one that nobody has opened yet.
        self.sources: queue.SimpleQueue[Source | None] = queue.SimpleQueue()
        for _ in range(connections):
            self.sources.put(None)

    def work(self) -> None:
        """Take tables until none is left; a thread's whole life."""
        try:
            with Target(self.settings.analytics) as target:
                self.opened(target)
                try:
                    while self._load_next(target):
                        pass
                    self._leave_rest(target)
                finally:
                    self.dismiss(target)
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

    def leave(self) -> None:
        """Close what is open, once nobody is at work."""
        for connection in tuple(self.open):
            self.dismiss(connection)

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

    def _load_next(self, target: Target) -> bool:
        """Load one table, if one is left to be begun."""
        loan = _Loan(self)
        try:
            if not self._some_left():
                return False
            source = loan.open()
            if self.closed is not None or (plan := self._next()) is None:
                return False
            self.progress.begin(plan.table.name)
            watermark = self.watermarks.get(plan.table.name)
            try:
                result = Load(source, target, plan, self.run_id, watermark, loan.end).run()
            except (PipelineError, psycopg2.Error, pymysql.MySQLError, OSError) as error:
                if target.connection.closed or self.stopped:
                    raise
                loan.spoil()
                result = record_failure(target, plan, self.run_id, self.closed or error)
        except BaseException:
            loan.spoil()
            raise
        finally:
            loan.end()
        self._finished(result)
        return True

    def _finished(self, result: TableResult) -> None:
        self.progress.done(result.table)
        with self.lock:
            self.results[result.table] = result
            self.done(result)

    def _next(self) -> TablePlan | None:
        with self.lock:
            return self.left.popleft() if self.left and not self.stopped else None

    def _some_left(self) -> bool:
        with self.lock:
            return bool(self.left) and not self.stopped and self.closed is None

    def opened(self, connection: Source | Target) -> None:
        """Have `stop` end what it does."""
        with self.lock:
            self.open.add(connection)

    def dismiss(self, connection: Source | Target) -> None:
        """Close it, whatever it is at."""
        with self.lock:
            self.open.discard(connection)
        connection.close()


class _Loan:
    """A connection to the source while a worker has it; opened by the first that needs it.

    Waits for one to be free.
    """

    def __init__(self, crew: _Crew) -> None:
        self._crew = crew
        self._source: Source | None = crew.sources.get()
        self._ended = False

    def open(self) -> Source:
        if self._source is None:
            crew = self._crew
            self._source = Source(crew.settings.source, crew.pace, crew.progress)
            self._crew.opened(self._source)
        return self._source

    def end(self) -> None:
        """Leave it to the next worker; the second time nothing."""
        if not self._ended:
            self._ended = True
            self._crew.sources.put(self._source)

    def spoil(self) -> None:
        """End it after a failure that may have left something half-read."""
        if not self._ended and self._source is not None:
            self._crew.dismiss(self._source)
            self._source = None
        self.end()


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

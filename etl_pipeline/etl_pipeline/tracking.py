"""What happened: `etl.runs`, `etl.tables`; what the next run has to know: the others of `etl`.

Everything of a loaded table is written in the transaction of its data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql

from etl_pipeline.catalog import Facts
from etl_pipeline.digests import Buckets
from etl_pipeline.plan import Knowledge, State, Watermark
from etl_pipeline.target import Cursor, Target


@dataclass(frozen=True)
class TableResult:
    """One table of a run.

    Attributes:
        rows_read: rows that came from the source.
        rows_written: rows inserted, changed or removed in raw.
        rows_after: rows of the raw table, counted by the load, or what the one before counted and
            this one changed; None where it failed, and in lines of versions that did not count.
        bytes: length of the CSV that came from the source.
        watermark: largest change stamp read so far, UTC; None without a stamp.
        longest_read: seconds of the longest statement at the source, for which a table of MyISAM
            was locked; None in lines of versions that did not measure it.
        lag: seconds from the largest change stamp to the source's clock before the table was read:
            how long ago the practice last wrote to it. None without a stamp that the server sets.
    """

    table: str
    strategy: str
    rows_read: int = 0
    rows_written: int = 0
    rows_after: int | None = None
    bytes: int = 0
    seconds: float = 0.0
    watermark: str | None = None
    error: str | None = None
    longest_read: float | None = None
    lag: float | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def start_run(
    target: Target, run_id: str, environment: str, full: bool, guard: Mapping[str, Any] | None
) -> frozenset[str]:
    """Open the run; the caller holds the lock, so every other `running` row is a dead process.

    Returns:
        Tables that an interrupted try of the same run has loaded already. A run that succeeded
        and is asked for again starts from the beginning.
    """
    with target.transaction() as cursor:
        cursor.run(
            "update etl.runs set status = 'failed', finished_at = clock_timestamp(),"
            " error = 'the process ended without a report' where status = 'running'"
        )
        before = cursor.rows("select status from etl.runs where run_id = %s", [run_id])
        if before and before[0][0] == "failed":
            done = cursor.rows(
                "select table_name from etl.tables where run_id = %s and status = 'success'",
                [run_id],
            )
        else:
            cursor.run("delete from etl.tables where run_id = %s", [run_id])
            done = []
        cursor.run(
            """
            insert into etl.runs (run_id, status, environment, full_refresh, guard)
            values (%s, 'running', %s, %s, %s)
            on conflict (run_id) do update set
                status = 'running', finished_at = null, error = null, verification = null,
                verified_at = null, environment = excluded.environment,
                full_refresh = excluded.full_refresh, guard = excluded.guard
            """,
            [run_id, environment, full, None if guard is None else json.dumps(dict(guard))],
        )
    return frozenset(row[0] for row in done)


def finish_run(target: Target, run_id: str, error: str | None) -> None:
    with target.transaction() as cursor:
        cursor.run(
            "update etl.runs set status = %s, finished_at = clock_timestamp(), error = %s"
            " where run_id = %s",
            ["failed" if error else "success", error, run_id],
        )


def record_table(cursor: Cursor, run_id: str, result: TableResult, started_at: datetime) -> None:
    cursor.run(
        """
        insert into etl.tables (
            run_id, table_name, strategy, rows_read, rows_written, rows_after, bytes, seconds,
            watermark, status, error, started_at, finished_at, longest_read, lag
        ) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp(), %s, %s)
        on conflict (run_id, table_name) do update set
            strategy = excluded.strategy, rows_read = excluded.rows_read,
            rows_written = excluded.rows_written, rows_after = excluded.rows_after,
            bytes = excluded.bytes, seconds = excluded.seconds, watermark = excluded.watermark,
            status = excluded.status, error = excluded.error, started_at = excluded.started_at,
            finished_at = excluded.finished_at, longest_read = excluded.longest_read,
            lag = excluded.lag
        """,
        [
            run_id,
            result.table,
            result.strategy,
            result.rows_read,
            result.rows_written,
            result.rows_after,
            result.bytes,
            result.seconds,
            result.watermark,
            "success" if result.ok else "failed",
            result.error,
            started_at,
            result.longest_read,
            result.lag,
        ],
    )


def save_watermark(cursor: Cursor, table: str, watermark: Watermark, run_id: str) -> None:
    cursor.run(
        """
        insert into etl.watermarks (table_name, column_name, value, run_id)
        values (%s, %s, %s, %s)
        on conflict (table_name) do update set
            column_name = excluded.column_name, value = excluded.value,
            run_id = excluded.run_id, updated_at = clock_timestamp()
        """,
        [table, watermark.column, watermark.value, run_id],
    )


def watermarks(target: Target) -> dict[str, Watermark]:
    return {
        table: Watermark(column, value)
        for table, column, value in target.rows(
            "select table_name, column_name, value from etl.watermarks"
        )
    }


def knowledge(target: Target) -> Knowledge:
    """What earlier runs have left behind; nothing in a database that no run has seen."""
    today = target.rows("select current_date")[0][0]
    marks = watermarks(target) if target.prepared() else {}
    return Knowledge(marks, states(target) if target.prepared("states") else {}, today)


def states(target: Target) -> dict[str, State]:
    """How each table was found when it was last read."""
    # By way of JSON, for a plan adds no column that an older version has not made.
    return {
        table: State(*rest)
        for table, *rest in target.rows(
            "select s.table_name, s.facts, s.settled, s.raw_file, s.rows,"
            " current_date - s.read_at::date, w.value, s.verified,"
            " coalesce((to_jsonb(s) ->> 'moved')::float8, 0) from etl.states as s"
            " left join etl.watermarks as w on s.table_name = w.table_name"
        )
    }


def save_state(
    cursor: Cursor, table: str, facts: Facts, raw: str, rows: int, moved: float, run_id: str
) -> None:
    """Keep how the source described the table before it was read; `raw` is its copy's SQL name."""
    cursor.run(
        """
        insert into etl.states (
            table_name, facts, settled, raw_file, rows, moved, run_id, read_at, verified
        ) values (
            %s, %s, %s, pg_relation_filenode(%s::regclass), %s, %s, %s, clock_timestamp(), false
        )
        on conflict (table_name) do update set
            facts = excluded.facts, settled = excluded.settled, raw_file = excluded.raw_file,
            rows = excluded.rows, moved = excluded.moved, run_id = excluded.run_id,
            read_at = excluded.read_at, verified = false
        """,
        [table, facts.text(), facts.settled, raw, rows, moved, run_id],
    )


def forget_state(cursor: Cursor, table: str) -> None:
    """Have the next run look at `table` whatever the server says of it."""
    cursor.run("delete from etl.states where table_name = %s", [table])


def save_check(target: Target, table: str, *, proved: bool) -> None:
    """Keep whether a verification has found the copy of `table` equal."""
    with target.transaction() as cursor:
        cursor.run(
            "update etl.states set verified = %s where table_name = %s and verified <> %s",
            [proved, table, proved],
        )


def record_unchanged(target: Target, run_id: str, found: Mapping[str, State]) -> list[TableResult]:
    """One line for each table that did not have to be read; no more than one round trip."""
    results = [
        TableResult(name, "unchanged", rows_after=state.rows, watermark=state.watermark)
        for name, state in found.items()
    ]
    if results:
        with target.transaction() as cursor:
            cursor.run(
                """
                insert into etl.tables (
                    run_id, table_name, strategy, rows_read, rows_written, rows_after, bytes,
                    seconds, watermark, status, started_at, finished_at
                )
                select
                    %s, t.name, 'unchanged', 0, 0, t.rows, 0, 0, t.watermark, 'success',
                    clock_timestamp(), clock_timestamp()
                from unnest(%s::text[], %s::bigint[], %s::text[]) as t (name, rows, watermark)
                on conflict (run_id, table_name) do update set
                    strategy = excluded.strategy, rows_read = 0, rows_written = 0,
                    rows_after = excluded.rows_after, bytes = 0, seconds = 0,
                    watermark = excluded.watermark, status = excluded.status, error = null,
                    started_at = excluded.started_at, finished_at = excluded.finished_at
                """,
                [
                    run_id,
                    [r.table for r in results],
                    [r.rows_after for r in results],
                    [r.watermark for r in results],
                ],
            )
    return results


def forget(cursor: Cursor, table: str) -> None:
    """Believe nothing that is known of `table`: the next run reads all of it."""
    for kept in ("states", "watermarks", "buckets"):
        cursor.run(
            sql.SQL("delete from {} where table_name = %s").format(sql.Identifier("etl", kept)),
            [table],
        )


def buckets(cursor: Cursor, table: str) -> Buckets | None:
    """What the source said of each bucket when it was last read."""
    found = cursor.rows(
        "select keys_per_bucket, bucket, rows, checksum from etl.buckets where table_name = %s",
        [table],
    )
    if not found:
        return None
    return Buckets(found[0][0], {bucket: (rows, check) for _, bucket, rows, check in found})


def save_buckets(cursor: Cursor, table: str, known: Buckets | None, found: Buckets) -> None:
    """Keep `found`; writes what differs from `known`, which is what is kept now."""
    same = known is not None and known.width == found.width
    old = dict(known.figures) if known is not None and same else {}
    gone = [bucket for bucket in old if bucket not in found.figures]
    new = [(b, *figures) for b, figures in found.figures.items() if old.get(b) != figures]
    if not same:
        cursor.run("delete from etl.buckets where table_name = %s", [table])
    elif gone:
        cursor.run(
            "delete from etl.buckets where table_name = %s and bucket = any(%s)", [table, gone]
        )
    cursor.run(
        """
        insert into etl.buckets (table_name, keys_per_bucket, bucket, rows, checksum)
        select %s, %s, b.bucket, b.rows, b.checksum
        from unnest(%s::bigint[], %s::bigint[], %s::bigint[]) as b (bucket, rows, checksum)
        on conflict (table_name, bucket) do update set
            rows = excluded.rows, checksum = excluded.checksum
        """,
        [table, found.width, *(list(column) for column in zip(*new, strict=True))]
        if new
        else [table, found.width, [], [], []],
    )


def save_verification(
    target: Target, run_id: str, verification: Mapping[str, Any], began_at: datetime
) -> None:
    """Keep the outcome; `began_at`, by the target's clock, lies before each of its counts."""
    with target.transaction() as cursor:
        cursor.run(
            "update etl.runs set verification = %s, verified_at = %s where run_id = %s",
            [json.dumps(dict(verification)), began_at, run_id],
        )

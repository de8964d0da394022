"""What a run did and how fresh raw is, from `etl.*`: counts and times, never a value of a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from etl_pipeline import commands
from etl_pipeline.errors import PipelineError
from etl_pipeline.target import Target
from etl_pipeline.tracking import TableResult
from etl_pipeline.verify import OK_OUTCOMES

# A new server may spell the type of every column in another way.
_CHANGES_SHOWN = 40
# Seconds from which on a practice could have noticed that a table was being read.
_NOTABLE_READ = 0.5


@dataclass(frozen=True)
class RunReport:
    """One run as recorded. Times are ISO 8601 in UTC; `seconds` is wall time of the whole run."""

    run_id: str
    status: str
    environment: str
    full_refresh: bool
    started_at: str
    finished_at: str | None
    seconds: float | None
    error: str | None
    guard: dict[str, Any] | None
    verification: dict[str, Any] | None
    tables: tuple[TableResult, ...]
    schema_changes: tuple[str, ...] = ()

    @property
    def rows_read(self) -> int:
        return sum(t.rows_read for t in self.tables)

    @property
    def rows_written(self) -> int:
        return sum(t.rows_written for t in self.tables)

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(t.table for t in self.tables if not t.ok)

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "tables": [t.to_dict() for t in self.tables],
            "schema_changes": list(self.schema_changes),
            "rows_read": self.rows_read,
            "rows_written": self.rows_written,
            "failed": list(self.failed),
        }

    def to_text(self) -> str:
        took = "" if self.seconds is None else f" in {self.seconds:.1f} s"
        lines = [f"run {self.run_id}: {self.status}{took} ({self.environment})"]
        if self.error:
            lines.append(f"error: {self.error}")
        lines += [f"schema: {change}" for change in self.schema_changes[:_CHANGES_SHOWN]]
        if (more := len(self.schema_changes) - _CHANGES_SHOWN) > 0:
            lines.append(f"schema: {more} more: `{commands.etl('schema history --limit 1')}`")
        rows = [("table", "strategy", "read", "written", "seconds")]
        rows += [
            (t.table, t.strategy, f"{t.rows_read:,}", f"{t.rows_written:,}", f"{t.seconds:.2f}")
            for t in sorted(self.tables, key=lambda t: (-t.seconds, t.table))
            if t.strategy != "unchanged"
        ]
        rows.append(("total", "", f"{self.rows_read:,}", f"{self.rows_written:,}", ""))
        lines += align(rows, left=(0, 1))
        unchanged = sum(1 for t in self.tables if t.strategy == "unchanged")
        if unchanged:
            lines.append(f"unchanged since they were read: {unchanged} tables")
        longest = max(self.tables, key=lambda t: t.longest_read or 0, default=None)
        if longest is not None and (longest.longest_read or 0) >= _NOTABLE_READ:
            read = f"{longest.table}, {longest.longest_read:.1f} s"
            lines.append(f"longest statement at the source: {read}")
        lines += [f"failed: {t.table}: {t.error}" for t in self.tables if not t.ok]
        if self.verification is not None:
            checks = self.verification["checks"]
            bad = [c["table"] for c in checks if c["outcome"] not in OK_OUTCOMES]
            lines.append(
                f"verification: {', '.join(bad)} differ from the source"
                if bad
                else f"verification: {len(checks)} tables agree with the source"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Freshness:
    """How old a raw table is.

    Attributes:
        rows: counted, never estimated: by the load, or by a verification since. None where the
            last load was made by a version that did not count.
        rows_as_of: the moment of that count, UTC; raw is as it was then unless a person changed it.
        watermark: largest change stamp that was read, UTC; None without a stamp.
        hours_since_load: since the last load of the table that succeeded.
        error: why the last run could not load it; None where it could, or did not try.
    """

    table: str
    rows: int | None
    rows_as_of: str | None
    watermark: str | None
    loaded_at: str
    hours_since_load: float
    error: str | None = None


@dataclass(frozen=True)
class Status:
    """The last run and the freshness of each table that was ever loaded.

    Attributes:
        rows: of all tables; None unless every one of them is counted.
    """

    last_run: dict[str, Any] | None
    rows: int | None
    tables: tuple[Freshness, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"tables": [asdict(t) for t in self.tables]}

    def to_text(self) -> str:
        if self.last_run is None:
            return "no run yet"
        last = self.last_run
        rows = [("table", "rows", "changed up to (UTC)", "hours since load", "last run")]
        rows += [
            (
                t.table,
                _number(t.rows),
                (t.watermark or "-")[:19],
                f"{t.hours_since_load:.1f}",
                "failed" if t.error else "",
            )
            for t in self.tables
        ]
        if all(t.error is None for t in self.tables):
            rows = [row[:-1] for row in rows]
        started = last["started_at"][:19]
        head = f"last run {last['run_id']}: {last['status']}, started {started} UTC"
        lines = [head, *([f"error: {last['error']}"] if last["error"] else [])]
        lines += align(rows, left=(0, 4))
        lines += [f"failed: {t.table}: {t.error}" for t in self.tables if t.error]
        return "\n".join(lines)


def read_report(target: Target, run_id: str) -> RunReport:
    """The run `run_id`.

    Raises:
        PipelineError: there is no such run.
    """
    found = target.rows(
        "select run_id, status, environment, full_refresh, started_at, finished_at,"
        " extract(epoch from finished_at - started_at)::float8, error, guard, verification,"
        " coalesce(schema_changes, '[]') from etl.runs where run_id = %s",
        [run_id],
    )
    if not found:
        raise PipelineError(
            f"reporting run {run_id}: no such run", f"`{commands.etl('status')}` names the last"
        )
    *head, schema_changes = found[0]
    (name, status, environment, full, started, finished, seconds, error, guard, verified) = head
    tables = target.rows(
        "select table_name, strategy, rows_read, rows_written, rows_after, bytes, seconds,"
        " watermark, error, longest_read, lag from etl.tables where run_id = %s"
        " order by table_name",
        [run_id],
    )
    return RunReport(
        run_id=name,
        status=status,
        environment=environment,
        full_refresh=full,
        started_at=started.isoformat(),
        finished_at=_iso(finished),
        seconds=seconds,
        error=error,
        guard=guard,
        verification=verified,
        tables=tuple(TableResult(*row) for row in tables),
        schema_changes=tuple(schema_changes),
    )


def read_status(target: Target) -> Status:
    last = last_run_id(target)
    if last is None:
        return Status(None, 0, ())
    report = read_report(target, last)
    tables = target.rows(
        """
        with loads as (
            select distinct on (table_name) table_name, rows_after, finished_at
            from etl.tables where status = 'success' order by table_name, finished_at desc
        ),

        verified as (
            select verified_at, verification from etl.runs
            where verified_at is not null order by verified_at desc limit 1
        ),

        -- These were not counted, whatever stands there.
        counts as (
            select v.verified_at, c ->> 'table' as table_name, (c ->> 'raw_rows')::bigint as rows
            from verified as v
            cross join jsonb_array_elements(v.verification -> 'checks') as c
            where c ->> 'outcome' not in ('missing', 'uncompared')
        )

        select
            l.table_name,
            coalesce(n.rows, l.rows_after),
            coalesce(n.verified_at, l.finished_at),
            w.value,
            l.finished_at,
            extract(epoch from clock_timestamp() - l.finished_at)::float8 / 3600
        from loads as l
        left join counts as n on l.table_name = n.table_name and l.finished_at < n.verified_at
        inner join pg_class as c
            on l.table_name = c.relname and c.relnamespace = to_regnamespace(quote_ident(%s))
        left join etl.watermarks as w on l.table_name = w.table_name
        order by l.table_name
        """,
        [target.schema],
    )
    errors = {t.table: t.error for t in report.tables}
    fresh = tuple(
        Freshness(
            name,
            rows,
            None if rows is None else at.isoformat(),
            mark,
            loaded.isoformat(),
            round(hours, 2),
            errors.get(name),
        )
        for name, rows, at, mark, loaded, hours in tables
    )
    counts = [t.rows for t in fresh if t.rows is not None]
    summary = {
        key: value
        for key, value in report.to_dict().items()
        if key not in ("tables", "guard", "verification", "schema_changes")
    }
    return Status(summary, sum(counts) if len(counts) == len(fresh) else None, fresh)


def last_run_id(target: Target) -> str | None:
    found = target.rows("select run_id from etl.runs order by started_at desc limit 1")
    return found[0][0] if found else None


def align(rows: list[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Columns of equal width; those in `left` begin at the left, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()

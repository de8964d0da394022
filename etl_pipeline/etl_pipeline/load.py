"""One table from the source into raw: stage, reconcile keys, merge, all or nothing.

A first load copies straight into the new table. Every other load stages first and then, in one
short transaction, changes only what differs, so `_loaded_at` means "changed at" and readers see
the old rows until the commit. The watermark and the run's row of the table commit with the data:
a crash at any point leaves the table as it was, and the next run reads the same rows again.

Deletes: OpenDental deletes rows for good in daily use and no stamp tells. So an incremental load
also reads the list of all keys: after the rows, for a row that is inserted in between must not
look deleted. Keys that raw lacks although their stamp is old (restored rows, a clock that
stepped) show up by the same comparison and are read by key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from psycopg2 import sql

from etl_pipeline.plan import TablePlan, Watermark
from etl_pipeline.source import Source, Table
from etl_pipeline.target import LOADED_AT, Cursor, Target
from etl_pipeline.tracking import TableResult, record_table, save_watermark
from etl_pipeline.types import postgres_type, quoted

_STAGE = sql.Identifier("pg_temp", "stage")
_KEYS = sql.Identifier("pg_temp", "stage_keys")
_KEYS_PER_READ = 500
# Above this many forgotten rows (raw was emptied by hand, say), one full read is faster.
_FORGOTTEN_LIMIT = 20_000
# dbt reads raw minutes after the load, autovacuum may come later: above this share of rows changed
# the planner is told at once. Not always, because ANALYZE costs far more than a small merge.
_NOTABLE_CHANGE = 0.1


def load_table(
    source: Source, target: Target, plan: TablePlan, run_id: str, known: Watermark | None
) -> TableResult:
    """Bring one raw table to the state of the source and commit, with bookkeeping."""
    return _Load(source, target, plan, run_id, known).run()


class _Load:
    def __init__(
        self, source: Source, target: Target, plan: TablePlan, run_id: str, known: Watermark | None
    ) -> None:
        self.source = source
        self.target = target
        self.plan = plan
        self.run_id = run_id
        self.known = known
        self.table = plan.table
        self.raw = target.name(plan.table.name)
        self.columns = [c.name for c in plan.table.columns]
        self.started = time.monotonic()
        self.started_at = datetime.now(UTC)
        self.rows_read = 0
        self.bytes = 0
        self.new_stamp: str | None = None

    def run(self) -> TableResult:
        if self.plan.create:
            return self._first_load()
        if self.plan.new_columns:
            self._add_columns()
        self._stage_rows()
        if self.plan.action == "incremental":
            self._stage_keys()
            self._stage_forgotten()
        return self._merge()

    def _first_load(self) -> TableResult:
        with self.target.transaction() as cursor:
            cursor.run(_create(self.raw, self.table))
            self._copy(cursor, self.raw, freeze=True)
            cursor.run(
                sql.SQL("alter table {} add primary key ({})").format(
                    self.raw, _names(self.table.primary_key)
                )
            )
            stamp = self._largest_stamp(cursor, self.raw)
            result = self._record(cursor, self.rows_read, self.rows_read, stamp)
        self._analyze()
        return result

    def _add_columns(self) -> None:
        with self.target.transaction() as cursor:
            cursor.run("set local lock_timeout = '30s'")
            for column in self.plan.new_columns:
                cursor.run(
                    sql.SQL("alter table {} add column {} {}").format(
                        self.raw,
                        sql.Identifier(column.name),
                        sql.SQL(postgres_type(self.table.name, column)),
                    )
                )
            # A crash from here on must not leave old rows without the new values for ever.
            cursor.run("delete from etl.watermarks where table_name = %s", [self.table.name])
        self.known = None

    def _stage_rows(self) -> None:
        where, args = "", []
        if self.plan.since is not None:
            where, args = f"WHERE {quoted(self.table.stamp or '')} >= %s", [self.plan.since]
        with self.target.transaction() as cursor:
            cursor.run("drop table if exists pg_temp.stage, pg_temp.stage_keys")
            cursor.run(sql.SQL("create temp table stage (like {})").format(self.raw))
            cursor.run(sql.SQL("alter table {} drop column {}").format(_STAGE, _id(LOADED_AT)))
            self._copy(cursor, _STAGE, where=where, args=args)
            self.new_stamp = self._largest_stamp(cursor, _STAGE)
            cursor.run("analyze pg_temp.stage")

    def _stage_keys(self) -> None:
        key = self.table.primary_key
        with self.target.transaction() as cursor:
            cursor.run(
                sql.SQL("create temp table stage_keys as select {} from {} with no data").format(
                    _names(key), self.raw
                )
            )
            cursor.copy(_KEYS, key, self.source.stream(self.table, self.table.key_columns))
            cursor.run("analyze pg_temp.stage_keys")

    def _stage_forgotten(self) -> None:
        """Read by key what the source has, raw has not, and no stamp announced."""
        with self.target.transaction() as cursor:
            forgotten = cursor.rows(
                sql.SQL(
                    "select {} from {} as k where not exists (select 1 from {} as r where {})"
                    " and not exists (select 1 from {} as s where {})"
                ).format(
                    _names(self.table.primary_key, "k"),
                    _KEYS,
                    self.raw,
                    self._same_key("r", "k"),
                    _STAGE,
                    self._same_key("s", "k"),
                )
            )
            if len(forgotten) > _FORGOTTEN_LIMIT:
                cursor.run("truncate pg_temp.stage")
                self._copy(cursor, _STAGE)
                return
            key = f"({', '.join(quoted(k) for k in self.table.primary_key)})"
            for part in _parts(forgotten):
                holes = f"({', '.join(['%s'] * len(self.table.primary_key))})"
                where = f"WHERE {key} IN ({', '.join([holes] * len(part))})"
                args = [value for row in part for value in row]
                self._copy(cursor, _STAGE, where=where, args=args)

    def _merge(self) -> TableResult:
        with self.target.transaction() as cursor:
            self._choose_joins(cursor)
            written = self._delete(cursor) + self._update(cursor) + self._insert(cursor)
            # Counted, not reckoned from what was there before: a person may have changed raw.
            rows = cursor.rows(sql.SQL("select count(*) from {}").format(self.raw))[0][0]
            cursor.run("drop table if exists pg_temp.stage, pg_temp.stage_keys")
            result = self._record(cursor, written, rows, self.new_stamp)
        if written > rows * _NOTABLE_CHANGE:
            self._analyze()
        return result

    def _choose_joins(self, cursor: Cursor) -> None:
        """Nested loops only for a small increment of a large table.

        An empty raw table looks cheap to scan once per staged row, and it grows while INSERT
        does so: 41,000 rows took 27 s instead of 0.5 s.
        """
        known = cursor.rows(
            "select reltuples from pg_class where oid = %s::regclass",
            [self.raw.as_string(self.target.connection)],
        )[0][0]
        if self.rows_read * 20 > known:
            cursor.run("set local enable_nestloop = off")

    def _delete(self, cursor: Cursor) -> int:
        """Remove what the source no longer has."""
        present = _STAGE if self.plan.action == "full" else _KEYS
        return cursor.run(
            sql.SQL("delete from {} as r where not exists (select 1 from {} as k where {})").format(
                self.raw, present, self._same_key("k", "r")
            )
        )

    def _update(self, cursor: Cursor) -> int:
        # UPDATE and INSERT instead of INSERT … ON CONFLICT: the latter locks, and so rewrites the
        # page of, every row that it finds unchanged. There is one writer, so nothing conflicts.
        values = [c for c in self.columns if c not in self.table.primary_key]
        if not values:
            return 0
        assignments = [sql.SQL("{} = s.{}").format(_id(c), _id(c)) for c in values]
        return cursor.run(
            sql.SQL(
                "update {} as r set {}, {} = now() from {} as s"
                " where {} and ({}) is distinct from ({})"
            ).format(
                self.raw,
                sql.SQL(", ").join(assignments),
                _id(LOADED_AT),
                _STAGE,
                self._same_key("r", "s"),
                _row(values, "r"),
                _row(values, "s"),
            )
        )

    def _insert(self, cursor: Cursor) -> int:
        return cursor.run(
            sql.SQL(
                "insert into {} ({}) select {} from {} as s"
                " where not exists (select 1 from {} as r where {})"
            ).format(
                self.raw,
                _names(self.columns),
                _names(self.columns, "s"),
                _STAGE,
                self.raw,
                self._same_key("r", "s"),
            )
        )

    def _copy(
        self,
        cursor: Cursor,
        into: sql.Composable,
        *,
        where: str = "",
        args: list[object] | None = None,
        freeze: bool = False,
    ) -> None:
        chunks = self.source.stream(self.table, self.table.columns, where, args or [])
        rows, size = cursor.copy(into, self.columns, chunks, freeze=freeze)
        self.rows_read += rows
        self.bytes += size

    def _largest_stamp(self, cursor: Cursor, where: sql.Composable) -> str | None:
        """The largest stamp that was read, never a clock of ours; never below the known one."""
        if self.table.stamp is None:
            return None
        value = cursor.rows(
            sql.SQL("select to_char(max({}), 'YYYY-MM-DD HH24:MI:SS.US') from {}").format(
                _id(self.table.stamp), where
            )
        )[0][0]
        # ISO text of one length sorts as time does.
        return max(filter(None, [value, self.known and self.known.value]), default=None)

    def _record(self, cursor: Cursor, written: int, rows: int, stamp: str | None) -> TableResult:
        if stamp is not None and self.table.stamp is not None:
            save_watermark(cursor, self.table.name, Watermark(self.table.stamp, stamp), self.run_id)
        result = TableResult(
            table=self.table.name,
            strategy=self.plan.action,
            rows_read=self.rows_read,
            rows_written=written,
            rows_after=rows,
            bytes=self.bytes,
            seconds=round(time.monotonic() - self.started, 3),
            watermark=stamp,
        )
        record_table(cursor, self.run_id, result, self.started_at)
        return result

    def _analyze(self) -> None:
        with self.target.transaction() as cursor:
            cursor.run(sql.SQL("analyze {}").format(self.raw))

    def _same_key(self, left: str, right: str) -> sql.Composable:
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier(left, k), sql.Identifier(right, k))
            for k in self.table.primary_key
        )


def _create(raw: sql.Composable, table: Table) -> sql.Composable:
    columns = [
        sql.SQL("{} {}").format(_id(c.name), sql.SQL(postgres_type(table.name, c)))
        for c in table.columns
    ]
    return sql.SQL("create table {} ({}, {} timestamptz not null default now())").format(
        raw, sql.SQL(", ").join(columns), _id(LOADED_AT)
    )


def _id(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def _names(names: list[str] | tuple[str, ...], alias: str | None = None) -> sql.Composable:
    parts = [sql.Identifier(alias, n) if alias else sql.Identifier(n) for n in names]
    return sql.SQL(", ").join(parts)


def _row(names: list[str], alias: str) -> sql.Composable:
    return sql.SQL("row({})").format(_names(names, alias))


def _parts(keys: list[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    for start in range(0, len(keys), _KEYS_PER_READ):
        yield keys[start : start + _KEYS_PER_READ]

"""The target: schemas `raw` (copies) and `etl` (what happened) of the analytics Postgres.

Locks: a load takes only row locks on a raw table that exists, so readers and dbt views never wait
and never see it empty; a raw table is never dropped or truncated. Only a new column needs an
exclusive lock, held for the moment of ALTER TABLE and given up if it is not had in 30 seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2 import sql

from etl_pipeline import commands
from etl_pipeline.connecting import explain_analytics
from etl_pipeline.errors import Busy
from etl_pipeline.settings import AnalyticsSettings
from etl_pipeline.types import QUOTE

CONNECT_SECONDS = 10
LOADED_AT = "_loaded_at"
# Any constant will do, as long as every version of this package uses the same.
_LOCK = 0x64656E74616C  # "dental"

# Bookkeeping; `create … if not exists` only, and _ADDED for tables that an older version created.
_TRACKING = """
create schema if not exists etl;
create table if not exists etl.runs (
    run_id text primary key,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status text not null check (status in ('running', 'success', 'failed')),
    environment text not null,
    full_refresh boolean not null,
    guard jsonb,
    verification jsonb,
    verified_at timestamptz,
    error text
);
create table if not exists etl.tables (
    run_id text not null references etl.runs (run_id),
    table_name text not null,
    strategy text not null,
    rows_read bigint not null,
    rows_written bigint not null,
    rows_after bigint,
    bytes bigint not null,
    seconds double precision not null,
    watermark text,
    status text not null check (status in ('success', 'failed')),
    error text,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    longest_read double precision,
    lag double precision,
    primary key (run_id, table_name)
);
create table if not exists etl.watermarks (
    table_name text primary key,
    column_name text not null,
    value text not null,
    run_id text not null,
    updated_at timestamptz not null default clock_timestamp()
);
create table if not exists etl.states (
    table_name text primary key,
    facts text not null,
    settled boolean not null,
    raw_file oid not null,
    rows bigint not null,
    run_id text not null,
    read_at timestamptz not null,
    verified boolean not null,
    moved real not null default 0
);
create table if not exists etl.buckets (
    table_name text not null,
    keys_per_bucket bigint not null,
    bucket bigint not null,
    rows bigint not null,
    checksum bigint not null,
    primary key (table_name, bucket)
);
create table if not exists etl.schemas (
    taken_at timestamptz primary key default clock_timestamp(),
    run_id text,
    opendental_version text,
    digest text not null,
    tables jsonb not null
);
"""
_ADDED = {
    "runs": {"verified_at": "timestamptz", "schema_changes": "jsonb"},
    "tables": {
        "rows_after": "bigint",
        "longest_read": "double precision",
        "lag": "double precision",
    },
    "states": {"moved": "real not null default 0"},
}
# Strategies come and go with versions of this package; an older one checked their names.
_REMOVED = {"tables": "tables_strategy_check"}


@dataclass(frozen=True)
class RawTable:
    """A table of schema raw as it is: column name → type (without `_loaded_at`), and its key.

    Attributes:
        file: number of the file that holds it; another one after TRUNCATE, DROP or a restore.
    """

    name: str
    columns: dict[str, str]
    primary_key: tuple[str, ...]
    file: int = 0


class _Feed:
    """What psycopg2's COPY reads from; counts what passes through."""

    def __init__(self, chunks: Iterator[tuple[int, bytes]]) -> None:
        self._chunks = chunks
        self.rows = 0
        self.bytes = 0
        self.failure: Exception | None = None

    def read(self, _size: int = -1) -> bytes:
        # psycopg2 takes a block of any length; b"" ends the copy.
        try:
            rows, chunk = next(self._chunks, (0, b""))
        except Exception as error:
            self.failure = error
            raise
        self.rows += rows
        self.bytes += len(chunk)
        return chunk


class Target:
    """One connection to the analytics database; a context manager."""

    def __init__(self, settings: AnalyticsSettings) -> None:
        self.schema = settings.schema
        try:
            self.connection = psycopg2.connect(
                host=settings.host,
                port=settings.port,
                dbname=settings.database,
                user=settings.user,
                password=settings.password,
                sslmode=settings.sslmode,
                sslrootcert=settings.sslrootcert,
                connect_timeout=CONNECT_SECONDS,
                application_name="etl_pipeline",
                # A stream from the source is in UTC; nobody reads this connection's wall clock.
                options="-c timezone=UTC -c client_encoding=UTF8 -c datestyle=ISO",
                keepalives_idle=60,
            )
        except psycopg2.OperationalError as error:
            raise explain_analytics(error, settings) from None

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(psycopg2.Error):
            self.connection.close()

    def abort(self) -> None:
        """End whatever another thread is doing over this connection; it gets an error.

        Not by `cancel`, which asks over a new connection, and holds all threads until it is had.
        """
        with (
            contextlib.suppress(psycopg2.Error, OSError, ValueError),
            socket.socket(fileno=os.dup(self.connection.fileno())) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A cursor whose work is committed as one, or not at all."""
        try:
            with self.connection, self.connection.cursor() as cursor:
                yield Cursor(cursor)
        except psycopg2.InterfaceError as error:
            raise psycopg2.OperationalError(str(error)) from None

    def rows(self, query: str | sql.Composable, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.transaction() as cursor:
            return cursor.rows(query, args)

    def lock(self) -> None:
        """Become the only run. Released when the connection ends, however it ends.

        Raises:
            Busy: another connection holds it.
        """
        if not self.rows("select pg_try_advisory_lock(%s)", [_LOCK])[0][0]:
            running = self.rows(
                "select run_id from etl.runs where status = 'running' order by started_at desc"
            )
            name = f" ({running[0][0]})" if running else ""
            raise Busy(
                f"starting a run: another run{name} is at work on this analytics database",
                f"wait for it; `{commands.etl('status')}` shows when it ends",
            )

    def prepare(self) -> None:
        """Create the schemas and the bookkeeping where they are missing."""
        with self.transaction() as cursor:
            # Two first runs at once would both create: the second waits here.
            cursor.run("select pg_advisory_xact_lock(%s)", [_LOCK + 1])
            cursor.run(sql.SQL("create schema if not exists {}").format(self.name()))
            cursor.run(_TRACKING)
        self.upgrade()

    def upgrade(self) -> None:
        """Add what the bookkeeping of an older version lacks; old lines keep null there."""
        with self.transaction() as cursor:
            for table, columns in _ADDED.items():
                present = cursor.rows(
                    "select attname from pg_attribute where attrelid = to_regclass(%s)",
                    [f"etl.{table}"],
                )
                # Looked up, for ALTER … IF NOT EXISTS locks out readers even to do nothing.
                for column, kind in columns.items():
                    if (column,) not in present:
                        cursor.run("set local lock_timeout = '30s'")
                        cursor.run(
                            sql.SQL("alter table {} add column if not exists {} {}").format(
                                sql.Identifier("etl", table), sql.Identifier(column), sql.SQL(kind)
                            )
                        )
            for table, constraint in _REMOVED.items():
                if cursor.rows("select 1 from pg_constraint where conname = %s", [constraint]):
                    cursor.run("set local lock_timeout = '30s'")
                    cursor.run(
                        sql.SQL("alter table {} drop constraint if exists {}").format(
                            sql.Identifier("etl", table), sql.Identifier(constraint)
                        )
                    )

    def prepared(self, table: str = "watermarks") -> bool:
        """Whether the bookkeeping has `table`: one that an older version made may lack some."""
        return self.rows("select to_regclass(%s) is not null", [f"etl.{table}"])[0][0]

    def analyze(self, table: str) -> None:
        """Tell the planner how a table of schema raw is now."""
        with self.transaction() as cursor:
            cursor.run(sql.SQL("analyze {}").format(self.name(table)))

    def name(self, table: str | None = None) -> sql.Identifier:
        return sql.Identifier(self.schema, table) if table else sql.Identifier(self.schema)

    def raw_tables(self) -> dict[str, RawTable]:
        """What schema raw holds now."""
        columns: dict[str, dict[str, str]] = {}
        keys: dict[str, tuple[str, ...]] = {}
        files: dict[str, int] = {}
        for table, file, key, names, types in self.rows(
            """
            select
                c.relname,
                pg_relation_filenode(c.oid),
                (
                    select array_agg(a.attname::text order by k.n)
                    from pg_index as i, unnest(i.indkey::int2[]) with ordinality as k (num, n)
                    inner join pg_attribute as a on a.attnum = k.num
                    where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid
                ),
                array_agg(a.attname::text order by a.attnum),
                array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum)
            from pg_class as c
            inner join pg_attribute as a on c.oid = a.attrelid
            where
                c.relnamespace = to_regnamespace(quote_ident(%s))
                and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
            group by c.oid, c.relname
            """,
            [self.schema],
        ):
            columns[table] = dict(zip(names, types, strict=True))
            columns[table].pop(LOADED_AT, None)
            keys[table] = tuple(key or ())
            files[table] = file
        return {n: RawTable(n, columns[n], keys[n], files[n]) for n in columns}


class Cursor:
    """A psycopg2 cursor with the three calls that are needed here."""

    def __init__(self, cursor: Any) -> None:  # noqa: ANN401 - psycopg2 ships no types
        self._cursor = cursor

    @property
    def connection(self) -> Any:  # noqa: ANN401
        """What names are quoted for."""
        return self._cursor.connection

    def run(self, query: str | sql.Composable, args: Sequence[Any] = ()) -> int:
        """Execute; the number of affected rows."""
        self._cursor.execute(query, args or None)
        return self._cursor.rowcount

    def rows(self, query: str | sql.Composable, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._cursor.execute(query, args or None)
        return self._cursor.fetchall()

    def copy(
        self,
        table: sql.Composable,
        columns: Sequence[str],
        chunks: Iterator[tuple[int, bytes]],
        *,
        freeze: bool = False,
    ) -> tuple[int, int]:
        """COPY csv chunks into `table`; (rows, bytes).

        Trusts counts, not the absence of an error: fails when Postgres took another number.
        """
        feed = _Feed(chunks)
        query = sql.SQL("copy {} ({}) from stdin with (format csv, quote {}{})").format(
            table,
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Literal(QUOTE),
            sql.SQL(", freeze" if freeze else ""),
        )
        try:
            self._cursor.copy_expert(query, feed)
        except psycopg2.errors.QueryCanceled:
            # So psycopg2 reports that reading failed; what matters is why.
            if feed.failure is not None:
                raise feed.failure from None
            raise
        if self._cursor.rowcount != feed.rows:
            raise RuntimeError("COPY stored another number of rows than were sent")
        return feed.rows, feed.bytes

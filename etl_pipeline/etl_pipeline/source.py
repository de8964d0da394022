"""The source: OpenDental's MariaDB/MySQL, read-only, introspected, streamed.

MyISAM holds a table's read lock until the last row of a SELECT has been read, and a reader that
waits makes writers wait. So a read is a pure forward: nothing is computed between two rows.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from etl_pipeline.connecting import explain_source
from etl_pipeline.errors import ConnectionFailed, PipelineError
from etl_pipeline.exclusions import column_reason
from etl_pipeline.settings import SourceSettings
from etl_pipeline.types import Column, csv_row, quoted

CONNECT_SECONDS = 10
# As long as the vendor's own client waits; a full read of the largest table takes minutes.
READ_SECONDS = 3600
ROWS_PER_CHUNK = 1000

# Access to a database, a table or a column denied; no such table.
_NOT_READABLE = frozenset([1044, 1142, 1143, 1146])
# What a read-only account may hold; anything else could change the source.
_READING = frozenset(
    [
        "SELECT",
        "USAGE",
        "SHOW VIEW",
        "SHOW DATABASES",
        "PROCESS",
        "REPLICATION CLIENT",
        "BINLOG MONITOR",
        "SLAVE MONITOR",
        "REPLICA MONITOR",
    ]
)


@dataclass(frozen=True)
class Table:
    """A base table of the source, without its excluded columns."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    estimated_rows: int = 0

    @property
    def stamp(self) -> str | None:
        """The change stamp: the `timestamp … ON UPDATE` column that the server maintains."""
        stamps = [c.name for c in self.columns if c.auto_stamp]
        preferred = [name for name in ("SecDateTEdit", "DateTStamp") if name in stamps]
        return next(iter(preferred + stamps), None)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        by_name = {c.name: c for c in self.columns}
        return tuple(by_name[name] for name in self.primary_key)


class Source:
    """One connection to the source; a context manager."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        try:
            self._connection = _connect(settings)
        except (pymysql.MySQLError, OSError, RuntimeError) as error:
            raise explain_source(error, settings) from None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        # A stream that was left half-way must not be drained row by row: drop the socket.
        with contextlib.suppress(Exception):
            self._connection._force_close()

    def _prepare(self) -> None:
        self.rows("SET SESSION time_zone = '+00:00', sql_mode = '', net_write_timeout = 3600")
        self.rows("SET SESSION TRANSACTION READ ONLY")

    def rows(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small result, buffered."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    def server_version(self) -> str:
        return str(self.rows("SELECT VERSION()")[0][0])

    def opendental_version(self) -> str | None:
        """`preference.DataBaseVersion`, the one value that is read from that table."""
        try:
            found = self.rows(
                "SELECT ValueString FROM preference WHERE PrefName = 'DataBaseVersion'"
            )
        except pymysql.MySQLError:
            return None
        return str(found[0][0]) if found else None

    def write_privileges(self) -> tuple[str, ...]:
        """Privileges of this account beyond reading, sorted; empty = read-only."""
        return writing(str(row[0]) for row in self.rows("SHOW GRANTS FOR CURRENT_USER()"))

    def unreadable(self, tables: Sequence[str]) -> tuple[str, ...]:
        """Those of `tables` that are not there for this account."""
        lacking = []
        for name in tables:
            try:
                self.rows(f"SELECT 1 FROM {quoted(name)} LIMIT 0")  # noqa: S608 - quoted
            except pymysql.MySQLError as error:
                if error.args[0] not in _NOT_READABLE:
                    raise
                lacking.append(name)
        return tuple(lacking)

    def tables(self) -> tuple[Table, ...]:
        """All base tables by name, with excluded columns left out and keys in key order."""
        database = self._settings.database
        keys: dict[str, list[str]] = {}
        for table, column in self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS"
            " WHERE TABLE_SCHEMA = %s AND INDEX_NAME = 'PRIMARY'"
            " ORDER BY TABLE_NAME, SEQ_IN_INDEX",
            [database],
        ):
            keys.setdefault(table, []).append(column)
        columns: dict[str, list[Column]] = {}
        for table, name, kind, full, precision, scale, extra in self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, NUMERIC_PRECISION,"
            " NUMERIC_SCALE, EXTRA FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION",
            [database],
        ):
            if column_reason(table, name) is None:
                stamp = kind == "timestamp" and "on update" in str(extra).lower()
                column = Column(name, kind.lower(), _text(full), precision, scale, stamp)
                columns.setdefault(table, []).append(column)
        return tuple(
            Table(name, tuple(columns.get(name, ())), tuple(keys.get(name, ())), int(estimate or 0))
            for name, estimate in self.rows(
                "SELECT TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES"
                " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME",
                [database],
            )
        )

    def stream(
        self,
        table: Table,
        columns: tuple[Column, ...],
        where: str = "",
        args: Sequence[Any] = (),
    ) -> Iterator[tuple[int, bytes]]:
        """CSV of `columns` of all rows that match `where`, as (rows, bytes) chunks.

        NUL characters are removed here: Postgres' text cannot hold them, no other field has any.

        Raises:
            PipelineError: a row is longer than the server's max_allowed_packet.
        """
        sql = f"SELECT {csv_row(columns)} FROM {quoted(table.name)} {where}"  # noqa: S608
        with self._connection.cursor(SSCursor) as cursor:
            cursor.execute(sql, args or None)
            while rows := cursor.fetchmany(ROWS_PER_CHUNK):
                try:
                    chunk = b"\n".join([row[0] for row in rows]) + b"\n"
                except TypeError:
                    raise PipelineError(
                        f"reading table {table.name}: a row is longer than max_allowed_packet",
                        "raise max_allowed_packet on the source server",
                    ) from None
                yield len(rows), chunk.replace(b"\0", b"") if b"\0" in chunk else chunk


def writing(grants: Iterator[str]) -> tuple[str, ...]:
    """Privileges beyond reading in the lines of SHOW GRANTS."""
    found: set[str] = set()
    for line in grants:
        match = re.match(r"GRANT (.+?) ON ", line)
        if match:
            names = re.sub(r"\([^)]*\)", "", match.group(1)).split(",")
            found.update(name.strip().upper() for name in names)
        if line.rstrip().endswith("WITH GRANT OPTION"):
            found.add("GRANT OPTION")
    return tuple(sorted(found - _READING))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _connect(settings: SourceSettings) -> pymysql.connections.Connection[Any]:
    context = _tls(settings)
    try:
        connection = _open(settings, context)
    except (ssl.SSLError, pymysql.OperationalError) as error:
        # `preferred` means: TLS where it works. Old servers offer versions that are refused today.
        if settings.ssl_mode != "preferred" or not _is_tls_failure(error):
            raise
        connection = _open(settings, None)
    if settings.ssl_mode not in ("disabled", "preferred"):
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
            cipher = cursor.fetchone()
        if not cipher or not cipher[1]:
            connection.close()
            raise ConnectionFailed(
                f"connecting to the source with SSL mode {settings.ssl_mode}:"
                " the server does not offer TLS",
                "configure TLS on the source server, or set OPENDENTAL_SOURCE_SSL_MODE=preferred"
                " inside a VPN",
            )
    return connection


def _open(
    settings: SourceSettings, context: ssl.SSLContext | None
) -> pymysql.connections.Connection[Any]:
    return pymysql.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password,
        database=settings.database,
        charset="utf8mb4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        autocommit=True,
        ssl=context,
        ssl_disabled=context is None,
    )


def _is_tls_failure(error: Exception) -> bool:
    cause = error.original_exception if hasattr(error, "original_exception") else error
    return isinstance(cause, ssl.SSLError) or (bool(error.args) and error.args[0] == 2026)


def _tls(settings: SourceSettings) -> ssl.SSLContext | None:
    if settings.ssl_mode == "disabled":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca)
    except OSError:
        raise ConnectionFailed(
            "connecting to the source: the file of OPENDENTAL_SOURCE_SSL_CA cannot be read as PEM",
            "mount the certificate of the authority and set the variable to its path",
        ) from None
    context.check_hostname = settings.ssl_mode == "verify-identity"
    if settings.ssl_mode in ("preferred", "required"):
        context.verify_mode = ssl.CERT_NONE
    return context

"""The source: OpenDental's MariaDB/MySQL, read-only, introspected, streamed.

MyISAM holds a table's read lock until the last row of a SELECT has been read, and a reader that
waits makes writers wait. So a read is a pure forward: nothing is computed between two rows. It is
one scan in the order of the file: ranges by key would hold each lock for less, but cost the server
1.7 to 3.5 times the CPU seconds, for MyISAM then reads row by row.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from etl_pipeline import packets
from etl_pipeline.connecting import explain_source
from etl_pipeline.errors import ConnectionFailed
from etl_pipeline.exclusions import column_reason
from etl_pipeline.settings import SourceSettings
from etl_pipeline.types import Column, csv_row, postgres_type, quoted

CONNECT_SECONDS = 10
# As long as the vendor's own client waits; a full read of the largest table takes minutes.
READ_SECONDS = 3600

# The clock of files and the clock of the server may be a tick apart.
_SETTLING = timedelta(seconds=2)
_WHOLE = ("smallint", "integer", "bigint")
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
class Facts:
    """What the server knows of a table without reading it; equal facts, equal rows.

    Attributes:
        written_at: when a row was last written, whole seconds, UTC. None where the server does not
            keep it: InnoDB forgets it at a restart, and a table in memory-mapped files tells late.
        rows: exact for MyISAM, an estimate for InnoDB.
        as_of: the server's clock before the facts were asked for, UTC.
        engine: e.g. MyISAM.
    """

    written_at: datetime | None
    created_at: datetime | None
    rows: int
    bytes: int
    next_key: int | None
    as_of: datetime
    engine: str = ""

    @property
    def settled(self) -> bool:
        """Whether a later write is bound to show: it would carry another second."""
        return self.written_at is not None and self.written_at + _SETTLING <= self.as_of

    def text(self) -> str:
        """What is compared with what another night says."""
        return f"{self.written_at} {self.created_at} {self.rows} {self.bytes} {self.next_key}"


@dataclass(frozen=True)
class Table:
    """A base table of the source, without its excluded columns.

    Attributes:
        indexed: columns that an index begins with: a range of them is read without a scan.
        excluded, left_out, strategy, vouched: what a person has decided (`overrides.py`): why the
            table is not copied, which of its columns are not, how it is read, which column is its
            change stamp.
        mistake: why that cannot be followed; then nothing of it is, and the table is blocked.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    estimated_rows: int = 0
    indexed: frozenset[str] = frozenset()
    facts: Facts | None = None
    excluded: str | None = None
    left_out: frozenset[str] = frozenset()
    strategy: str | None = None
    vouched: str | None = None
    mistake: str | None = None

    @property
    def stamp(self) -> str | None:
        """The change stamp: the `timestamp … ON UPDATE` column that the server maintains, or the
        one that a person vouches for.
        """
        if self.vouched is not None:
            return self.vouched
        stamps = [c.name for c in self.columns if c.auto_stamp]
        preferred = [name for name in ("SecDateTEdit", "DateTStamp") if name in stamps]
        return next(iter(preferred + stamps), None)

    @property
    def wall_clock(self) -> bool:
        """Whether the change stamp is no moment but what the practice's clock showed."""
        return any(c.name == self.stamp and c.kind == "datetime" for c in self.columns)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        by_name = {c.name: c for c in self.columns}
        return tuple(by_name[name] for name in self.primary_key)

    @property
    def line(self) -> tuple[Column, ...]:
        """The columns in the order in which a row travels: a whole-number key comes first."""
        return tuple(sorted(self.columns, key=lambda c: c.name != self.counted_key))

    @property
    def counted_key(self) -> str | None:
        """The key, where it is one whole number that fits a bigint."""
        if len(self.primary_key) != 1:
            return None
        (key,) = self.key_columns
        return key.name if postgres_type(self.name, key) in _WHOLE else None


class Source:
    """One connection to the source; a context manager.

    Attributes:
        longest_read: seconds of the longest statement since it was last set to 0: no table of
            MyISAM was locked for longer.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self.longest_read = 0.0
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

    def abort(self) -> None:
        """End whatever another thread is doing over this connection; it gets an error."""
        with contextlib.suppress(Exception):
            self._connection._sock.shutdown(socket.SHUT_RDWR)

    def _prepare(self) -> None:
        self.rows("SET SESSION time_zone = '+00:00', sql_mode = '', net_write_timeout = 3600")
        self.rows("SET SESSION TRANSACTION READ ONLY")
        probe = "SELECT TO_DAYS('2020-02-00') IS NULL AND TO_DAYS('2020-00-15') IS NULL"
        self.strict_days = bool(self.rows(probe)[0][0])

    def rows(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small result, buffered."""
        with self._timed(), self._connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.longest_read = max(self.longest_read, time.monotonic() - began)

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
        indexed: dict[str, set[str]] = {}
        for table, column, index, place in self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME, INDEX_NAME, SEQ_IN_INDEX"
            " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s"
            " ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
            [database],
        ):
            if index == "PRIMARY":
                keys.setdefault(table, []).append(column)
            if place == 1:
                indexed.setdefault(table, set()).add(column)
        columns: dict[str, list[Column]] = {}
        for table, name, kind, full, precision, scale, extra, nullable, charset in self.rows(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, NUMERIC_PRECISION,"
            " NUMERIC_SCALE, EXTRA, IS_NULLABLE, CHARACTER_SET_NAME"
            " FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION",
            [database],
        ):
            if column_reason(table, name) is None:
                kind = kind.lower()
                stamp = kind == "timestamp" and "on update" in str(extra).lower()
                maybe = nullable != "NO"
                columns.setdefault(table, []).append(
                    Column(name, kind, _text(full), precision, scale, stamp, maybe, charset)
                )
        return tuple(
            Table(
                name,
                tuple(columns.get(name, ())),
                tuple(keys.get(name, ())),
                facts.rows,
                frozenset(indexed.get(name, ())),
                facts,
            )
            for name, facts in self._facts().items()
        )

    def facts(self, table: str) -> Facts | None:
        """What the server says of one table now; None when it is gone."""
        return self._facts(" AND TABLE_NAME = %s", [table]).get(table)

    def _facts(self, more: str = "", args: Sequence[Any] = ()) -> dict[str, Facts]:
        ((as_of, mapped),) = self.rows(
            "SELECT UTC_TIMESTAMP(), (SELECT COUNT(*) FROM information_schema.GLOBAL_VARIABLES"
            " WHERE VARIABLE_NAME = 'MYISAM_USE_MMAP' AND VARIABLE_VALUE = 'ON')"
        )
        return {
            name: Facts(
                None if mapped else written, created, rows or 0, size or 0, key, as_of, engine or ""
            )
            for name, written, created, rows, size, key, engine in self.rows(
                "SELECT TABLE_NAME, UPDATE_TIME, CREATE_TIME, TABLE_ROWS, DATA_LENGTH,"  # noqa: S608
                " AUTO_INCREMENT, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
                f" AND TABLE_TYPE = 'BASE TABLE'{more} ORDER BY TABLE_NAME",
                [self._settings.database, *args],
            )
        }

    def line(self, columns: tuple[Column, ...]) -> str:
        """SQL for the CSV line of a row, as this server has to be asked for it."""
        return csv_row(columns, strict_days=self.strict_days)

    def stream(
        self,
        table: Table,
        columns: tuple[Column, ...],
        where: str = "",
        args: Sequence[Any] = (),
        seen: Callable[[list[bytes]], None] | None = None,
    ) -> Iterator[tuple[int, bytes]]:
        """CSV of `columns` of all rows that match `where`, as (rows, bytes) chunks.

        `seen` is shown the lines of each chunk, as the server sent them.

        What Postgres' text cannot hold is mended here, one pass over the bytes: NUL is removed,
        bytes that are no UTF-8 become U+FFFD.

        Raises:
            PipelineError: a row is longer than the server's max_allowed_packet.
        """
        sql = f"SELECT {self.line(columns)} FROM {quoted(table.name)} {where}"  # noqa: S608
        # Never closed, for closing drains: `packets.rows` leaves the connection clean or closed.
        cursor = self._connection.cursor(SSCursor)
        with self._timed():
            cursor.execute(sql, args or None)
            for rows in packets.rows(self._connection, table.name):
                if seen is not None:
                    seen(rows)
                rows.append(b"")
                yield len(rows) - 1, _holdable(b"\n".join(rows))


def _holdable(chunk: bytes) -> bytes:
    if b"\0" in chunk:
        chunk = chunk.replace(b"\0", b"")
    if not chunk.isascii():
        try:
            chunk.decode()
        except UnicodeDecodeError:
            return chunk.decode(errors="replace").encode()
    return chunk


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

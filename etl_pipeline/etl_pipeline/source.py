"""The source: OpenDental's MariaDB/MySQL, read-only, streamed.

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
from types import TracebackType
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from etl_pipeline import catalog, packets
from etl_pipeline.catalog import Facts, Table
from etl_pipeline.connecting import explain_source
from etl_pipeline.errors import ConnectionFailed
from etl_pipeline.pace import Pace
from etl_pipeline.progress import Progress
from etl_pipeline.settings import SourceSettings
from etl_pipeline.types import Column, csv_row, quoted

CONNECT_SECONDS = 10
# As long as the vendor's own client waits; a full read of the largest table takes minutes.
READ_SECONDS = 3600

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


class Source:
    """One connection to the source; a context manager.

    Attributes:
        longest_read: seconds of the longest statement since it was last set to 0: no table of
            MyISAM was locked for longer.
    """

    def __init__(
        self,
        settings: SourceSettings,
        pace: Pace | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Connect; `pace` is shared with other connections, None = one of its own.

        `progress` is told of rows as they come.
        """
        self._settings = settings
        self._pace = pace or Pace(settings.bytes_per_second)
        self._progress = progress or Progress()
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
        return catalog.tables(self.rows, self._settings.database)

    def facts(self, table: str) -> Facts | None:
        """What the server says of one table now; None when it is gone."""
        return catalog.facts(self.rows, self._settings.database, table).get(table)

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
                chunk = _holdable(b"\n".join(rows))
                self._pace.spend(len(chunk))
                self._progress.read(table.name, len(rows) - 1)
                yield len(rows) - 1, chunk


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

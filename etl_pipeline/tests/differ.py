"""An independent judge: is raw, row by row and value by value, what the source is?

It shares no code with the package. Both sides are read with plain drivers, and the rules that
`etl_pipeline/types.py` and `etl_pipeline/exclusions.py` document are written down here once more,
in Python. Made for tests: the source's rows of one table are kept in memory (100,000 are fine).
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg2
import pymysql
from psycopg2 import sql
from pymysql.cursors import SSCursor

MISSING_TABLE = "(no raw table)"
MISSING_ROW = "(row is missing in raw)"
SURPLUS_ROW = "(row is in raw only)"
MISSING_COLUMN = "(no raw column)"
FORBIDDEN_COLUMN = "(column must not be copied)"

_LEFT_OUT_TABLES = re.compile(
    r"tmp.*|temp.*|.*bak.*|preference|programproperty|securityloghash|demo_marker", re.IGNORECASE
)
_LEFT_OUT_COLUMNS = (
    (
        re.compile("userod", re.IGNORECASE),
        re.compile("Password|MobileWebPin|EClipboardClinicalPin|BadgeId", re.IGNORECASE),
    ),
    (re.compile(".*"), re.compile(".*Signature", re.IGNORECASE)),
)

Row = tuple[Any, ...]


class Difference(NamedTuple):
    """One place where the sides differ; `column` is a name or one of the constants above."""

    table: str
    key: Row
    column: str


@dataclass(frozen=True)
class _Field:
    name: str
    kind: str
    bits: int


def differences(
    environ: Mapping[str, str], tables: Sequence[str] | None = None, limit: int = 50
) -> list[Difference]:
    """Where raw is not what the source is; at most about `limit` places of each table.

    Args:
        environ: OPENDENTAL_SOURCE_* and POSTGRES_ANALYTICS_*, as for the package.
        tables: names; None = every table of the source that may be copied.
    """
    schema = environ.get("POSTGRES_ANALYTICS_SCHEMA") or "raw"
    source = _connect_source(environ)
    analytics = _connect_analytics(environ)
    try:
        found: list[Difference] = []
        for table in tables if tables is not None else _tables(source):
            found += _compare(source, analytics, schema, table, limit)
        return found
    finally:
        source.close()
        analytics.close()


def raw_rows(environ: Mapping[str, str], tables: Sequence[str]) -> dict[str, Counter[Row] | None]:
    """Every row of raw tables with the columns of the source; None where there is no table."""
    schema = environ.get("POSTGRES_ANALYTICS_SCHEMA") or "raw"
    analytics = _connect_analytics(environ)
    found: dict[str, Counter[Row] | None] = {}
    try:
        for table in tables:
            columns = [c for c in _raw_columns(analytics, schema, table) if c != "_loaded_at"]
            found[table] = None
            if columns:
                found[table] = Counter(
                    tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                    for row in _raw(analytics, schema, table, columns)
                )
    finally:
        analytics.close()
    return found


def _connect_source(environ: Mapping[str, str]) -> Any:  # noqa: ANN401
    connection = pymysql.connect(
        host=environ["OPENDENTAL_SOURCE_HOST"],
        port=int(environ["OPENDENTAL_SOURCE_PORT"]),
        user=environ["OPENDENTAL_SOURCE_USER"],
        password=environ["OPENDENTAL_SOURCE_PASSWORD"],
        database=environ["OPENDENTAL_SOURCE_DB"],
        charset="utf8mb4",
        conv={},  # values as the server prints them: no date is lost to Python's calendar
        autocommit=True,
    )
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = '', time_zone = '+00:00'")
    return connection


def _connect_analytics(environ: Mapping[str, str]) -> Any:  # noqa: ANN401
    connection = psycopg2.connect(
        host=environ["POSTGRES_ANALYTICS_HOST"],
        port=environ["POSTGRES_ANALYTICS_PORT"],
        user=environ["POSTGRES_ANALYTICS_USER"],
        password=environ["POSTGRES_ANALYTICS_PASSWORD"],
        dbname=environ["POSTGRES_ANALYTICS_DB"],
    )
    with connection.cursor() as cursor:
        cursor.execute("set timezone = 'UTC'")
        cursor.execute("set extra_float_digits = 3")
    return connection


def _tables(source: Any) -> list[str]:  # noqa: ANN401
    with source.cursor() as cursor:
        cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        return [str(n) for n, _ in cursor.fetchall() if not _LEFT_OUT_TABLES.fullmatch(str(n))]


def _fields(source: Any, table: str) -> tuple[list[_Field], list[str], list[str]]:  # noqa: ANN401
    """The columns that are copied, the names of those that are not, the key's columns."""
    with source.cursor() as cursor:
        cursor.execute(
            "SELECT COLUMN_NAME, LOWER(DATA_TYPE), COALESCE(NUMERIC_PRECISION, 0)"
            " FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
            (table,),
        )
        fields = [_Field(name, kind, int(bits)) for name, kind, bits in cursor.fetchall()]
        cursor.execute(
            "SELECT COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s"
            " AND CONSTRAINT_NAME = 'PRIMARY' ORDER BY ORDINAL_POSITION",
            (table,),
        )
        key = [name for (name,) in cursor.fetchall()]
    left_out = [
        field.name
        for field in fields
        if any(t.fullmatch(table) and c.fullmatch(field.name) for t, c in _LEFT_OUT_COLUMNS)
    ]
    return [field for field in fields if field.name not in left_out], left_out, key


def _raw_columns(analytics: Any, schema: str, table: str) -> list[str]:  # noqa: ANN401
    with analytics.cursor() as cursor:
        cursor.execute(
            "select column_name from information_schema.columns"
            " where table_schema = %s and table_name = %s order by ordinal_position",
            [schema, table],
        )
        return [name for (name,) in cursor.fetchall()]


def _raw(analytics: Any, schema: str, table: str, columns: Sequence[str]) -> Iterator[Row]:  # noqa: ANN401
    with analytics.cursor(name="differ") as cursor:
        cursor.itersize = 5000
        cursor.execute(
            sql.SQL("select {} from {}").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
            )
        )
        yield from cursor
    analytics.commit()


def _source_rows(source: Any, table: str, fields: Sequence[_Field]) -> Iterator[Row]:  # noqa: ANN401
    render = [_renderer(field) for field in fields]
    # The server prints a FLOAT with six digits only; as a double it keeps what it holds.
    names = ", ".join(
        f"CAST(`{f.name}` AS DOUBLE)" if f.kind == "float" else f"`{f.name}`" for f in fields
    )
    with source.cursor(SSCursor) as cursor:
        cursor.execute(f"SELECT {names} FROM `{table}`")
        for row in cursor:
            yield tuple(None if v is None else f(v) for f, v in zip(render, row, strict=True))


def _compare(
    source: Any,  # noqa: ANN401
    analytics: Any,  # noqa: ANN401
    schema: str,
    table: str,
    limit: int,
) -> list[Difference]:
    fields, left_out, key = _fields(source, table)
    present = _raw_columns(analytics, schema, table)
    if not present:
        return [Difference(table, (), MISSING_TABLE)]
    found = [Difference(table, (n,), FORBIDDEN_COLUMN) for n in left_out if n in present]
    found += [Difference(table, (f.name,), MISSING_COLUMN) for f in fields if f.name not in present]
    fields = [field for field in fields if field.name in present]
    normal = [_normaliser(field) for field in fields]
    raw = (
        tuple(None if v is None else f(v) for f, v in zip(normal, row, strict=True))
        for row in _raw(analytics, schema, table, [field.name for field in fields])
    )
    if not key:
        return found + _compare_without_key(
            table, Counter(_source_rows(source, table, fields)), raw
        )
    places = [i for name in key for i, field in enumerate(fields) if field.name == name]
    if len(places) < len(key):
        return found
    expected = {tuple(r[i] for i in places): r for r in _source_rows(source, table, fields)}
    for row in raw:
        if len(found) >= limit:
            return found
        row_key = tuple(row[i] for i in places)
        other = expected.pop(row_key, None)
        if other is None:  # never at the source, or a second time in raw
            found.append(Difference(table, row_key, SURPLUS_ROW))
        elif other != row:
            found += [
                Difference(table, row_key, field.name)
                for field, left, right in zip(fields, other, row, strict=True)
                if left != right
            ]
    found += [Difference(table, k, MISSING_ROW) for k in list(expected)[:limit]]
    return found


def _compare_without_key(
    table: str, expected: Counter[Row], raw: Iterator[Row]
) -> list[Difference]:
    actual = Counter(raw)
    return [Difference(table, row, MISSING_ROW) for row in (expected - actual).elements()] + [
        Difference(table, row, SURPLUS_ROW) for row in (actual - expected).elements()
    ]


# The rules of types and dates, from what the source prints to a Python value.


def _renderer(field: _Field) -> Callable[[Any], Any]:
    kind = field.kind
    if kind in ("tinyint", "smallint", "mediumint", "int", "bigint", "year"):
        return int
    if kind == "decimal":
        return Decimal
    if kind == "double":
        return float
    if kind == "float":
        return _single
    if kind == "date":
        return _date
    if kind == "datetime":
        return _moment
    if kind == "timestamp":
        return _utc_moment
    if kind == "time":
        return _interval
    if kind == "bit":
        width = -(-max(field.bits, 1) // 8)
        return lambda value: bytes(value).rjust(width, b"\0")
    if kind in ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"):
        return bytes
    if kind == "json":
        return lambda value: _canonical_json(json.loads(_text(value)))
    return lambda value: _text(value).replace("\0", "")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _single(value: str | float) -> bytes:
    return struct.pack("<f", float(value) + 0.0)


def _canonical_json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _day(value: str) -> tuple[int, int, int] | None:
    """None for a zero date, a partial one and the day 0001-01-01, which says "no date"."""
    year, month, day = (int(part) for part in _text(value)[:10].split("-"))
    if year == 0 or month == 0 or day == 0 or (year, month, day) == (1, 1, 1):
        return None
    return year, month, day


def _date(value: str) -> date | None:
    day = _day(value)
    return None if day is None else date(*day)


def _moment(value: str) -> datetime | None:
    return None if _day(value) is None else datetime.fromisoformat(_text(value))


def _utc_moment(value: str) -> datetime | None:
    moment = _moment(value)
    return None if moment is None else moment.replace(tzinfo=UTC)


def _interval(value: str) -> timedelta:
    match = re.fullmatch(r"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?", _text(value))
    if match is None:
        raise ValueError("a time that the differ does not know")
    sign, hours, minutes, seconds, fraction = match.groups()
    length = timedelta(
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "").ljust(6, "0")),
    )
    return -length if sign else length


# And what psycopg2 makes of a raw value, into the same Python values.


def _normaliser(field: _Field) -> Callable[[Any], Any]:
    if field.kind == "float":
        return _single
    if field.kind == "json":
        return _canonical_json
    if field.kind == "timestamp":
        return _as_utc
    return lambda value: bytes(value) if isinstance(value, memoryview) else value


def _as_utc(value: object) -> object:
    # A raw column without a zone must not pass for a moment.
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value

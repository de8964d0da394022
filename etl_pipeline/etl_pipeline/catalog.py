"""What the source's server says of its tables in information_schema, before any is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from etl_pipeline.exclusions import column_reason
from etl_pipeline.types import Column, postgres_type

# The clock of files and the clock of the server may be a tick apart.
_SETTLING = timedelta(seconds=2)
_WHOLE = ("smallint", "integer", "bigint")

# A query and its arguments → all rows of its result.
Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


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


def tables(ask: Ask, database: str) -> tuple[Table, ...]:
    """All base tables by name, with excluded columns left out and keys in key order."""
    keys: dict[str, list[str]] = {}
    indexed: dict[str, set[str]] = {}
    for table, column, index, place in ask(
        "SELECT TABLE_NAME, COLUMN_NAME, INDEX_NAME, SEQ_IN_INDEX"
        " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s"
        " ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
        [database],
    ):
        if index == "PRIMARY":
            keys.setdefault(table, []).append(column)
        if place == 1:
            indexed.setdefault(table, set()).add(column)
    columns = _columns(ask, database)
    return tuple(
        Table(
            name,
            tuple(columns.get(name, ())),
            tuple(keys.get(name, ())),
            found.rows,
            frozenset(indexed.get(name, ())),
            found,
        )
        for name, found in facts(ask, database).items()
    )


def _columns(ask: Ask, database: str) -> dict[str, list[Column]]:
    """The columns of each table in their order, but for those that a rule excludes."""
    columns: dict[str, list[Column]] = {}
    for table, name, kind, full, precision, scale, extra, nullable, charset in ask(
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
    return columns


def facts(ask: Ask, database: str, table: str | None = None) -> dict[str, Facts]:
    """What the server says of each table now, or of one, by name."""
    ((as_of, mapped),) = ask(
        "SELECT UTC_TIMESTAMP(), (SELECT COUNT(*) FROM information_schema.GLOBAL_VARIABLES"
        " WHERE VARIABLE_NAME = 'MYISAM_USE_MMAP' AND VARIABLE_VALUE = 'ON')",
        [],
    )
    one = "" if table is None else " AND TABLE_NAME = %s"
    return {
        name: Facts(
            None if mapped else written, created, rows or 0, size or 0, key, as_of, engine or ""
        )
        for name, written, created, rows, size, key, engine in ask(
            "SELECT TABLE_NAME, UPDATE_TIME, CREATE_TIME, TABLE_ROWS, DATA_LENGTH,"  # noqa: S608
            " AUTO_INCREMENT, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
            f" AND TABLE_TYPE = 'BASE TABLE'{one} ORDER BY TABLE_NAME",
            [database] if table is None else [database, table],
        )
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

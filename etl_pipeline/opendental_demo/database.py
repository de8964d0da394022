"""The demo's MariaDB: schema, rows, and the marker that says what is in it.

The session runs with sql_mode='' and in UTC, as the vendor's does for the former: omitted values
become '' and zeros, 0000-00-00 is taken as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pymysql

from etl_pipeline.types import quoted
from opendental_demo.clinic_tables import clinic_tables
from opendental_demo.schema import tables
from opendental_demo.store import Row, Store

ROWS_PER_INSERT = 1000


@dataclass(frozen=True)
class DemoSettings:
    """DEMO_SOURCE_*: an account that may create tables and write."""

    host: str
    port: int
    database: str
    user: str
    password: str


@dataclass(frozen=True)
class Marker:
    """What the database holds: generated for `end`, then advanced.

    Attributes:
        today: how far, in a practice; `advances`: how often, in a clinic, which knows no days.
    """

    seed: int
    scale: float
    end: date
    today: date
    profile: str = "practice"
    advances: int = 0


class Database:
    """One connection that may write; a context manager."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self._connection = pymysql.connect(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password,
            database=settings.database,
            charset="utf8mb4",
            connect_timeout=10,
            autocommit=True,
        )
        self.run("SET SESSION sql_mode = '', time_zone = '+00:00'")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def marker(self) -> Marker | None:
        """None for a database that is empty or holds a load that did not finish."""
        if "demo_marker" not in self.tables():
            return None
        # A marker of the time when there was one profile lacks the columns that name it.
        columns = {row[0] for row in self._rows("SHOW COLUMNS FROM demo_marker")}
        names = ("seed", "scale", "end_date", "current_date_", "profile", "advances")
        found = self._rows(
            f"SELECT {', '.join(n for n in names if n in columns)}"  # noqa: S608
            " FROM demo_marker WHERE complete = 1"
        )
        return Marker(*found[0]) if found else None

    def tables(self) -> list[str]:
        return [row[0] for row in self._rows("SHOW TABLES")]

    def strangers(self) -> list[str]:
        """Tables with rows in a database that no `load` of ours has begun to fill."""
        present = self.tables()
        if "demo_marker" in present:
            return []
        return [t for t in present if self._rows(f"SELECT 1 FROM `{t}` LIMIT 1")]  # noqa: S608

    def create(self, create_statements: Iterable[str], names: Collection[str]) -> None:
        """Drop our tables and create those of the statements, with a marker that says: unfinished.

        Args:
            names: tables that are ours even without a marker that says so.
        """
        present = self.tables()
        ours = {*names, *clinic_tables()} if "demo_marker" in present else set(names)
        for name in (*(n for n in present if n in ours), "demo_marker"):
            self.run(f"DROP TABLE IF EXISTS `{name}`")
        # The marker first: a load that was killed is then known as ours, not as strange data.
        for statement in sorted(create_statements, key=lambda s: "`demo_marker`" not in s):
            self.run(statement)

    def write(self, store: Store) -> int:
        """All rows of `store`, stamps as simulated; number of rows."""
        count = 0
        for name, rows in store.rows.items():
            self.run(f"ALTER TABLE `{name}` DISABLE KEYS")
            count += self._insert(name, list(rows.values()))
            self.run(f"ALTER TABLE `{name}` ENABLE KEYS")
        return count

    def apply(self, store: Store) -> dict[str, int]:
        """What changed in `store` since its last `forget_changes`; the server sets the stamps."""
        counts = dict.fromkeys(("insert", "update", "delete"), 0)
        for name, changes in store.changed.items():
            schema = tables()[name]
            for action in changes.values():
                counts[action] += 1
            rows = [_unstamped(store.rows[name][k], schema.stamp) for k, a in changes.items()
                    if a != "delete"]  # fmt: skip
            gone = [k for k, a in changes.items() if a == "delete"]
            new = [row for row in rows if changes[row[schema.key]] == "insert"]
            self._insert(name, new)
            for row in rows:
                if changes[row[schema.key]] == "update":
                    values = ", ".join(f"`{c}` = {literal(v)}" for c, v in row.items())
                    self.run(
                        f"UPDATE `{name}` SET {values} WHERE `{schema.key}` = {row[schema.key]}"  # noqa: S608
                    )
            if gone:
                keys = ", ".join(map(str, gone))
                self.run(f"DELETE FROM `{name}` WHERE `{schema.key}` IN ({keys})")  # noqa: S608
        return counts

    def mark(self, marker: Marker) -> None:
        self.run("DELETE FROM demo_marker")
        values = {
            "seed": marker.seed,
            "scale": marker.scale,
            "end_date": marker.end,
            "current_date_": marker.today,
            "complete": 1,
        }
        if marker.profile != "practice":
            values |= {"profile": marker.profile, "advances": marker.advances}
        self.run(
            f"INSERT INTO demo_marker ({', '.join(values)})"  # noqa: S608
            f" VALUES ({', '.join(map(literal, values.values()))})"
        )

    def engines(self) -> list[tuple[str, str]]:
        """Storage engines of the server: name, support."""
        return self._rows("SELECT ENGINE, SUPPORT FROM information_schema.ENGINES")

    def count(self, table: str) -> int:
        return self._rows(f"SELECT COUNT(*) FROM {quoted(table)}")[0][0]  # noqa: S608

    def largest(self, table: str, key: str) -> int:
        """The largest key; 0 without rows."""
        return self._rows(f"SELECT MAX({quoted(key)}) FROM {quoted(table)}")[0][0] or 0  # noqa: S608

    def _insert(self, table: str, rows: list[Row]) -> int:
        if not rows:
            return 0
        defaults = tables()[table].defaults
        columns = list(dict.fromkeys(column for row in rows for column in row))
        head = f"INSERT INTO `{table}` ({', '.join(f'`{c}`' for c in columns)}) VALUES\n"
        for start in range(0, len(rows), ROWS_PER_INSERT):
            part = rows[start : start + ROWS_PER_INSERT]
            self.run(head + ",\n".join(_tuple(row, columns, defaults) for row in part))
        return len(rows)

    def run(self, sql: str) -> int:
        """One statement; the number of rows that it wrote."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


def literal(value: object) -> str:
    """A Python value as SQL, for sql_mode='' (a backslash escapes)."""
    if value is None:
        return "NULL"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return f"'{value:%Y-%m-%d %H:%M:%S}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _tuple(row: Row, columns: Iterable[str], defaults: Mapping[str, str]) -> str:
    return "(" + ", ".join([literal(row[c]) if c in row else defaults[c] for c in columns]) + ")"


def _unstamped(row: Row, stamp: str | None) -> Row:
    return {column: value for column, value in row.items() if column != stamp}

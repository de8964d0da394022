"""Rows of one source table in temporary tables of the analytics database, gone with its session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg2 import sql

from etl_pipeline.catalog import Table
from etl_pipeline.digests import Tally
from etl_pipeline.source import Source
from etl_pipeline.target import LOADED_AT, Cursor, Target
from etl_pipeline.types import Column, quoted

_RANGES_PER_READ = 200

# SQL of the source from WHERE on, and its arguments.
Condition = tuple[str, list[object]]
# Inclusive ranges of a whole-number key; None = the whole table.
Ranges = list[tuple[int, int]] | None

EVERYTHING: Condition = ("", [])


class Stage:
    """The staged rows of a table, and where they were looked for.

    Attributes:
        rows: the staged rows, in SQL.
        differing: keys of those that are others in raw, as far as a merge has listed them.
        rows_read: rows that came from the source so far.
        bytes: length of their CSV.
    """

    rows = sql.Identifier("pg_temp", "stage")
    differing = sql.Identifier("pg_temp", "differing")

    def __init__(self, source: Source, target: Target, table: Table) -> None:
        self._source = source
        self._target = target
        self._table = table
        self.rows_read = 0
        self.bytes = 0

    def prepare(self) -> None:
        """An empty stage, shaped like the raw table."""
        with self._target.transaction() as cursor:
            self.drop(cursor)
            raw = self._target.name(self._table.name)
            cursor.run(sql.SQL("create temp table stage (like {})").format(raw))
            cursor.run(
                sql.SQL("alter table {} drop column {}").format(
                    self.rows, sql.Identifier(LOADED_AT)
                )
            )

    def drop(self, cursor: Cursor) -> None:
        """Remove what is staged."""
        cursor.run("drop table if exists pg_temp.stage, pg_temp.stage_keys, pg_temp.differing")

    def copy(
        self,
        cursor: Cursor,
        into: sql.Composable,
        condition: Condition = EVERYTHING,
        *,
        columns: tuple[Column, ...] | None = None,
        freeze: bool = False,
        tally: Tally | None = None,
    ) -> None:
        """Append rows of the source that match `condition` to `into`; `tally` counts them."""
        columns = self._table.line if columns is None else columns
        seen = None if tally is None else tally.add
        chunks = self._source.stream(self._table, columns, *condition, seen=seen)
        rows, size = cursor.copy(into, [c.name for c in columns], chunks, freeze=freeze)
        self.rows_read += rows
        self.bytes += size

    def read(
        self, conditions: Iterable[Condition] = (EVERYTHING,), tally: Tally | None = None
    ) -> None:
        """Stage the rows that match any of `conditions`, which must not overlap."""
        with self._target.transaction() as cursor:
            for condition in conditions:
                self.copy(cursor, self.rows, condition, tally=tally)
            # All that a merge joins by: a sample of each other column would be sorted for nothing.
            key = sql.SQL(", ").join(map(sql.Identifier, self._table.primary_key))
            cursor.run(sql.SQL("analyze {} ({})").format(self.rows, key))

    def conditions(self, ranges: Ranges) -> Iterator[Condition]:
        """What to ask the source for, a few of `ranges` at once."""
        if ranges is None:
            yield EVERYTHING
            return
        key = quoted(self._table.primary_key[0])
        for start in range(0, len(ranges), _RANGES_PER_READ):
            part = ranges[start : start + _RANGES_PER_READ]
            within = " OR ".join([f"{key} BETWEEN %s AND %s"] * len(part))
            yield f"WHERE {within}", [bound for pair in part for bound in pair]

    def raw_within(self, ranges: Ranges) -> Iterator[sql.Composable]:
        """SQL conditions on the raw rows `r` whose keys lie in `ranges`, a few of them each.

        As constants, for which Postgres estimates well: a join with a table of ranges made it
        compare every row with every range.
        """
        if ranges is None:
            yield sql.SQL("true")
            return
        key = sql.Identifier("r", self._table.primary_key[0])
        for start in range(0, len(ranges), _RANGES_PER_READ):
            yield sql.SQL("({})").format(
                sql.SQL(" or ").join(
                    sql.SQL("{} between {} and {}").format(key, sql.Literal(low), sql.Literal(high))
                    for low, high in ranges[start : start + _RANGES_PER_READ]
                )
            )

    def same_key(self, left: str, right: str) -> sql.Composable:
        """SQL: the rows behind two aliases have one key."""
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier(left, k), sql.Identifier(right, k))
            for k in self._table.primary_key
        )

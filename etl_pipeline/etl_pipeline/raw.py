"""SQL that writes one raw table: made, widened, brought to what is staged."""

from __future__ import annotations

from psycopg2 import sql

from etl_pipeline import views
from etl_pipeline.catalog import Table
from etl_pipeline.plan import TablePlan
from etl_pipeline.staging import Ranges, Stage
from etl_pipeline.target import LOADED_AT, Cursor, Target
from etl_pipeline.types import postgres_type

# Percent of a page that a first load fills.
_FILLED = 90


class Raw:
    """The raw table of one source table, and how its rows become those of the stage.

    Attributes:
        name: its name, in SQL.
    """

    def __init__(self, target: Target, stage: Stage, table: Table) -> None:
        self.name = target.name(table.name)
        self._stage = stage
        self._table = table
        self._columns = [c.name for c in table.columns]

    def create(self, cursor: Cursor) -> None:
        """Make the table, without a key: an index is built best when the rows are there."""
        # Rows with a stamp are updated; with room for that on their page the index stays as it is.
        filled = "" if self._table.stamp is None else f" with (fillfactor = {_FILLED})"
        columns = [
            sql.SQL("{} {}").format(_id(c.name), sql.SQL(postgres_type(self._table.name, c)))
            for c in self._table.columns
        ]
        cursor.run(
            sql.SQL("create table {} ({}, {} timestamptz not null default now()){}").format(
                self.name, sql.SQL(", ").join(columns), _id(LOADED_AT), sql.SQL(filled)
            )
        )

    def add_key(self, cursor: Cursor) -> None:
        """Build the primary key."""
        key = names(self._table.primary_key)
        cursor.run(sql.SQL("alter table {} add primary key ({})").format(self.name, key))

    def alter(self, cursor: Cursor, plan: TablePlan) -> None:
        """Make the table wide enough for what the source has now; views on it stay."""
        cursor.run("set local lock_timeout = '30s'")
        changes = [
            sql.SQL("add column {} {}").format(
                _id(column.name), sql.SQL(postgres_type(self._table.name, column))
            )
            for column in plan.new_columns
        ]
        changes += [
            sql.SQL("alter column {} type {}").format(_id(column.name), sql.SQL(kind))
            for column, kind in plan.widened
        ]
        changes += [sql.SQL("drop column {}").format(_id(name)) for name in plan.removed]
        in_the_way = plan.widened or plan.removed
        on_top = views.dependents(cursor, self.text(cursor)) if in_the_way else ()
        views.drop(cursor, on_top)
        cursor.run(sql.SQL("alter table {} {}").format(self.name, sql.SQL(", ").join(changes)))
        views.restore(cursor, on_top)

    def text(self, cursor: Cursor) -> str:
        """The name as text, for functions that take a regclass."""
        return self.name.as_string(cursor.connection)

    def count(self, cursor: Cursor) -> int:
        return cursor.rows(sql.SQL("select count(*) from {}").format(self.name))[0][0]

    def choose_joins(self, cursor: Cursor) -> None:
        """Nested loops only for a small increment of a large table.

        An empty raw table looks cheap to scan once per staged row, and it grows while INSERT
        does so: 41,000 rows took 27 s instead of 0.5 s.
        """
        known = cursor.rows(
            "select reltuples from pg_class where oid = %s::regclass",
            [self.text(cursor)],
        )[0][0]
        if self._stage.rows_read * 20 > known:
            cursor.run("set local enable_nestloop = off")

    def delete(self, cursor: Cursor, present: sql.Composable, ranges: Ranges) -> int:
        """Remove the rows within `ranges` whose keys are not in `present`; how many."""
        gone = sql.SQL("not exists (select 1 from {} as k where {})").format(
            present, self._stage.same_key("k", "r")
        )
        return sum(
            cursor.run(
                sql.SQL("delete from {} as r where {} and {}").format(self.name, within, gone)
            )
            for within in self._stage.raw_within(ranges)
        )

    def update(self, cursor: Cursor, *, consume: bool) -> int:
        """Change the rows that differ from their staged ones; how many.

        `consume` takes these out of the stage: INSERT need not look for them again.
        """
        # UPDATE and INSERT instead of INSERT … ON CONFLICT: the latter locks, and so rewrites the
        # page of, every row that it finds unchanged. There is one writer, so nothing conflicts.
        values = [c for c in self._columns if c not in self._table.primary_key]
        if not values:
            return 0
        assignments = [sql.SQL("{} = s.{}").format(_id(c), _id(c)) for c in values]
        update = sql.SQL(
            "update {} as r set {}, {} = now() from {} as s where {} and ({}) is distinct from ({})"
        ).format(
            self.name,
            sql.SQL(", ").join(assignments),
            _id(LOADED_AT),
            self._stage.rows,
            self._stage.same_key("r", "s"),
            _row(values, "r"),
            _row(values, "s"),
        )
        if not consume:
            return cursor.run(update)
        return cursor.run(
            sql.SQL("with u as ({} returning {}) delete from {} as s using u where {}").format(
                update,
                names(self._table.primary_key, "r"),
                self._stage.rows,
                self._stage.same_key("u", "s"),
            )
        )

    def insert(self, cursor: Cursor) -> int:
        """Add the staged rows that are not there; how many."""
        return cursor.run(
            sql.SQL(
                "insert into {} ({}) select {} from {} as s"
                " where not exists (select 1 from {} as r where {})"
            ).format(
                self.name,
                names(self._columns),
                names(self._columns, "s"),
                self._stage.rows,
                self.name,
                self._stage.same_key("r", "s"),
            )
        )


def _id(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def names(columns: list[str] | tuple[str, ...], alias: str | None = None) -> sql.Composable:
    """The columns in SQL, one after the other."""
    parts = [sql.Identifier(alias, n) if alias else sql.Identifier(n) for n in columns]
    return sql.SQL(", ").join(parts)


def _row(columns: list[str], alias: str) -> sql.Composable:
    return sql.SQL("row({})").format(names(columns, alias))

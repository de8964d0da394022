"""SQL that writes one raw table: made, widened, brought to what is staged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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

    def replace(self, cursor: Cursor) -> tuple[int, int, int]:
        """Make all rows those of the stage: how many were deleted, changed, inserted.

        One pass over both in the order of their keys. Three joins, of what is gone, changed and
        new, would each sort rows into files, for wide rows do not fit `work_mem`.
        """
        key = self._table.primary_key
        values = [c for c in self._columns if c not in key]
        # Under names of its own: the source may call a column as it likes.
        listed = [f"key_{n}" for n in range(len(key))]
        known = {
            "raw": self.name,
            "stage": self._stage.rows,
            "differing": self._stage.differing,
            "key": names(key),
            "keys": _list(
                sql.SQL("coalesce({}, {}) as {}").format(_id(k, "s"), _id(k, "r"), _id(name))
                for k, name in zip(key, listed, strict=True)
            ),
            "gone": sql.SQL("{} is null").format(_id(key[0], "s")),
            "new": sql.SQL("{} is null").format(_id(key[0], "r")),
            "other": self._differ(values) if values else sql.SQL("false"),
            "s_is_r": self._stage.same_key("s", "r"),
            "s_is_d": _equal(key, "s", listed, "d"),
            "r_is_d": _equal(key, "r", listed, "d"),
            "columns": names(self._columns),
            "staged": names(self._columns, "s"),
        }

        def run(query: str, **more: sql.Composable) -> int:
            return cursor.run(sql.SQL(query).format(**known, **more))

        run("alter table {stage} add primary key ({key})")
        run(
            "create temp table differing as select {keys}, {gone} as gone, {new} as new"
            " from {stage} as s full join {raw} as r on {s_is_r} where {gone} or {new} or {other}"
        )
        deleted = run("delete from {raw} as r using {differing} as d where d.gone and {r_is_d}")
        updated = 0
        if values:
            updated = run(
                "update {raw} as r set {values} from {stage} as s, {differing} as d"
                " where not d.gone and not d.new and {s_is_d} and {r_is_d}",
                values=self._assignments(values),
            )
        inserted = run(
            "insert into {raw} ({columns}) select {staged} from {stage} as s"
            " inner join {differing} as d on {s_is_d} where d.new"
        )
        return deleted, updated, inserted

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
        update = sql.SQL("update {} as r set {} from {} as s where {} and {}").format(
            self.name,
            self._assignments(values),
            self._stage.rows,
            self._stage.same_key("r", "s"),
            self._differ(values),
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
            sql.SQL("insert into {} ({}) select {} from {} as s where {}").format(
                self.name,
                names(self._columns),
                names(self._columns, "s"),
                self._stage.rows,
                self._absent(),
            )
        )

    def lacking(self) -> Iterator[sql.Composable]:
        """Queries for the number of staged rows that raw lacks, the cheaper first: right where
        keys count up. `insert` finds out how many.
        """
        count = sql.SQL("select count(*) from {} as s where ").format(self._stage.rows)
        if self._table.counted_key is not None:
            above = sql.SQL("{} > (select coalesce(max({key}), {least}) from {raw})")
            yield count + above.format(
                _id(self._table.counted_key, "s"),
                key=_id(self._table.counted_key),
                least=sql.Literal(-(2**63)),
                raw=self.name,
            )
        yield count + self._absent()

    def _absent(self) -> sql.Composable:
        """SQL: raw has no row of the key of the staged row `s`."""
        return sql.SQL("not exists (select 1 from {} as r where {})").format(
            self.name, self._stage.same_key("r", "s")
        )

    def _assignments(self, values: list[str]) -> sql.Composable:
        """What an update of the raw row sets to that of the staged row `s`."""
        staged = [sql.SQL("{} = {}").format(_id(c), _id(c, "s")) for c in values]
        return _list([*staged, sql.SQL("{} = now()").format(_id(LOADED_AT))])

    def _differ(self, values: list[str]) -> sql.Composable:
        """SQL: the raw row `r` has other `values` than the staged row `s`."""
        return sql.SQL("row({}) is distinct from row({})").format(
            names(values, "r"), names(values, "s")
        )


def _id(name: str, alias: str | None = None) -> sql.Identifier:
    return sql.Identifier(alias, name) if alias else sql.Identifier(name)


def _list(parts: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)


def _equal(
    left: Sequence[str], alias: str, right: Sequence[str], other_alias: str
) -> sql.Composable:
    """SQL: columns of one alias are those of another, pair by pair."""
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(_id(one, alias), _id(other, other_alias))
        for one, other in zip(left, right, strict=True)
    )


def names(columns: Sequence[str], alias: str | None = None) -> sql.Composable:
    """The columns in SQL, one after the other."""
    return _list(_id(name, alias) for name in columns)

"""Is raw what the source is? Both servers add up the same figures; only figures travel.

Where figures differ, the rows of those buckets are read once more and compared value by value in
the analytics database. So what is reported is exact: which rows, which columns. What the practice
changed after the load is told apart from what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

from psycopg2 import sql

from etl_pipeline import digests
from etl_pipeline.catalog import Table
from etl_pipeline.figures import SAMPLED_FROM, SAMPLES, Sieve
from etl_pipeline.masking import shown
from etl_pipeline.plan import OVERLAP, State, Watermark
from etl_pipeline.source import Source
from etl_pipeline.staging import Ranges, Stage
from etl_pipeline.target import Cursor, Target
from etl_pipeline.types import Column, quoted

# Cells that are shown per table: enough to see the pattern.
_EXAMPLES = 5
# With more of them than this, all rows are compared.
_RANGES = 1000


@dataclass(frozen=True)
class Example:
    """One value that differs; `source` and `raw` as `masking.shown` shows them."""

    key: str
    column: str
    source: str
    raw: str


@dataclass(frozen=True)
class TableCheck:
    """One table compared.

    Attributes:
        outcome: match | unchanged (proved before, and neither side was written since) | changed
            (the source moved on after the load) | differs | missing (no raw table yet) | uncompared
            (its columns are not those of raw; nothing was counted).
        differences: in words: rows that lack or are too many, and each column that differs.
        examples: a few of the values that differ.
    """

    table: str
    outcome: str
    source_rows: int
    raw_rows: int
    differences: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def ok(self) -> bool:
        return self.outcome in OK_OUTCOMES

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "differences": list(self.differences),
            "examples": [asdict(e) for e in self.examples],
        }


OK_OUTCOMES = ("match", "unchanged", "changed")


@dataclass(frozen=True)
class Verification:
    """All tables compared."""

    run_id: str
    checks: tuple[TableCheck, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def problems(self) -> tuple[TableCheck, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "ok": self.ok,
            "checks": [check.to_dict() for check in self.checks],
        }

    def to_text(self) -> str:
        told = [c for c in self.checks if c.outcome not in ("match", "unchanged")]
        lines = []
        for c in told:
            if c.outcome == "missing":
                lines.append(f"{c.table}: not in raw yet")
                continue
            if c.outcome == "uncompared":
                lines.append(f"{c.table}: not compared: {', '.join(c.differences)}")
                continue
            line = (
                f"{c.table}: {c.outcome}, {c.source_rows} rows at the source, {c.raw_rows} in raw"
            )
            lines.append(line + (f"; {', '.join(c.differences)}" if c.differences else ""))
            lines += [
                f"  {c.table} {e.key}, {e.column}: {e.source} at the source, {e.raw} in raw"
                for e in c.examples
            ]
        matching = len(self.checks) - len(told)
        return "\n".join([*lines, f"{matching} of {len(self.checks)} tables match the source"])


def recount(target: Target, table: Table, state: State) -> TableCheck | None:
    """The outcome for a table that was proved equal and that neither side has written since.

    Raw alone is counted: a person may have changed it. None where the count is another.
    """
    query = sql.SQL("select count(*) from {}").format(target.name(table.name))
    rows = target.rows(query)[0][0]
    return TableCheck(table.name, "unchanged", rows, rows) if rows == state.rows else None


@dataclass(frozen=True)
class Check:
    """A comparison of one table.

    Attributes:
        watermark, state: what is known of the copy; None = nothing.
        today: which sixteenth of a large table has its characters compared.
    """

    source: Source
    target: Target
    table: Table
    watermark: Watermark | None
    state: State | None
    today: date

    @cached_property
    def stage(self) -> Stage:
        """Where suspect rows are read again."""
        return Stage(self.source, self.target, self.table)

    def run(self) -> TableCheck:
        """The outcome."""
        width = None
        if self.table.counted_key is not None:
            width = digests.width(self.source, self.table)
        large = self.table.estimated_rows > SAMPLED_FROM
        sieve = Sieve(self.table, width, self.today.toordinal() % SAMPLES if large else None)
        # Both servers add up at the same time.
        with ThreadPoolExecutor(1) as other, self.target.transaction() as cursor:
            asked = other.submit(sieve.source, self.source)
            raw = sieve.raw(cursor, self.target.name(self.table.name))
            there = asked.result()
        suspect = digests.differing(there, raw)
        if not suspect:
            return TableCheck(self.table.name, "match", there.rows, raw.rows)
        ranges = None if width is None else digests.ranges(suspect, width)
        if ranges is not None and len(ranges) > _RANGES:
            ranges = None
        return self._compare(ranges, there.rows, raw.rows)

    def _compare(self, ranges: Ranges, source_rows: int, raw_rows: int) -> TableCheck:
        """Read the suspect rows again and compare them value by value."""
        stage, name = self.stage, self.table.name
        stage.prepare()
        stage.read(stage.conditions(ranges))
        with self.target.transaction() as cursor:
            missing, extra, old, *cells = cursor.rows(self._counts(ranges))[0]
            wrong = [(c, n) for c, n in zip(self._values, cells, strict=True) if n]
            examples = self._examples(cursor, ranges, [c for c, _ in wrong])
            stage.drop(cursor)
        differences = [f"{c.name} in {_rows(n)}" for c, n in wrong]
        if extra:
            differences.insert(0, f"{_rows(extra)} too many in raw")
        if missing:
            differences.insert(0, f"{_rows(missing)} missing in raw")
        if not differences:
            # Bytes that are no text, say, are counted by the source and mended in the copy.
            return TableCheck(name, "match", source_rows, raw_rows)
        outcome = "changed" if self._moved_on() and not old else "differs"
        return TableCheck(name, outcome, source_rows, raw_rows, tuple(differences), examples)

    def _moved_on(self) -> bool:
        """Whether the source was written after the load began, as far as its server tells."""
        now = self.source.facts(self.table.name)
        if self.state is None or now is None or now.written_at is None:
            return self._has_newer_stamp()
        return now.text() != self.state.facts

    def _has_newer_stamp(self) -> bool:
        if self.watermark is None or self.table.stamp is None:
            return False
        stamp = quoted(self.table.stamp)
        query = f"SELECT 1 FROM {quoted(self.table.name)} WHERE {stamp} > %s LIMIT 1"  # noqa: S608
        return bool(self.source.rows(query, [self.watermark.value]))

    @property
    def _values(self) -> list[Column]:
        return [c for c in self.table.columns if c.name not in self.table.primary_key]

    def _counts(self, ranges: Ranges) -> sql.Composable:
        """Rows that only one side has, rows that differ in spite of an old stamp, cells."""
        cells = [_differ(c) for c in self._values]
        parts = [sql.SQL("count(*) filter (where {} is null)").format(self._key(a)) for a in "rs"]
        old: sql.Composable = sql.SQL("0")
        if self.watermark is not None and self.table.stamp is not None and cells:
            old = sql.SQL(
                "count(*) filter (where {} and {} < {}::timestamp at time zone 'UTC' and ({}))"
            ).format(
                self._both,
                sql.Identifier("s", self.table.stamp),
                # Within the overlap a load may have come too early, as the next one knows.
                sql.Literal(str(datetime.fromisoformat(self.watermark.value) - OVERLAP)),
                sql.SQL(" or ").join(cells),
            )
        counted = [
            sql.SQL("count(*) filter (where {} and {})").format(self._both, c) for c in cells
        ]
        return sql.SQL("select {} from {}").format(
            sql.SQL(", ").join([*parts, old, *counted]), self._pairs(ranges)
        )

    def _examples(
        self, cursor: Cursor, ranges: Ranges, columns: Sequence[Column]
    ) -> tuple[Example, ...]:
        found: list[Example] = []
        keys = self.table.key_columns
        for column in columns:
            rows = cursor.rows(
                sql.SQL("select {}, {}, {} from {} where {} and {} order by 1 limit {}").format(
                    sql.SQL(", ").join(sql.Identifier("s", k.name) for k in keys),
                    sql.Identifier("s", column.name),
                    sql.Identifier("r", column.name),
                    self._pairs(ranges),
                    self._both,
                    _differ(column),
                    sql.Literal(_EXAMPLES - len(found)),
                )
            )
            for *key, there, here in rows:
                name = ", ".join(f"{k.name} {shown(k, v)}" for k, v in zip(keys, key, strict=True))
                found.append(Example(name, column.name, shown(column, there), shown(column, here)))
            if len(found) >= _EXAMPLES:
                break
        return tuple(found)

    def _pairs(self, ranges: Ranges) -> sql.Composable:
        """Every suspect row of either side, `r` or `s`, with its counterpart."""
        return sql.SQL("(select r.* from {} as r where {}) as r full join {} as s on {}").format(
            self.target.name(self.table.name),
            sql.SQL(" or ").join(self.stage.raw_within(ranges)),
            self.stage.rows,
            self.stage.same_key("r", "s"),
        )

    @property
    def _both(self) -> sql.Composable:
        return sql.SQL("{} is not null and {} is not null").format(self._key("r"), self._key("s"))

    def _key(self, alias: str) -> sql.Composable:
        return sql.Identifier(alias, self.table.primary_key[0])


def _differ(column: Column) -> sql.Composable:
    return sql.SQL("{} is distinct from {}").format(
        sql.Identifier("r", column.name), sql.Identifier("s", column.name)
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"

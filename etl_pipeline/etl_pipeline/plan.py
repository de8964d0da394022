"""Which table is loaded how: a pure function of what was observed on both sides."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from etl_pipeline import commands, overrides
from etl_pipeline.catalog import Table
from etl_pipeline.errors import PipelineError
from etl_pipeline.exclusions import column_reason, table_reason
from etl_pipeline.target import RawTable
from etl_pipeline.types import Column, postgres_type

# Stamps have whole seconds, become visible late on InnoDB, and clocks step: read a little twice.
OVERLAP = timedelta(minutes=10)
# A datetime is the wall clock, which is set back by an hour in autumn.
WALL_CLOCK_OVERLAP = OVERLAP + timedelta(hours=1)
# From this many rows on, figures by bucket cost the source less than sending every row does.
BUCKETS_FROM = 20_000
# What the server says of its tables is believed for so many nights, then the table is read anyway.
BELIEVED_NIGHTS = 7
# From this share of a table's rows on, one scan reads all: MyISAM reads a row by its key at 1.7 to
# 3.5 times the cost of reading it in a scan.
SCAN_FROM = 0.3
# They keep the exact number of their rows.
_COUNTING = ("MyISAM", "Aria")

_WIDER = {
    "smallint": ("integer", "bigint"),
    "integer": ("bigint",),
    "real": ("double precision",),
    "date": ("timestamp without time zone",),
}
# Digits of the largest value.
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}


@dataclass(frozen=True)
class Watermark:
    """The largest change stamp that was read: `value` is UTC, `YYYY-MM-DD HH:MM:SS[.ffffff]`."""

    column: str
    value: str


@dataclass(frozen=True)
class State:
    """How a table was found when it was last read.

    Attributes:
        facts: `Facts.text` of that moment; settled: whether any later write changes it.
        raw_file: `RawTable.file` of the copy.
        rows: rows of the copy.
        nights: since then, by the calendar of the analytics database (UTC).
        verified: a verification has found the copy equal since then.
        moved: share of its rows whose bucket was another than the time before.
    """

    facts: str
    settled: bool
    raw_file: int
    rows: int
    nights: int
    watermark: str | None = None
    verified: bool = False
    moved: float = 0.0


@dataclass(frozen=True)
class Knowledge:
    """What earlier runs have left in schema `etl`; `today` is the day of this one."""

    watermarks: Mapping[str, Watermark]
    states: Mapping[str, State]
    today: date


@dataclass(frozen=True)
class TablePlan:
    """What a run would do with one table.

    Attributes:
        action: unchanged | full | incremental | buckets | excluded | blocked.
        reason: why, in words; for blocked, the error.
        hint: for blocked, the command that mends it.
        column: for blocked, the column of raw that a model may read and that has to go.
        since: for incremental, read rows whose stamp is at or after this (UTC).
        raw_rows: for incremental, rows of raw as the last load left it, where that and the source's
            own count are believed tonight: if they agree, no row was deleted. None = compare keys.
        create: the raw table does not exist yet.
        new_columns: columns that the raw table lacks.
        removed: columns that raw has and that a rule leaves out by now.
        widened: columns whose type in raw has become too small, with the type that it is to be.
    """

    table: Table
    action: str
    reason: str
    hint: str = ""
    column: str = ""
    since: str | None = None
    raw_rows: int | None = None
    create: bool = False
    new_columns: tuple[Column, ...] = ()
    removed: tuple[str, ...] = ()
    widened: tuple[tuple[Column, str], ...] = ()

    @property
    def loads(self) -> bool:
        return self.action in ("full", "incremental", "buckets")

    @property
    def by_buckets(self) -> bool:
        """Whether the next run can be told by buckets what to read."""
        table = self.table
        if table.strategy is not None:
            return table.strategy == "buckets"
        return (
            table.stamp is None
            and table.counted_key is not None
            and table.estimated_rows >= BUCKETS_FROM
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "table": self.table.name,
            "action": self.action,
            "reason": self.reason,
            "hint": self.hint,
            "since": self.since,
            "estimated_rows": self.table.estimated_rows,
            "create": self.create,
            "new_columns": [c.name for c in self.new_columns],
            "removed": list(self.removed),
            "widened": {c.name: kind for c, kind in self.widened},
        }


def plan(
    tables: Sequence[Table],
    raw: Mapping[str, RawTable],
    known: Knowledge,
    *,
    only: Sequence[str] | None = None,
    full: bool = False,
    schema: str = "raw",
) -> tuple[TablePlan, ...]:
    """One plan per source table, in the order of `tables`.

    Args:
        only: names to plan, and to read whatever the server says of them; None = all.
        full: read every row even where a watermark exists.

    Raises:
        PipelineError: `only` names a table that the source lacks or a rule excludes.
    """
    plans = tuple(
        _plan_table(t, raw.get(t.name), known, full, only is not None, schema) for t in tables
    )
    if only is None:
        return plans
    by_name = {p.table.name: p for p in plans}
    for name in only:
        if name not in by_name:
            raise PipelineError(
                f"planning table {name}: the source has no such table",
                f"`{commands.etl('plan')}` lists the tables",
            )
        if by_name[name].action == "excluded":
            raise PipelineError(
                f"planning table {name}: it is excluded ({by_name[name].reason})",
                "the rules are in etl_pipeline/exclusions.py, a person's in overrides.yml",
            )
    return tuple(p for p in plans if p.table.name in set(only))


def strategy(table: Table) -> TablePlan:
    """How a table is read in a night that finds it written since, once it has been loaded."""
    excluded = table.excluded or table_reason(table.name)
    if excluded is None and not table.primary_key:
        excluded = "no primary key"
    if excluded is not None:
        return TablePlan(table, "excluded", excluded)
    if table.mistake is not None:
        message = f"planning table {table.name}: {table.mistake}"
        return TablePlan(table, "blocked", message, overrides.HINT)
    if table.strategy == "full":
        return TablePlan(table, "full", "by overrides.yml")
    if TablePlan(table, "", "").by_buckets:
        why = "no change stamp" if table.strategy is None else "by overrides.yml"
        return TablePlan(table, "buckets", f"{why}: rows compared by bucket")
    if table.stamp is None:
        return TablePlan(table, "full", "no change stamp")
    cost = "indexed" if table.stamp in table.indexed else "a scan at the source"
    return TablePlan(table, "incremental", f"by {table.stamp}, {cost}")


def _plan_table(
    table: Table, raw: RawTable | None, known: Knowledge, full: bool, named: bool, schema: str
) -> TablePlan:
    usual = strategy(table)
    if usual.action in ("excluded", "blocked"):
        return usual
    try:
        types = {c.name: postgres_type(table.name, c) for c in table.columns}
    except PipelineError as error:
        return TablePlan(table, "blocked", error.message, error.hint)
    if raw is None:
        return TablePlan(table, "full", "first load", create=True)
    drift = _incompatible(table, types, raw, schema)
    if drift is not None:
        reason, hint, column = drift
        return TablePlan(table, "blocked", reason, hint, column)
    new = tuple(c for c in table.columns if c.name not in raw.columns)
    wider = tuple(
        (c, types[c.name])
        for c in table.columns
        if c.name in raw.columns and raw.columns[c.name] != types[c.name]
    )
    removed = tuple(name for name in raw.columns if column_reason(table.name, name) is not None)
    if new or wider or removed:
        # ALTER TABLE at the source bumps no stamp, so old rows would never be read again.
        reasons = [f"new column {c.name}" for c in new]
        reasons += [f"{c.name} widened to {kind}" for c, kind in wider]
        reasons += [f"{name} taken out of raw by a rule" for name in removed]
        return TablePlan(
            table, "full", ", ".join(reasons), new_columns=new, removed=removed, widened=wider
        )
    if full:
        return TablePlan(table, "full", "asked for")
    state = known.states.get(table.name)
    if state is not None and not named and _unchanged(table, raw, state, known.today):
        return TablePlan(table, "unchanged", "not written since it was read")
    if usual.action == "buckets" and state is not None and state.moved > SCAN_FROM:
        # To ask which buckets to read would be a second scan.
        return replace(usual, action="full", reason="most buckets moved the last time")
    if usual.action != "incremental":
        return usual
    watermark = known.watermarks.get(table.name)
    if watermark is None or watermark.column != table.stamp:
        return TablePlan(table, "full", "no watermark")
    overlap = WALL_CLOCK_OVERLAP if table.wall_clock else OVERLAP
    since = (datetime.fromisoformat(watermark.value) - overlap).isoformat(" ")
    counts = table.facts is not None and table.facts.engine in _COUNTING
    # A stamp that the server does not set itself may be missing from a row that is new.
    if counts and table.vouched is None and state and _believed(table, raw, state, known.today):
        return replace(usual, since=since, raw_rows=state.rows)
    return replace(usual, since=since)


def _unchanged(table: Table, raw: RawTable, state: State, today: date) -> bool:
    """Whether the server and raw both look as they did when the table was last read."""
    if table.facts is None or not state.settled or not _believed(table, raw, state, today):
        return False
    return table.facts.text() == state.facts


def _believed(table: Table, raw: RawTable, state: State, today: date) -> bool:
    """Whether what is told of a table is enough tonight: raw is the same file, and it is not the
    table's own night of the week, which each has so that no night has to read all of them.
    """
    own_night = (today.toordinal() + zlib.crc32(table.name.encode())) % BELIEVED_NIGHTS == 0
    due = state.nights >= BELIEVED_NIGHTS or (own_night and state.nights > 0)
    return raw.file == state.raw_file and not due


def widens(old: str, new: str) -> bool:
    """Whether every value of the Postgres type `old` has its place in `new`."""
    if new in _WIDER.get(old, ()) or new == "text":
        return True
    if new.startswith("numeric(") and old in _DIGITS:
        precision, scale = _numeric(new)
        return precision - scale >= _DIGITS[old]
    if old.startswith("numeric(") and new.startswith("numeric("):
        (precision, scale), (more, finer) = _numeric(old), _numeric(new)
        return finer >= scale and more - finer >= precision - scale
    return False


def _numeric(kind: str) -> tuple[int, int]:
    precision, scale = kind.removeprefix("numeric(").removesuffix(")").split(",")
    return int(precision), int(scale)


def _incompatible(
    table: Table, types: Mapping[str, str], raw: RawTable, schema: str
) -> tuple[str, str, str] | None:
    """What cannot be mended by adding a column: message, hint, and the column that has to go."""
    where = f'{schema}."{table.name}"'
    for name, old in raw.columns.items():
        if column_reason(table.name, name) is not None:
            continue
        drop = f'alter table {where} drop column "{name}";'
        if name in table.left_out:
            return (
                f'planning table {table.name}: overrides.yml leaves column "{name}" out,'
                " and raw has it",
                f"`{commands.sql(drop)}`",
                name,
            )
        if name not in types:
            # Raw has the last copy of its values.
            key = ", ".join(f'"{k}"' for k in raw.primary_key)
            kept = f'kept."{table.name}_{name}"'
            keep = f'create table {kept} as select {key}, "{name}" from {where};'  # noqa: S608 - told
            return (
                f'planning table {table.name}: column "{name}" vanished from the source',
                f"`{commands.sql(f'create schema if not exists kept; {keep} {drop}')}`"
                f" keeps its values in {kept}",
                name,
            )
        if types[name] != old and not widens(old, types[name]):
            # There is no cast between boolean and smallint.
            using = (
                f' using "{name}"::int::{types[name]}' if "boolean" in (old, types[name]) else ""
            )
            alter = f'alter table {where} alter column "{name}" type {types[name]}{using};'
            return (
                f'planning table {table.name}: column "{name}" changed from {old} to {types[name]}',
                f"`{commands.sql(alter)}`, then"
                f" `{commands.etl(f'run --full --table {table.name}')}`",
                "",
            )
    if table.primary_key != raw.primary_key:
        key = ", ".join(f'"{k}"' for k in table.primary_key)
        change = (
            f'alter table {where} drop constraint "{table.name}_pkey", add primary key ({key});'
        )
        return (
            f"planning table {table.name}: the primary key is now ({key})",
            f"`{commands.sql(change)}`",
            "",
        )
    return None

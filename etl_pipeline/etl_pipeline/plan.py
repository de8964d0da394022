"""Which table is loaded how: a pure function of what was observed on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from etl_pipeline import commands
from etl_pipeline.errors import PipelineError
from etl_pipeline.exclusions import table_reason
from etl_pipeline.source import Table
from etl_pipeline.target import RawTable
from etl_pipeline.types import Column, postgres_type

# Stamps have whole seconds, become visible late on InnoDB, and clocks step: read a little twice.
OVERLAP = timedelta(minutes=10)


@dataclass(frozen=True)
class Watermark:
    """The largest change stamp that was read: `value` is UTC, `YYYY-MM-DD HH:MM:SS[.ffffff]`."""

    column: str
    value: str


@dataclass(frozen=True)
class TablePlan:
    """What a run would do with one table.

    Attributes:
        action: full | incremental | excluded | blocked.
        reason: why, in words; for blocked, the error.
        hint: for blocked, the command that mends it.
        since: for incremental, read rows whose stamp is at or after this (UTC).
        create: the raw table does not exist yet.
        new_columns: columns that the raw table lacks.
    """

    table: Table
    action: str
    reason: str
    hint: str = ""
    since: str | None = None
    create: bool = False
    new_columns: tuple[Column, ...] = ()

    @property
    def loads(self) -> bool:
        return self.action in ("full", "incremental")

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
        }


def plan(
    tables: Sequence[Table],
    raw: Mapping[str, RawTable],
    watermarks: Mapping[str, Watermark],
    *,
    only: Sequence[str] | None = None,
    full: bool = False,
    schema: str = "raw",
) -> tuple[TablePlan, ...]:
    """One plan per source table, in the order of `tables`.

    Args:
        only: names to plan; None = all.
        full: read every row even where a watermark exists.

    Raises:
        PipelineError: `only` names a table that the source lacks or a rule excludes.
    """
    plans = tuple(
        _plan_table(t, raw.get(t.name), watermarks.get(t.name), full, schema) for t in tables
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
                "the rules are in etl_pipeline/exclusions.py",
            )
    return tuple(p for p in plans if p.table.name in set(only))


def _plan_table(
    table: Table, raw: RawTable | None, watermark: Watermark | None, full: bool, schema: str
) -> TablePlan:
    excluded = table_reason(table.name)
    if excluded is None and not table.primary_key:
        excluded = "no primary key"
    if excluded is not None:
        return TablePlan(table, "excluded", excluded)
    try:
        types = {c.name: postgres_type(table.name, c) for c in table.columns}
    except PipelineError as error:
        return TablePlan(table, "blocked", error.message, error.hint)
    if raw is None:
        return TablePlan(table, "full", "first load", create=True)
    drift = _incompatible(table, types, raw, schema)
    if drift is not None:
        return TablePlan(table, "blocked", *drift)
    new = tuple(c for c in table.columns if c.name not in raw.columns)
    if new:
        # ALTER TABLE at the source bumps no stamp, so old rows would never be read again.
        names = ", ".join(c.name for c in new)
        return TablePlan(table, "full", f"new column {names}", new_columns=new)
    if full:
        return TablePlan(table, "full", "asked for")
    if table.stamp is None:
        return TablePlan(table, "full", "no change stamp")
    if watermark is None or watermark.column != table.stamp:
        return TablePlan(table, "full", "no watermark")
    since = (datetime.fromisoformat(watermark.value) - OVERLAP).isoformat(" ")
    return TablePlan(table, "incremental", f"by {table.stamp}", since=since)


def _incompatible(
    table: Table, types: Mapping[str, str], raw: RawTable, schema: str
) -> tuple[str, str] | None:
    """What cannot be mended by adding a column: (message, hint)."""
    where = f'{schema}."{table.name}"'
    for name, old in raw.columns.items():
        if name not in types:
            return (
                f'planning table {table.name}: column "{name}" vanished from the source',
                f'alter table {where} drop column "{name}"; -- after dbt no longer reads it',
            )
        if types[name] != old:
            return (
                f'planning table {table.name}: column "{name}" changed from {old} to {types[name]}',
                f'alter table {where} alter column "{name}" type {types[name]};'
                " -- then run --full for the table",
            )
    if table.primary_key != raw.primary_key:
        key = ", ".join(f'"{k}"' for k in table.primary_key)
        return (
            f"planning table {table.name}: the primary key is now ({key})",
            f'alter table {where} drop constraint "{table.name}_pkey", add primary key ({key});',
        )
    return None

"""Is raw what the source is? Both sides compute the same figures in SQL; only figures travel.

Per table: number of rows, a digest of the set of keys, and a checksum for each double (money) and
for the change stamp. Figures are exact and do not depend on the order of rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from psycopg2 import sql

from etl_pipeline.plan import Watermark
from etl_pipeline.source import Source, Table
from etl_pipeline.target import Target
from etl_pipeline.types import Column, quoted

_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_DIGESTIBLE = (*_INTEGERS, "decimal", "char", "varchar", "date")


@dataclass(frozen=True)
class TableCheck:
    """One table compared.

    Attributes:
        outcome: match | changed (the source moved on after the load) | differs | missing (no raw
            table yet).
        differences: which figures differ: `rows`, `keys`, or the name of a column.
    """

    table: str
    outcome: str
    source_rows: int
    raw_rows: int
    differences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.outcome in ("match", "changed")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "differences": list(self.differences)}


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
        lines = [
            f"{c.table}: {c.outcome}, {c.source_rows} rows at the source, {c.raw_rows} in raw"
            + (f"; differing: {', '.join(c.differences)}" if c.differences else "")
            for c in self.checks
            if c.outcome != "match"
        ]
        matching = len(self.checks) - len(lines)
        return "\n".join([*lines, f"{matching} of {len(self.checks)} tables match the source"])


def check_table(
    source: Source, target: Target, table: Table, watermark: Watermark | None
) -> TableCheck:
    """Compare one table; where figures differ, read both sides once more.

    A source that is in use changes between the load and the check. That is seen by stamps above
    the watermark, or by two readings of the source that differ, and is no fault of the copy.
    """
    first = _source_figures(source, table)
    raw = _raw_figures(target, table)
    if not _differing(first, raw):
        return TableCheck(table.name, "match", int(first["rows"]), int(raw["rows"]))
    second = _source_figures(source, table)
    raw = _raw_figures(target, table)
    differing = _differing(second, raw)
    if not differing:
        outcome = "match"
    elif _differing(first, second) or _moved_on(source, table, watermark):
        outcome = "changed"
    else:
        outcome = "differs"
    return TableCheck(table.name, outcome, int(second["rows"]), int(raw["rows"]), differing)


def _moved_on(source: Source, table: Table, watermark: Watermark | None) -> bool:
    if watermark is None or table.stamp is None:
        return False
    stamp = quoted(table.stamp)
    query = f"SELECT 1 FROM {quoted(table.name)} WHERE {stamp} > %s LIMIT 1"  # noqa: S608
    return bool(source.rows(query, [watermark.value]))


def _differing(left: dict[str, float], right: dict[str, float]) -> tuple[str, ...]:
    return tuple(
        name
        for name, value in left.items()
        if abs(value - right[name]) > 1e-9 * max(1.0, abs(value))
        or (name in ("rows", "keys") and value != right[name])
    )


def _money(table: Table) -> list[Column]:
    return [c for c in table.columns if c.kind == "double" and c.name not in table.primary_key]


def _digests(table: Table) -> bool:
    return all(c.kind in _DIGESTIBLE for c in table.key_columns)


def _single_integer(table: Table) -> bool:
    (first, *rest) = table.key_columns
    return not rest and first.kind in _INTEGERS and not first.unsigned


def _source_figures(source: Source, table: Table) -> dict[str, Any]:
    names = ["rows"]
    parts = ["COUNT(*)"]
    if _digests(table):
        names.append("keys")
        if _single_integer(table):
            parts.append(f"BIT_XOR({quoted(table.primary_key[0])})")
        else:
            key = ", ".join(f"CONVERT({quoted(k)} USING utf8mb4)" for k in table.primary_key)
            digest = f"CONV(LEFT(MD5(CONCAT_WS(',', {key})), 16), 16, 10)"
            parts.append(f"BIT_XOR(CAST({digest} AS UNSIGNED))")
    for column in _money(table):
        names.append(column.name)
        # FLOOR gives whole numbers: their sum is exact, in whatever order the rows come.
        parts.append(f"COALESCE(SUM(FLOOR({quoted(column.name)} * 100)), 0)")
    if table.stamp is not None:
        names.append(table.stamp)
        parts.append(f"COALESCE(SUM(FLOOR(UNIX_TIMESTAMP({quoted(table.stamp)}))), 0)")
    query = f"SELECT {', '.join(parts)} FROM {quoted(table.name)}"  # noqa: S608
    return _figures(names, source.rows(query)[0])


def _raw_figures(target: Target, table: Table) -> dict[str, Any]:
    names = ["rows"]
    parts: list[sql.Composable] = [sql.SQL("count(*)")]
    if _digests(table):
        names.append("keys")
        if _single_integer(table):
            key = sql.Identifier(table.primary_key[0])
            parts.append(sql.SQL("coalesce(bit_xor({}::bigint), 0)").format(key))
        else:
            keys = sql.SQL(", ").join(map(sql.Identifier, table.primary_key))
            digest = sql.SQL("left(md5(concat_ws(',', {})), 16)").format(keys)
            parts.append(
                sql.SQL("coalesce(bit_xor(('x' || {})::bit(64)::bigint), 0)").format(digest)
            )
    for column in _money(table):
        names.append(column.name)
        parts.append(
            sql.SQL("coalesce(sum(floor({} * 100)), 0)").format(sql.Identifier(column.name))
        )
    if table.stamp is not None:
        names.append(table.stamp)
        parts.append(
            sql.SQL("coalesce(sum(floor(extract(epoch from {}))), 0)").format(
                sql.Identifier(table.stamp)
            )
        )
    query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(parts), target.name(table.name))
    return _figures(names, target.rows(query)[0])


def _figures(names: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    figures = {
        name: float(value) if isinstance(value, Decimal | float) else value
        for name, value in zip(names, values, strict=True)
    }
    if "keys" in figures:
        # MariaDB's BIT_XOR is unsigned, Postgres' is signed.
        figures["keys"] = int(figures["keys"]) % 2**64
    return figures

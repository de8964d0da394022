"""The contents of a table as a few whole numbers for each bucket of keys, alike in both dialects.

Five figures for a bucket (see `digests.py`): rows, two of its keys, one of all values, one of the
characters of all texts. A row's values are made whole numbers, weighted by column and by key, and
added up. So one sum for a table of 45 columns sees what a sum, a count of nulls, a minimum and a
maximum of each would see, and values that changed places as well.

The figures are a sieve, not a verdict: where they differ, `verify.py` compares the rows themselves.
What they cannot see: changes of a double below 1/10000, of a fraction of a second, and within JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from etl_pipeline.catalog import Table
from etl_pipeline.digests import PRIMES, Buckets, buckets_of
from etl_pipeline.source import Source
from etl_pipeline.target import Cursor
from etl_pipeline.types import BYTES, INTEGERS, TEXTS, Column, is_real_day, quoted, text_as_utf8

# Stands for NULL. Any number will do that is no common value.
_NULL = -7919
_WEIGHTS = 8191
# Keeps a value below 2^31. Not 2^31 - 1, to which both 1 and the largest unsigned int would be 1.
_PRIME = 1_999_999_973
# Seconds from the year 0, where TO_SECONDS begins, to 1970.
_EPOCH = 62_167_219_200
# 0001-01-01 as TO_DAYS counts.
_FIRST_DAY = 366
# Characters are compared of every row up to so many rows, of a sixteenth of a larger table: another
# one each night. MD5 of all texts of 20 million rows would take either server half a minute.
SAMPLED_FROM = 100_000
SAMPLES = 16


@dataclass(frozen=True)
class Sieve:
    """What is asked of one table, of both servers in the same words.

    Attributes:
        keys_per_bucket: None where the key is no whole number: the table is one bucket.
        sample: which sixteenth of the rows has its characters compared; None = all rows.
    """

    table: Table
    keys_per_bucket: int | None
    sample: int | None

    def source(self, source: Source) -> Buckets:
        """The figures of the source."""
        key = quoted(self.table.counted_key or "")
        weight, bucket, own = "1", "0", ["0", "0"]
        if self.keys_per_bucket is not None:
            weight = f"(1 + {key} % {_WEIGHTS})"
            bucket = f"{key} DIV {self.keys_per_bucket}"
            product = " * ".join(f"({key} % {prime})" for prime in PRIMES)
            own = [f"SUM({key})", f"SUM({product})"]
        values = _weighted([_of_source(c, source.strict_days) for c in self.table.columns])
        parts = [bucket, "COUNT(*)", *own, f"SUM(({values}) * {weight})"]
        texts = [text_as_utf8(c) for c in self.table.columns if _has_characters(c)]
        if texts:
            joined = ", ".join(f"IFNULL(CAST({t} AS BINARY), X'02')" for t in texts)
            number = f"CONV(LEFT(MD5(CONCAT_WS(X'01', {joined})), 8), 16, 10)"
            digest = f"CAST({number} AS SIGNED) * {weight}"
            parts.append(f"SUM({self._sampled(key, digest, 'IF({}, {}, 0)')})")
        query = f"SELECT {', '.join(parts)} FROM {quoted(self.table.name)} GROUP BY 1"  # noqa: S608
        return buckets_of(self.keys_per_bucket or 1, source.rows(query))

    def raw(self, cursor: Cursor, raw: sql.Composable) -> Buckets:
        """The figures of the copy."""
        key = sql.Identifier(self.table.counted_key or "").as_string(cursor.connection)
        weight, bucket, own = "1", "0", ["0", "0"]
        if self.keys_per_bucket is not None:
            weight = f"(1 + {key}::bigint % {_WEIGHTS})"
            bucket = f"{key}::bigint / {self.keys_per_bucket}"
            product = " * ".join(f"({key}::bigint % {prime})" for prime in PRIMES)
            own = [f"sum({key}::bigint)", f"sum({product})"]
        names = {c.name: sql.Identifier(c.name).as_string(cursor.connection)
                 for c in self.table.columns}  # fmt: skip
        values = _weighted([_of_raw(c, names[c.name]) for c in self.table.columns])
        parts = [bucket, "count(*)", *own, f"sum(({values}) * {weight})"]
        texts = [names[c.name] for c in self.table.columns if _has_characters(c)]
        if texts:
            joined = ", ".join(f"coalesce({t}, e'\\x02')" for t in texts)
            digest = f"('x' || left(md5(concat_ws(e'\\x01', {joined})), 8))::bit(32)::bigint"
            condition = "case when {} then {} else 0 end"
            parts.append(
                f"sum({self._sampled(f'{key}::bigint', f'{digest} * {weight}', condition)})"
            )
        # Names of columns may hold a percent sign; there are no arguments that it could stand for.
        query = sql.SQL("select {} from {} group by 1").format(sql.SQL(", ".join(parts)), raw)
        return buckets_of(self.keys_per_bucket or 1, cursor.rows(query))

    def _sampled(self, key: str, value: str, condition: str) -> str:
        if self.sample is None or self.keys_per_bucket is None:
            return value
        return condition.format(f"({key} & {SAMPLES - 1}) = {self.sample}", value)


def _weighted(values: list[str | None]) -> str:
    found = [f"{value} * {n}" for n, value in enumerate(values, start=1) if value is not None]
    return " + ".join(found) or "0"


def _has_characters(column: Column) -> bool:
    return column.kind in TEXTS


def _of_source(column: Column, strict_days: bool) -> str | None:
    """A whole number below 2^31 for the value of a column; None for what is not compared."""
    name, kind = quoted(column.name), column.kind
    if kind in ("date", "datetime", "timestamp"):
        number = f"TO_DAYS({name})" if kind == "date" else f"TO_SECONDS({name}) % {_PRIME}"
        return f"IF({is_real_day(column, strict_days)}, {number}, {_NULL})"
    if kind in ("float", "double"):
        whole = f"CAST(FLOOR({name} * 10000) AS SIGNED) % {_PRIME}"
        number = f"IF(ABS({name}) < 1e12, {whole}, 1)"
    elif kind == "decimal":
        number = f"CAST(FLOOR({name} * 10000) % {_PRIME} AS SIGNED)"
    elif kind in INTEGERS:
        number = f"CAST({name} % {_PRIME} AS SIGNED)"
    elif kind == "year":
        number = f"CAST({name} + 0 AS SIGNED)"
    elif kind == "time":
        number = f"CAST(FLOOR(TIME_TO_SEC({name})) AS SIGNED)"
    elif kind in TEXTS:
        number = f"LENGTH({text_as_utf8(column)})"
    elif kind in BYTES:
        number = f"LENGTH({name})"
    else:
        return None
    return f"IF({name} IS NULL, {_NULL}, {number})" if column.nullable else number


def _of_raw(column: Column, name: str) -> str | None:
    kind = column.kind
    if kind == "date":
        number = f"({name} - date '0001-01-01') + {_FIRST_DAY}"
    elif kind in ("datetime", "timestamp"):
        number = f"(floor(date_part('epoch', {name}))::bigint + {_EPOCH}) % {_PRIME}"
    elif kind in ("float", "double"):
        whole = f"floor({name}::float8 * 10000)::bigint % {_PRIME}"
        number = f"case when abs({name}) < 1e12 then {whole} when {name} is not null then 1 end"
    elif kind == "decimal":
        number = f"(floor({name} * 10000) % {_PRIME})::bigint"
    elif kind in INTEGERS or kind == "year":
        number = f"({name}{'::int' if column.flag else ''} % {_PRIME})::bigint"
    elif kind == "time":
        number = f"floor(date_part('epoch', {name}))::bigint"
    elif kind in TEXTS or kind in BYTES:
        number = f"octet_length({name})::bigint"
    else:
        return None
    return f"coalesce({number}, {_NULL})::bigint"

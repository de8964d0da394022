"""Where two sets of keys, or two nights' rows, differ: figures by bucket, so that few rows travel.

A bucket is a range of a table's whole-number key, about `ROWS_PER_BUCKET` rows wide. The server
scans, groups and adds up; what travels is three numbers for a thousand rows.

- Keys: count, sum and sum of products are compared between the source and raw, of the same night.
- Rows: a checksum of each row as it would be sent is compared with the one of when the bucket was
  last read. For a table without a change stamp it tells what to read. The server adds it up; of a
  table that is read as a whole, `Tally` does, from the very lines that are loaded.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from etl_pipeline.catalog import Table
from etl_pipeline.source import Source
from etl_pipeline.target import Cursor
from etl_pipeline.types import quoted

# The source sends 1/1000 of the rows' number in figures; one changed row costs 1000 rows to read.
ROWS_PER_BUCKET = 1000
# A product of two remainders fits a bigint, and sets with equal sums have other sums of products.
PRIMES = (2147483647, 2147483629)

# Both servers take it for a bigint.
_WIDEST = 1 << 62

Figures = tuple[int, ...]


@dataclass(frozen=True)
class Buckets:
    """Figures of each bucket that has a row; bucket `b` holds the keys with `key div width = b`."""

    width: int
    figures: Mapping[int, Figures]

    @property
    def rows(self) -> int:
        return sum(figures[0] for figures in self.figures.values())


def width(source: Source, table: Table) -> int:
    """Keys per bucket, so that a bucket has about `ROWS_PER_BUCKET` rows, gaps or not."""
    key = quoted(table.counted_key or "")
    query = f"SELECT MIN({key}), MAX({key}), COUNT(*) FROM {quoted(table.name)}"  # noqa: S608
    low, high, rows = source.rows(query)[0]
    return 1 if not rows else min(_WIDEST, max(1, (high - low + 1) * ROWS_PER_BUCKET // rows))


def source_keys(source: Source, table: Table, keys_per_bucket: int) -> Buckets:
    """The key set at the source; an index scan where the server has nothing better."""
    key = quoted(table.counted_key or "")
    product = " * ".join(f"({key} % {prime})" for prime in PRIMES)
    query = (
        f"SELECT {key} DIV {keys_per_bucket} AS bucket, COUNT(*), SUM({key}), SUM({product})"  # noqa: S608
        f" FROM {quoted(table.name)} GROUP BY bucket"
    )
    return buckets_of(keys_per_bucket, source.rows(query))


def raw_keys(
    cursor: Cursor, table: Table, raw: sql.Composable, stage: sql.Composable, keys_per_bucket: int
) -> Buckets:
    """The key set that raw will have once `stage` is merged."""
    key = sql.Identifier(table.counted_key or "")
    query = sql.SQL(
        """
        select key / {width}, count(*), sum(key), sum((key % {p}) * (key % {q}))
        from (
            select {key}::bigint as key from {raw}
            union all
            select s.{key}::bigint from {stage} as s
            where not exists (select 1 from {raw} as r where r.{key} = s.{key})
        ) as k
        group by 1
        """
    ).format(
        key=key,
        raw=raw,
        stage=stage,
        width=sql.Literal(keys_per_bucket),
        p=sql.Literal(PRIMES[0]),
        q=sql.Literal(PRIMES[1]),
    )
    return buckets_of(keys_per_bucket, cursor.rows(query))


def raw_counts(
    cursor: Cursor, table: Table, raw: sql.Composable, keys_per_bucket: int
) -> dict[int, int]:
    """How many rows of each bucket raw has."""
    query = sql.SQL("select {key}::bigint / {width}, count(*) from {raw} group by 1").format(
        key=sql.Identifier(table.counted_key or ""), width=sql.Literal(keys_per_bucket), raw=raw
    )
    return dict(cursor.rows(query))


def source_rows(source: Source, table: Table, keys_per_bucket: int) -> Buckets:
    """A checksum of the rows of each bucket, of the very line that a load would read.

    CRC-32 finds every change within 4 bytes and misses another with a chance of 1 in 2^32.
    """
    key = quoted(table.counted_key or "")
    query = (
        f"SELECT {key} DIV {keys_per_bucket} AS bucket, COUNT(*),"  # noqa: S608
        f" SUM(CRC32({source.line(table.line)})) FROM {quoted(table.name)} GROUP BY bucket"
    )
    return buckets_of(keys_per_bucket, source.rows(query))


class Tally:
    """What `source_rows` would say of lines that pass through: `table.line`, the key first."""

    def __init__(self, keys_per_bucket: int) -> None:
        self._width = keys_per_bucket
        self._figures: dict[int, Figures] = {}

    def add(self, lines: Sequence[bytes]) -> None:
        """Count lines; keys in ascending order, as rows mostly lie, are counted by the slice."""
        keys = [int(line.partition(b",")[0]) for line in lines]
        checksums = list(map(zlib.crc32, lines))
        if keys and keys[0] >= 0 and keys == sorted(keys):
            start = 0
            while start < len(keys):
                bucket = keys[start] // self._width
                end = bisect_left(keys, (bucket + 1) * self._width, start)
                self._count(bucket, end - start, sum(checksums[start:end]))
                start = end
            return
        for key, checksum in zip(keys, checksums, strict=True):
            bucket = key // self._width if key >= 0 else -(-key // self._width)
            self._count(bucket, 1, checksum)

    def _count(self, bucket: int, rows: int, checksum: int) -> None:
        before = self._figures.get(bucket, (0, 0))
        self._figures[bucket] = (before[0] + rows, before[1] + checksum)

    @property
    def buckets(self) -> Buckets:
        """Of all lines so far."""
        return Buckets(self._width, self._figures)


def moved(told: Buckets, before: Buckets) -> float:
    """Share of the rows that lie in buckets which were others before; of one width, both."""
    rows = sum(told.figures[b][0] for b in differing(told, before) if b in told.figures)
    return rows / told.rows if rows else 0.0


def differing(left: Buckets, right: Buckets) -> list[int]:
    """Buckets whose figures are not the same on both sides, ascending."""
    names = left.figures.keys() | right.figures.keys()
    return sorted(b for b in names if left.figures.get(b) != right.figures.get(b))


def ranges(buckets: Sequence[int], keys_per_bucket: int) -> list[tuple[int, int]]:
    """The keys of `buckets` (ascending) as inclusive ranges, neighbours joined."""
    found: list[tuple[int, int]] = []
    for bucket in buckets:
        # Both servers divide towards zero: bucket 0 has keys on either side of it.
        low = bucket * keys_per_bucket - (keys_per_bucket - 1 if bucket <= 0 else 0)
        high = bucket * keys_per_bucket + (keys_per_bucket - 1 if bucket >= 0 else 0)
        if found and found[-1][1] + 1 == low:
            low = found.pop()[0]
        found.append((low, high))
    return found


def buckets_of(keys_per_bucket: int, rows: Iterable[tuple[Any, ...]]) -> Buckets:
    """Figures as a server lists them: the bucket, then whole numbers."""
    return Buckets(keys_per_bucket, {int(b): tuple(map(int, figures)) for b, *figures in rows})

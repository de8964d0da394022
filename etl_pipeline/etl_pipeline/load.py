"""One table from the source into raw: stage, reconcile, merge, all or nothing.

A first load copies straight into the new table. Every other load stages first and then, in one
short transaction, changes only what differs, so `_loaded_at` means "changed at" and readers see
the old rows until the commit. The watermark and the run's row of the table commit with the data:
a crash at any point leaves the table as it was, and the next run reads the same rows again.

Deletes: OpenDental deletes rows for good in daily use and no stamp tells. So an incremental load
also compares the number of rows and, where that differs, the set of keys: after the rows, for a row
that is inserted in between must not look deleted. By figures for each thousand keys where the key
is a number, so that only the keys of buckets that differ travel; else by the list of all keys. Keys
that raw lacks although their stamp is old (restored rows, a clock that stepped) show up by the same
comparison and are read by key.

Without a stamp, a checksum of each bucket's rows, kept from the last load, tells which to read. It
is asked for before the rows are: a row that changes in between is read, and read again next time.
Where all rows are read it is not asked for, but added up from the lines themselves. So it is in the
night after one in which most buckets had moved, for the answer is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from psycopg2 import sql

from etl_pipeline import digests
from etl_pipeline.digests import Buckets, Tally
from etl_pipeline.plan import SCAN_FROM, TablePlan, Watermark
from etl_pipeline.raw import Raw, names
from etl_pipeline.source import Source
from etl_pipeline.staging import EVERYTHING, Condition, Ranges, Stage
from etl_pipeline.target import Cursor, Target
from etl_pipeline.tracking import (
    TableResult,
    buckets,
    forget,
    forget_state,
    record_table,
    save_buckets,
    save_state,
    save_watermark,
)
from etl_pipeline.types import quoted

_STAGE = Stage.rows
_KEYS = sql.Identifier("pg_temp", "stage_keys")
_KEYS_PER_READ = 500
# Above this many forgotten rows (raw was emptied by hand, say), one full read is faster.
_FORGOTTEN_LIMIT = 20_000
# dbt reads raw minutes after the load, autovacuum may come later: above this share of rows changed
# the planner is told at once. Not always, because ANALYZE costs far more than a small merge.
_NOTABLE_CHANGE = 0.1


class Load:
    """One load of one table.

    Args:
        known: the watermark of the last load.
        has_read: called when `source` is not needed any more, for somebody else to have it.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        plan: TablePlan,
        run_id: str,
        known: Watermark | None,
        has_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.source = source
        self.target = target
        self.plan = plan
        self.run_id = run_id
        self.known = known
        self.has_read = has_read
        self.table = plan.table
        self.started = time.monotonic()
        source.longest_read = self.longest_read = 0.0
        self.started_at = datetime.now(UTC)
        self.stage = Stage(source, target, plan.table)
        self.raw = Raw(target, self.stage, plan.table)
        self.new_stamp: str | None = None
        # What the rows of each bucket were at the source, now and last time; of one width.
        self.told: Buckets | None = None
        self.told_before: Buckets | None = None
        # Rows of raw before the merge; None = not counted.
        self.raw_rows: int | None = None
        # How many of the staged rows raw lacks, as far as has been looked; None = not at all.
        self.new_rows: int | None = None
        # Ranges of keys outside of which nothing is deleted; None = of the whole table.
        self.ranges: Ranges = None
        self.present = _STAGE

    def run(self) -> TableResult:
        """Bring raw to the state of the source and commit, with bookkeeping."""
        if self.plan.create:
            return self._first_load()
        if self.plan.new_columns or self.plan.removed or self.plan.widened:
            self._alter()
        self.stage.prepare()
        if self.plan.action == "incremental":
            self._stage_rows((f"WHERE {quoted(self.table.stamp or '')} >= %s", [self.plan.since]))
            if self._lost_nothing():
                self.ranges = []
            else:
                self._stage_keys()
                self._stage_forgotten()
        elif self.plan.action == "buckets" and self._ranges_to_read():
            self._stage_rows(*self.stage.conditions(self.ranges))
        else:
            tally = self._tally()
            self._stage_rows(EVERYTHING, tally=tally)
            self.told = tally and tally.buckets
        self._leave_source()
        return self._merge()

    def _first_load(self) -> TableResult:
        tally = self._tally()
        with self.target.transaction() as cursor:
            self.raw.create(cursor)
            self.stage.copy(cursor, self.raw.name, freeze=True, tally=tally)
            self.told = tally and tally.buckets
            self._leave_source()
            self.raw.add_key(cursor)
            stamp = self._largest_stamp(cursor, self.raw.name)
            rows = self.stage.rows_read
            result = self._record(cursor, rows, rows, stamp)
        self.target.analyze(self.table.name)
        return result

    def _leave_source(self) -> None:
        self.longest_read = self.source.longest_read
        self.has_read()

    def _tally(self) -> Tally | None:
        """Counts the rows of a table that is read as a whole, if another run wants to know."""
        if not self.plan.by_buckets:
            return None
        return Tally(self._bucket_width())

    def _bucket_width(self) -> int:
        """Keys per bucket: as the last time while it fits, for with another nothing could be
        compared; sets `told_before`.
        """
        with self.target.transaction() as cursor:
            before = buckets(cursor, self.table.name)
        width = digests.width(self.source, self.table)
        if before is None or width > 4 * before.width or before.width > 4 * width:
            return width
        self.told_before = before
        return before.width

    def _ranges_to_read(self) -> bool:
        """Whether reading the buckets that changed is worth more than a scan; sets `ranges`."""
        self._bucket_width()
        before = self.told_before
        if before is None:
            return False
        with ThreadPoolExecutor(1) as other, self.target.transaction() as cursor:
            asked = other.submit(digests.source_rows, self.source, self.table, before.width)
            held = digests.raw_counts(cursor, self.table, self.raw.name, before.width)
            told = asked.result()
        changed = set(digests.differing(told, before))
        # Raw may have lost or won rows by another hand than ours.
        changed |= {b for b in held.keys() | told.figures.keys()
                    if held.get(b, 0) != told.figures.get(b, (0,))[0]}  # fmt: skip
        rows = sum(told.figures[b][0] for b in changed if b in told.figures)
        if rows > told.rows * SCAN_FROM:
            return False
        self.told = told
        self.raw_rows = sum(held.values())
        self.ranges = digests.ranges(sorted(changed), told.width)
        return True

    def _alter(self) -> None:
        """Make raw wide enough for what the source has now; all rows are read after that."""
        with self.target.transaction() as cursor:
            self.raw.alter(cursor, self.plan)
            # A crash from here on must not leave old rows without the new values for ever.
            forget(cursor, self.table.name)
        self.known = None

    def _stage_rows(self, *conditions: Condition, tally: Tally | None = None) -> None:
        self.stage.read(conditions, tally)
        # Of these rows and not of any that is read later: what happened before that may be unread.
        with self.target.transaction() as cursor:
            self.new_stamp = self._largest_stamp(cursor, _STAGE)

    def _lost_nothing(self) -> bool:
        """Whether the source has as many rows as raw will have, where such counts are believed.

        A row that was deleted and one that came back under an old stamp hide each other until the
        table's own night, or until it is verified.
        """
        if self.plan.raw_rows is None:
            return False
        query = f"SELECT COUNT(*) FROM {quoted(self.table.name)}"  # noqa: S608 - quoted
        new = self.source.rows(query)[0][0] - self.plan.raw_rows
        with self.target.transaction() as cursor:
            self.raw.choose_joins(cursor)
            if new not in (cursor.rows(staged)[0][0] for staged in self.raw.lacking()):
                return False
        self.raw_rows, self.new_rows = self.plan.raw_rows, new
        return True

    def _stage_keys(self) -> None:
        """List the keys at the source, of those buckets alone that have other keys than raw."""
        if self.table.counted_key is not None:
            self._compare_keys()
        key = self.table.key_columns
        with self.target.transaction() as cursor:
            cursor.run(
                sql.SQL("create temp table stage_keys as select {} from {} with no data").format(
                    names(self.table.primary_key), self.raw.name
                )
            )
            listed = Stage(self.source, self.target, self.table)
            for condition in listed.conditions(self.ranges):
                listed.copy(cursor, _KEYS, condition, columns=key)
            cursor.run("analyze pg_temp.stage_keys")
        self.present = _KEYS

    def _compare_keys(self) -> None:
        width = digests.width(self.source, self.table)
        # Both servers count at the same time.
        with ThreadPoolExecutor(1) as other, self.target.transaction() as cursor:
            asked = other.submit(digests.source_keys, self.source, self.table, width)
            raw = digests.raw_keys(cursor, self.table, self.raw.name, _STAGE, width)
            source = asked.result()
        other_keys = digests.differing(source, raw)
        if len(other_keys) <= len(source.figures) * SCAN_FROM or not source.figures:
            self.ranges = digests.ranges(other_keys, width)

    def _stage_forgotten(self) -> None:
        """Read by key what the source has, raw has not, and no stamp announced."""
        with self.target.transaction() as cursor:
            self.raw.choose_joins(cursor)
            forgotten = cursor.rows(
                sql.SQL(
                    "select {} from {} as k where not exists (select 1 from {} as r where {})"
                    " and not exists (select 1 from {} as s where {})"
                ).format(
                    names(self.table.primary_key, "k"),
                    _KEYS,
                    self.raw.name,
                    self.stage.same_key("r", "k"),
                    _STAGE,
                    self.stage.same_key("s", "k"),
                )
            )
            if len(forgotten) > _FORGOTTEN_LIMIT:
                cursor.run("truncate pg_temp.stage")
                self.stage.copy(cursor, _STAGE, EVERYTHING)
                self.present, self.ranges = _STAGE, None
                return
            key = f"({', '.join(quoted(k) for k in self.table.primary_key)})"
            for part in _parts(forgotten):
                holes = f"({', '.join(['%s'] * len(self.table.primary_key))})"
                where = f"WHERE {key} IN ({', '.join([holes] * len(part))})"
                args = [value for row in part for value in row]
                self.stage.copy(cursor, _STAGE, (where, args))

    def _merge(self) -> TableResult:
        with self.target.transaction() as cursor:
            if self.present is _STAGE and self.ranges is None:
                deleted, updated, inserted = self.raw.replace(cursor)
            else:
                self.raw.choose_joins(cursor)
                deleted = self.raw.delete(cursor, self.present, self.ranges)
                # Most of what an increment stages is there already.
                updated = self.raw.update(cursor, consume=self.plan.action == "incremental")
                inserted = self.raw.insert(cursor)
            if self.raw_rows is None:
                # A person may have changed raw since the last load.
                rows = self.raw.count(cursor)
            else:
                rows = self.raw_rows - deleted + inserted
            self.stage.drop(cursor)
            written = deleted + updated + inserted
            result = self._record(cursor, written, rows, self.new_stamp)
            if self.new_rows not in (None, inserted):
                forget_state(cursor, self.table.name)
        if written > rows * _NOTABLE_CHANGE:
            self.target.analyze(self.table.name)
        return result

    def _largest_stamp(self, cursor: Cursor, where: sql.Composable) -> str | None:
        """The largest stamp that was read, never below the known one, never in the future.

        By the source's clock: one row that was stamped while its clock was ahead would hide all
        later changes until then.
        """
        if self.table.stamp is None:
            return None
        known = sql.SQL("true")
        if self.table.vouched is not None and self.table.facts is not None:
            # An application may write a day in the future, behind which no change would be seen.
            known = sql.SQL("{} < {}::timestamp + interval '1 day'").format(
                sql.Identifier(self.table.stamp), sql.Literal(self.table.facts.as_of.isoformat(" "))
            )
        value = cursor.rows(
            sql.SQL("select to_char(max({}), 'YYYY-MM-DD HH24:MI:SS.US') from {} where {}").format(
                sql.Identifier(self.table.stamp), where, known
            )
        )[0][0]
        # ISO text of one length sorts as time does.
        value = max(filter(None, [value, self.known and self.known.value]), default=None)
        if value is None or self.table.facts is None:
            return value
        return min(value, f"{self.table.facts.as_of:%Y-%m-%d %H:%M:%S.%f}")

    def _lag(self, stamp: str | None) -> float | None:
        facts = self.table.facts
        # What an application sets is no moment but what a clock on a wall showed.
        if stamp is None or facts is None or self.table.vouched is not None:
            return None
        return (facts.as_of - datetime.fromisoformat(stamp)).total_seconds()

    def _moved(self) -> float:
        if self.told is None or self.told_before is None:
            return 0.0
        return digests.moved(self.told, self.told_before)

    def _record(self, cursor: Cursor, written: int, rows: int, stamp: str | None) -> TableResult:
        name = self.table.name
        if stamp is not None and self.table.stamp is not None:
            save_watermark(cursor, name, Watermark(self.table.stamp, stamp), self.run_id)
        if self.told is not None:
            save_buckets(cursor, name, self.told_before, self.told)
        else:
            # A person may change the strategy: figures of another night would hide what came since.
            cursor.run("delete from etl.buckets where table_name = %s", [name])
        if self.table.facts is not None:
            raw = self.raw.text(cursor)
            save_state(cursor, name, self.table.facts, raw, rows, self._moved(), self.run_id)
        result = TableResult(
            table=name,
            strategy=self.plan.action,
            rows_read=self.stage.rows_read,
            rows_written=written,
            rows_after=rows,
            bytes=self.stage.bytes,
            seconds=round(time.monotonic() - self.started, 3),
            watermark=stamp,
            longest_read=round(self.longest_read, 3),
            lag=self._lag(stamp),
        )
        record_table(cursor, self.run_id, result, self.started_at)
        return result


def _parts(keys: list[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    for start in range(0, len(keys), _KEYS_PER_READ):
        yield keys[start : start + _KEYS_PER_READ]

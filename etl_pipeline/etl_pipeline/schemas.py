"""The history of the source's schema: `etl.schemas`, a line for each schema that was seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2
import pymysql

from etl_pipeline import commands, inventory, overrides, schema
from etl_pipeline.catalog import Table
from etl_pipeline.errors import describe
from etl_pipeline.lineage import Lineage
from etl_pipeline.schema import Change, Snapshot
from etl_pipeline.settings import Settings
from etl_pipeline.source import Source
from etl_pipeline.target import Cursor, Target


@dataclass(frozen=True)
class Diff:
    """The source's schema beside the newest that was kept.

    Attributes:
        since: when that one was taken, ISO 8601 in UTC; None where none was kept yet.
        changes: none where `since` is None: there is nothing to compare with.
        wrote: the file that a refresh wrote.
    """

    opendental_version: str | None
    since: str | None
    changes: tuple[Change, ...]
    wrote: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "opendental_version": self.opendental_version,
            "since": self.since,
            "changes": [c.to_dict() for c in self.changes],
            "wrote": self.wrote,
        }

    def to_text(self) -> str:
        if self.since is None and self.wrote is None:
            command = commands.etl("schema refresh")
            return f"no schema is kept yet: the next run keeps one, or `{command}`"
        if self.since is None:
            lines = ["the first schema that is kept"]
        else:
            lines = [c.text for c in self.changes] or [
                f"no change since {self.since[:19]} UTC; before: `{commands.etl('schema history')}`"
            ]
        return "\n".join([*lines, *([f"wrote {self.wrote}"] if self.wrote else [])])


@dataclass(frozen=True)
class Seen:
    """A schema that was kept, and what made it another than the one before.

    Attributes:
        taken_at: ISO 8601 in UTC.
        run_id: the run that found it; None for a refresh by hand.
        changes: None for the first.
    """

    taken_at: str
    run_id: str | None
    opendental_version: str | None
    digest: str
    changes: tuple[Change, ...] | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "taken_at": self.taken_at,
            "run_id": self.run_id,
            "opendental_version": self.opendental_version,
            "digest": self.digest,
            "changes": None if self.changes is None else [c.to_dict() for c in self.changes],
        }

    def to_text(self) -> str:
        version = f", OpenDental {self.opendental_version}" if self.opendental_version else ""
        by = f"run {self.run_id}" if self.run_id else "refresh"
        told = ["the first"] if self.changes is None else [c.text for c in self.changes]
        return "\n".join([f"{self.taken_at[:19]} UTC, {by}{version}", *(f"  {t}" for t in told)])


def diff(settings: Settings) -> Diff:
    """What changed at the source since its schema was kept last; changes nothing.

    Raises:
        PipelineError: a database cannot be reached.
    """
    try:
        with Source(settings.source) as source, Target(settings.analytics) as target:
            newest = None
            if target.prepared("schemas"):
                with target.transaction() as cursor:
                    newest = _newest(cursor)
            return Diff(
                source.opendental_version(),
                newest and newest[0].isoformat(),
                _changes(newest, schema.snapshot(source.tables())),
            )
    except (psycopg2.Error, pymysql.MySQLError) as error:
        raise describe(error) from None


def refresh(settings: Settings, path: Path) -> Diff:
    """Keep the source's schema as it is, and write what is known of each table to `path`.

    Raises:
        PipelineError: a database cannot be reached, `path` cannot be written or is another's file,
            or overrides.yml cannot be read.
    """
    try:
        with Source(settings.source) as source, Target(settings.analytics) as target:
            tables = source.tables()
            version = source.opendental_version()
            wished = overrides.read(settings.overrides).applied(tables)
            inventory.write(path, wished)
            target.prepare()
            since, changes = _keep(target, tables, version, None)
            return Diff(version, since, changes, str(path))
    except (psycopg2.Error, pymysql.MySQLError) as error:
        raise describe(error) from None


def history(settings: Settings, limit: int) -> tuple[Seen, ...]:
    """The last `limit` schemas that were kept, the newest first.

    Raises:
        PipelineError: the analytics database cannot be reached.
    """
    with Target(settings.analytics) as target:
        if not target.prepared("schemas"):
            return ()
        found = target.rows(
            "select taken_at, run_id, opendental_version, digest, tables from etl.schemas"
            " order by taken_at desc limit %s",
            [limit + 1],
        )
    before: list[Snapshot | None] = [*(row[4] for row in found[1:]), None]
    return tuple(
        Seen(
            taken_at.isoformat(),
            run_id,
            version,
            digest,
            None if old is None else schema.changes(old, tables),
        )
        for (taken_at, run_id, version, digest, tables), old in zip(found, before, strict=True)
    )[:limit]


def keep(
    target: Target, tables: Sequence[Table], version: str | None, run_id: str
) -> tuple[Change, ...]:
    """Keep the schema that a run has found, if it is another, with what changed.

    Args:
        tables: as the source describes them, before any override.
    """
    return _keep(target, tables, version, run_id)[1]


def _keep(
    target: Target, tables: Sequence[Table], version: str | None, run_id: str | None
) -> tuple[str | None, tuple[Change, ...]]:
    found = schema.snapshot(tables)
    digest = schema.digest(found)
    with target.transaction() as cursor:
        # A run and a refresh at once would both add a line; readers do not wait.
        cursor.run("lock table etl.schemas in share row exclusive mode")
        newest = _newest(cursor)
        since = newest and newest[0].isoformat()
        if newest is not None and newest[1] == digest:
            return since, ()
        changes = _changes(newest, found)
        cursor.run(
            "insert into etl.schemas (run_id, opendental_version, digest, tables)"
            " values (%s, %s, %s, %s)",
            [run_id, version, digest, json.dumps(found)],
        )
        if changes:
            # Appended: a second try of a run must not lose what the first has seen.
            cursor.run(
                "update etl.runs set schema_changes = coalesce(schema_changes, '[]') || %s::jsonb"
                " where run_id = %s",
                [json.dumps([c.text for c in changes]), run_id],
            )
        return since, changes


def _newest(cursor: Cursor) -> tuple[datetime, str, Snapshot] | None:
    found = cursor.rows(
        "select taken_at, digest, tables from etl.schemas order by taken_at desc limit 1"
    )
    return found[0] if found else None


def _changes(newest: tuple[datetime, str, Snapshot] | None, found: Snapshot) -> tuple[Change, ...]:
    if newest is None:
        return ()
    return Lineage.here().touched(schema.changes(newest[2], found))

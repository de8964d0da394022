"""What `test-connections` and the night's first task look at: both databases, rights, versions."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg2
import pymysql

from etl_pipeline import overrides
from etl_pipeline.catalog import Table
from etl_pipeline.errors import PipelineError, Refused, describe
from etl_pipeline.settings import Settings
from etl_pipeline.source import Source
from etl_pipeline.target import Target


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: ok, warning or error.
        lasting: for an error, whether a person has to mend it: another try ends the same.
    """

    level: str
    message: str
    hint: str = ""
    lasting: bool = False


@dataclass(frozen=True)
class Validation:
    """What `check` found out; versions are None where they could not be read."""

    findings: tuple[Finding, ...]
    source_version: str | None = None
    opendental_version: str | None = None

    @property
    def ok(self) -> bool:
        return all(f.level != "error" for f in self.findings)

    @property
    def lasting(self) -> bool:
        """Whether one of its errors is there until a person has mended it."""
        return any(f.level == "error" and f.lasting for f in self.findings)

    @property
    def error(self) -> PipelineError | None:
        """Every finding that is an error, as one."""
        errors = [f for f in self.findings if f.level == "error"]
        if not errors:
            return None
        return PipelineError(
            "; ".join(f.message for f in errors), "; ".join(f.hint for f in errors if f.hint)
        )

    def required(self) -> Validation:
        """Itself. Raises PipelineError with every finding that is an error."""
        if self.error is not None:
            raise self.error
        return self

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"findings": [asdict(f) for f in self.findings], "ok": self.ok}


def check(settings: Settings) -> Validation:
    """Connect to both sides and look at rights and versions; raises nothing of its own."""
    source = check_source(settings)
    analytics = check_analytics(settings)
    return replace(source, findings=source.findings + analytics.findings)


def check_source(settings: Settings, *, tables: Sequence[str] = ()) -> Validation:
    """`check` of the source alone; `tables` are those that have to be readable."""
    findings: list[Finding] = []
    versions: tuple[str | None, str | None] = (None, None)
    try:
        with Source(settings.source) as source:
            versions = (source.server_version(), source.opendental_version())
            opendental = f", OpenDental {versions[1]}" if versions[1] else ""
            findings.append(Finding("ok", f"source: MySQL protocol {versions[0]}{opendental}"))
            findings.append(_read_only(source.write_privileges(), settings))
            found = source.tables()
            count = sum(1 for table in found if table.primary_key)
            findings.append(Finding("ok", f"source: {count} tables with a primary key"))
            if lacking := source.unreadable(tables):
                findings.append(_no_select(lacking, settings))
            findings += _overrides(settings, found)
    except (PipelineError, pymysql.MySQLError) as error:
        findings.append(_finding(error))
    return Validation(tuple(findings), *versions)


def check_analytics(settings: Settings, *, schemas: Sequence[str] = ()) -> Validation:
    """`check` of the analytics database alone; `schemas` are others that have to be writable."""
    try:
        with Target(settings.analytics) as target:
            return Validation((_writable(target, settings, schemas),))
    except (PipelineError, psycopg2.Error) as error:
        return Validation((_finding(error),))


def _read_only(privileges: tuple[str, ...], settings: Settings) -> Finding:
    if not privileges:
        return Finding("ok", "source: the account can only read")
    level = "error" if settings.environment == "clinic" else "warning"
    return Finding(
        level,
        f"source: the account {settings.source.user} may write ({', '.join(privileges)})",
        f"use an account with only: grant select on {settings.source.database}.* to …",
        lasting=True,
    )


def _overrides(settings: Settings, tables: Sequence[Table]) -> list[Finding]:
    try:
        read = overrides.read(settings.overrides)
    except PipelineError as error:
        return [replace(_finding(error), lasting=True)]
    found = [
        Finding("warning", f"{table.mistake}", f"{overrides.HINT}; until then it is not loaded")
        for table in read.applied(tables)
        if table.mistake is not None
    ]
    for name in read.unknown(tables):
        # A misspelt one would be copied although a person has said otherwise.
        like = difflib.get_close_matches(name, [t.name for t in tables], n=1)
        found.append(
            Finding(
                "warning",
                f"{settings.overrides}: {name}: the source has no such table",
                f"is it {like[0]}?" if like else "remove it, if the table is gone for good",
            )
        )
    return found


def _no_select(tables: Sequence[str], settings: Settings) -> Finding:
    source = settings.source
    return Finding(
        "error",
        f"source: {source.user} cannot read {', '.join(tables)} of {source.database}",
        f"grant select on {source.database}.* to that account; where the tables are not there,"
        " it is another database or an older OpenDental",
        lasting=True,
    )


def _writable(target: Target, settings: Settings, more: Sequence[str]) -> Finding:
    analytics = settings.analytics
    schemas = list(dict.fromkeys([analytics.schema, "etl", *more]))
    version = target.rows("show server_version")[0][0].split()[0]
    refused = target.rows(
        """
        select s from unnest(%s) as s where not coalesce(
            has_schema_privilege(to_regnamespace(quote_ident(s))::oid, 'create'),
            has_database_privilege(current_database(), 'create')
        )
        """,
        [schemas],
    )
    if not refused:
        return Finding("ok", f"analytics: Postgres {version}, writable")
    return Finding(
        "error",
        f"analytics: {analytics.user} may not create in schemas"
        f" {', '.join(row[0] for row in refused)}",
        f"grant create on database {analytics.database} to {analytics.user};"
        " a schema that is there has to be its own",
        lasting=True,
    )


def _finding(error: BaseException) -> Finding:
    safe = describe(error)
    return Finding("error", safe.message, safe.hint, lasting=isinstance(safe, Refused))

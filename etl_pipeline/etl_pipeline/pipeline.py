"""The public calls: check, plan, run, verify, report, status. Used by the DAG and the CLI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from etl_pipeline import overrides, running, schemas, tracking
from etl_pipeline import plan as planning
from etl_pipeline import report as reporting
from etl_pipeline import verify as verifying
from etl_pipeline.catalog import Table
from etl_pipeline.checks import check, check_analytics, check_source
from etl_pipeline.errors import PipelineError, describe, described
from etl_pipeline.lineage import Lineage
from etl_pipeline.plan import TablePlan
from etl_pipeline.progress import Progress
from etl_pipeline.report import RunReport, Status
from etl_pipeline.settings import Settings
from etl_pipeline.source import Source
from etl_pipeline.target import Target
from etl_pipeline.tracking import TableResult
from etl_pipeline.verify import Verification

__all__ = [
    "RunResult",
    "check",
    "check_analytics",
    "check_source",
    "last_run_id",
    "observe_plan",
    "report",
    "run",
    "status",
    "verify",
]


@dataclass(frozen=True)
class RunResult:
    """What a run did; a table that failed carries its error.

    Attributes:
        lasting: something failed, and another try tonight ends the same: a person has to mend the
            tables, or the window is over.
    """

    run_id: str
    tables: tuple[TableResult, ...]
    lasting: bool = False

    @property
    def ok(self) -> bool:
        return all(t.ok for t in self.tables)

    @property
    def error(self) -> str | None:
        """How many tables failed, and the first one's reason; None when all are loaded."""
        failed = [t for t in self.tables if t.error is not None]
        if not failed:
            return None
        said, _, hint = (failed[0].error or "").partition("; hint: ")
        told = f"{len(failed)} of {len(self.tables)} tables failed: {said}"
        return f"{told}\nhint: {hint}" if hint else told

    @property
    def rows(self) -> int:
        return sum(t.rows_written for t in self.tables)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "ok": self.ok,
            "rows": self.rows,
            "tables": [t.to_dict() for t in self.tables],
        }


@described
def observe_plan(
    settings: Settings, *, tables: Sequence[str] | None = None, full: bool = False
) -> tuple[TablePlan, ...]:
    """What `run` would do, from both databases as they are; changes nothing.

    Raises:
        PipelineError: a database cannot be reached, or `tables` names what cannot be loaded.
    """
    with Source(settings.source) as source, Target(settings.analytics) as target:
        return _plan(settings, source, target, tables, full)


@described
def run(
    settings: Settings,
    *,
    run_id: str,
    tables: Sequence[str] | None = None,
    full: bool = False,
    connections: int = running.CONNECTIONS,
    until: datetime | None = None,
    guard: Mapping[str, Any] | None = None,
    log: Callable[[str], None],
    progress: Progress | None = None,
) -> RunResult:
    """Bring raw to the state of the source, table by table.

    The same `run_id` again continues a run that failed: what it has loaded is not loaded again.
    A table that fails is recorded, and the others go on.

    Args:
        tables: names; None = all that no rule excludes.
        connections: tables that are read at once.
        until: when the source has to be left, aware; what is not loaded by then has failed, and is
            what the next run begins with. None = no end.
        guard: the decision that allowed this run, kept with it.
        log: receives a line for each table (counts and names, no values).
        progress: told how far the run is.

    Raises:
        Busy: another run is at work.
        PipelineError: nothing could be loaded, or the analytics database was lost.
    """
    with Target(settings.analytics) as target:
        target.prepare()
        target.lock()
        done = tracking.start_run(target, run_id, settings.environment, full, guard)
        try:
            results, blocked = _run_tables(
                settings, target, run_id, tables, full, connections, until, done, log, progress
            )
        except Exception as error:
            safe = describe(error)
            if target.connection.closed == 0:
                tracking.finish_run(target, run_id, safe.message)
            raise safe from None
        failed = [r.table for r in results if not r.ok]
        told = f"{len(failed)} of {len(results)} tables failed: {', '.join(failed)}"
        tracking.finish_run(target, run_id, told if failed else None)
        over = until is not None and until <= datetime.now(UTC)
        return RunResult(run_id, results, bool(failed) and (over or blocked.issuperset(failed)))


@described
def verify(settings: Settings, *, run_id: str, progress: Progress | None = None) -> Verification:
    """Compare every loadable table with the source, and keep the outcome with the run.

    `progress` is told how far it is.

    Raises:
        PipelineError: a database cannot be reached.
    """
    with Source(settings.source) as source, Target(settings.analytics) as target:
        target.prepare()
        began_at = target.rows("select clock_timestamp()")[0][0]
        known = tracking.knowledge(target)
        raw = target.raw_tables()
        checks = []
        plans = [p for p in _plan(settings, source, target, None, False) if p.action != "excluded"]
        progress = progress or Progress()
        progress.expect({p.table.name: p.table.estimated_rows for p in plans})
        for item in plans:
            name = item.table.name
            progress.begin(name)
            altered = item.new_columns or item.widened or item.removed
            if name not in raw:
                checks.append(verifying.TableCheck(name, "missing", 0, 0))
                progress.done(name)
                continue
            if altered or item.action == "blocked":
                why = item.reason if item.action == "blocked" else "its columns are others now"
                checks.append(verifying.TableCheck(name, "uncompared", 0, 0, (why,)))
                progress.done(name)
                continue
            state, mark = known.states.get(name), known.watermarks.get(name)
            proved = item.action == "unchanged" and state is not None and state.verified
            check = verifying.recount(target, item.table, state) if proved and state else None
            if check is None:
                check = verifying.Check(source, target, item.table, mark, state, known.today).run()
                tracking.save_check(target, name, proved=check.outcome == "match")
            if not check.ok:
                # The next run reads all of it: what was believed of it has been proved wrong.
                with target.transaction() as cursor:
                    tracking.forget(cursor, name)
            checks.append(check)
            progress.done(name)
        verification = Verification(run_id, tuple(checks))
        tracking.save_verification(target, run_id, verification.to_dict(), began_at)
        return verification


@described
def report(settings: Settings, *, run_id: str) -> RunReport:
    """The run as recorded.

    Raises:
        PipelineError: there is no such run, or the analytics database cannot be reached.
    """
    with Target(settings.analytics) as target:
        target.prepare()
        return reporting.read_report(target, run_id)


@described
def status(settings: Settings) -> Status:
    """The last run and how fresh each table is."""
    with Target(settings.analytics) as target:
        if not target.prepared():
            return Status(None, 0, ())
        target.upgrade()
        return reporting.read_status(target)


@described
def last_run_id(settings: Settings) -> str | None:
    with Target(settings.analytics) as target:
        return reporting.last_run_id(target) if target.prepared() else None


def _plan(
    settings: Settings, source: Source, target: Target, only: Sequence[str] | None, full: bool
) -> tuple[TablePlan, ...]:
    tables = overrides.read(settings.overrides).applied(source.tables())
    return _planned(target, tables, tracking.knowledge(target), only, full)


def _planned(
    target: Target,
    tables: Sequence[Table],
    known: planning.Knowledge,
    only: Sequence[str] | None,
    full: bool,
) -> tuple[TablePlan, ...]:
    plans = planning.plan(
        tables, target.raw_tables(), known, only=only, full=full, schema=target.schema
    )
    lineage = Lineage.here() if any(p.column for p in plans) else Lineage()
    return tuple(lineage.explained(p) for p in plans)


def _run_tables(
    settings: Settings,
    target: Target,
    run_id: str,
    only: Sequence[str] | None,
    full: bool,
    connections: int,
    until: datetime | None,
    loaded: frozenset[str],
    log: Callable[[str], None],
    progress: Progress | None,
) -> tuple[tuple[TableResult, ...], frozenset[str]]:
    """The result of each table by name, and the names of those that were not even begun."""
    known = tracking.knowledge(target)
    with Source(settings.source) as source:
        tables = source.tables()
        for change in schemas.keep(target, tables, source.opendental_version(), run_id):
            log(f"schema: {change.text}")
    wished = overrides.read(settings.overrides)
    for name in wished.unknown(tables):
        log(f"warning: {settings.overrides}: {name}: the source has no such table")
    plans = _planned(target, wished.applied(tables), known, only, full)
    plans = tuple(p for p in plans if p.action != "excluded" and p.table.name not in loaded)
    if loaded:
        log(f"continuing run {run_id}: {len(loaded)} tables are loaded already")
    same = {p.table.name: known.states[p.table.name] for p in plans if p.action == "unchanged"}
    results = tracking.record_unchanged(target, run_id, same)
    if same:
        log(f"{len(same)} of {len(plans)} tables are unchanged: not written since they were read")

    def done(result: TableResult) -> None:
        results.append(result)
        log(f"[{len(results)}/{len(plans)}] {_line(result)}")

    blocked = [p for p in plans if p.action == "blocked"]
    for item in blocked:
        error = PipelineError(item.reason, item.hint)
        done(running.record_failure(target, item, run_id, error))
    loads = [p for p in plans if p.loads]
    if progress is not None:
        progress.expect({p.table.name: p.table.estimated_rows for p in loads})
    running.load_tables(
        settings,
        loads,
        known.watermarks,
        run_id,
        connections=connections,
        until=until,
        progress=progress,
        done=done,
    )
    return (
        tuple(sorted(results, key=lambda r: r.table)),
        frozenset(p.table.name for p in blocked),
    )


def _line(result: TableResult) -> str:
    if not result.ok:
        return f"{result.table}: failed: {result.error}"
    return (
        f"{result.table}: {result.strategy}, {result.rows_read} rows read,"
        f" {result.rows_written} written, {result.seconds:.2f} s"
    )

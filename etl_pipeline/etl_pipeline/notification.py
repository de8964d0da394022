"""One judgement of a run, and the text that states it. Pure; knows nothing of Airflow.

`judge` decides; `compose_message` words what `judge` decided; the run's colour follows the same
judgement. A message can therefore not say SUCCESS over a run that is red. Text is made of names,
states, counts, durations and the package's own errors: no driver's words, which quote values of
rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from etl_pipeline.verify import OK_OUTCOMES

NAMES_SHOWN = 5
_NOT_RUN = frozenset({None, "upstream_failed", "skipped", "removed"})
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class Verdict(StrEnum):
    """What is said of a run."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    WAITING = "WAITING"


@dataclass(frozen=True)
class TaskState:
    """One task of a run: Airflow's state name (or `None`), seconds of its last try, tries so
    far.
    """

    task_id: str
    state: str | None
    seconds: float | None = None
    tries: int = 1


@dataclass(frozen=True)
class RunFacts:
    """All that a message may be made of.

    `tasks` are the tasks that must be good, in their order. `results` maps a task id to what the
    task left as its evidence: `{"ok": bool, "result": {…}}`. `ended_by` names what ended the run
    from outside (`timed_out`, …).
    """

    dag_id: str
    run_id: str
    run_type: str
    environment: str
    dbt_target: str
    tasks: Sequence[TaskState]
    results: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    link: str = ""
    ended_by: str | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict, the task that is the cause of a bad one, and every reason against a good one."""

    verdict: Verdict
    failed_at: str | None
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the run may be green."""
        return self.verdict is Verdict.SUCCESS


def judge(facts: RunFacts) -> Judgement:
    """SUCCESS only if every task ended in success *and* left a result that is ok.

    The second half is the evidence: a task that a person marked as successful has the state, and
    has not done the work.
    """
    if not facts.tasks:
        return Judgement(Verdict.FAILED, None, ("no task was judged",))
    guard = _detail(facts, "guard")
    still_there = any(t.task_id == "guard" and t.state not in _ENDED for t in facts.tasks)
    if still_there and guard.get("outcome") == "waiting" and not facts.ended_by:
        return Judgement(Verdict.WAITING, None, (str(guard.get("reason", "")),))
    reasons: list[str] = [] if facts.ended_by is None else [f"the run was ended: {facts.ended_by}"]
    bad: list[TaskState] = []
    for task in facts.tasks:
        evidence = facts.results.get(task.task_id)
        if task.state != "success":
            bad.append(task)
            reasons.append(f"{task.task_id}: {task.state or 'not run'}")
        elif evidence is None:
            bad.append(task)
            reasons.append(f"{task.task_id}: success without a result (marked by hand?)")
        elif evidence.get("ok") is not True:
            bad.append(task)
            reasons.append(f"{task.task_id}: success, but its result is not ok")
    if not reasons:
        return Judgement(Verdict.SUCCESS, None, ())
    culprit = next((t for t in bad if t.state not in _NOT_RUN), bad[0] if bad else None)
    refused = (
        any(t.task_id == "guard" and t.state == "failed" for t in facts.tasks)
        and guard.get("outcome") == "refused"
    )
    return Judgement(
        Verdict.REFUSED if refused else Verdict.FAILED,
        culprit.task_id if culprit else None,
        tuple(reasons),
    )


def compose_message(facts: RunFacts) -> str:
    """The message of a run: a headline that can be read on a locked telephone, then a line for each
    part of the run.
    """
    judgement = judge(facts)
    headline = f"{judgement.verdict} [{facts.environment}] {facts.dag_id}"
    if judgement.verdict is Verdict.FAILED:
        headline += f" at {judgement.failed_at}" if judgement.failed_at else ""
    lines = [headline, f"run: {facts.run_id} ({facts.run_type})"]
    lines += _ended_lines(facts)
    lines += _guard_lines(facts)
    if judgement.verdict is not Verdict.WAITING:
        lines += (
            _validate_lines(facts) + _load_lines(facts) + _verify_lines(facts) + _dbt_lines(facts)
        )
        if judgement.reasons:
            lines.append("not good: " + "; ".join(judgement.reasons))
        if times := _times(facts):
            lines.append(f"took: {times}")
    if judgement.verdict is Verdict.REFUSED:
        lines.append(
            "to do: trigger it again after the opening, or, with"
            " ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true,"
            " run: cargo xtask nightly --ignore-business-hours"
        )
    if facts.link:
        lines.append(facts.link)
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """`3 s`, `4 min 5 s`, `1 h 2 min`; `?` for nothing."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _detail(facts: RunFacts, task_id: str) -> Mapping[str, Any]:
    evidence = facts.results.get(task_id) or {}
    result = evidence.get("result")
    return result if isinstance(result, Mapping) else {}


def _ended_lines(facts: RunFacts) -> list[str]:
    return [f"ended from outside: {facts.ended_by}"] if facts.ended_by else []


def _guard_lines(facts: RunFacts) -> list[str]:
    guard = _detail(facts, "guard")
    if not guard:
        return []
    line = f"guard: {guard.get('outcome')}, {guard.get('reason')}"
    if waited := guard.get("waited_seconds"):
        line += f"; waited {duration(waited)}"
    return [line]


def _validate_lines(facts: RunFacts) -> list[str]:
    findings = _detail(facts, "validate").get("findings", ())
    return [f"validate: {f['message']}" for f in findings if f.get("level") == "error"]


def _load_lines(facts: RunFacts) -> list[str]:
    # The report knows all of the run; the load's own result knows only what its last try did.
    detail = _detail(facts, "report") or _detail(facts, "extract_load")
    tables = [t for t in detail.get("tables", ()) if isinstance(t, Mapping)]
    if not tables:
        return [f"load: {detail['error']}"] if detail.get("error") else []
    failed = {str(t.get("table")): str(t["error"]) for t in tables if t.get("error")}
    counts = Counter(str(t.get("strategy")) for t in tables if not t.get("error"))
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
    rows = sum(int(t.get("rows_written") or 0) for t in tables)
    line = f"load: {counts.total()} of {len(tables)} tables"
    line += (f" ({kinds})" if kinds else "") + f", {rows:,} rows written"
    changes = [str(change) for change in detail.get("schema_changes") or ()]
    reason = failed[min(failed)].partition("; hint: ")[0] if failed else ""
    return [
        line + (f"; failed: {_names(sorted(failed))}" if failed else ""),
        *([reason] if reason else []),
        *([f"schema of the source: {_names(changes)}"] if changes else []),
    ]


def _verify_lines(facts: RunFacts) -> list[str]:
    verification = _detail(facts, "verify")
    if not verification:
        return []
    tables = [t for t in verification.get("checks", ()) if isinstance(t, Mapping)]
    differ = sorted(str(t.get("table")) for t in tables if t.get("outcome") not in OK_OUTCOMES)
    text = (
        f"{len(tables) - len(differ)} of {len(tables)} tables agree with the source"
        if tables
        else "no table compared"
    )
    return [f"verification: {text}" + (f"; differ: {_names(differ)}" if differ else "")]


def _dbt_lines(facts: RunFacts) -> list[str]:
    dbt = _detail(facts, "dbt_build")
    if not dbt:
        return []
    models, tests = _counts(dbt.get("models")), _counts(dbt.get("tests"))
    line = (
        f"dbt ({facts.dbt_target}): models {models}; tests {tests}; {duration(dbt.get('seconds'))}"
    )
    for how in ("failed", "warned"):
        parts = [str(unique_id).split(".")[2:3] for unique_id in dbt.get(how, ())]
        names = sorted(name for part in parts for name in part)
        line += f"; {how}: {_names(names)}" if names else ""
    return [line]


def _counts(statuses: object) -> str:
    if not isinstance(statuses, Mapping) or not statuses:
        return "none"
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))


def _times(facts: RunFacts) -> str:
    done = [t for t in facts.tasks if t.seconds is not None and t.state not in _NOT_RUN]
    return " · ".join(
        f"{t.task_id} {duration(t.seconds)}" + (f" (try {t.tries})" if t.tries > 1 else "")
        for t in done
    )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"

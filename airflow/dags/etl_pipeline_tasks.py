"""The tasks of `etl_pipeline`: Airflow on one side, the package on the other.

Every task leaves its evidence as its return value, `{"ok": bool, "result": {…}}`, also when it
fails: `notify` believes a state only together with it.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow.configuration import conf
from airflow.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)
from airflow.hooks.base import BaseHook
from airflow.models import DagRun, TaskReschedule, Variable, XCom
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
from airflow.utils import timezone
from airflow.utils.session import create_session
from airflow.utils.state import State
from airflow.utils.types import DagRunType
from airflow.utils.xcom import XCOM_RETURN_KEY

from etl_pipeline import commands, dbt, notification, pipeline, progress, window
from etl_pipeline.errors import Refused, SettingsError
from etl_pipeline.settings import Settings

if TYPE_CHECKING:
    from airflow.utils.context import Context

DAG_ID = "etl_pipeline"
SLACK_CONNECTION = "slack_webhook"
DEFAULT_PROJECT_ROOT = "/opt/airflow/dbt_dental_clinic"
DEFAULT_STATE = "/opt/airflow/state"
RECHECK = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=15, minutes=30)  # 06:00 to 21:00, and some room
DBT_TIMEOUT = timedelta(hours=2)
SLACK_TRIES = 3
ALERTED = "alerted"  # XCom: when the callback told of the run


class HasDict(Protocol):
    """What the package returns: a result that can say itself in JSON types."""

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""


# --- guard ----------------------------------------------------------------------------------------


class BusinessHoursSensor(BaseSensorOperator):
    """Lets a run pass outside business hours; the rule itself is `etl_pipeline.window.decide`.

    It waits in `reschedule` mode: no worker slot, no connection to the clinic. It looks again every
    five minutes, so that an override given meanwhile is seen, and at the very opening.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - Airflow's operator arguments
        super().__init__(
            mode="reschedule",
            poke_interval=RECHECK.total_seconds(),
            timeout=LONGEST_WAIT.total_seconds(),
            **kwargs,
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Decide now. Raises AirflowFailException for a refusal: no retry makes it true."""
        ti, run = context["ti"], context["dag_run"]
        waits = TaskReschedule.find_for_task_instance(ti)
        decision = window.decide(
            window.now(),
            scheduled=run.run_type == DagRunType.SCHEDULED,
            override_by=_override_by(context, self.log.warning),
            override_permitted=window.parse_switch(os.environ.get(window.OVERRIDE_SWITCH)) is True,
            waiting_since=waits[0].start_date if waits else None,
        )
        self.log.info("guard: %s: %s", decision.outcome.value, decision.reason)
        evidence = {"ok": decision.allowed, "result": decision.to_dict()}
        if decision.allowed:
            return PokeReturnValue(is_done=True, xcom_value=evidence)
        ti.xcom_push(XCOM_RETURN_KEY, evidence)
        if decision.outcome is window.Outcome.REFUSED:
            permitted = window.parse_switch(os.environ.get(window.OVERRIDE_SWITCH)) is True
            first = "" if permitted else f"{window.OVERRIDE_SWITCH}=true in .env, then `up`, then "
            full = " --full" if context["params"].get("full_refresh") else ""
            raise AirflowFailException(
                f"refused: {decision.reason}\n"
                f"hint: trigger it again after {decision.opens_at}, or now:"
                f" {first}`cargo xtask nightly{full} --ignore-business-hours`"
            )
        if not waits:  # told once, at the start of the waiting: tonight's data will be late
            _deliver(notification.compose_message(_facts(context)), self.log)
        return PokeReturnValue(is_done=False)

    def _get_next_poke_interval(
        self,
        started_at: datetime | float,
        run_duration: Callable[[], float],
        try_number: int,
    ) -> float:
        at = window.now()
        return min(
            self.poke_interval,
            max(1.0, (window.BusinessHours().next_opening(at) - at).total_seconds()),
        )


def _override_by(context: Context, warn: Callable[..., None]) -> str | None:
    """Who asks to ignore business hours: `run` (conf or trigger form), `variable`, or nobody."""
    asked = {
        "run": context["params"].get("ignore_business_hours"),
        "variable": Variable.get("ignore_business_hours", default_var=None),
    }
    for who, value in asked.items():
        switch = window.parse_switch(value)
        if switch is None:
            warn("the %s's ignore_business_hours is neither true nor false: taken as false", who)
        if switch:
            return who
    return None


# --- the work -------------------------------------------------------------------------------------


def validate(**context: Any) -> dict[str, Any]:  # noqa: ANN401 - Airflow passes its context as keywords
    """Check both databases before anything is read; an error fails the task."""
    _allowed_by_guard(context)
    with _no_retry():
        result = pipeline.check(_settings())
    for finding in result.findings:
        context["ti"].log.info("%s: %s", finding.level, finding.message)
    return _leave(context, result, ok=result.ok, failure=result.error, lasting=result.lasting)


def extract_load(**context: Any) -> dict[str, Any]:  # noqa: ANN401
    """Load every table; fail when one of them failed, after all had their turn."""
    ti = context["ti"]
    guard = _allowed_by_guard(context)
    with progress.logged(ti.log.info) as told, _no_retry():
        result = pipeline.run(
            _settings(),
            run_id=context["run_id"],
            full=context["params"].get("full_refresh") is True,
            until=_end_of_window(guard),
            guard=guard,
            log=ti.log.info,
            progress=told,
        )
    return _leave(context, result, ok=result.ok, failure=result.error, lasting=result.lasting)


def _end_of_window(guard: Mapping[str, Any]) -> datetime | None:
    """When the source has to be left; who was allowed in business hours knows what they do."""
    if guard["outcome"] != window.Outcome.OPEN.value:
        return None
    return datetime.fromisoformat(guard["closes_at"])


def verify(**context: Any) -> dict[str, Any]:  # noqa: ANN401
    """Compare source and target; a difference fails the task."""
    _allowed_by_guard(context)
    with progress.logged(context["ti"].log.info) as told:
        result = pipeline.verify(_settings(), run_id=context["run_id"], progress=told)
    for line in result.to_text().splitlines():
        context["ti"].log.info(line)
    if not result.checks:  # nothing compared is nothing proved
        return _leave(context, result, ok=False, failure="no table was compared")
    failure = (
        "raw differs from the source\n"
        "hint: where the source was restored or replaced, load all of it: "
        + commands.nightly("--full")
    )
    return _leave(context, result, ok=result.ok, failure=failure)


def report(**context: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write what the load did into the log and leave it for `notify`. Skips itself when there was
    no load to report.
    """
    ti = context["ti"]
    run: DagRun = context["dag_run"]
    load = run.get_task_instance("extract_load")
    if load is None or load.state not in (State.SUCCESS, State.FAILED):
        raise AirflowSkipException("nothing to report: extract_load did not run")
    result = pipeline.report(_settings(), run_id=context["run_id"])
    for line in result.to_text().splitlines():
        ti.log.info(line)
    return _leave(context, result, ok=True)


def dbt_build(**context: Any) -> dict[str, Any]:  # noqa: ANN401
    """Run `dbt build` over the verified load; anything but a clean end of this very build fails the
    task.
    """
    result = dbt.run_dbt(
        Path(_project_root()) / "dbt_dental_models",
        target=_dbt_target(),
        target_path=Path(_env("DBT_TARGET_PATH", f"{DEFAULT_STATE}/dbt/target")),
        log_path=Path(_env("DBT_LOG_PATH", f"{DEFAULT_STATE}/dbt/logs")),
        log=context["ti"].log.info,
        full_refresh=context["params"].get("full_refresh") is True,
        timeout=DBT_TIMEOUT.total_seconds(),
        # Readers keep the marts of the night before until every test has passed.
        environ={**os.environ, "DBT_PUBLISH": "after_tests"},
    )
    return _leave(context, result, ok=result.ok, failure=_dbt_failure(result))


def _dbt_failure(result: dbt.DbtResult) -> str:
    """What failed first, for that is what a person reads first; then what mends it."""
    if result.select:
        names = " ".join(result.select[: notification.NAMES_SHOWN])
        build = commands.dbt(f"build --select {names}")
        hint = f"mend it and try `{build}`; then clear dbt_build"
    else:
        hint = f"`{commands.dbt('parse')}` reads the models, `… debug` tries the connection"
    return f"{result.error or 'dbt failed'}\nhint: {hint}"


def _allowed_by_guard(context: Mapping[str, Any]) -> dict[str, Any]:
    """The guard's decision; AirflowFailException unless it allowed this run.

    A guard that a person marked as successful has decided nothing, and the clinic's database is not
    to be read on that.
    """
    evidence = context["ti"].xcom_pull(task_ids="guard") or {}
    if evidence.get("ok") is not True:
        raise AirflowFailException(
            "the guard has not allowed this run\nhint: clear the task guard, with downstream"
        )
    decision: dict[str, Any] = evidence["result"]
    return decision


@contextmanager
def _no_retry() -> Iterator[None]:
    """What stays as it is until a person has mended it fails for good."""
    try:
        yield
    except (Refused, SettingsError) as error:
        raise AirflowFailException(str(error)) from None


def _leave(
    context: Mapping[str, Any],
    result: HasDict,
    *,
    ok: bool,
    failure: object = None,
    lasting: bool = False,
) -> dict[str, Any]:
    """Leave `result` as the task's evidence, and raise when it is not ok: without another try where
    the failure is lasting.
    """
    evidence = {"ok": ok, "result": result.to_dict()}
    if not ok:
        context["ti"].xcom_push(XCOM_RETURN_KEY, evidence)
        kind = AirflowFailException if lasting else AirflowException
        raise kind(str(failure or "the result is not ok"))
    return evidence


# --- telling --------------------------------------------------------------------------------------


def notify(**context: Any) -> dict[str, Any]:  # noqa: ANN401
    """Tell how the run ended, then fail unless it ended well. The last task, and so the colour of
    the run.

    A message that cannot be delivered changes nothing of that colour: it is logged here, with the
    reason, and left in `delivered`. Whoever watches runs sees the truth; whoever waits for a
    message must treat silence as an alarm.
    """
    ti = context["ti"]
    run: DagRun = context["dag_run"]
    if run.state in State.finished_dr_states or _alerted(run):
        # The run was ended from outside, and a task that was being stopped still started this one
        # (which may even revive the run): the word is with `alert_if_untold`.
        raise AirflowFailException("the run has ended already")
    facts = _facts(context)
    judgement = notification.judge(facts)
    told = {
        "ok": judgement.good,
        "verdict": judgement.verdict.value,
        "delivered": _deliver(notification.compose_message(facts), ti.log),
    }
    ti.xcom_push("told", told)
    if not judgement.good:
        raise AirflowFailException(f"{judgement.verdict}: " + "; ".join(judgement.reasons))
    return told


def alert_if_untold(context: Context) -> None:
    """DAG callback: a failed run whose `notify` never spoke (time limit, stopped by a person,
    killed) is told here.

    Airflow skips what is left of a run that exceeds its time limit, `notify` included.
    """
    run: DagRun = context["dag_run"]
    told = run.get_task_instance("notify")
    if _alerted(run) or (told is not None and told.xcom_pull(task_ids="notify", key="told")):
        return
    log = context["ti"].log
    XCom.set(
        key=ALERTED,
        value=timezone.utcnow().isoformat(),
        task_id="guard",
        dag_id=run.dag_id,
        run_id=run.run_id,
    )
    _deliver(
        notification.compose_message(
            _facts(context, ended_by=str(context.get("reason") or "failed"))
        ),
        log,
    )


def _alerted(run: DagRun) -> bool:
    """Whether `alert_if_untold` has told of this run, and no task was started since."""
    at = XCom.get_one(key=ALERTED, task_id="guard", dag_id=run.dag_id, run_id=run.run_id)
    if at is None:
        return False
    starts = [i.start_date for i in run.get_task_instances() if i.task_id != "notify"]
    return all(start <= datetime.fromisoformat(at) for start in starts if start)


def reopen_notify(context: Context) -> None:
    """Before any task works: a `notify` that already spoke for this run must speak again when this
    task has ended.

    Otherwise a task cleared alone in a finished green run could fail, and the run would end green
    on the old word.
    """
    run: DagRun = context["dag_run"]
    with create_session() as session:
        told = run.get_task_instance("notify", session=session)
        if told is not None and told.state in State.finished:
            clear_task_instances([told], session=session, dag=context["dag"], dag_run_state=False)


def _facts(context: Mapping[str, Any], *, ended_by: str | None = None) -> notification.RunFacts:
    """Everything a message is made of, read from the metadata database."""
    run: DagRun = context["dag_run"]
    dag, ti = context["dag"], context["ti"]
    instances: dict[str, TaskInstance] = {
        instance.task_id: instance for instance in run.get_task_instances()
    }
    judged = [
        task_id for task_id in (t.task_id for t in dag.topological_sort()) if task_id != "notify"
    ]
    return notification.RunFacts(
        dag_id=run.dag_id,
        run_id=run.run_id,
        run_type=str(run.run_type),
        environment=_environment(),
        dbt_target=_dbt_target(),
        tasks=[_task_state(task_id, instances.get(task_id)) for task_id in judged],
        results={task_id: ti.xcom_pull(task_ids=task_id) for task_id in judged},
        link=f"{conf.get('webserver', 'base_url')}/dags/{run.dag_id}/grid"
        f"?dag_run_id={quote(run.run_id, safe='')}",
        ended_by=ended_by,
    )


def _task_state(task_id: str, instance: TaskInstance | None) -> notification.TaskState:
    if instance is None:
        return notification.TaskState(task_id, None)
    return notification.TaskState(
        task_id,
        str(instance.state) if instance.state else None,
        instance.duration,
        max(1, instance.prev_attempted_tries),
    )


def _deliver(message: str, log: Any) -> str:  # noqa: ANN401 - a logger or Airflow's adapter of one
    """Log the message, and send it by Slack when the connection exists: `slack`, `log` (no
    connection) or `failed`.

    Never raises: an outage of Slack makes no good run red and hides no bad one.
    """
    for line in message.splitlines():
        log.info("message: %s", line)
    try:
        try:
            BaseHook.get_connection(SLACK_CONNECTION)
        except AirflowNotFoundException:
            log.info("not sent: there is no connection %s", SLACK_CONNECTION)
            return "log"
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
        from slack_sdk.http_retry.builtin_handlers import (
            ConnectionErrorRetryHandler,
            RateLimitErrorRetryHandler,
        )

        SlackWebhookHook(
            slack_webhook_conn_id=SLACK_CONNECTION,
            timeout=10,
            retry_handlers=[
                ConnectionErrorRetryHandler(SLACK_TRIES - 1),
                RateLimitErrorRetryHandler(SLACK_TRIES - 1),
            ],
        ).send(text=message)
    except Exception as error:
        # Only the kind: the webhook's address is itself the secret, and errors of HTTP clients like
        # to quote it.
        log.error("not sent: Slack did not take the message (%s)", type(error).__name__)
        return "failed"
    log.info("sent by the connection %s", SLACK_CONNECTION)
    return "slack"


# --- settings: a Variable wins over the environment, read only inside tasks -----------------------


def _env(name: str, default: str) -> str:
    return os.environ.get(name) or default


def _project_root() -> str:
    return Variable.get("project_root", default_var=None) or _env(
        "PROJECT_ROOT", DEFAULT_PROJECT_ROOT
    )


def _dbt_target() -> str:
    return Variable.get("dbt_target", default_var=None) or _env("DBT_TARGET", "local")


def _environment() -> str:
    return Variable.get("etl_environment", default_var=None) or _env("ETL_ENVIRONMENT", "demo")


def _settings() -> Settings:
    return Settings.from_env({**os.environ, "ETL_ENVIRONMENT": _environment()})

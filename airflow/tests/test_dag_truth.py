"""A run is green only if everything was good, and says so. Every way to fail, executed for real.

The scheduler's own rules decide here (`DagRun.update_state`, trigger rules, retries, XCom in a real
Postgres). Only the package's functions are replaced, to make them fail.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow_bed import DAGS, Metadata, Slack

if TYPE_CHECKING:
    from airflow.models import DAG, DagRun

NIGHT = datetime(2026, 7, 16, 3, 0, tzinfo=UTC)  # 22:00 CDT
NOON = datetime(2026, 7, 15, 17, 0, tzinfo=UTC)  # 12:00 CDT
WORK = ("validate", "extract_load", "verify", "report", "dbt_build")
SWITCH = "ETL_ALLOW_BUSINESS_HOURS_OVERRIDE"


@dataclass
class Outcome:
    """What a function of the package hands back."""

    ok: bool = True
    error: str | None = None
    lasting: bool = False
    select: tuple[str, ...] = ()
    findings: tuple[Any, ...] = ()
    checks: tuple[Any, ...] = ("one",)

    def to_dict(self) -> dict[str, Any]:
        return {"tables": []}

    def to_text(self) -> str:
        return "text"


class LostError(Exception):
    """A fault of the outside world."""


@dataclass
class Package:
    """The package with faults: `faults[task]` is called in place of the task's work, once a try."""

    faults: dict[str, Callable[[], Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    at: datetime = NIGHT

    def function(self, task: str) -> Callable[..., Any]:
        def call(*_: object, **keywords: Any) -> Any:  # noqa: ANN401
            self.calls.append(task)
            self.given[task] = keywords
            fault = self.faults.get(task)
            return fault() if fault else Outcome()

        return call


def raising() -> Outcome:
    raise LostError


def skipping() -> Outcome:
    from airflow.exceptions import AirflowSkipException

    raise AirflowSkipException


def not_ok() -> Outcome:
    return Outcome(ok=False, error="not good")


@pytest.fixture
def dag(migrated: Metadata) -> DAG:
    from airflow.models import DagBag

    bag = DagBag(str(DAGS), include_examples=False, read_dags_from_db=False)
    assert not bag.import_errors
    bag.sync_to_db()
    dag = bag.dags["etl_pipeline"]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    return dag


@pytest.fixture
def package(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> Package:
    import etl_pipeline_tasks as tasks

    package = Package()
    monkeypatch.setattr(tasks.pipeline, "check", package.function("validate"))
    for name in ("verify", "report"):
        monkeypatch.setattr(tasks.pipeline, name, package.function(name))
    monkeypatch.setattr(tasks.pipeline, "run", package.function("extract_load"))
    monkeypatch.setattr(tasks.dbt, "run_dbt", package.function("dbt_build"))
    monkeypatch.setattr(tasks.window, "now", lambda: package.at)
    monkeypatch.setenv("OPENDENTAL_SOURCE_USER", "reader")
    monkeypatch.setenv("OPENDENTAL_SOURCE_PASSWORD", "x")
    monkeypatch.setenv("POSTGRES_ANALYTICS_USER", "writer")
    monkeypatch.setenv("POSTGRES_ANALYTICS_PASSWORD", "x")
    monkeypatch.delenv(SWITCH, raising=False)
    return package


@pytest.fixture(autouse=True)
def clean(migrated: Metadata) -> Iterator[None]:
    yield
    migrated.query("delete from dag_run")
    migrated.query("delete from variable")
    migrated.query("delete from connection")


_moment = iter(range(1_000_000))


def start(dag: DAG, *, scheduled: bool = False, conf: dict[str, Any] | None = None) -> DagRun:
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunType

    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(_moment))
    return dag.create_dagrun(
        state=DagRunState.RUNNING,
        execution_date=at,
        start_date=datetime.now(UTC),
        run_type=DagRunType.SCHEDULED if scheduled else DagRunType.MANUAL,
        run_id=f"{'scheduled' if scheduled else 'manual'}__{at.isoformat()}",
        data_interval=(at, at),
        conf=conf,
    )


def drive(dag: DAG, run: DagRun, *, rounds: int = 60) -> dict[str, str | None]:
    """What the scheduler does with one run until it ends or only waits.

    Not `dag.test()`: that one clears first, counts no tries and never has a task running.
    """
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState

    with create_session() as session:
        current = session.query(DagRun).filter(DagRun.id == run.id).one()
        if current.state == DagRunState.QUEUED:
            current.state = DagRunState.RUNNING
            current.start_date = datetime.now(UTC)
        current.dag = dag
        idle = 0
        for _ in range(rounds):
            ready, _callback = current.update_state(session=session, execute_callbacks=True)
            session.commit()
            if current.state != DagRunState.RUNNING:
                break
            # A round that runs nothing may still have marked tasks as not to be run.
            idle = 0 if ready else idle + 1
            if idle > 5:
                break
            for ti in ready:
                ti.task = dag.get_task(ti.task_id)
                with suppress(Exception):  # the state tells
                    ti.run(session=session)
                session.commit()
        run.state = current.state
        return {
            ti.task_id: ti.state and str(ti.state)
            for ti in current.get_task_instances(session=session)
        }


def told(run: DagRun) -> dict[str, Any]:
    from airflow.models import XCom

    value: dict[str, Any] = XCom.get_one(
        dag_id=run.dag_id, run_id=run.run_id, task_id="notify", key="told"
    )
    return value


def test_green(dag: DAG, package: Package) -> None:
    run = start(dag)
    states = drive(dag, run)
    assert run.state == "success"
    assert set(states.values()) == {"success"}
    assert package.calls == list(WORK)
    assert told(run) == {"ok": True, "verdict": "SUCCESS", "delivered": "log"}


def test_what_the_package_is_given(dag: DAG, package: Package, migrated: Metadata) -> None:
    from airflow.models import Variable

    Variable.set("project_root", "/elsewhere")
    Variable.set("dbt_target", "clinic")
    run = start(dag, conf={"full_refresh": True})
    drive(dag, run)
    load = package.given["extract_load"]
    assert load["run_id"] == run.run_id
    assert load["full"] is True
    assert load["guard"]["outcome"] == "open"
    assert load["guard"]["allowed"] is True
    assert load["until"].isoformat() == load["guard"]["closes_at"]
    assert package.given["dbt_build"]["target"] == "clinic"
    assert package.given["dbt_build"]["full_refresh"] is True
    # What it makes is read when its tests have passed.
    assert package.given["dbt_build"]["environ"]["DBT_PUBLISH"] == "after_tests"
    assert package.given["verify"]["run_id"] == run.run_id


def test_the_project_is_where_the_variable_says_else_the_environment(
    migrated: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    import etl_pipeline_tasks
    from airflow.models import Variable

    Variable.delete("project_root")
    monkeypatch.setenv("PROJECT_ROOT", "")
    assert etl_pipeline_tasks._project_root() == "/opt/airflow/dbt_dental_clinic"
    monkeypatch.setenv("PROJECT_ROOT", "/opt/dbt_dental_clinic/current")
    assert etl_pipeline_tasks._project_root() == "/opt/dbt_dental_clinic/current"
    Variable.set("project_root", "/elsewhere")
    assert etl_pipeline_tasks._project_root() == "/elsewhere"


FAULTS = [
    (task, fault)
    for task in WORK
    for fault in (raising, not_ok, skipping)
    if not (task == "report" and fault is not_ok)  # a report has no verdict of its own
]


@pytest.mark.parametrize(("task", "fault"), FAULTS)
def test_any_fault_in_any_task_is_red(
    dag: DAG, package: Package, task: str, fault: Callable[[], Any]
) -> None:
    package.faults[task] = fault
    run = start(dag)
    states = drive(dag, run)
    assert run.state == "failed"
    assert states["notify"] == "failed"
    assert told(run)["verdict"] == "FAILED"
    assert states[task] == ("skipped" if fault is skipping else "failed")
    if task != "dbt_build":
        assert "dbt_build" not in package.calls
    if task in ("extract_load", "verify") and fault is not skipping:
        assert states["report"] == "success", "a failed load is reported too"
    assert package.calls.count("verify") <= 1, "a difference is not tried away"


def test_an_empty_verification_proves_nothing(dag: DAG, package: Package) -> None:
    package.faults["verify"] = lambda: Outcome(checks=())
    run = start(dag)
    assert drive(dag, run)["verify"] == "failed"
    assert run.state == "failed"


def test_the_load_is_tried_again_once_and_may_then_be_green(dag: DAG, package: Package) -> None:
    tries = iter([raising])
    package.faults["extract_load"] = lambda: next(tries, Outcome)()
    run = start(dag)
    drive(dag, run)
    assert package.calls.count("extract_load") == 2
    assert run.state == "success"


@pytest.mark.parametrize("task", ["validate", "extract_load"])
def test_what_a_person_has_to_mend_is_not_tried_again(
    dag: DAG, package: Package, task: str
) -> None:
    from etl_pipeline.errors import ConnectionFailed, Refused

    def refused() -> Outcome:
        raise Refused("no such account")

    def unreachable() -> Outcome:
        raise ConnectionFailed("no answer in time")

    lasting = Outcome(ok=False, lasting=True)
    tries = dag.get_task(task).retries + 1
    assert tries > 1
    for fault, calls in ((refused, 1), (lambda: lasting, 1), (unreachable, tries), (not_ok, tries)):
        package.calls.clear()
        package.faults[task] = fault
        run = start(dag)
        assert drive(dag, run)[task] == "failed"
        assert package.calls.count(task) == calls, fault


def test_settings_that_are_missing(
    dag: DAG, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENDENTAL_SOURCE_USER")
    run = start(dag)
    states = drive(dag, run)
    assert states["validate"] == "failed"
    assert run.get_task_instance("validate")._try_number == 1, "they are missing again"
    assert states["report"] == "skipped", "nothing was loaded"
    assert run.state == "failed"


# --- guard ----------------------------------------------------------------------------------------


def untouched(package: Package) -> bool:
    return package.calls == []


def test_by_day_a_triggered_run_is_refused_and_touches_nothing(dag: DAG, package: Package) -> None:
    package.at = NOON
    run = start(dag)
    states = drive(dag, run)
    assert untouched(package)
    assert run.state == "failed"
    assert states == {
        "guard": "failed",
        "validate": "upstream_failed",
        "extract_load": "upstream_failed",
        "verify": "upstream_failed",
        "report": "skipped",
        "dbt_build": "upstream_failed",
        "notify": "failed",
    }
    assert told(run)["verdict"] == "REFUSED"


@pytest.mark.parametrize("by", ["run", "variable"])
@pytest.mark.parametrize("permitted", ["true", "false", "", None])
def test_an_override_needs_leave(
    dag: DAG, package: Package, monkeypatch: pytest.MonkeyPatch, by: str, permitted: str | None
) -> None:
    from airflow.models import Variable

    package.at = NOON
    if permitted is not None:
        monkeypatch.setenv(SWITCH, permitted)
    if by == "variable":
        Variable.set("ignore_business_hours", "true")
    run = start(dag, conf={"ignore_business_hours": True} if by == "run" else None)
    drive(dag, run)
    if permitted == "true":
        assert run.state == "success"
        guard = package.given["extract_load"]["guard"]
        assert guard["outcome"] == "override"
        assert guard["override_by"] == by
    else:
        assert run.state == "failed"
        assert untouched(package)
        assert told(run)["verdict"] == "REFUSED"


@pytest.mark.parametrize("value", ["false", "maybe", "0"])
def test_a_variable_that_is_no_yes(
    dag: DAG, package: Package, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    from airflow.models import Variable

    package.at = NOON
    monkeypatch.setenv(SWITCH, "true")
    Variable.set("ignore_business_hours", value)
    run = start(dag)
    drive(dag, run)
    assert run.state == "failed"
    assert untouched(package)


def test_by_day_a_scheduled_run_waits_and_then_works(
    dag: DAG, package: Package, slack: Slack, migrated: Metadata
) -> None:
    connect(slack.url)
    package.at = NOON
    run = start(dag, scheduled=True)
    assert drive(dag, run)["guard"] == "up_for_reschedule"
    assert run.state == "running"
    again = migrated.query("select reschedule_date - end_date from task_reschedule")
    assert timedelta(minutes=4, seconds=55) < again[0][0] <= timedelta(minutes=5)
    assert [m.splitlines()[0] for m in slack.messages] == ["WAITING [demo] etl_pipeline"]

    # Five minutes later, still closed: it waits on, and does not tell again.
    migrated.query("update task_reschedule set reschedule_date = now() - interval '1 second'")
    assert drive(dag, run)["guard"] == "up_for_reschedule"
    assert len(slack.messages) == 1

    # Ten seconds before the opening it looks again at the opening, not five minutes later.
    package.at = datetime(2026, 7, 16, 1, 59, 50, tzinfo=UTC)
    migrated.query("update task_reschedule set reschedule_date = now() - interval '1 second'")
    drive(dag, run)
    last = migrated.query(
        "select reschedule_date - end_date from task_reschedule order by id desc limit 1"
    )
    assert timedelta(seconds=9) <= last[0][0] <= timedelta(seconds=11)

    package.at = NIGHT
    migrated.query(
        "update task_reschedule set reschedule_date = now() - interval '1 second',"
        " start_date = '2026-07-15 17:00+00'"
    )
    drive(dag, run)
    assert run.state == "success"
    assert package.given["extract_load"]["guard"]["waited_seconds"] >= 36000
    assert slack.messages[-1].startswith("SUCCESS [demo]")
    assert len(slack.messages) == 2


def test_an_override_given_while_a_run_waits_is_seen(
    dag: DAG, package: Package, monkeypatch: pytest.MonkeyPatch, migrated: Metadata
) -> None:
    from airflow.models import Variable

    monkeypatch.setenv(SWITCH, "true")
    package.at = NOON
    run = start(dag, scheduled=True)
    drive(dag, run)
    Variable.set("ignore_business_hours", "true")
    migrated.query("update task_reschedule set reschedule_date = now() - interval '1 second'")
    drive(dag, run)
    assert run.state == "success"


# --- what a person does to a run ------------------------------------------------------------------


def clear(dag: DAG, run: DagRun, *tasks: str) -> None:
    """As in the UI: exactly these tasks, nothing downstream."""
    dag.partial_subset(list(tasks), include_downstream=False, include_upstream=False).clear(
        start_date=run.execution_date, end_date=run.execution_date
    )


@pytest.mark.parametrize("task", WORK)
def test_a_task_cleared_alone_and_failing_makes_a_green_run_red(
    dag: DAG, package: Package, task: str
) -> None:
    run = start(dag)
    drive(dag, run)
    assert run.state == "success"
    package.faults[task] = raising
    clear(dag, run, task)
    states = drive(dag, run)
    assert states[task] == "failed"
    assert run.state == "failed"
    assert told(run)["verdict"] == "FAILED"


def test_a_cleared_guard_by_day_makes_a_green_run_red(dag: DAG, package: Package) -> None:
    run = start(dag)
    drive(dag, run)
    package.at = NOON
    clear(dag, run, "guard")
    drive(dag, run)
    assert run.state == "failed"


def test_a_mended_task_cleared_alone_makes_a_red_run_green(dag: DAG, package: Package) -> None:
    package.faults["dbt_build"] = raising
    run = start(dag)
    drive(dag, run)
    assert run.state == "failed"
    package.faults.clear()
    clear(dag, run, "dbt_build")
    drive(dag, run)
    assert run.state == "success"
    assert told(run)["verdict"] == "SUCCESS"


@pytest.mark.parametrize("task", WORK)
def test_a_task_marked_as_successful_has_not_done_its_work(
    dag: DAG, package: Package, task: str
) -> None:
    from airflow.utils.state import TaskInstanceState

    package.faults[task] = raising
    run = start(dag)
    drive(dag, run)
    dag.set_task_instance_state(
        task_id=task, run_id=run.run_id, state=TaskInstanceState.SUCCESS, commit=True
    )
    states = drive(dag, run)
    assert states[task] == "success"
    assert states["notify"] == "failed"
    assert run.state == "failed"
    assert told(run)["verdict"] == "FAILED"


def test_a_guard_marked_as_successful_opens_nothing(dag: DAG, package: Package) -> None:
    from airflow.utils.state import TaskInstanceState

    package.at = NOON
    run = start(dag)
    drive(dag, run)
    dag.set_task_instance_state(
        task_id="guard", run_id=run.run_id, state=TaskInstanceState.SUCCESS, commit=True
    )
    drive(dag, run)
    assert untouched(package), "the clinic's database is not read on a hand-set state"
    assert run.state == "failed"


@pytest.mark.parametrize("state", ["failed", "skipped", "upstream_failed", "removed"])
@pytest.mark.parametrize("task", ["guard", *WORK])
def test_notify_goes_by_the_states_it_finds(
    dag: DAG, package: Package, migrated: Metadata, task: str, state: str
) -> None:
    """However a state came to be (another tool, a zombie, a time limit): not success is red."""
    run = start(dag)
    drive(dag, run)
    migrated.query(
        "update task_instance set state = %s where run_id = %s and task_id = %s",
        state,
        run.run_id,
        task,
    )
    clear(dag, run, "notify")
    drive(dag, run)
    assert run.state == "failed"
    assert told(run)["verdict"] != "SUCCESS"


# --- telling --------------------------------------------------------------------------------------


def connect(url: str) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id="slack_webhook", conn_type="slackwebhook", password=url))


def test_slack_is_told(dag: DAG, package: Package, slack: Slack) -> None:
    connect(slack.url)
    run = start(dag)
    drive(dag, run)
    assert len(slack.messages) == 1
    assert slack.messages[0].startswith("SUCCESS [demo] etl_pipeline\n")
    assert "/dags/etl_pipeline/grid?dag_run_id=manual__" in slack.messages[0]
    assert told(run)["delivered"] == "slack"


@pytest.mark.parametrize(("fault", "state"), [(None, "success"), (raising, "failed")])
def test_an_outage_of_slack_changes_no_colour(
    dag: DAG, package: Package, fault: Callable[[], Any] | None, state: str
) -> None:
    connect("http://127.0.0.1:1/services/T/B/secret-part")
    if fault:
        package.faults["dbt_build"] = fault
    run = start(dag)
    drive(dag, run)
    assert run.state == state
    assert told(run)["delivered"] == "failed"


def test_a_run_ended_from_outside_is_told(dag: DAG, package: Package, slack: Slack) -> None:
    """Airflow skips `notify` when a run exceeds its time limit; the callback of the DAG speaks."""
    connect(slack.url)
    package.at = NOON
    run = start(dag, scheduled=True)
    drive(dag, run)
    slack.messages.clear()
    dag.handle_callback(run, success=False, reason="timed_out")
    assert len(slack.messages) == 1
    assert slack.messages[0].startswith("FAILED [demo] etl_pipeline")
    assert "ended from outside: timed_out" in slack.messages[0]


def test_a_failed_run_is_told_once(dag: DAG, package: Package, slack: Slack) -> None:
    connect(slack.url)
    package.faults["dbt_build"] = raising
    drive(dag, start(dag))  # its end calls the DAG's callback too
    assert [m.splitlines()[0] for m in slack.messages] == [
        "FAILED [demo] etl_pipeline at dbt_build"
    ]


def test_a_failed_build_names_what_failed_first_and_then_what_mends_it(
    dag: DAG,
    package: Package,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBT_COMMAND", "tool dbt --")
    said = 'model gone (models/gone.sql): column "x" does not exist\ndbt ended with exit code 1'
    package.faults["dbt_build"] = lambda: Outcome(ok=False, error=said, select=("gone+", "b+"))
    drive(dag, start(dag))
    errors = [str(r.exc_info[1]) for r in caplog.records if r.exc_info]
    assert errors[0] == (
        f"{said}\nhint: mend it and try `tool dbt -- build --select gone+ b+`; then clear dbt_build"
    )

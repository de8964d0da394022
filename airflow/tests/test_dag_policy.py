"""What every DAG must be, and what this one is. Parsing happens in processes that are told
nothing.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow_bed import DAGS, FERNET_KEY, RELEASE, Metadata, airflow_environ

sys.path.insert(0, str(RELEASE))

from policy import violations

if TYPE_CHECKING:
    from airflow.models import DagBag

TASKS = ["guard", "validate", "extract_load", "verify", "report", "dbt_build", "notify"]


@pytest.fixture(scope="module")
def bag(migrated: Metadata) -> DagBag:
    from airflow.models import DagBag

    return DagBag(str(DAGS), include_examples=False, read_dags_from_db=False)


def test_the_named_dags_are_there_and_nothing_failed(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["etl_pipeline"]
    assert [t.task_id for t in bag.dags["etl_pipeline"].topological_sort()] == TASKS


def test_policy(bag: DagBag) -> None:
    assert [line for dag in bag.dags.values() for line in violations(dag)] == []


def test_the_policy_names_all_that_a_dag_breaks() -> None:
    import pendulum
    from airflow.operators.empty import EmptyOperator

    from airflow import DAG

    start = pendulum.datetime(2025, 1, 1)
    dag = DAG("bare", start_date=start, schedule="@daily", catchup=True)  # noqa: AIR311
    EmptyOperator(task_id="one", dag=dag, email_on_failure=True)  # noqa: AIR312
    assert violations(dag) == [
        "bare: has no doc_md",
        "bare: has no tags",
        "bare: has no description",
        "bare: catches up: it would load every night since its start",
        "bare: may run twice at the same time",
        "bare: has no dagrun_timeout",
        "bare: has no on_failure_callback: nobody would be told",
        "bare: is not in America/Chicago",
        "bare: one has no owner",
        "bare: one has no doc_md",
        "bare: one has no execution_timeout",
        "bare: one sends mail on failure",
    ]
    dag.dagrun_timeout = timedelta(hours=1)
    dag.get_task("one").execution_timeout = timedelta(hours=1)
    assert "bare: one may outlast its run" in violations(dag)


def test_what_may_be_tried_again(bag: DagBag) -> None:
    retries = {t.task_id: t.retries for t in bag.dags["etl_pipeline"].tasks}
    assert retries["extract_load"] == 1
    assert retries["verify"] == retries["dbt_build"] == retries["notify"] == 0
    assert bag.dags["etl_pipeline"].get_task("extract_load").retry_delay == timedelta(minutes=5)


def test_the_run_may_wait_for_the_whole_day_and_work_the_whole_night(bag: DagBag) -> None:
    dag = bag.dags["etl_pipeline"]
    guard = dag.get_task("guard")
    assert guard.reschedule
    assert guard.timeout > timedelta(hours=15).total_seconds()
    assert guard.poke_interval <= 300
    assert dag.dagrun_timeout == timedelta(hours=15 + 9)


def test_every_gate_sees_every_task(bag: DagBag) -> None:
    dag = bag.dags["etl_pipeline"]
    assert dag.get_task("dbt_build").upstream_task_ids == set(TASKS[:5])
    assert dag.get_task("dbt_build").trigger_rule == "all_success"
    assert dag.get_task("notify").upstream_task_ids == set(TASKS[:6])
    assert dag.get_task("notify").trigger_rule == "all_done"
    assert [t.task_id for t in dag.leaves] == ["notify"]
    for task in dag.tasks:
        if task.task_id != "notify":
            assert task._pre_execute_hook.__name__ == "reopen_notify"


def test_trigger_form(bag: DagBag) -> None:
    params = bag.dags["etl_pipeline"].params
    assert params.dump() == {"ignore_business_hours": False, "full_refresh": False}
    for name in params:
        assert params.get_param(name).schema["type"] == "boolean"


@pytest.mark.parametrize(
    ("after", "nights"),
    [
        # 21:00 by the wall clock on both sides of each change: UTC moves, the clinic does not.
        (
            "2026-03-06",
            ["2026-03-07T03:00", "2026-03-08T03:00", "2026-03-09T02:00", "2026-03-10T02:00"],
        ),
        (
            "2026-10-30",
            ["2026-10-31T02:00", "2026-11-01T02:00", "2026-11-02T03:00", "2026-11-03T03:00"],
        ),
    ],
)
def test_next_runs_over_the_change_of_the_clock(bag: DagBag, after: str, nights: list[str]) -> None:
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    dag = bag.dags["etl_pipeline"]
    at = pendulum.parse(f"{after}T21:00", tz="America/Chicago")
    last = DataInterval(start=at.subtract(days=1), end=at)
    seen = []
    for _ in nights:
        info = dag.timetable.next_dagrun_info(
            last_automated_data_interval=last,
            restriction=TimeRestriction(earliest=dag.start_date, latest=None, catchup=True),
        )
        assert info is not None
        seen.append(info.run_after.in_timezone("UTC").strftime("%Y-%m-%dT%H:%M"))
        assert info.run_after.in_timezone("America/Chicago").strftime("%H:%M:%S") == "21:00:00"
        last = info.data_interval
    # The first is the night after `at`; `nights` begins with the night of `at` itself.
    assert [at.in_timezone("UTC").strftime("%Y-%m-%dT%H:%M"), *seen[:-1]] == nights


PARSE = """
import json, sys
from airflow.models import DagBag
bag = DagBag(sys.argv[1], include_examples=False, read_dags_from_db=False)
dag = bag.dags.get("etl_pipeline")
print(json.dumps({
    "errors": bag.import_errors,
    "schedule": dag and dag.schedule_interval,
    "start": dag and dag.start_date.isoformat(),
    "zone": dag and dag.timezone.name,
}))
"""


def parse(home: Path, **environ: str) -> dict[str, Any]:
    """Parse the DAG folder in a process whose metadata database cannot be reached at all."""
    unreachable = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none"
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(DAGS)],
        env=airflow_environ(unreachable, home, **environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    parsed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parsed


def test_parsing_needs_no_database(tmp_path: Path) -> None:
    """A Variable or a connection read at import would have to ask the database, and fail."""
    assert parse(tmp_path) == {
        "errors": {},
        "schedule": "0 21 * * *",
        "start": "2025-01-01T06:00:00+00:00",
        "zone": "America/Chicago",
    }


def test_schedule_and_start_come_from_the_environment(tmp_path: Path) -> None:
    parsed = parse(
        tmp_path,
        ETL_PIPELINE_SCHEDULE="30 22 * * 1-5",
        ETL_PIPELINE_START_DATE="2026-07-14T21:00:00-05:00",
    )
    assert parsed["schedule"] == "30 22 * * 1-5"
    assert parsed["start"] == "2026-07-15T02:00:00+00:00"
    assert parsed["zone"] == "America/Chicago"


def test_empty_is_unset(tmp_path: Path) -> None:
    parsed = parse(tmp_path, ETL_PIPELINE_SCHEDULE="", ETL_PIPELINE_START_DATE="")
    assert parsed["schedule"] == "0 21 * * *"


def test_nothing_is_called_at_import_but_wiring() -> None:
    """The source says so too: no Variable, connection, file or network at module level."""
    forbidden = {"Variable", "BaseHook", "open", "Settings", "create_session", "requests"}
    for path in sorted(DAGS.glob("*.py")):
        tree = ast.parse(path.read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, functions)
            for node in ast.walk(function)
        }
        called = {
            node.func.value.id
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
            else getattr(node.func, "id", "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and id(node) not in inside
        }
        assert not called & forbidden, path.name


def test_the_key_of_these_tests_is_a_key() -> None:
    from cryptography.fernet import Fernet

    Fernet(FERNET_KEY.encode())

"""What every DAG of the project has to be; a release whose DAGs are not is refused."""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models import DAG

CLINIC = "America/Chicago"


def violations(dag: DAG) -> list[str]:
    """What `dag` breaks, a sentence each; nothing for a good one."""
    rules = {
        "has no doc_md": dag.doc_md,
        "has no tags": dag.tags,
        "has no description": dag.description,
        "catches up: it would load every night since its start": dag.catchup is False,
        "may run twice at the same time": dag.max_active_runs == 1,
        "has no dagrun_timeout": dag.dagrun_timeout,
        "has no on_failure_callback: nobody would be told": dag.on_failure_callback,
        f"is not in {CLINIC}": dag.timezone.name == CLINIC,
    }
    for task in dag.tasks:
        limit = task.execution_timeout
        rules |= {
            f"{task.task_id} has no owner": task.owner not in ("", "airflow"),
            f"{task.task_id} has no doc_md": task.doc_md,
            f"{task.task_id} has no execution_timeout": limit,
            f"{task.task_id} may outlast its run": not (limit and dag.dagrun_timeout)
            or limit < dag.dagrun_timeout,
            f"{task.task_id} sends mail on failure": not task.email_on_failure,
        }
    return [f"{dag.dag_id}: {rule}" for rule, holds in rules.items() if not holds]

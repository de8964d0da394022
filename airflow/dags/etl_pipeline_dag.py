"""The nightly run: OpenDental's MySQL → Postgres `raw` → dbt. Schedule and wiring; what the tasks
do is in the package.

No I/O at import: the environment is read here, Airflow Variables and connections only inside tasks.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311, AIR312

from __future__ import annotations

import os
from datetime import timedelta

import etl_pipeline_tasks as tasks
import pendulum
from airflow.models.param import Param
from airflow.operators.python import PythonOperator
from airflow.utils.trigger_rule import TriggerRule

from airflow import DAG

CLINIC = "America/Chicago"
SCHEDULE = os.environ.get("ETL_PIPELINE_SCHEDULE") or "0 21 * * *"
START_DATE = pendulum.parse(
    os.environ.get("ETL_PIPELINE_START_DATE") or "2025-01-01T00:00:00-06:00"
).in_timezone(CLINIC)

DOC = """
### The nightly run

`guard → validate → extract_load → verify → report → dbt_build → notify`, at 21:00 America/Chicago.

The clinic's database is not touched from 06:00 to 20:59:59. A scheduled run that comes due in these
hours waits until 21:00; a triggered one is refused at once, unless `ignore_business_hours` is set
**and** the container permits it (`ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true`).

**The run is green only if every task ended well and left its result**: `notify` fails otherwise,
after it has told why. What each failure means and the command that mends it:
`airflow/NIGHTLY_RUN.md`.
"""

with DAG(
    dag_id="etl_pipeline",
    description="Nightly load of the practice's data, verification and dbt",
    doc_md=DOC,
    schedule=SCHEDULE,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    # A whole day: up to 15 h of waiting for the window and the 9 h of the window itself. One longer
    # has lost its night.
    dagrun_timeout=timedelta(hours=24),
    on_failure_callback=tasks.alert_if_untold,
    default_args={
        "owner": "data-platform",
        "retries": 0,
        "retry_delay": timedelta(minutes=5),
        "email_on_failure": False,
    },
    params={
        "ignore_business_hours": Param(
            default=False,
            type="boolean",
            title="Ignore business hours",
            description=(
                "Read the clinic's database between 06:00 and 21:00."
                " Needs ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true."
            ),
        ),
        "full_refresh": Param(
            default=False,
            type="boolean",
            title="Full refresh",
            description="Load every table in full and rebuild dbt's incremental models.",
        ),
    },
    tags=["etl", "dbt", "nightly"],
) as dag:
    guard = tasks.BusinessHoursSensor(
        task_id="guard",
        doc_md="Waits for 21:00 (scheduled), refuses (triggered), or lets pass; decides overrides.",
        pre_execute=tasks.reopen_notify,
        retries=2,  # for the metadata database's hiccups; a refusal is never retried
        retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=5),
    )
    validate = PythonOperator(
        task_id="validate",
        doc_md="Both databases reachable, the source read-only for us, the target writable.",
        python_callable=tasks.validate,
        pre_execute=tasks.reopen_notify,
        retries=2,  # a VPN that comes up late is the usual cause
        execution_timeout=timedelta(minutes=10),
    )
    extract_load = PythonOperator(
        task_id="extract_load",
        doc_md="Every table into `raw`; data and watermark commit together, so it may be repeated.",
        python_callable=tasks.extract_load,
        pre_execute=tasks.reopen_notify,
        retries=1,
        execution_timeout=timedelta(hours=4),
    )
    verify = PythonOperator(
        task_id="verify",
        doc_md="Compares source and `raw`. A difference is an answer, not a hiccup: no retry.",
        python_callable=tasks.verify,
        pre_execute=tasks.reopen_notify,
        execution_timeout=timedelta(hours=1),
    )
    report = PythonOperator(
        task_id="report",
        doc_md="What the load did, also a failed one; skipped when there was none.",
        python_callable=tasks.report,
        pre_execute=tasks.reopen_notify,
        trigger_rule=TriggerRule.ALL_DONE,
        retries=1,
        retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=10),
    )
    dbt_build = PythonOperator(
        task_id="dbt_build",
        doc_md="`dbt build`: models and tests. Only over a load that is complete and verified.",
        python_callable=tasks.dbt_build,
        pre_execute=tasks.reopen_notify,
        execution_timeout=timedelta(
            hours=2, minutes=15
        ),  # run_dbt stops dbt at 2 h, and this task tells it
    )
    notify = PythonOperator(
        task_id="notify",
        doc_md="Tells how the run ended, then fails unless every task is good: the run's colour.",
        python_callable=tasks.notify,
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=timedelta(minutes=5),
    )

    guard >> validate >> extract_load >> verify >> report >> dbt_build >> notify
    # `report` succeeds over a failed load and `notify` over anything: both gates behind them look
    # at every task themselves.
    [guard, validate, extract_load, verify] >> dbt_build
    [guard, validate, extract_load, verify, report] >> notify

"""The DAG under a real scheduler and LocalExecutor: processes, signals, callbacks, dbt's runner.

Faults and the clock come from a file that `airflow_local_settings` (Airflow's own hook) reads in
each process of the scheduler; everything else is what runs at night.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow_bed import BOOTSTRAP, Metadata, Slack, airflow_environ

NIGHT = "2026-07-16T03:00:00+00:00"
OPENING = datetime(2026, 7, 16, 2, tzinfo=UTC)  # 21:00 Central
# A machine that is ten times slower than usual may also try a task again, five minutes later.
PATIENCE = 600

LOCAL_SETTINGS = '''
"""Replaces the reading of two databases by nothing, the clock by one that a test sets."""
import json, os, time
from datetime import datetime, timedelta
from pathlib import Path
from etl_pipeline import dbt, pipeline, window

BED = Path(os.environ["TEST_BED"])


class Done:
    ok, error, lasting, findings, checks = True, None, False, (), ("one",)

    def to_dict(self):
        return {"tables": []}

    def to_text(self):
        return "text"


def now():
    clock = json.loads((BED / "clock.json").read_text())
    return datetime.fromisoformat(clock["at"]) + timedelta(seconds=time.time() - clock["set"])


window.now = now
dbt.find_dbt = lambda: os.environ["TEST_DBT"]
pipeline.check = pipeline.run = pipeline.verify = pipeline.report = lambda *a, **k: Done()
'''

FAKE_DBT = """#!{python}
import json, os, pathlib, subprocess, sys, time
bed = pathlib.Path(os.environ["TEST_BED"])
target = pathlib.Path(sys.argv[sys.argv.index("--target-path") + 1])
mode = (bed / "dbt-mode").read_text()
if mode == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    (bed / "pids").write_text(f"{{os.getpid()}} {{child.pid}}")
    print("hanging", flush=True)
    time.sleep(300)
status = "success" if mode == "good" else "error"
(target / "run_results.json").write_text(json.dumps({{
    "metadata": {{"invocation_id": "i",
                 "env": {{"PIPELINE_TOKEN": os.environ["DBT_ENV_CUSTOM_ENV_PIPELINE_TOKEN"]}}}},
    "results": [{{"unique_id": "model.dental.fct_claim", "status": status}}]}}))
sys.exit(0 if mode == "good" else 1)
"""


class Bed:
    """A scheduler at work, and the handles a test needs on it."""

    def __init__(self, metadata: Metadata, home: Path, slack: Slack) -> None:
        self.metadata, self.home, self.slack = metadata, home, slack
        self.runs = 0
        self.stuck = False
        (home / "plugins").mkdir(parents=True)
        (home / "hook").mkdir()
        (home / "hook" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
        project = home / "project" / "dbt_dental_models"
        project.mkdir(parents=True)
        (project / "dbt_project.yml").write_text("name: dental\n")
        dbt = home / "bin" / "dbt"
        dbt.parent.mkdir()
        dbt.write_text(FAKE_DBT.format(python=sys.executable))
        dbt.chmod(0o755)
        self.clock(NIGHT)
        self.dbt("good")
        base = airflow_environ(metadata.url, home)
        self.environ = {
            **base,
            "PYTHONPATH": f"{home / 'hook'}{os.pathsep}{base['PYTHONPATH']}",
            "TEST_BED": str(home),
            "TEST_DBT": str(dbt),
            "PROJECT_ROOT": str(home / "project"),
            "DBT_TARGET_PATH": str(home / "state" / "target"),
            "DBT_LOG_PATH": str(home / "state" / "logs"),
            "ETL_PIPELINE_START_DATE": datetime.now(UTC).isoformat(),
            "OPENDENTAL_SOURCE_USER": "u",
            "OPENDENTAL_SOURCE_PASSWORD": "p",
            "POSTGRES_ANALYTICS_USER": "u",
            "POSTGRES_ANALYTICS_PASSWORD": "p",
            "AIRFLOW_CONN_SLACK_WEBHOOK": json.dumps(
                {"conn_type": "slackwebhook", "password": slack.url}
            ),
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "5",
        }
        subprocess.run(
            [sys.executable, str(BOOTSTRAP)], env=self.environ, check=True, capture_output=True
        )
        self.log = (home / "scheduler.log").open("wb")
        self.scheduler = subprocess.Popen(
            ["airflow", "scheduler", "--skip-serve-logs"],
            env=self.environ,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def clock(self, at: str) -> None:
        (self.home / "clock.json").write_text(json.dumps({"at": at, "set": time.time()}))

    def dbt(self, mode: str) -> None:
        (self.home / "dbt-mode").write_text(mode)

    def start(self, *, scheduled: bool = False) -> str:
        """A queued run, as the REST API or the scheduler itself would make it."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        code = (
            "import sys; from datetime import datetime, timezone;"
            "from airflow.models import DagBag; from airflow.utils.state import DagRunState;"
            "dag = DagBag(read_dags_from_db=True).get_dag('etl_pipeline');"
            "at = datetime.now(timezone.utc);"
            "dag.create_dagrun(run_id=sys.argv[1], run_type=sys.argv[2], execution_date=at,"
            " state=DagRunState.QUEUED, data_interval=(at, at))"
        )
        kind = "scheduled" if scheduled else "manual"
        subprocess.run(
            [sys.executable, "-c", code, run_id, kind],
            env=self.environ, check=True, capture_output=True,
        )  # fmt: skip
        return run_id

    def state(self, run_id: str) -> str:
        return str(self.metadata.query("select state from dag_run where run_id = %s", run_id)[0][0])

    def tasks(self, run_id: str) -> dict[str, str | None]:
        return dict(
            self.metadata.query(
                "select task_id, state from task_instance where run_id = %s", run_id
            )  # type: ignore[arg-type]
        )

    def until(self, what: Callable[[], Any], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline or self.scheduler.poll() is not None:
                self.stuck = True
                states = self.metadata.query("select run_id, task_id, state from task_instance")
                log = (self.home / "scheduler.log").read_text(errors="replace")[-4000:]
                pytest.fail(f"did not happen; tasks: {states}\n{log}")
            time.sleep(0.2)

    def slowest_look(self) -> float:
        """Seconds from the making of a run until its guard looked at the clock, at the most."""
        return float(
            self.metadata.query(
                "select coalesce(max(extract(epoch from t.start_date - r.queued_at)), 0)"
                " from task_instance t join dag_run r"
                " on r.dag_id = t.dag_id and r.run_id = t.run_id where t.task_id = 'guard'"
            )[0][0]
        )

    def ended(self, run_id: str) -> str:
        self.until(lambda: self.state(run_id) in ("success", "failed"))
        return self.state(run_id)

    def headlines(self) -> list[str]:
        return [message.splitlines()[0] for message in self.slack.messages]

    def close(self) -> None:
        self.scheduler.send_signal(signal.SIGTERM)
        try:
            self.scheduler.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.scheduler.pid, signal.SIGKILL)
            self.scheduler.wait()
        self.log.close()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    metadata, slack = Metadata(), Slack()
    bed = Bed(metadata, tmp_path_factory.mktemp("bed"), slack)
    yield bed
    bed.close()
    slack.close()
    metadata.drop()


@pytest.fixture(autouse=True)
def reset(bed: Bed) -> None:
    if bed.stuck:  # one run at a time: each of these would wait as long
        pytest.fail("the scheduler still has the run that an earlier test gave up", pytrace=False)
    bed.clock(NIGHT)
    bed.dbt("good")
    bed.slack.messages.clear()


def test_a_good_night(bed: Bed) -> None:
    run = bed.start()
    assert bed.ended(run) == "success"
    assert set(bed.tasks(run).values()) == {"success"}
    assert bed.headlines() == ["SUCCESS [demo] etl_pipeline"]


def test_a_failed_dbt_is_a_red_run_and_says_so_once(bed: Bed) -> None:
    bed.dbt("bad")
    run = bed.start()
    assert bed.ended(run) == "failed"
    assert bed.tasks(run)["notify"] == "failed"
    time.sleep(3)  # the callback of the DAG runs in the file processor, after the end
    assert bed.headlines() == ["FAILED [demo] etl_pipeline at dbt_build"]
    assert "; failed: fct_claim" in bed.slack.messages[0]


def test_a_scheduled_run_waits_for_the_opening_and_no_longer(bed: Bed) -> None:
    # While it is still closed, on a slow machine too.
    before = timedelta(seconds=max(20, 4 * bed.slowest_look()))
    bed.clock((OPENING - before).isoformat())
    run = bed.start(scheduled=True)
    bed.until(lambda: bed.tasks(run).get("guard") == "up_for_reschedule")
    assert bed.ended(run) == "success"
    assert bed.headlines() == ["WAITING [demo] etl_pipeline", "SUCCESS [demo] etl_pipeline"]
    pokes = bed.metadata.query("select count(*) from task_reschedule where run_id = %s", run)
    assert pokes[0][0] in (1, 2)


def test_a_triggered_run_is_refused_by_day(bed: Bed) -> None:
    bed.clock("2026-07-15T17:00:00+00:00")
    run = bed.start()
    assert bed.ended(run) == "failed"
    assert bed.tasks(run)["extract_load"] == "upstream_failed"
    assert bed.headlines() == ["REFUSED [demo] etl_pipeline"]


def gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


def hanging(bed: Bed) -> tuple[str, list[int]]:
    (bed.home / "pids").unlink(missing_ok=True)
    bed.dbt("hang")
    run = bed.start()
    bed.until(lambda: (bed.home / "pids").exists() and (bed.home / "pids").read_text().count(" "))
    return run, [int(pid) for pid in (bed.home / "pids").read_text().split()]


def test_a_run_over_its_time_limit_ends_dbt_and_is_told(bed: Bed) -> None:
    run, pids = hanging(bed)
    bed.metadata.query(
        "update dag_run set start_date = %s where run_id = %s",
        datetime.now(UTC) - timedelta(hours=25), run,
    )  # fmt: skip
    assert bed.ended(run) == "failed"
    bed.until(lambda: all(gone(pid) for pid in pids))
    bed.until(lambda: bed.slack.messages)
    time.sleep(5)  # the task that is being stopped may still start `notify`
    assert bed.tasks(run)["notify"] in (None, "failed")
    assert bed.headlines() == ["FAILED [demo] etl_pipeline at dbt_build"]
    assert "ended from outside: timed_out" in bed.slack.messages[0]


def test_a_killed_task_is_a_red_run_and_leaves_no_dbt(bed: Bed) -> None:
    """SIGKILL to the task, as the kernel does when memory ends."""
    run, pids = hanging(bed)
    parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert bed.ended(run) == "failed"
    bed.until(lambda: gone(pids[0]))
    assert bed.tasks(run)["dbt_build"] == "failed"
    assert bed.headlines() == ["FAILED [demo] etl_pipeline at dbt_build"]
    os.kill(pids[1], signal.SIGKILL)  # a grandchild, which the real dbt does not have


def test_live_lines_stand_in_the_log_of_the_task(bed: Bed) -> None:
    logs = list((bed.home / "logs").glob("dag_id=etl_pipeline/**/task_id=dbt_build/*.log"))
    assert any("hanging" in path.read_text() for path in logs)

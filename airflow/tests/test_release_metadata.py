"""What a deploy asks of Airflow's metadata database: a real one, and a real scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow_bed import CONN, RELEASE, Metadata, airflow_environ

sys.path.insert(0, str(RELEASE))

from metadata import MetadataError, parameters

METADATA = RELEASE / "metadata.py"
GATE = RELEASE / "gate.py"
TABLES = ("task_instance", "dag_run", "serialized_dag", "dag", "job", "import_error")
NIGHT = datetime(2026, 7, 16, 3, tzinfo=UTC)
Done = subprocess.CompletedProcess[str]


def ask(url: str, *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, str(METADATA), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], CONN: url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(done: Done) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def clean(migrated: Metadata) -> Iterator[Metadata]:
    """The migrated database without a DAG, a run or a job."""

    def empty() -> None:
        for table in TABLES:
            migrated.query(f"delete from {table}")

    empty()
    yield migrated
    empty()


def put_dag(metadata: Metadata, dag: str, *, paused: bool = False, active: bool = True) -> None:
    metadata.query(
        "insert into dag (dag_id, is_active, is_paused, has_task_concurrency_limits,"
        " max_active_tasks, fileloc, last_parsed_time)"
        " values (%s, %s, %s, false, 1, '/x', '2026-07-16T03:00:00Z')",
        dag, active, paused,
    )  # fmt: skip
    metadata.query(
        "insert into serialized_dag (dag_id, fileloc, fileloc_hash, last_updated, dag_hash)"
        " values (%s, '/x', 1, now(), md5(%s))",
        dag, dag,
    )  # fmt: skip


INSERT_RUN = (
    "insert into dag_run (dag_id, run_id, run_type, state, execution_date, log_template_id)"
    " select %s, %s, 'manual', %s, now(), min(id) from log_template"
)


def put_run(metadata: Metadata, dag: str, run: str, *, task: str | None, state: str) -> None:
    metadata.query(INSERT_RUN, dag, run, state)
    if task:
        metadata.query(
            "insert into task_instance"
            " (task_id, dag_id, run_id, map_index, pool, pool_slots, state)"
            " values ('work', %s, %s, -1, 'p', 1, %s)",
            dag, run, task,
        )  # fmt: skip


def paused(metadata: Metadata) -> dict[str, bool]:
    return dict(metadata.query("select dag_id, is_paused from dag"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://airflow:word@postgres:5432/airflow",
        "postgresql://a%40b:p%2Fw%25%20d@db/airflow?sslmode=require&options=-csearch_path%3Da+b",
        "postgresql+psycopg2://u:has/and?and#@db/airflow",
        "postgresql+psycopg2://u@[::1]:5433/airflow",
        "postgresql+psycopg2://u:p@/airflow?host=/run/postgresql&connect_timeout=9",
        "postgresql+psycopg2://u:p@db",
    ],
)
def test_a_url_is_read_as_sqlalchemy_reads_it(url: str) -> None:
    from sqlalchemy.engine import make_url

    made = make_url(url)
    _, theirs = made.get_dialect()().create_connect_args(made)
    if "database" in theirs:
        theirs["dbname"] = theirs.pop("database")
    theirs = {name: str(value) for name, value in theirs.items()}
    assert parameters(url) == {"connect_timeout": "5", **theirs}


@pytest.mark.parametrize("url", ["", "sqlite:////hidden-word", "postgresql:hidden-word"])
def test_a_wrong_url_is_a_wrong_setting_and_is_not_repeated(url: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parameters(url)
    assert caught.value.code == 2
    assert "hidden-word" not in str(caught.value)


def test_a_database_that_is_not_there() -> None:
    done = ask("postgresql+psycopg2://airflow:hidden-word@127.0.0.1:1/airflow", "state")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: connecting to the metadata database airflow at 127.0.0.1:1: "
    )
    assert "\nhint: " in done.stderr
    assert "hidden-word" not in done.stderr


def test_nothing_of_airflow_is_imported() -> None:
    code = f"import sys; sys.path.insert(0, {str(RELEASE)!r}); import metadata; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "psycopg2" in loaded
    assert not loaded & {"airflow", "sqlalchemy", "pendulum", "yaml"}


def test_without_a_schema(fresh: Metadata) -> None:
    state = answer(ask(fresh.url, "state"))
    assert datetime.fromisoformat(state.pop("now")).tzinfo
    names = ("dags", "import_errors", "runs", "tasks", "last")
    empty: dict[str, Any] = {name: [] for name in names}
    assert state == {"revision": None, "heartbeat": None, **empty}
    assert answer(ask(fresh.url, "pause")) == {"paused": []}


def test_state(clean: Metadata) -> None:
    put_dag(clean, "off", paused=True)
    put_dag(clean, "on")
    put_dag(clean, "removed", active=False)
    put_dag(clean, "unread")
    clean.query("delete from serialized_dag where dag_id = 'unread'")
    put_run(clean, "off", "halted", task="up_for_reschedule", state="running")
    put_run(clean, "on", "old", task="running", state="success")
    put_run(clean, "on", "now", task="up_for_reschedule", state="running")
    clean.query(
        "insert into job (job_type, state, latest_heartbeat) values"
        " ('SchedulerJob', 'running', now() - interval '7 s'),"
        " ('SchedulerJob', 'success', now()), ('LocalTaskJob', 'running', now())"
    )
    trace = "".join(f"line {n}\n" for n in range(9))
    clean.query(
        "insert into import_error (timestamp, filename, stacktrace)"
        " values ('2026-07-16T03:00:00Z', '/x/bad.py', %s)",
        trace,
    )
    state = answer(ask(clean.url, "state"))
    assert state["revision"] == clean.query("select version_num from alembic_version")[0][0]
    assert 7 <= state["heartbeat"] < 60
    assert [(d["id"], d["paused"]) for d in state["dags"]] == [("off", True), ("on", False)]
    assert len(state["dags"][0]["hash"]) == 32
    assert datetime.fromisoformat(state["dags"][0]["parsed"]) == datetime(
        2026, 7, 16, 3, tzinfo=UTC
    )
    (error,) = state["import_errors"]
    assert (error["file"], error["error"]) == (
        "/x/bad.py",
        "line 3\nline 4\nline 5\nline 6\nline 7\nline 8",
    )
    assert state["runs"] == [
        {"dag": "off", "id": "halted", "state": "running", "suspended": True},
        {"dag": "on", "id": "now", "state": "running", "suspended": False},
    ]
    task = {"task": "work", "state": "up_for_reschedule", "since": None}
    assert state["tasks"] == [
        {"dag": "off", "run": "halted", **task},
        {"dag": "on", "run": "now", **task},
    ]
    last = {"dag": "on", "id": "old", "state": "success", "ended": None, "failed": None}
    assert [{**run, "began": None} for run in state["last"]] == [{**last, "began": None}]


def test_the_run_that_ended_last(clean: Metadata) -> None:
    put_dag(clean, "on")
    for run, task, state, minute in (("a", "success", "success", 1), ("b", "failed", "failed", 2)):
        put_run(clean, "on", run, task=task, state=state)
        clean.query(
            "update dag_run set end_date = %s where run_id = %s", NIGHT.replace(minute=minute), run
        )
    (last,) = answer(ask(clean.url, "state"))["last"]
    assert (last["id"], last["state"], last["failed"]) == ("b", "failed", "work")
    assert datetime.fromisoformat(last["ended"]) == NIGHT.replace(minute=2)


def test_pausing_and_back(clean: Metadata) -> None:
    put_dag(clean, "off", paused=True)
    put_dag(clean, "on")
    put_dag(clean, "also")
    put_run(clean, "off", "halted", task="scheduled", state="running")
    put_run(clean, "on", "ended", task="success", state="success")
    assert ask(clean.url, "unpaused").stdout == "also\non\n"
    assert ask(clean.url, "revision").stdout == f"{answer(ask(clean.url, 'state'))['revision']}\n"
    assert answer(ask(clean.url, "pause")) == {"paused": ["also", "on"]}
    assert all(paused(clean).values())
    assert answer(ask(clean.url, "unpause", "on", "unknown")) == {"unpaused": ["on"]}
    assert paused(clean) == {"off": True, "on": False, "also": True}


@pytest.mark.parametrize(
    ("off", "task", "run"),
    [
        # Nothing of it runs, but it would go on: what this very pause paused is no suspended run.
        (False, "up_for_reschedule", "running"),
        (False, None, "queued"),
        (True, "running", "running"),
        (True, "queued", "running"),
        (True, "restarting", "running"),
    ],
)
def test_an_active_run_is_left_alone(
    clean: Metadata, off: bool, task: str | None, run: str
) -> None:
    put_dag(clean, "night", paused=off)
    put_dag(clean, "other")
    put_run(clean, "night", "tonight", task=task, state=run)
    done = ask(clean.url, "pause")
    assert done.returncode == 4, done.stderr
    active = {"dag": "night", "id": "tonight", "state": run, "suspended": False}
    assert json.loads(done.stdout) == {"active": [active]}
    told = f"tonight of night ({f'work {task}' if task else 'no task yet'})\nhint: "
    assert done.stderr.startswith(f"error: pausing the DAGs: a run is active: {told}")
    assert paused(clean) == {"night": off, "other": False}


def test_waiting_for_a_run(clean: Metadata) -> None:
    put_dag(clean, "night")
    put_run(clean, "night", "tonight", task="running", state="running")
    ends = threading.Timer(
        1.0, lambda: clean.query("update dag_run set state = 'success', end_date = now()")
    )
    ends.start()
    done = ask(clean.url, "pause", "--wait", "60")
    ends.join()
    # On a slow machine the run may have ended before the first look.
    assert done.stderr in ("waiting for tonight of night (work running)\n", "")
    assert answer(done) == {"paused": ["night"]}


def test_a_run_that_is_just_being_made_is_seen(clean: Metadata) -> None:
    """As the scheduler makes one: it holds the DAG's row until the run is there for all."""
    put_dag(clean, "night")
    with clean.engine.connect() as scheduler, scheduler.begin():
        scheduler.execute("select from dag for update skip locked")
        scheduler.execute(INSERT_RUN, "night", "new", "queued")
        process = subprocess.Popen(
            [sys.executable, str(METADATA), "pause"],
            env={**os.environ, CONN: clean.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waits = "select count(*) from pg_locks where not granted"
        deadline = time.monotonic() + 60
        while not clean.query(waits)[0][0]:
            assert time.monotonic() < deadline, "the pause did not wait"
            time.sleep(0.05)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 4, stderr
    assert [run["id"] for run in json.loads(stdout)["active"]] == ["new"]
    assert paused(clean) == {"night": False}


@pytest.mark.parametrize(
    "arguments",
    [
        ("live", "--since", "2026-07-16T03:00:00", "--expect", "{}"),
        ("live", "--since", "2026-07-16T03:00:00Z", "--expect", "[]"),
        ("live", "--since", "2026-07-16T03:00:00Z", "--expect", "{"),
        ("unpause",),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    assert ask("postgresql://127.0.0.1:1/x", *arguments).returncode == 2


def test_what_live_says_is_lacking(clean: Metadata) -> None:
    for dag in ("changed", "stale", "gone", "good"):
        put_dag(clean, dag)
    clean.query("update dag set last_parsed_time = now() where dag_id in ('good', 'changed')")
    hashes = {d["id"]: d["hash"] for d in answer(ask(clean.url, "state"))["dags"]}
    expect = {"good": hashes["good"], "stale": hashes["stale"], "changed": "ff", "new": "aa"}
    live = ("live", "--since", "2026-08-01T00:00:00Z", "--limit", "0.3", "--expect")
    done = ask(clean.url, *live, json.dumps(expect))
    assert (done.returncode, done.stdout) == (1, "")
    text = done.stderr
    assert f"changed is read as {hashes['changed']}, not as ff; gone is still there; " in text
    assert "; new is not there; stale was last read at 2026-07-16T03:00:00+00:00\nhint: " in text
    assert "good is" not in text
    just = ask(clean.url, *live, json.dumps({"dags": {"good": hashes["good"]}, "checks": []}))
    assert just.returncode == 1
    clean.query("delete from dag where dag_id in ('changed', 'gone')")
    anything = ask(clean.url, *live[:-1])
    assert anything.returncode == 1
    assert "release: stale was last read at 2026-07-16T03:00:00+00:00\nhint: " in anything.stderr
    clean.query("update dag set is_active = dag_id = 'good'")
    assert answer(ask(clean.url, *live, json.dumps({"good": hashes["good"]})))["seconds"] < 1
    assert answer(ask(clean.url, *live[:-1]))["seconds"] < 1


DAG_FILE = """
from datetime import datetime
from pathlib import Path
from airflow import DAG
from airflow.operators.empty import EmptyOperator
with DAG({dag!r}, start_date=datetime(2025, 1, 1), schedule=None, doc_md=f"in {{__file__}}"):
    EmptyOperator(task_id={task!r})
"""


class Host:
    """Releases with a link to the one that is served, and a scheduler that reads it."""

    def __init__(self, metadata: Metadata, home: Path) -> None:
        self.metadata, self.code = metadata, home / "code"
        for release, files in {
            "1": {"one.py": DAG_FILE.format(dag="one", task="first")},
            # Its name begins like the other's: only whole paths may be moved.
            "10": {
                "one.py": DAG_FILE.format(dag="one", task="second"),
                "two.py": DAG_FILE.format(dag="two", task="first"),
            },
            "bad": {
                "one.py": DAG_FILE.format(dag="one", task="x"),
                "bad.py": "from airflow import DAG\n1 / 0\n",
            },
        }.items():
            for name, text in files.items():
                path = self.code / "releases" / release / "airflow" / "dags" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.environ = airflow_environ(
            metadata.url,
            home,
            AIRFLOW__CORE__DAGS_FOLDER=str(self.code / "current" / "airflow" / "dags"),
            AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
            # Only `reparse` has files read again within this test.
            AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL="600",
            AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL="600",
        )
        self.switch("1")
        self.log = (home / "scheduler.log").open("wb")
        self.scheduler = subprocess.Popen(
            ["airflow", "scheduler", "--skip-serve-logs"],
            env=self.environ, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def switch(self, release: str) -> None:
        link = self.code / "next"
        link.symlink_to(f"releases/{release}")
        link.replace(self.code / "current")

    def hashes(self, release: str) -> str:
        """What the gate expects of a release that is not served yet."""
        lies = self.code / "releases" / release
        done = subprocess.run(
            [
                sys.executable, str(GATE), "--skip", "policy,fernet,databases,dbt",
                "--serve-as", f"{lies}={self.code / 'current'}",
            ],
            env={**self.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(lies / "airflow" / "dags")},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def live(self, since: str, expect: str, limit: int = 90) -> Done:
        arguments = ("--since", since, "--expect", expect, "--limit", str(limit))
        return ask(self.metadata.url, "live", *arguments)

    def close(self) -> None:
        if self.scheduler.poll() is None:
            self.scheduler.send_signal(signal.SIGTERM)
            try:
                self.scheduler.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self.scheduler.pid, signal.SIGKILL)
                self.scheduler.wait()
        self.log.close()


def test_a_release_goes_live_without_a_restart(clean: Metadata, tmp_path: Path) -> None:
    since = answer(ask(clean.url, "state"))["now"]
    host = Host(clean, tmp_path)
    try:
        first, second = host.hashes("1"), host.hashes("10")
        assert answer(host.live(since, first))["seconds"] >= 0
        assert answer(ask(clean.url, "state"))["heartbeat"] < 60

        host.switch("10")
        assert host.live(since, second, 0).returncode == 1  # it is not read by itself
        since = answer(ask(clean.url, "reparse"))["since"]
        answer(host.live(since, second))

        host.switch("bad")
        since = answer(ask(clean.url, "reparse"))["since"]
        begun = time.monotonic()
        refused = host.live(since, second, 300)
        assert refused.returncode == 1
        assert time.monotonic() - begun < 120
        assert "bad.py cannot be imported:" in refused.stderr
        assert "ZeroDivisionError" in refused.stderr

        # Back at once, while the process that reads has hardly begun.
        host.switch("10")
        answer(ask(clean.url, "reparse"))
        since = answer(ask(clean.url, "reparse"))["since"]
        answer(host.live(since, second))
        assert answer(ask(clean.url, "state"))["import_errors"] == []
        assert host.scheduler.poll() is None
    finally:
        host.close()
    nobody = ask(clean.url, "reparse")
    assert nobody.returncode == 1
    assert "finding the process that reads DAG files: there is none" in nobody.stderr

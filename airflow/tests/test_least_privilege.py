"""What the account of the command line may do over REST, asked of a real webserver; no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from airflow_bed import BOOTSTRAP, Metadata, airflow_environ

XTASK = ("xtask", "staple 4711 orchard")
KEEPER = ("keeper", "correct horse battery")
NIGHT = ("night", "on call 24 hours")

SERVER = """
import base64, json, sys
from airflow.www.app import create_app
app = create_app()
client = app.test_client()
print("ready", flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    token = base64.b64encode(f"{ask['user']}:{ask['password']}".encode()).decode()
    answer = client.open(ask["path"], method=ask["method"], json=ask["body"],
                         headers={"Authorization": f"Basic {token}"})
    body = answer.get_data(as_text=True)
    print("answer " + json.dumps([answer.status_code, body]), flush=True)
"""


@dataclass
class Api:
    """Airflow's own WSGI application in a process of its own, asked as a client would."""

    process: subprocess.Popen[str]

    def ask(
        self, method: str, path: str, body: object = None, *, account: tuple[str, str] = XTASK
    ) -> tuple[int, str]:
        user, password = account
        ask = {"method": method, "path": f"/api/v1{path}", "body": body}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**ask, "user": user, "password": password}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                status, text = json.loads(line.removeprefix("answer "))
                return status, text
        pytest.fail("the webserver ended")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    metadata = Metadata()
    home = tmp_path_factory.mktemp("web")
    environ = airflow_environ(
        metadata.url, home,
        AIRFLOW_OPERATOR_USERNAME=NIGHT[0],
        AIRFLOW_OPERATOR_PASSWORD=NIGHT[1],
        AIRFLOW_OPERATOR_EMAIL="night@example.org",
    )  # fmt: skip
    subprocess.run([sys.executable, str(BOOTSTRAP)], env=environ, check=True, capture_output=True)
    # Another DAG, which the account has no business to start.
    metadata.query(
        "insert into dag (dag_id, is_active, is_paused, has_task_concurrency_limits,"
        " max_active_tasks, fileloc)"
        " values ('other', true, false, false, 1, '/x')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert any(line == "ready\n" for line in process.stdout)
    api = Api(process)
    status, _ = api.ask("POST", "/dags/etl_pipeline/dagRuns", {"dag_run_id": "made-by-test"})
    assert status == 200
    yield api
    process.stdin.close()  # type: ignore[union-attr]
    process.wait(timeout=30)
    metadata.drop()


RUN = "/dags/etl_pipeline/dagRuns/made-by-test"

ALLOWED = [
    ("GET", "/health", None),
    ("GET", "/version", None),
    ("GET", "/dags", None),
    ("GET", "/dags/etl_pipeline", None),
    ("GET", "/dags/etl_pipeline/details", None),
    ("GET", "/dags/etl_pipeline/tasks", None),
    ("GET", "/dags/etl_pipeline/dagRuns", None),
    ("GET", "/dags/~/dagRuns", None),
    ("GET", RUN, None),
    ("GET", f"{RUN}/taskInstances", None),
    ("GET", f"{RUN}/taskInstances/guard", None),
    ("GET", f"{RUN}/taskInstances/guard/logs/1", None),
    ("GET", "/importErrors", None),
    (
        "POST",
        "/dags/etl_pipeline/dagRuns",
        {"conf": {"ignore_business_hours": True, "full_refresh": True}},
    ),
]

REFUSED = [
    ("GET", "/variables", None),
    ("GET", "/variables/project_root", None),
    ("POST", "/variables", {"key": "ignore_business_hours", "value": "true"}),
    ("DELETE", "/variables/project_root", None),
    ("GET", "/connections", None),
    ("POST", "/connections", {"connection_id": "x", "conn_type": "http"}),
    ("GET", "/pools", None),
    ("PATCH", "/pools/default_pool", {"slots": 0}),
    ("GET", "/users", None),
    ("POST", "/users", {"username": "x"}),
    ("GET", "/roles", None),
    ("GET", "/permissions", None),
    ("GET", "/config", None),
    ("GET", "/eventLogs", None),
    ("GET", "/plugins", None),
    ("GET", "/providers", None),
    ("GET", "/datasets", None),
    ("GET", f"{RUN}/taskInstances/guard/xcomEntries", None),
    ("DELETE", "/dags/etl_pipeline", None),
    ("DELETE", RUN, None),
    ("PATCH", RUN, {"state": "success"}),
    ("POST", f"{RUN}/clear", {"dry_run": False}),
    ("POST", "/dags/etl_pipeline/clearTaskInstances", {"dry_run": False}),
    ("PATCH", f"{RUN}/taskInstances/guard", {"new_state": "success", "dry_run": False}),
    ("POST", "/dags/other/dagRuns", {}),
    ("PATCH", "/dags/other", {"is_paused": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), ALLOWED)
def test_allowed(api: Api, method: str, path: str, body: object) -> None:
    status, text = api.ask(method, path, body)
    # The log of a task that has not run is not found; the question was allowed.
    assert status == 200 or (path.endswith("/logs/1") and status == 404), text


@pytest.mark.parametrize(("method", "path", "body"), REFUSED)
def test_refused(api: Api, method: str, path: str, body: object) -> None:
    status, text = api.ask(method, path, body)
    assert status == 403, text


OPERATES = [
    *(ask for ask in ALLOWED if ask[0] == "GET"),
    ("GET", "/eventLogs", None),
    ("GET", "/datasets", None),
    ("GET", f"{RUN}/taskInstances/guard/xcomEntries", None),
    ("POST", "/dags/etl_pipeline/dagRuns", {}),
    ("PATCH", RUN, {"state": "failed"}),
    ("POST", f"{RUN}/clear", {"dry_run": False}),
    ("POST", "/dags/etl_pipeline/clearTaskInstances", {"dry_run": False, "dag_run_id": RUN[-12:]}),
    (
        "POST",
        "/dags/etl_pipeline/updateTaskInstancesState",
        {
            "task_id": "guard",
            "dag_run_id": RUN[-12:],
            "new_state": "success",
            "dry_run": False,
            **dict.fromkeys(
                ("include_upstream", "include_downstream", "include_future", "include_past"), False
            ),
        },
    ),
    ("PATCH", "/dags/etl_pipeline", {"is_paused": True}),
    ("PATCH", "/dags/etl_pipeline", {"is_paused": False}),
]

NOT_AN_OPERATORS = [
    ("GET", "/variables", None),
    ("GET", "/variables/project_root", None),
    ("POST", "/variables", {"key": "ignore_business_hours", "value": "true"}),
    ("GET", "/connections", None),
    ("POST", "/connections", {"connection_id": "x", "conn_type": "http"}),
    ("GET", "/pools", None),
    ("PATCH", "/pools/default_pool", {"slots": 0}),
    ("GET", "/users", None),
    ("POST", "/users", {"username": "x"}),
    ("GET", "/roles", None),
    ("GET", "/permissions", None),
    ("GET", "/config", None),
    ("DELETE", "/dags/etl_pipeline", None),
    ("DELETE", RUN, None),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATES)
def test_an_operator_may(api: Api, method: str, path: str, body: object) -> None:
    status, text = api.ask(method, path, body, account=NIGHT)
    assert status == 200 or (path.endswith("/logs/1") and status == 404), text


@pytest.mark.parametrize(("method", "path", "body"), NOT_AN_OPERATORS)
def test_an_operator_may_not(api: Api, method: str, path: str, body: object) -> None:
    status, text = api.ask(method, path, body, account=NIGHT)
    assert status == 403, text


@pytest.mark.parametrize(("method", "path", "body"), REFUSED[:3])
def test_the_administrator_may(api: Api, method: str, path: str, body: object) -> None:
    """The 403s above come from the role, not from questions that nobody could ask."""
    status, text = api.ask(method, path, body, account=KEEPER)
    assert status == 200, text


def test_a_wrong_password_is_401(api: Api) -> None:
    assert api.ask("GET", "/dags", account=("xtask", "wrong"))[0] == 401


def test_a_parameter_of_the_wrong_type_starts_nothing(api: Api) -> None:
    before = api.ask("GET", "/dags/etl_pipeline/dagRuns")[1]
    status, _ = api.ask(
        "POST", "/dags/etl_pipeline/dagRuns", {"conf": {"ignore_business_hours": "yes please"}}
    )
    assert status >= 400  # 500 in Airflow 2.7.1, whose fault it is
    assert api.ask("GET", "/dags/etl_pipeline/dagRuns")[1] == before


def test_bootstrap_after_the_webserver_finds_nothing_to_do(api: Api, tmp_path: Path) -> None:
    """The webserver adds permissions of its own at start; the role must be stable under that."""
    url = next(
        line.split("=", 1)[1]
        for line in Path(f"/proc/{api.process.pid}/environ").read_text().split("\0")
        if line.startswith("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=")
    )
    done = subprocess.run(
        [sys.executable, str(BOOTSTRAP)],
        env=airflow_environ(url, tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("nothing to do")

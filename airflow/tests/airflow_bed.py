"""What the tests of Airflow stand on: a database of their own, an environment, Slack's side."""

from __future__ import annotations

import json
import os
import secrets
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

AIRFLOW_DIR = Path(__file__).resolve().parents[1]
REPOSITORY = AIRFLOW_DIR.parent
DAGS = AIRFLOW_DIR / "dags"
BOOTSTRAP = AIRFLOW_DIR / "bootstrap" / "bootstrap.py"
RELEASE = AIRFLOW_DIR / "release"
CONN = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
GIVEN = os.environ.get(CONN, "")

# Two Fernet keys that only these tests know.
FERNET_KEY = "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs="
OTHER_FERNET_KEY = "9Np8J6mWmxVjvqYxIPn1zJ8mJ1Hqv5d1m9x5mJ3l3kE="


class Metadata:
    """A schema in the runner's database. `url` makes it the only one that a connection sees."""

    def __init__(self) -> None:
        if not GIVEN.startswith("postgresql"):
            pytest.fail(f"{CONN} must name a PostgreSQL database for these tests", pytrace=False)
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.pool import NullPool

        self.schema = f"test_{secrets.token_hex(6)}"
        self.given = make_url(GIVEN)
        self.url = self.given.set(
            query={**self.given.query, "options": f"-csearch_path={self.schema}"}
        ).render_as_string(hide_password=False)
        self.admin = create_engine(self.given, poolclass=NullPool)
        self.engine = create_engine(self.url, poolclass=NullPool)
        with self.admin.begin() as connection:
            connection.execute(f"create schema {self.schema}")

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            result = connection.execute(sql, *arguments)
            return [tuple(row) for row in result] if result.returns_rows else []

    def drop(self) -> None:
        with self.admin.begin() as connection:
            connection.execute(f"drop schema {self.schema} cascade")


def airflow_environ(url: str, home: Path, **more: str) -> dict[str, str]:
    """The environment of an Airflow process of these tests: the container's, but for its state."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "ETL_", "DBT_"))}
    path = [str(REPOSITORY / "etl_pipeline"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "AIRFLOW_HOME": str(home),
        CONN: url,
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
        "AIRFLOW__WEBSERVER__SECRET_KEY": "of-these-tests",
        "AIRFLOW__WEBSERVER__BASE_URL": "http://airflow.test:8080",
        "AIRFLOW_ADMIN_USERNAME": "keeper",
        "AIRFLOW_ADMIN_PASSWORD": "correct horse battery",
        "AIRFLOW_ADMIN_EMAIL": "keeper@example.org",
        "AIRFLOW_API_USERNAME": "xtask",
        "AIRFLOW_API_PASSWORD": "staple 4711 orchard",
        **more,
    }


class Slack:
    """Slack's side of a webhook: an HTTP server that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                slack.messages.append(json.loads(body)["text"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T/B/of-these-tests"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

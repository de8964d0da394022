"""The gate before a release, as a deploy runs it: one process, told by its environment."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
import yaml
from airflow_bed import (
    DAGS,
    OTHER_FERNET_KEY,
    RELEASE,
    REPOSITORY,
    Metadata,
    airflow_environ,
)
from cryptography.fernet import Fernet

GATE = RELEASE / "gate.py"
CHECKS = ["dags", "policy", "metadata", "fernet", "source", "analytics", "dbt"]
PROJECT = REPOSITORY / "dbt_dental_models"
Done = subprocess.CompletedProcess[str]


def gate(environ: dict[str, str], *arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, str(GATE), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def needed() -> list[str]:
    sources = yaml.safe_load(
        (PROJECT / "models/staging/opendental/_opendental__sources.yml").read_text()
    )["sources"]
    return [table["name"] for table in sources[0]["tables"]]


@pytest.fixture
def source() -> Iterator[str]:
    """A database in the source's server, with the tables that dbt's models need, empty."""
    name = f"gate_{secrets.token_hex(5)}"
    server = pymysql.connect(
        host=os.environ["TEST_SOURCE_HOST"],
        port=int(os.environ["TEST_SOURCE_PORT"]),
        user=os.environ["TEST_SOURCE_USER"],
        password=os.environ["TEST_SOURCE_PASSWORD"],
    )
    with server, server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        for table in needed():
            cursor.execute(f"CREATE TABLE {name}.{table} (id INT PRIMARY KEY)")
        try:
            yield name
        finally:
            cursor.execute(f"DROP DATABASE {name}")


def release_environ(metadata: Metadata, home: Path, source: str, **more: str) -> dict[str, str]:
    given = os.environ
    settings = {
        **{
            f"OPENDENTAL_SOURCE_{name}": given[f"TEST_SOURCE_{name}"]
            for name in ("HOST", "PORT", "USER", "PASSWORD")
        },
        **{
            f"POSTGRES_ANALYTICS_{name}": given[f"TEST_ANALYTICS_{name}"]
            for name in ("HOST", "PORT", "USER", "PASSWORD", "DB")
        },
        "OPENDENTAL_SOURCE_DB": source,
        "PROJECT_ROOT": str(REPOSITORY),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    return airflow_environ(metadata.url, home, **{**settings, **more})


def test_a_good_release_before_there_is_a_schema(
    fresh: Metadata, tmp_path: Path, source: str
) -> None:
    before = sorted(PROJECT.rglob("*"))
    environ = release_environ(fresh, tmp_path, source)
    done = gate(environ, "--dags", "etl_pipeline", "--dbt-manifest")
    assert done.returncode == 0, done.stderr
    found, manifest = (json.loads(line) for line in done.stdout.splitlines())
    assert "model.dbt_dental_models.mart_daily_production" in manifest["nodes"]
    assert list(found) == ["dags", "checks"]
    assert list(found["dags"]) == ["etl_pipeline"]
    assert [check["name"] for check in found["checks"]] == CHECKS
    assert all(check["seconds"] >= 0 for check in found["checks"])
    told = [f"{check['name']} {check['seconds']} s" for check in found["checks"]]
    assert done.stderr.splitlines() == told
    assert sorted(PROJECT.rglob("*")) == before
    assert fresh.query("select count(*) from pg_tables where schemaname = current_schema()") == [
        (0,)
    ]


BAD_DAG = """
print("hidden-word of a DAG on standard output")
from airflow import DAG
import pendulum
dag = DAG("bare", start_date=pendulum.datetime(2025, 1, 1), schedule=None)
"""


def test_all_that_fails_is_told_together(migrated: Metadata, tmp_path: Path, source: str) -> None:
    dags = tmp_path / "release" / "airflow" / "dags"
    dags.mkdir(parents=True)
    (dags / "bare.py").write_text(BAD_DAG)
    (dags / "broken.py").write_text("from airflow import DAG\n\nimport no_such_module\n")
    project = tmp_path / "release" / "dbt_dental_models"
    shutil.copytree(PROJECT, project)
    (project / "models" / "wrong.sql").write_text("select * from {{ ref('no_such_model') }}\n")
    token = Fernet(OTHER_FERNET_KEY.encode()).encrypt(b"hidden-word").decode()
    migrated.query("delete from variable")
    migrated.query("insert into variable (key, val, is_encrypted) values ('v', %s, true)", token)
    try:
        done = gate(
            release_environ(
                migrated, tmp_path / "home", source,
                AIRFLOW__CORE__DAGS_FOLDER=str(dags),
                PROJECT_ROOT=str(tmp_path / "release"),
                DBT_PROJECT_DIR=str(project),
                OPENDENTAL_SOURCE_PASSWORD="hidden-word-1",
                POSTGRES_ANALYTICS_PASSWORD="hidden-word-2",
            ),
            "--dags", "bare,etl_pipeline",
        )  # fmt: skip
    finally:
        migrated.query("delete from variable")
    assert (done.returncode, done.stdout) == (1, "")
    text = done.stderr
    failing = [name for name in CHECKS if name != "metadata"]
    assert text.count("\nhint: ") == text.count("error: ") == len(failing), text
    for name in failing:
        assert f"{name} failed, " in text
    assert "No module named 'no_such_module'" in text
    assert "there is no DAG etl_pipeline\nhint: mend airflow/dags/broken.py, line 3 and " in text
    assert "holding the DAGs to the policy: bare: has no doc_md; " in text
    assert "is not the key they were made with (variable v)" in text
    assert "no_such_model" in text
    assert "hidden-word" not in text.replace("hidden-word of a DAG", "")


def test_what_is_skipped_is_said_and_not_looked_at(migrated: Metadata, tmp_path: Path) -> None:
    environ = release_environ(
        migrated, tmp_path, "no_such_database", OPENDENTAL_SOURCE_PASSWORD="", DBT_PROJECT_DIR="/no"
    )
    done = gate(environ, "--skip", "source,analytics,dbt,metadata,fernet")
    assert done.returncode == 0, done.stderr
    skipped = {"metadata", "fernet", "source", "analytics", "dbt"}
    assert {n for line in done.stderr.splitlines() for n, _, end in [line.partition(" ")]
            if end == "skipped"} == skipped  # fmt: skip
    checks = json.loads(done.stdout)["checks"]
    assert {check["name"] for check in checks if check["seconds"] is None} == skipped


def test_grants_that_a_night_needs_are_named(
    migrated: Metadata, tmp_path: Path, source: str
) -> None:
    server = pymysql.connect(
        host=os.environ["TEST_SOURCE_HOST"],
        port=int(os.environ["TEST_SOURCE_PORT"]),
        user=os.environ["TEST_SOURCE_USER"],
        password=os.environ["TEST_SOURCE_PASSWORD"],
    )
    reader, word = source.replace("gate", "reader"), secrets.token_hex(12)
    with server, server.cursor() as cursor:
        cursor.execute(f"CREATE USER {reader} IDENTIFIED BY '{word}'")
        for table in needed():
            if table not in ("patient", "recall"):
                cursor.execute(f"GRANT SELECT ON {source}.{table} TO {reader}")
        cursor.execute(f"GRANT INSERT ON {source}.patient TO {reader}")
        cursor.execute(f"DROP TABLE {source}.adjustment")
        migrated.query(f"create role {reader} login password '{word}'")
        try:
            done = gate(
                release_environ(
                    migrated, tmp_path, source,
                    OPENDENTAL_SOURCE_USER=reader,
                    OPENDENTAL_SOURCE_PASSWORD=word,
                    POSTGRES_ANALYTICS_USER=reader,
                    POSTGRES_ANALYTICS_PASSWORD=word,
                    ETL_ENVIRONMENT="clinic",
                ),
                "--skip", "dags,policy,metadata,fernet,dbt",
            )  # fmt: skip
        finally:
            migrated.query(f"drop role {reader}")
            cursor.execute(f"DROP USER {reader}")
    assert done.returncode == 1
    assert f"{reader} cannot read adjustment, patient, recall of {source}" in done.stderr
    assert f"the account {reader} may write (INSERT)" in done.stderr
    assert f"{reader} may not create in schemas raw, etl, int, marts, staging" in done.stderr
    assert word not in done.stdout + done.stderr


def test_a_metadata_database_elsewhere_has_to_be_reached_by_tls(
    migrated: Metadata, tmp_path: Path
) -> None:
    only = ("--skip", "dags,policy,fernet,databases,dbt")
    assert gate(airflow_environ(migrated.url, tmp_path), *only).returncode == 0
    # By another name it is somebody else's; the server of these tests has no certificate.
    host = migrated.given.host
    assert host
    elsewhere = migrated.url.replace(f"@{host}:", f"@{socket.gethostbyname(host)}:")
    done = gate(airflow_environ(elsewhere, tmp_path), *only)
    assert done.returncode == 1
    assert "it is not by TLS\nhint: " in done.stderr


def test_without_a_key_nothing_is_taken_for_open(migrated: Metadata, tmp_path: Path) -> None:
    environ = airflow_environ(migrated.url, tmp_path, AIRFLOW__CORE__FERNET_KEY="")
    done = gate(environ, "--skip", "dags,policy,metadata,databases,dbt")
    assert done.returncode == 1
    assert "AIRFLOW__CORE__FERNET_KEY is not set\nhint: " in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--skip", "dgas"), ("--serve-as", "/a"), ("--serve-as", "=/b"), ("--nothing",)]
)
def test_wrong_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    unreachable = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none"
    assert gate(airflow_environ(unreachable, tmp_path), *arguments).returncode == 2


def test_only_the_whole_path_moves() -> None:
    sys.path[:0] = [str(RELEASE)]
    from gate import Served

    served = Served("/code/releases/1/", "/code/current")
    there = {
        "fileloc": "/code/releases/1/airflow/dags/one.py",
        "list": ["/code/releases/1", "/code/releases/10/x", "/code/releases/1-old"],
        "within": "run /code/releases/1/x, not /old/code/releases/1/x",
        "number": 1,
    }
    assert served(there) == {
        "fileloc": "/code/current/airflow/dags/one.py",
        "list": ["/code/current", "/code/releases/10/x", "/code/releases/1-old"],
        "within": "run /code/current/x, not /old/code/releases/1/x",
        "number": 1,
    }
    assert Served()(there) == there


SYNC = """
from airflow.models import DagBag
DagBag(include_examples=False, read_dags_from_db=False).sync_to_db()
"""


def test_the_hash_is_the_one_that_airflow_writes_where_it_is_served(
    migrated: Metadata, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    lies = code / "releases" / "1"
    shutil.copytree(DAGS, lies / "airflow" / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (code / "current").symlink_to("releases/1")

    def environ(root: Path) -> dict[str, str]:
        folder = str(root / "airflow" / "dags")
        return airflow_environ(migrated.url, tmp_path / "home", AIRFLOW__CORE__DAGS_FOLDER=folder)

    only = ("--skip", "policy,metadata,fernet,databases,dbt")
    moved = gate(environ(lies), *only, "--serve-as", f"{lies}={code / 'current'}")
    unmoved = gate(environ(lies), *only)
    migrated.query("delete from serialized_dag")
    subprocess.run(
        [sys.executable, "-c", SYNC], env=environ(code / "current"), check=True, capture_output=True
    )
    written = dict(migrated.query("select dag_id, dag_hash from serialized_dag"))  # type: ignore[arg-type]
    migrated.query("delete from serialized_dag")
    assert json.loads(moved.stdout)["dags"] == written
    assert json.loads(unmoved.stdout)["dags"] != written

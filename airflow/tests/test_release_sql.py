"""The prompt for a database that has no client on its host: a real metadata database."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from airflow_bed import CONN, RELEASE, REPOSITORY, Metadata

Done = subprocess.CompletedProcess[str]


def sql(url: str, *arguments: str, typed: str = "") -> Done:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "etl_pipeline")}
    return subprocess.run(
        [sys.executable, str(RELEASE / "sql.py"), *arguments],
        env={**environ, CONN: url},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_statement_and_its_rows(fresh: Metadata) -> None:
    done = sql(fresh.url, "metadata", "select 1 as one, null as none union all select 2, 'two'")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "one\tnone\n1\t\n2\ttwo\n"


def test_statements_by_standard_input(fresh: Metadata) -> None:
    typed = "create table t (a int);\ninsert into t\nvalues (1), (2);\nselect sum(a)\nfrom t"
    done = sql(fresh.url, "metadata", typed=typed)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "sum\n3\n")
    assert fresh.query("select count(*) from t") == [(2,)]


def test_the_first_statement_that_fails_is_the_last(fresh: Metadata) -> None:
    done = sql(fresh.url, "metadata", typed="select 1 as one;\nselect x;\nselect 2 as two;\n")
    assert (done.returncode, done.stdout) == (1, "one\n1\n")
    assert done.stderr.startswith('error: column "x" does not exist\n')
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("", 2, "it is not set"),
        ("postgresql://airflow:secret-word@127.0.0.1:1/airflow", 1, "Connection refused"),
    ],
)
def test_no_connection(url: str, code: int, said: str) -> None:
    done = sql(url, "metadata", "select 1")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "secret-word" not in done.stderr
    assert "Traceback" not in done.stderr

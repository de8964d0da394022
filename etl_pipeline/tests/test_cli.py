"""The command line as a person and a script meet it: exit status, stdout, stderr."""

from __future__ import annotations

import json
import re

import pytest
from scratch import Databases

from etl_pipeline import pipeline

pytestmark = pytest.mark.database


@pytest.fixture
def small(databases: Databases) -> Databases:
    databases.on_source(
        "CREATE TABLE definition (DefNum bigint PRIMARY KEY, ItemName varchar(20)) ENGINE=MyISAM",
        "INSERT INTO definition VALUES (1, 'one'), (2, 'two')",
        "CREATE TABLE tmpimages (id int PRIMARY KEY) ENGINE=MyISAM",
    )
    return databases


def test_plan_text(small: Databases) -> None:
    done = small.cli("plan")
    assert done.returncode == 0
    assert done.stdout == (
        "table       action    rows there  reason\n"
        "definition  full               2  first load\n"
        "tmpimages   excluded           0  conversion leftover\n"
        "2 tables: 1 full, 1 excluded\n"
    )
    assert done.stderr == ""


def test_dry_run_changes_nothing_and_prints_the_plan_as_json(small: Databases) -> None:
    done = small.cli("run", "--dry-run", "--json", "--table", "definition")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "tables": [
            {
                "table": "definition",
                "action": "full",
                "reason": "first load",
                "hint": "",
                "since": None,
                "estimated_rows": 2,
                "create": True,
                "new_columns": [],
                "removed": [],
                "widened": {},
            }
        ]
    }
    schemas = "select count(*) from pg_namespace where nspname in ('raw', 'etl')"
    assert small.on_analytics(schemas) == [(0,)]


def test_run_json(small: Databases) -> None:
    done = small.cli("run", "--run-id", "r7", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert isinstance(result["tables"][0].pop("seconds"), float)
    assert isinstance(result["tables"][0].pop("longest_read"), float)
    assert result == {
        "run_id": "r7",
        "ok": True,
        "rows": 2,
        "tables": [
            {
                "table": "definition",
                "strategy": "full",
                "rows_read": 2,
                "rows_written": 2,
                "rows_after": 2,
                # 1,<01>one<01> and 2,<01>two<01> with their line ends
                "bytes": 16,
                "watermark": None,
                "error": None,
                "lag": None,
            }
        ],
    }
    assert re.fullmatch(
        r"\[1/1\] definition: full, 2 rows read, 2 written, \d+\.\d\d s\n", done.stderr
    )


def test_run_verify_status_text(small: Databases) -> None:
    assert small.cli("status").stdout == "no run yet\n"
    assert small.cli("verify").returncode == 1
    run = small.cli("run", "--run-id", "r7")
    assert re.sub(r"\d+\.\d+", "T", run.stdout) == (
        "run r7: success in T s (demo)\n"
        "table       strategy  read  written  seconds\n"
        "definition  full         2        2     T\n"
        "total                    2        2\n"
    )
    assert small.cli("verify").stdout == "1 of 1 tables match the source\n"
    assert small.cli("status").stdout.splitlines()[1:] == [
        "table       rows  changed up to (UTC)  hours since load",
        "definition     2                    -               0.0",
    ]


def test_hints_are_what_a_person_types_where_the_environment_says_so(small: Databases) -> None:
    unknown = ("plan", "--table", "nowhere")
    assert "\nhint: `python -m etl_pipeline plan` lists" in small.cli(*unknown).stderr
    assert "\nhint: python -m etl_pipeline run\n" in small.cli("verify").stderr
    small.environ |= {"ETL_COMMAND": "tool etl --", "NIGHTLY_COMMAND": "tool nightly"}
    assert "\nhint: `tool etl -- plan` lists" in small.cli(*unknown).stderr
    assert "\nhint: tool nightly\n" in small.cli("verify").stderr
    told = small.cli("--help").stdout
    assert "  tool etl -- verify   " in told
    assert "python -m" not in told


def test_settings_and_usage_exit_2(small: Databases) -> None:
    small.environ["OPENDENTAL_SOURCE_PORT"] = "99999"
    done = small.cli("run")
    del small.environ["OPENDENTAL_SOURCE_PORT"]
    assert done.returncode == 2
    assert done.stderr.startswith("error: reading the settings: OPENDENTAL_SOURCE_PORT is not")
    assert "\nhint: " in done.stderr
    assert small.cli("dance").returncode == 2


def test_unknown_and_excluded_tables_exit_1_with_a_hint(small: Databases) -> None:
    for name in ("nowhere", "tmpimages"):
        done = small.cli("run", "--table", name)
        assert done.returncode == 1
        assert f"planning table {name}" in done.stderr
        assert "\nhint: " in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OPENDENTAL_SOURCE_PASSWORD": "wr0ng-canary"}, "refused the user or its password"),
        ({"OPENDENTAL_SOURCE_HOST": "nowhere.invalid"}, "host name is unknown"),
        ({"OPENDENTAL_SOURCE_PORT": "1"}, "nothing listens there"),
        ({"OPENDENTAL_SOURCE_DB": "no_such_db"}, "database no_such_db does not exist"),
        ({"OPENDENTAL_SOURCE_SSL_MODE": "required"}, "does not offer TLS"),
        ({"POSTGRES_ANALYTICS_HOST": "nowhere.invalid"}, "host name is unknown"),
        ({"POSTGRES_ANALYTICS_PORT": "1"}, "nothing listens there"),
        ({"POSTGRES_ANALYTICS_DB": "no_such_db"}, "database no_such_db or the role"),
        ({"POSTGRES_ANALYTICS_PASSWORD": "wr0ng-canary"}, "refused the user or its password"),
        ({"POSTGRES_ANALYTICS_SSLMODE": "verify-full"}, "TLS"),
    ],
)
def test_connection_errors_are_explained(
    small: Databases, changes: dict[str, str], words: str
) -> None:
    small.environ.update(changes)
    done = small.cli("test-connections")
    assert done.returncode == 1
    assert words in done.stdout
    assert "hint: " in done.stdout
    assert "wr0ng-canary" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # A VPN may come up and a server start; a login stays what it is.
    lasting = any(name.endswith(("PASSWORD", "DB")) for name in changes)
    assert pipeline.check(small.settings).lasting is lasting


def test_an_account_that_may_write_is_an_error_at_the_clinic(small: Databases) -> None:
    assert "warning: source: the account" in small.cli("test-connections").stdout
    small.environ["ETL_ENVIRONMENT"] = "clinic"
    done = small.cli("test-connections")
    assert done.returncode == 1
    assert "error: source: the account" in done.stdout


def test_the_source_session_cannot_write(small: Databases) -> None:
    from pymysql import MySQLError

    from etl_pipeline.source import Source

    with Source(small.settings.source) as source, pytest.raises(MySQLError, match="1792"):
        source.rows("DELETE FROM definition")

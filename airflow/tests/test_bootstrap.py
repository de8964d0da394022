"""airflow-init against a real Postgres: what it makes, that it makes it once, and what stops it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow_bed import AIRFLOW_DIR, OTHER_FERNET_KEY, Metadata, airflow_environ

Run = Callable[..., subprocess.CompletedProcess[str]]
PAUSED = "select is_paused from dag where dag_id = 'etl_pipeline'"
VARIABLES = "select key from variable order by key"


def test_an_empty_database_then_nothing_to_do(fresh: Metadata, bootstrap: Run) -> None:
    first = bootstrap(fresh.url)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].startswith("migrate the metadata database from empty to ")
    assert "create the user keeper (Admin)" in lines
    # A role that is new is one line, whatever it may do.
    assert any(line.startswith("create the role Pipeline with ") for line in lines)
    assert not any(line.startswith("give the role ") for line in lines)
    assert "create the user xtask (Pipeline)" in lines
    assert "unpause the DAG etl_pipeline" in lines
    assert fresh.query(PAUSED) == [(False,)]
    assert fresh.query(VARIABLES) == [
        ("bootstrap_unpaused",), ("dbt_target",), ("etl_environment",), ("project_root",),
    ]  # fmt: skip
    assert fresh.query("select bool_and(is_encrypted) from variable") == [(True,)]
    assert fresh.query(
        "select u.username, r.name from ab_user u join ab_user_role x on x.user_id = u.id"
        " join ab_role r on r.id = x.role_id order by 1"
    ) == [("keeper", "Admin"), ("xtask", "Pipeline")]

    again = bootstrap(fresh.url)
    assert again.returncode == 0
    assert again.stdout.startswith("nothing to do (")
    assert len(again.stdout.splitlines()) == 1
    check = bootstrap(fresh.url, "--check")
    assert (check.returncode, check.stdout[:13]) == (0, "nothing to do")


def test_check_changes_nothing(fresh: Metadata, bootstrap: Run) -> None:
    empty = bootstrap(fresh.url, "--check")
    assert empty.returncode == 3
    assert empty.stdout.startswith("would migrate the metadata database from empty")
    assert fresh.query("select count(*) from pg_tables where schemaname = current_schema()") == [
        (0,)
    ]

    assert bootstrap(fresh.url).returncode == 0
    fresh.query("delete from variable where key = 'dbt_target'")
    partial = bootstrap(fresh.url, "--check")
    assert partial.returncode == 3
    assert partial.stdout.splitlines()[:-1] == ["would create the variable dbt_target = local"]
    assert ("dbt_target",) not in fresh.query(VARIABLES)


def test_what_a_person_changed_stays(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    fresh.query("update dag set is_paused = true")
    fresh.query("update variable set val = 'clinic', is_encrypted = false where key = 'dbt_target'")
    again = bootstrap(fresh.url)
    assert again.returncode == 0
    assert again.stdout.splitlines()[0].startswith("kept the variable dbt_target: it is not local")
    assert again.stdout.splitlines()[1].startswith("nothing to do")
    assert fresh.query(PAUSED) == [(True,)]
    assert fresh.query("select val from variable where key = 'dbt_target'") == [("clinic",)]


def test_a_dag_that_the_scheduler_saw_first_is_still_unpaused_once(
    fresh: Metadata, bootstrap: Run
) -> None:
    assert bootstrap(fresh.url).returncode == 0
    fresh.query("delete from variable where key = 'bootstrap_unpaused'")
    fresh.query("update dag set is_paused = true")
    assert "unpause the DAG etl_pipeline" in bootstrap(fresh.url).stdout
    assert fresh.query(PAUSED) == [(False,)]


def test_values_come_from_the_environment(fresh: Metadata, bootstrap: Run) -> None:
    done = bootstrap(fresh.url, DBT_TARGET="clinic", ETL_ENVIRONMENT="")
    assert "create the variable dbt_target = clinic" in done.stdout
    assert "create the variable etl_environment = demo" in done.stdout


@pytest.mark.parametrize("given", ["", "/opt/dbt_dental_clinic/current"])
def test_where_the_project_is(fresh: Metadata, bootstrap: Run, given: str) -> None:
    done = bootstrap(fresh.url, PROJECT_ROOT=given)
    where = given or "/opt/airflow/dbt_dental_clinic"
    assert f"create the variable project_root = {where}" in done.stdout


def test_an_operator_where_one_is_named(fresh: Metadata, bootstrap: Run) -> None:
    named = {
        "AIRFLOW_OPERATOR_USERNAME": "night",
        "AIRFLOW_OPERATOR_PASSWORD": "on call 24 hours",
        "AIRFLOW_OPERATOR_EMAIL": "night@example.org",
    }
    first = bootstrap(fresh.url, **named)
    assert first.returncode == 0, first.stderr
    assert "create the user night (Operator)" in first.stdout.splitlines()
    assert password_works(fresh, "night", "on call 24 hours")
    assert bootstrap(fresh.url, **named).stdout.startswith("nothing to do")
    # Who made itself more is put back.
    fresh.query(
        "insert into ab_user_role (id, user_id, role_id) select nextval('ab_user_role_id_seq'),"
        " u.id, r.id from ab_user u, ab_role r where u.username = 'night' and r.name = 'Admin'"
    )
    assert "give the user night the role Operator" in bootstrap(fresh.url, **named).stdout
    # Without a name nothing is asked and nobody is removed.
    assert bootstrap(fresh.url).stdout.startswith("nothing to do")


def test_what_deploy_toml_says_of_a_host(fresh: Metadata, bootstrap: Run) -> None:
    own = {"BOOTSTRAP_VARIABLES": '{"dbt_target": "clinic", "site": "north\'s $1"}'}
    first = bootstrap(fresh.url, **own, BOOTSTRAP_DAGS="etl_pipeline")
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert "create the variable dbt_target = clinic" in lines
    assert "create the variable site = north's $1" in lines
    assert fresh.query(PAUSED) == [(False,)]
    other = bootstrap(fresh.url, BOOTSTRAP_VARIABLES='{"site": "south"}')
    assert "kept the variable site: it is not south" in other.stdout
    absent = bootstrap(fresh.url, BOOTSTRAP_DAGS="etl_pipeline other_dag")
    assert absent.returncode == 1
    assert "other_dag" in absent.stderr
    for wrong in ("[]", "{", '{"a": 1}'):
        done = bootstrap(fresh.url, BOOTSTRAP_VARIABLES=wrong)
        assert (done.returncode, "BOOTSTRAP_VARIABLES" in done.stderr) == (2, True)


def password_works(metadata: Metadata, username: str, password: str) -> bool:
    from werkzeug.security import check_password_hash

    rows = metadata.query("select password from ab_user where username = %s", username)
    return check_password_hash(rows[0][0], password)


def test_the_environment_is_the_truth_for_passwords(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    new = bootstrap(fresh.url, AIRFLOW_ADMIN_PASSWORD="a new one, longer")
    assert new.stdout.splitlines()[0] == "set the password of keeper to that of the environment"
    assert "a new one" not in new.stdout + new.stderr
    assert password_works(fresh, "keeper", "a new one, longer")
    assert password_works(fresh, "xtask", "staple 4711 orchard")


def test_a_role_that_was_widened_is_narrowed(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    fresh.query(
        "insert into ab_permission_view_role (id, permission_view_id, role_id)"
        " select nextval('ab_permission_view_role_id_seq'), v.id, r.id"
        " from ab_permission_view v join ab_permission p on p.id = v.permission_id"
        " join ab_view_menu m on m.id = v.view_menu_id, ab_role r"
        " where p.name = 'can_read' and m.name = 'Variables' and r.name = 'Pipeline'"
    )
    fresh.query(
        "insert into ab_user_role (id, user_id, role_id) select nextval('ab_user_role_id_seq'),"
        " u.id, r.id from ab_user u, ab_role r where u.username = 'xtask' and r.name = 'Op'"
    )
    again = bootstrap(fresh.url).stdout.splitlines()
    assert again[0].startswith("take from the role Pipeline «can_read on Variables»")
    assert again[1] == "give the user xtask the role Pipeline"
    assert bootstrap(fresh.url).stdout.startswith("nothing to do")


def tables(metadata: Metadata) -> int:
    count: int = metadata.query(
        "select count(*) from pg_tables where schemaname = current_schema()"
    )[0][0]
    return count


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"AIRFLOW_ADMIN_PASSWORD": ""}, "AIRFLOW_ADMIN_PASSWORD is not set"),
        ({"AIRFLOW_ADMIN_PASSWORD": "changeme"}, "AIRFLOW_ADMIN_PASSWORD is still a placeholder"),
        (
            {"AIRFLOW_ADMIN_PASSWORD": "<generate me>"},
            "AIRFLOW_ADMIN_PASSWORD is still a placeholder",
        ),
        ({"AIRFLOW_API_PASSWORD": "airflow"}, "AIRFLOW_API_PASSWORD is still a placeholder"),
        ({"AIRFLOW_API_PASSWORD": "tiny77"}, "AIRFLOW_API_PASSWORD is shorter than 8"),
        ({"AIRFLOW_ADMIN_EMAIL": ""}, "AIRFLOW_ADMIN_EMAIL is not set"),
        ({"AIRFLOW_API_USERNAME": "Keeper"}, "AIRFLOW_API_USERNAME is the administrator's name"),
        ({"AIRFLOW_OPERATOR_USERNAME": "Keeper"}, "AIRFLOW_OPERATOR_USERNAME is another account's"),
        ({"AIRFLOW_OPERATOR_USERNAME": "night"}, "AIRFLOW_OPERATOR_PASSWORD is not set"),
        ({"AIRFLOW_OPERATOR_PASSWORD": "on call 24"}, "AIRFLOW_OPERATOR_USERNAME is not set"),
        ({"AIRFLOW__CORE__FERNET_KEY": ""}, "AIRFLOW__CORE__FERNET_KEY is not set"),
        ({"AIRFLOW__CORE__FERNET_KEY": "not a key at all"}, "it is no Fernet key"),
    ],
)
def test_settings_are_checked_before_anything_is_changed(
    fresh: Metadata, bootstrap: Run, change: dict[str, str], named: str
) -> None:
    done = bootstrap(fresh.url, **change)
    assert done.returncode == 2
    assert named in done.stderr
    assert "\nhint: " in done.stderr
    assert tables(fresh) == 0
    for value in change.values():
        assert value in ("", "Keeper", "night") or value not in done.stdout + done.stderr


def test_every_problem_is_named_at_once(fresh: Metadata, bootstrap: Run) -> None:
    done = bootstrap(fresh.url, unset=("AIRFLOW_ADMIN_PASSWORD", "AIRFLOW_API_PASSWORD"))
    assert "AIRFLOW_ADMIN_PASSWORD is not set; AIRFLOW_API_PASSWORD is not set" in done.stderr


def test_a_wrong_fernet_key_on_existing_secrets(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    fresh.query("delete from variable where key = 'dbt_target'")
    wrong = bootstrap(fresh.url, AIRFLOW__CORE__FERNET_KEY=OTHER_FERNET_KEY)
    assert wrong.returncode == 1
    assert "is not the key they were made with (variable bootstrap_unpaused," in wrong.stderr
    assert "hint: put the old key back" in wrong.stderr
    assert ("dbt_target",) not in fresh.query(VARIABLES), "nothing was changed"
    both = f"{OTHER_FERNET_KEY},{airflow_environ('', Path())['AIRFLOW__CORE__FERNET_KEY']}"
    assert bootstrap(fresh.url, AIRFLOW__CORE__FERNET_KEY=both).returncode == 0


@pytest.mark.parametrize(
    ("files", "reason", "places"),
    [
        (
            {"broken.py": "from airflow import DAG\nimport nowhere_to_be\n"},
            "No module named 'nowhere_to_be'",
            "airflow/dags/broken.py, line 2",
        ),
        (
            {"broken.py": "from airflow import DAG\n\nDAG(\n    'a' 7,\n)\n"},
            "invalid syntax",
            "airflow/dags/broken.py, line 4",
        ),
        (
            {
                # What a DAG imports is broken, and not the DAG.
                "dag.py": "from airflow import DAG\nimport lib.helper\n",
                "lib/helper.py": "import json\n\njson.loads('{')\n",
                "lib/__init__.py": "",
                ".airflowignore": "lib\n",
                "other.py": "from airflow import DAG\n1 / 0\n",
            },
            "ZeroDivisionError",
            "airflow/dags/lib/helper.py, line 3 and airflow/dags/other.py, line 2",
        ),
    ],
)
def test_a_dag_that_does_not_import(
    fresh: Metadata,
    bootstrap: Run,
    tmp_path: Path,
    files: dict[str, str],
    reason: str,
    places: str,
) -> None:
    for name, text in files.items():
        path = tmp_path / "dags" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = bootstrap(fresh.url, AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path / "dags"))
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.endswith(f"\nhint: mend {places}, then run `cargo xtask up` again\n")
    assert tables(fresh) == 0


@pytest.mark.parametrize("way", ["current", "releases/abc"])
def test_on_a_host_places_are_those_of_the_checkout(
    fresh: Metadata, bootstrap: Run, tmp_path: Path, way: str
) -> None:
    code = tmp_path / "code"
    for name, text in {
        "airflow/dags/dag.py": "from airflow import DAG\nimport library.helper\n",
        "airflow/dags/other.py": "from airflow import DAG\n1 / 0\n",
        "etl_pipeline/library/helper.py": "import json\n\njson.loads('{')\n",
    }.items():
        path = code / "releases" / "abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (code / "current").symlink_to("releases/abc")
    done = bootstrap(
        fresh.url,
        PROJECT_ROOT=str(code / "current"),
        AIRFLOW__CORE__DAGS_FOLDER=str(code / way / "airflow" / "dags"),
        PYTHONPATH=str(code / way / "etl_pipeline"),
    )
    places = "etl_pipeline/library/helper.py, line 3 and airflow/dags/other.py, line 2"
    assert done.stderr.endswith(f"\nhint: mend {places}, then run `cargo xtask up` again\n")


def test_an_active_dag_that_is_not_there(fresh: Metadata, bootstrap: Run, tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    done = bootstrap(fresh.url, AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path / "dags"))
    assert done.returncode == 1
    assert "there is no such DAG" in done.stderr
    assert tables(fresh) == 0


def test_a_database_from_a_newer_airflow(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    fresh.query("update alembic_version set version_num = 'ffffffffffff'")
    done = bootstrap(fresh.url)
    assert done.returncode == 1
    assert "revision ffffffffffff is unknown" in done.stderr


def test_a_database_of_an_older_airflow_is_migrated(fresh: Metadata, bootstrap: Run) -> None:
    assert bootstrap(fresh.url).returncode == 0
    head = fresh.query("select version_num from alembic_version")
    environ = airflow_environ(fresh.url, Path("/tmp"))  # noqa: S108 - not written
    subprocess.run(
        ["airflow", "db", "downgrade", "--to-version", "2.6.3", "--yes"],
        env=environ, check=True, capture_output=True,
    )  # fmt: skip
    assert fresh.query("select version_num from alembic_version") != head
    done = bootstrap(fresh.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("migrate the metadata database from ")
    assert fresh.query("select version_num from alembic_version") == head
    assert bootstrap(fresh.url).stdout.startswith("nothing to do")


def test_a_database_that_is_not_there(bootstrap: Run) -> None:
    url = "postgresql+psycopg2://airflow:hidden-word@127.0.0.1:1/airflow"
    done = bootstrap(url, "--wait", "1")
    assert done.returncode == 1
    assert "connecting to the metadata database airflow at 127.0.0.1:1" in done.stderr
    assert "hidden-word" not in done.stdout + done.stderr


def test_two_at_once_take_turns(fresh: Metadata, tmp_path: Path) -> None:
    import sys

    from airflow_bed import BOOTSTRAP

    processes = [
        subprocess.Popen(
            [sys.executable, str(BOOTSTRAP)],
            env=airflow_environ(fresh.url, tmp_path / f"home{n}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted(stdout.startswith("nothing to do") for stdout, _ in outputs) == [False, True]


OBJECTS = """
variables: {}
pools: {one: {slots: 3, description: a pool}}
connections: {hook: {conn_type: http, host: "${HOST_OF_HOOK}", password: "${SECRET_OF_HOOK}"}}
dags: {active: []}
roles: {Pipeline: [can_read on DAGs]}
"""


def test_pools_and_connections_where_absent(
    fresh: Metadata, bootstrap: Run, tmp_path: Path
) -> None:
    path = tmp_path / "objects.yml"
    path.write_text(OBJECTS)
    missing = bootstrap(fresh.url, "--objects", str(path))
    assert missing.returncode == 2
    assert "it refers to HOST_OF_HOOK, which is not set" in missing.stderr

    secret = {"HOST_OF_HOOK": "h", "SECRET_OF_HOOK": "the hook's own secret"}
    done = bootstrap(fresh.url, "--objects", str(path), **secret)
    assert done.returncode == 0, done.stderr
    assert "create the pool one with 3 slots" in done.stdout
    assert "create the connection hook (http)" in done.stdout
    assert "own secret" not in done.stdout + done.stderr
    assert fresh.query("select is_encrypted from connection") == [(True,)]
    fresh.query("update slot_pool set slots = 5 where pool = 'one'")
    again = bootstrap(fresh.url, "--objects", str(path), **secret).stdout.splitlines()
    assert again[0] == "kept the pool one: it has 5 slots, objects.yml says 3"
    assert again[1].startswith("nothing to do")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("variables: [", "not YAML"),
        ("[]", "not a mapping"),
        ("varables: {}", "unknown sections varables"),
        ("variables: {}", "roles.Pipeline is missing"),
        ("variables: {a: {}}", "variables.a has no value"),
        ("roles: {R: [everything]}", "is not «action on resource»"),
    ],
)
def test_a_wrong_file_of_objects(
    fresh: Metadata, bootstrap: Run, tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "objects.yml"
    path.write_text(text)
    done = bootstrap(fresh.url, "--objects", str(path))
    assert done.returncode == 2
    assert named in done.stderr


def test_no_secret_stands_in_the_file() -> None:
    text = (AIRFLOW_DIR / "bootstrap" / "objects.yml").read_text()
    assert "hooks.slack.com" not in text
    assert all("${" in line for line in text.splitlines() if "password:" in line)

"""dbt as a process: believed only by its own results, ended as a group. A real dbt runs where there
is one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from etl_pipeline.dbt import DbtError, DbtResult, run_dbt, summarise
from etl_pipeline.dbt_output import Scrubber

PACKAGE_ROOT = Path(__file__).resolve().parents[1]


def result(unique_id: str, status: str) -> dict[str, str]:
    return {"unique_id": unique_id, "status": status}


GOOD = [result("model.d.a", "success"), result("test.d.t.1", "pass")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "dbt_project.yml").write_text("name: d\n")
    return directory


def fake(tmp_path: Path, body: str) -> str:
    """An executable in dbt's place: real processes, real signals, chosen behaviour."""
    path = tmp_path / "fake-dbt"
    path.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            """
            import json, os, pathlib, signal, subprocess, sys, time
            target = pathlib.Path(sys.argv[sys.argv.index("--target-path") + 1])
            def results(nodes, token=os.environ["DBT_ENV_CUSTOM_ENV_PIPELINE_TOKEN"]):
                (target / "run_results.json").write_text(json.dumps({
                    "metadata": {"invocation_id": "i", "env": {"PIPELINE_TOKEN": token}}, "results":
                    nodes}))
            """
        )
        + textwrap.dedent(body)
    )
    path.chmod(0o755)
    return str(path)


def run(
    tmp_path: Path, project: Path, executable: str, *, timeout: float | None = 30, grace: float = 1
) -> tuple[DbtResult, list[str]]:
    lines: list[str] = []
    outcome = run_dbt(
        project,
        target="local",
        target_path=tmp_path / "target",
        log_path=tmp_path / "logs",
        log=lines.append,
        timeout=timeout,
        executable=executable,
        grace=grace,
    )
    return outcome, lines


def test_good_build(tmp_path: Path, project: Path) -> None:
    outcome, lines = run(tmp_path, project, fake(tmp_path, f"print('hello'); results({GOOD!r})"))
    assert outcome.ok
    assert outcome.models == {"success": 1}
    assert outcome.tests == {"pass": 1}
    assert lines == ["hello"]
    assert json.loads(json.dumps(outcome.to_dict()))["invocation_id"] == "i"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("sys.exit(1)", "exit code 1"),
        (f"results({GOOD!r}); sys.exit(2)", "exit code 2"),
        ("pass", "left no results of this run"),
        (f"results({GOOD!r}, token='of another run')", "left no results of this run"),
        ("(target / 'run_results.json').write_text('{')", "left no results of this run"),
        ("results([])", "built nothing"),
        ("results([{'unique_id': 'model.d.a', 'status': 'error'}])", "failed or skipped"),
        ("results([{'unique_id': 'model.d.a', 'status': 'skipped'}])", "failed or skipped"),
        (
            "results([{'unique_id': 'model.d.a', 'status': 'success'},"
            " {'unique_id': 'test.d.t.1', 'status': 'fail'}])",
            "failed or skipped",
        ),
    ],
)
def test_not_believed(tmp_path: Path, project: Path, body: str, error: str) -> None:
    outcome, _ = run(tmp_path, project, fake(tmp_path, body))
    assert not outcome.ok
    assert error in (outcome.error or "")


def test_stale_results_are_not_believed(tmp_path: Path, project: Path) -> None:
    assert run(tmp_path, project, fake(tmp_path, f"results({GOOD!r})"))[0].ok
    outcome, _ = run(tmp_path, project, fake(tmp_path, "pass"))
    assert not outcome.ok
    assert not outcome.models


GRANDCHILD = """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (target / "pid").write_text(str(child.pid))
    print("started", flush=True)
    if {deaf}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
"""


def gone(pid: int, within: float = 5) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("deaf", [False, True])
def test_timeout_ends_the_whole_group(tmp_path: Path, project: Path, deaf: bool) -> None:
    started = time.monotonic()
    outcome, lines = run(tmp_path, project, fake(tmp_path, GRANDCHILD.format(deaf=deaf)), timeout=1)
    assert time.monotonic() - started < 20
    assert not outcome.ok
    assert "did not end within 1 s" in (outcome.error or "")
    assert lines == ["started"]
    assert gone(int((tmp_path / "target" / "pid").read_text()))


class StoppedError(Exception):
    """What Airflow's signal handler raises in the middle of anything."""


def test_an_exception_in_the_caller_ends_the_group(tmp_path: Path, project: Path) -> None:
    def handler(*_: object) -> None:
        raise StoppedError

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(StoppedError):
            run(tmp_path, project, fake(tmp_path, GRANDCHILD.format(deaf=False)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert gone(int((tmp_path / "target" / "pid").read_text()))


def test_dbt_dies_with_a_killed_parent(tmp_path: Path, project: Path) -> None:
    executable = fake(
        tmp_path,
        "(target / 'pid').write_text(str(os.getpid())); print('up', flush=True); time.sleep(60)",
    )
    code = (
        "import sys; from pathlib import Path; from etl_pipeline.dbt import run_dbt;"
        f"run_dbt(Path({str(project)!r}), target='local',"
        f" target_path=Path({str(tmp_path / 'target')!r}),"
        f" log_path=Path({str(tmp_path / 'logs')!r}), log=lambda line: print(line, flush=True),"
        f" executable={executable!r})"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(int((tmp_path / "target" / "pid").read_text()))


def test_lines_arrive_while_dbt_runs(tmp_path: Path, project: Path) -> None:
    seen: list[float] = []
    body = f"print('a', flush=True); time.sleep(1); print('b', flush=True); results({GOOD!r})"
    run_dbt(
        project,
        target="local",
        target_path=tmp_path / "target",
        log_path=tmp_path / "logs",
        log=lambda _: seen.append(time.monotonic()),
        executable=fake(tmp_path, body),
    )
    assert seen[1] - seen[0] > 0.8


def test_a_project_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DbtError, match=r"no dbt_project\.yml\nhint: "):
        run(tmp_path, tmp_path / "nowhere", "dbt")


def test_a_dbt_that_is_not_there(tmp_path: Path, project: Path) -> None:
    with pytest.raises(DbtError, match="No such file"):
        run(tmp_path, project, str(tmp_path / "no-dbt"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "12:00:00  1 of 3 OK created sql view model\n",
            "12:00:00  1 of 3 OK created sql view model",
        ),
        ("\x1b[32mOK\x1b[0m", "OK"),
        ("  DETAIL:  Key (PatNum)=(4711) already exists.", None),
        ("LINE 12: where x = 'Smith'", None),
        ("  CONTEXT:  COPY patient, line 3", None),
        (
            'invalid input syntax for type integer: "Smith"',
            'invalid input syntax for type integer: "…"',
        ),
        (
            'value "99999999999" is out of range for type integer',
            'value "…" is out of range for type integer',
        ),
        (
            'date/time field value out of range: "1899-13-01"',
            'date/time field value out of range: "…"',
        ),
    ],
)
def test_no_value_of_a_row_reaches_a_log(line: str, expected: str | None) -> None:
    assert Scrubber()(line) == expected


# As dbt 1.7.8 and PostgreSQL 15 word them, of rows whose text has two lines and quotes of its own.
CAST = """Database Error in model bad_cast (models/bad_cast.sql)
  invalid input syntax for type integer: "Zanzibar-Canary
  Second-Canary "Nick" Name"
  compiled Code at /state/run/tiny/models/bad_cast.sql"""
CHECK = """Database Error in model bad_check (models/bad_check.sql)
  new row for relation "k" violates check constraint "k_t_check"
  DETAIL:  Failing row contains (2, Zanzibar-Canary
  Second-Canary "Nick" Name)."""
GONE = """Database Error in model gone (models/gone.sql)
  column "person_idd" does not exist
  LINE 7:     select person_idd from "demo"."tiny"."people"
                     ^
  HINT:  Perhaps you meant to reference the column "people.person_id".
  compiled Code at /state/run/tiny/models/gone.sql"""


def test_values_of_several_lines_do_not_reach_a_log(tmp_path: Path, project: Path) -> None:
    told = [f"00:04:27    {CAST}", "00:04:27", f"00:04:27    {CHECK}", f"00:04:27    {GONE}"]
    told += ['00:04:28  Unhandled: invalid input syntax for type date: "Zanzibar-Canary', "  Nick"]
    told += ["00:04:29  Done."]
    body = f"print({chr(10).join(told)!r}); results({GOOD!r})"
    _, lines = run(tmp_path, project, fake(tmp_path, body))
    assert lines == [
        "00:04:27    Database Error in model bad_cast (models/bad_cast.sql)",
        '  invalid input syntax for type integer: "…"',
        "  compiled Code at /state/run/tiny/models/bad_cast.sql",
        "00:04:27",
        "00:04:27    Database Error in model bad_check (models/bad_check.sql)",
        '  new row for relation "k" violates check constraint "k_t_check"',
        "00:04:27    Database Error in model gone (models/gone.sql)",
        '  column "person_idd" does not exist',
        '  HINT:  Perhaps you meant to reference the column "people.person_id".',
        "  compiled Code at /state/run/tiny/models/gone.sql",
        '00:04:28  Unhandled: invalid input syntax for type date: "…"',
        "00:04:29  Done.",
    ]


MANIFEST = {
    "nodes": {
        "model.d.gone": {"name": "gone", "original_file_path": "models/gone.sql"},
        "test.d.not_null_people_age.96745": {
            "name": "not_null_people_age",
            "original_file_path": "models/m.yml",
            "column_name": "age",
            "attached_node": "model.d.people",
            "depends_on": {"nodes": ["model.d.people"]},
        },
        "test.d.source_unique.29e59": {
            "name": "source_unique",
            "original_file_path": "models/m.yml",
            "column_name": "id",
            "attached_node": None,
            "depends_on": {"nodes": ["source.d.things.people"]},
        },
        "test.d.assert_sums": {
            "name": "assert_sums",
            "original_file_path": "tests/assert_sums.sql",
            "depends_on": {"nodes": ["source.d.things.people", "model.d.days", "model.d.people"]},
        },
    }
}
GOT = "Got 3 results, configured to fail if != 0"


def test_an_error_leads_with_what_failed_and_why(tmp_path: Path, project: Path) -> None:
    nodes = [
        *GOOD,
        result("model.d.gone", "error") | {"message": GONE},
        result("model.d.bad_cast", "error") | {"message": CAST},
        result("model.d.bad_check", "error") | {"message": CHECK},
        result("test.d.not_null_people_age.96745", "fail") | {"message": GOT},
        result("test.d.source_unique.29e59", "fail") | {"message": GOT},
        result("test.d.assert_sums", "fail") | {"message": GOT},
        result("model.d.child", "skipped"),
    ]
    body = f"(target / 'manifest.json').write_text({json.dumps(MANIFEST)!r})"
    outcome, _ = run(tmp_path, project, fake(tmp_path, f"{body}; results({nodes!r}); sys.exit(1)"))
    assert (outcome.error or "").splitlines() == [
        'model gone (models/gone.sql): column "person_idd" does not exist;'
        ' perhaps you meant to reference the column "people.person_id"',
        'model bad_cast: invalid input syntax for type integer: "…"',
        'model bad_check: new row for relation "k" violates check constraint "k_t_check"',
        "test not_null_people_age on people.age (models/m.yml):"
        " got 3 results, configured to fail if != 0",
        "test source_unique on things.people.id (models/m.yml):"
        " got 3 results, configured to fail if != 0",
        "test assert_sums on days and people (tests/assert_sums.sql):"
        " got 3 results, configured to fail if != 0",
        "dbt ended with exit code 1; 1 skipped after a failure",
    ]
    assert outcome.select == (
        "gone+",
        "bad_cast+",
        "bad_check+",
        "people+",
        "source:things.people+",
        "days+",
    )
    assert "Canary" not in str(outcome)
    # What an earlier build left names nothing of this one.
    stale, _ = run(tmp_path, project, fake(tmp_path, f"results({nodes!r}); sys.exit(1)"))
    assert (stale.error or "").startswith('model gone: column "person_idd" does not exist')


def test_what_could_not_be_published_is_told(tmp_path: Path, project: Path) -> None:
    said = (
        r"print('08:21:16    on-run-end failed, error:\n permission denied for schema marts\n'"
        r"'08:21:16\n08:21:16  Done.', flush=True)"
    )
    outcome, _ = run(tmp_path, project, fake(tmp_path, f"results({GOOD!r}); {said}; sys.exit(1)"))
    assert (outcome.error or "").splitlines() == [
        "on-run-end failed: permission denied for schema marts",
        "dbt ended with exit code 1",
    ]


def test_many_failures_are_counted_and_not_all_told() -> None:
    nodes = [result(f"model.d.m{n:02}", "error") | {"message": GONE} for n in range(20)]
    lines = (summarise({"results": nodes}, exit_code=1, seconds=1, error=None).error or "").split(
        "\n"
    )
    assert (len(lines), lines[-2]) == (10, "and 12 more")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "Compilation Error\n  Model 'model.d.a' (models/a.sql) depends on a node named 'b'",
            "Compilation Error: Model 'model.d.a' (models/a.sql) depends on a node named 'b'",
        ),
        (
            'Database Error\n  connection to server at "h", port 1 failed: Connection refused\n'
            "  \tIs the server running?",
            'Database Error: connection to server at "h", port 1 failed: Connection refused',
        ),
    ],
)
def test_why_no_node_ran_is_told(tmp_path: Path, project: Path, said: str, cause: str) -> None:
    body = f"print({f'00:00:01  Encountered an error:{chr(10)}{said}'!r}); sys.exit(2)"
    outcome, _ = run(tmp_path, project, fake(tmp_path, body))
    assert outcome.error == f"{cause}\ndbt ended with exit code 2"


def test_summary_needs_both_exit_code_and_results() -> None:
    document = {"metadata": {"invocation_id": "i"}, "results": GOOD}
    assert summarise(document, exit_code=0, seconds=1, error=None).ok
    assert not summarise(document, exit_code=1, seconds=1, error=None).ok
    document["results"] = [*GOOD, result("test.d.sums.1", "warn")]
    warned = summarise(document, exit_code=0, seconds=1, error=None)
    assert (warned.ok, warned.warned) == (True, ("test.d.sums.1",))
    assert not summarise(None, exit_code=0, seconds=1, error=None).ok
    assert not summarise(document, exit_code=0, seconds=1, error="stopped").ok

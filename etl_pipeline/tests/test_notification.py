"""The judgement of a run, and that its text says the same."""

from __future__ import annotations

from typing import Any

import pytest

from etl_pipeline.notification import RunFacts, TaskState, Verdict, compose_message, duration, judge

TASKS = ("guard", "validate", "extract_load", "verify", "report", "dbt_build")
GUARD = {
    "outcome": "open",
    "reason": "21:00:03 CDT is outside business hours (06:00 to 21:00)",
    "waited_seconds": 0,
}
LOAD = {
    "tables": [
        {"table": "patient", "strategy": "incremental", "rows_written": 1200, "error": None},
        {"table": "provider", "strategy": "full", "rows_written": 34, "error": None},
    ]
}
VERIFY = {
    "ok": True,
    "checks": [
        {"table": "patient", "outcome": "match"},
        {"table": "provider", "outcome": "changed"},
    ],
}
DBT = {"models": {"success": 31}, "tests": {"pass": 120, "warn": 2}, "failed": [], "seconds": 62.4}
DETAILS: dict[str, dict[str, Any]] = {
    "guard": GUARD,
    "extract_load": LOAD,
    "verify": VERIFY,
    "dbt_build": DBT,
}


def facts(
    states: dict[str, str | None] | None = None,
    results: dict[str, Any] | None = None,
    ended_by: str | None = None,
) -> RunFacts:
    evidence: dict[str, Any] = {t: {"ok": True, "result": DETAILS.get(t, {})} for t in TASKS}
    return RunFacts(
        dag_id="etl_pipeline",
        run_id="scheduled__2026-07-15T21:00:00-05:00",
        run_type="scheduled",
        environment="demo",
        dbt_target="local",
        tasks=[TaskState(t, (states or {}).get(t, "success"), 65.0) for t in TASKS],
        results={**evidence, **(results or {})},
        link="http://localhost:8080/dags/etl_pipeline/grid?dag_run_id=x",
        ended_by=ended_by,
    )


def test_what_was_not_read_and_what_changed_at_the_source_are_told() -> None:
    load = {
        "tables": [
            *LOAD["tables"],
            {"table": "zipcode", "strategy": "unchanged", "rows_written": 0, "error": None},
            {"table": "clinic", "strategy": "unchanged", "rows_written": 0, "error": None},
        ],
        "schema_changes": ["procedurelog gains column IsMirrored tinyint"],
    }
    verify = {"checks": [*VERIFY["checks"], {"table": "zipcode", "outcome": "unchanged"}]}
    results = {task: {"ok": True, "result": result}
               for task, result in (("report", load), ("verify", verify))}  # fmt: skip
    text = compose_message(facts(results=results)).splitlines()
    assert "load: 4 of 4 tables (1 full, 1 incremental, 2 unchanged), 1,234 rows written" in text
    assert "schema of the source: procedurelog gains column IsMirrored tinyint" in text
    assert "verification: 3 of 3 tables agree with the source" in text


def test_success_in_full() -> None:
    assert compose_message(facts()) == "\n".join(
        [
            "SUCCESS [demo] etl_pipeline",
            "run: scheduled__2026-07-15T21:00:00-05:00 (scheduled)",
            "guard: open, 21:00:03 CDT is outside business hours (06:00 to 21:00)",
            "load: 2 of 2 tables (1 full, 1 incremental), 1,234 rows written",
            "verification: 2 of 2 tables agree with the source",
            "dbt (local): models 31 success; tests 120 pass, 2 warn; 1 min 2 s",
            "took: guard 1 min 5 s · validate 1 min 5 s · extract_load 1 min 5 s · verify 1 min 5 s"
            " · report 1 min 5 s · dbt_build 1 min 5 s",
            "http://localhost:8080/dags/etl_pipeline/grid?dag_run_id=x",
        ]
    )


BAD = ["failed", "upstream_failed", "skipped", "removed", "up_for_retry", "running", "queued", None]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("state", BAD)
def test_any_task_in_any_other_state_is_no_success(task: str, state: str | None) -> None:
    given = facts({task: state})
    judgement = judge(given)
    assert not judgement.good
    assert judgement.failed_at == task
    assert "SUCCESS" not in compose_message(given)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("evidence", [None, {}, {"ok": False, "result": {}}, {"ok": "yes"}])
def test_a_state_without_evidence_is_no_success(task: str, evidence: object) -> None:
    given = facts(results={task: evidence})
    assert judge(given).verdict is Verdict.FAILED
    assert judge(given).failed_at == task
    assert "SUCCESS" not in compose_message(given)


def test_no_tasks_is_no_success() -> None:
    given = RunFacts("d", "r", "manual", "demo", "local", tasks=[])
    assert judge(given).verdict is Verdict.FAILED


def test_the_cause_is_named_not_its_consequences() -> None:
    failed = {
        "tables": [
            *LOAD["tables"],
            *(
                {"table": f"t{i}", "strategy": "full", "error": f"t{i} vanished; hint: mend it"}
                for i in range(7)
            ),
        ]
    }
    given = facts(
        {"extract_load": "failed", "verify": "upstream_failed", "dbt_build": "upstream_failed"},
        {
            "extract_load": {"ok": False, "result": failed},
            "verify": None,
            "dbt_build": None,
        },
    )
    text = compose_message(given)
    assert text.startswith("FAILED [demo] etl_pipeline at extract_load\n")
    assert (
        "\nload: 2 of 9 tables (1 full, 1 incremental), 1,234 rows written;"
        " failed: t0, t1, t2, t3, t4 and 2 more\nt0 vanished\n"
    ) in text
    assert (
        "not good: extract_load: failed; verify: upstream_failed; dbt_build: upstream_failed"
        in text
    )


def test_why_nothing_was_loaded_is_told() -> None:
    refused = {
        "findings": [{"level": "ok", "message": "good"}, {"level": "error", "message": "no"}]
    }
    given = facts({"validate": "failed"}, {"validate": {"ok": False, "result": refused}})
    assert "\nvalidate: no\n" in compose_message(given)
    lost = {"tables": [], "error": "the connection to the source was lost"}
    given = facts({"extract_load": "failed"}, {"report": {"ok": True, "result": lost}})
    assert "\nload: the connection to the source was lost\n" in compose_message(given)


def test_differences_and_failed_models_are_named() -> None:
    given = facts(
        {"verify": "failed", "dbt_build": "failed"},
        {
            "verify": {
                "ok": False,
                "result": {"checks": [{"table": "patient", "outcome": "differs"}]},
            },
            "dbt_build": {
                "ok": False,
                "result": {
                    **DBT,
                    "failed": ["model.dental.fct_claim", "test.dental.not_null_x.abc"],
                    "warned": ["test.dental.assert_money.def"],
                },
            },
        },
    )
    text = compose_message(given)
    assert "verification: 0 of 1 tables agree with the source; differ: patient" in text
    assert "; failed: fct_claim, not_null_x; warned: assert_money" in text


def refused_guard(outcome: str) -> dict[str, Any]:
    return {
        "guard": {"ok": False, "result": {"outcome": outcome, "reason": "12:00:00 CDT is inside"}}
    }


def test_refused() -> None:
    states: dict[str, str | None] = dict.fromkeys(TASKS, "upstream_failed")
    text = compose_message(facts({**states, "guard": "failed"}, refused_guard("refused")))
    assert text.startswith("REFUSED [demo] etl_pipeline\n")
    assert "to do: trigger it again after the opening" in text


@pytest.mark.parametrize("state", ["running", "up_for_reschedule"])
def test_waiting(state: str) -> None:
    given = facts(
        {**dict.fromkeys(TASKS, None), "guard": state},
        {**dict.fromkeys(TASKS), **refused_guard("waiting")},
    )
    assert judge(given).verdict is Verdict.WAITING
    assert compose_message(given).startswith("WAITING [demo] etl_pipeline\n")


@pytest.mark.parametrize("state", ["failed", "success", "skipped"])
def test_a_guard_that_waited_to_its_end_is_not_waiting(state: str) -> None:
    given = facts({"guard": state}, refused_guard("waiting"))
    assert judge(given).verdict is Verdict.FAILED


def test_ended_from_outside_is_failed_even_if_all_tasks_are_good() -> None:
    given = facts(ended_by="timed_out")
    assert judge(given).verdict is Verdict.FAILED
    assert "ended from outside: timed_out" in compose_message(given)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.4, "0 s"), (59.6, "1 min 0 s"), (245, "4 min 5 s"), (3720, "1 h 2 min")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text

"""The demo practice: the same for the same seed, and its books agree."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest
from scratch import Databases

from etl_pipeline import pipeline
from opendental_demo.office_hours import holidays, is_open, today
from opendental_demo.practice import Practice
from opendental_demo.schema import tables
from opendental_demo.store import Store

END = date(2026, 3, 2)
START = date(2023, 3, 2)
SCALE = 0.05


def simulate(*stops: date, seed: int = 7) -> Store:
    practice = Practice(seed, SCALE, START)
    for stop in stops:
        practice.run_until(stop)
    return practice.store


@pytest.fixture(scope="module")
def store() -> Store:
    return simulate(END)


def cents(value: float) -> int:
    return round(value * 100)


def test_same_seed_same_rows_and_another_seed_other_rows(store: Store) -> None:
    assert simulate(END).rows == store.rows
    assert simulate(END, seed=8).rows["patient"] != store.rows["patient"]


def test_advancing_gives_the_books_of_the_later_date() -> None:
    later = END + timedelta(days=5)
    once, twice = simulate(later).rows, simulate(END, later).rows
    for name, schema in tables().items():
        # Only the moment of the aging run differs, and with it the stamp of patients.
        for rows in (once, twice):
            for row in rows[name].values():
                row.pop(schema.stamp or "", None)
        assert once[name] == twice[name], name


def test_splits_add_up_to_their_payment(store: Store) -> None:
    sums: dict[int, int] = defaultdict(int)
    for split in store.rows["paysplit"].values():
        sums[split["PayNum"]] += cents(split["SplitAmt"])
    payments = {k: cents(p["PayAmt"]) for k, p in store.rows["payment"].items()}
    assert len(payments) > 100
    assert sums == payments


def test_checks_equal_the_claim_lines_they_pay(store: Store) -> None:
    sums: dict[int, int] = defaultdict(int)
    for line in store.rows["claimproc"].values():
        if line["ClaimPaymentNum"]:
            sums[line["ClaimPaymentNum"]] += cents(line["InsPayAmt"])
    checks = {k: cents(c["CheckAmt"]) for k, c in store.rows["claimpayment"].items()}
    assert len(checks) > 100
    assert sums == checks


def test_balances_follow_from_the_ledger(store: Store) -> None:
    own: dict[int, int] = defaultdict(int)
    for proc in store.rows["procedurelog"].values():
        if proc["ProcStatus"] == 2:
            own[proc["PatNum"]] += cents(proc["ProcFee"])
    for adjustment in store.rows["adjustment"].values():
        own[adjustment["PatNum"]] += cents(adjustment["AdjAmt"])
    for split in store.rows["paysplit"].values():
        own[split["PatNum"]] -= cents(split["SplitAmt"])
    for line in store.rows["claimproc"].values():
        if line["Status"] in (1, 4):
            own[line["PatNum"]] -= cents(line["InsPayAmt"]) + cents(line["WriteOff"])
    families: dict[int, int] = defaultdict(int)
    for key, patient in store.rows["patient"].items():
        assert cents(patient["EstBalance"]) == own[key]
        families[patient["Guarantor"]] += own[key]
    for key, patient in store.rows["patient"].items():
        assert cents(patient["BalTotal"]) == families[key]


def test_references_lead_somewhere(store: Store) -> None:
    rows = store.rows
    for child, column, parent in (
        ("procedurelog", "PatNum", "patient"), ("procedurelog", "CodeNum", "procedurecode"),
        ("procedurelog", "AptNum", "appointment"), ("claimproc", "ProcNum", "procedurelog"),
        ("claimproc", "ClaimNum", "claim"), ("claim", "InsSubNum", "inssub"),
        ("inssub", "PlanNum", "insplan"), ("insplan", "CarrierNum", "carrier"),
        ("patplan", "InsSubNum", "inssub"), ("recall", "PatNum", "patient"),
        ("adjustment", "ProcNum", "procedurelog"), ("patient", "Guarantor", "patient"),
    ):  # fmt: skip
        for row in rows[child].values():
            assert row[column] == 0 or row[column] in rows[parent], (child, column)


def test_work_is_done_when_the_practice_is_open(store: Store) -> None:
    done = {r["ProcDate"] for r in store.rows["procedurelog"].values() if r["ProcStatus"] == 2}
    assert len(done) > 300
    assert all(is_open(day) for day in done)
    assert max(done) < END
    assert date(2025, 11, 27) in holidays(2025)
    assert date(2025, 5, 26) in holidays(2025)


@pytest.mark.parametrize("hour", range(24))
def test_no_stamp_lies_in_the_future_at_whatever_hour_the_demo_is_loaded(
    store: Store, hour: int
) -> None:
    """A watermark in the future would hide what changes until then."""
    stamps = {name: t.stamp for name, t in tables().items() if t.stamp}
    newest = max(row[stamp] for name, stamp in stamps.items() for row in store.rows[name].values())
    midnight = datetime(END.year, END.month, END.day, tzinfo=UTC)
    now = midnight + timedelta(hours=hour)
    # Books that end before END are those of a day on which the practice's calendar says END.
    assert today(now) < END or newest <= now.replace(tzinfo=None)


def test_every_kind_of_appointment_and_claim_line_occurs() -> None:
    rows = Practice(1, 0.3, START)
    rows.run_until(END)
    appointments = rows.store.rows["appointment"].values()
    assert {r["AptStatus"] for r in appointments} == {1, 2, 3, 5, 6}
    assert {r["HistApptAction"] for r in rows.store.rows["histappointment"].values()} == {
        0, 1, 2, 3, 4,
    }  # fmt: skip
    assert {0, 1, 2, 4, 6} <= {r["Status"] for r in rows.store.rows["claimproc"].values()}
    assert {1, 2, 4, 6, 8} <= {r["ProcStatus"] for r in rows.store.rows["procedurelog"].values()}
    assert {0, 2, 6} <= {r["PatStatus"] for r in rows.store.rows["patient"].values()}


@pytest.mark.database
def test_load_is_idempotent_and_advance_feeds_an_incremental_run(databases: Databases) -> None:
    source = {k: v for k, v in databases.environ.items() if k.startswith("OPENDENTAL_SOURCE_")}
    for name, value in source.items():
        databases.environ[name.replace("OPENDENTAL", "DEMO")] = value
    load = ("load", "--seed", "7", "--scale", str(SCALE), "--end-date", END.isoformat())
    first = databases.cli(*load, module="opendental_demo")
    assert first.returncode == 0, first.stderr
    again = databases.cli(*load, module="opendental_demo")
    assert (again.returncode, again.stderr[:13]) == (0, "nothing to do")
    other = databases.cli("load", "--seed", "8", module="opendental_demo")
    assert other.returncode == 1
    assert other.stderr.endswith(
        "\nhint: python -m opendental_demo load --reset\n"
        "then, for raw to follow: python -m etl_pipeline run --full\n"
    )

    databases.run("full")
    assert "preference" not in {t for (t,) in databases.on_analytics(
        "select table_name from information_schema.tables where table_schema = 'raw'")}  # fmt: skip
    zero = "SELECT COUNT(*) FROM appointment WHERE DateTimeArrived = '0000-00-00 00:00:00'"
    null = 'select count(*) from raw.appointment where "DateTimeArrived" is null'
    assert databases.on_source(zero) == databases.on_analytics(null) != [(0,)]
    assert databases.cli("advance", "--days", "7", module="opendental_demo").returncode == 0
    second = databases.run("next")
    assert second["procedurelog"].strategy == "incremental"
    assert 0 < second["procedurelog"].rows_written < 500
    verification = pipeline.verify(databases.settings, run_id="next")
    assert [c.table for c in verification.checks if c.outcome != "match"] == []


@pytest.mark.database
def test_hints_are_what_a_person_types_where_the_environment_says_so(databases: Databases) -> None:
    for name, value in list(databases.environ.items()):
        databases.environ[name.replace("OPENDENTAL", "DEMO")] = value
    databases.environ |= {"DEMO_COMMAND": "tool demo --", "NIGHTLY_COMMAND": "tool nightly"}
    done = databases.cli("advance", module="opendental_demo")
    assert (done.returncode, done.stderr) == (
        1,
        "error: advancing the demo: there is no practice yet\n"
        "hint: tool demo -- load\n"
        "then, for raw to follow: tool nightly --full\n",
    )
    assert databases.cli("--help", module="opendental_demo").stdout.count("tool demo -- load") == 2


@pytest.mark.database
def test_a_database_with_other_data_is_never_overwritten(databases: Databases) -> None:
    for name, value in list(databases.environ.items()):
        databases.environ[name.replace("OPENDENTAL", "DEMO")] = value
    databases.on_source(
        "CREATE TABLE patient (PatNum bigint PRIMARY KEY)", "INSERT INTO patient VALUES (1)"
    )
    for command in (("load",), ("load", "--reset")):
        done = databases.cli(*command, module="opendental_demo")
        assert done.returncode == 1
        assert "not ours" in done.stderr
    assert databases.on_source("SELECT COUNT(*) FROM patient") == [(1,)]

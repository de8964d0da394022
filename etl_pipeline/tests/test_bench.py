"""The benchmark's own parts; what it measures is run by `cargo xtask bench etl`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench import copiers, measure
from bench.copiers import COPIERS, Servers

SERVERS = Servers("mysql", "root", "hush-a", "opendental", "postgres", "me", "hush-b", "target")


def test_a_run_is_told_with_its_status_and_last_words() -> None:
    busy = "sum(range(10**6)); print('x' * 9000 + 'the end'); exit(3)"
    told = measure.measure([sys.executable, "-c", busy], 60)
    assert told["status"] == 3
    assert told["late"] is False
    assert str(told["said"]).endswith("the end\n")
    assert len(str(told["said"])) == measure.LAST_BYTES
    assert 0 < float(str(told["cpu"])) < 60
    assert int(str(told["peak_rss"])) > 1_000_000


def test_what_does_not_end_is_killed_with_its_children() -> None:
    told = measure.measure(["sh", "-c", "sleep 60 | sleep 60"], 0.2)
    assert told["late"] is True
    assert float(str(told["seconds"])) < 10


@pytest.mark.parametrize("name", COPIERS)
def test_no_password_stands_on_a_command_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copiers, "FOLDER", tmp_path)
    command = COPIERS[name].command(SERVERS, ["paysplit", "commlog"])
    # What the shell exports is read from a file, and no other process' argument.
    started = [line for line in command.splitlines() if not line.startswith("export ")]
    assert "hush" not in "\n".join(started)
    assert "paysplit" in command + "".join(p.read_text() for p in tmp_path.iterdir())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} <= {0o600}


def test_a_secret_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copiers, "FOLDER", tmp_path)
    copiers.secret_file("a", "long text")
    assert copiers.secret_file("a", "b").read_text() == "b"


def test_the_floors_table_takes_what_mariadb_prints() -> None:
    columns = [
        ("PayNum", "bigint(20)"),
        ("Largest", "bigint(20) unsigned"),
        ("IsSplit", "tinyint(4)"),
        ("Amount", "double"),
        ("DatePay", "date"),
        ("Note", "varchar(255)"),
    ]
    assert copiers.floor_table("PaySplit", columns) == (
        'create table raw."paysplit" ("PayNum" bigint, "Largest" numeric(20,0),'
        ' "IsSplit" integer, "Amount" double precision, "DatePay" text, "Note" text)'
    )

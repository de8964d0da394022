"""How far it is: what a person is told while they wait."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from scratch import ROOT, Databases

from etl_pipeline import pipeline
from etl_pipeline.progress import Progress, logged, telling


def test_tables_in_hand_are_told_by_their_rows() -> None:
    progress = Progress()
    assert progress.text == ""
    progress.expect({"small": 0, "middle": 1_000, "large": 3_000})
    progress.begin("large")
    assert progress.text == "0 of 3 tables; large"
    progress.read("large", 1_500)
    progress.begin("middle")
    assert progress.text == "0 of 3 tables; large 1,500 of about 3,000 rows; middle"
    progress.done("large")
    progress.done("small")
    assert progress.text == "2 of 3 tables; middle"
    progress.read("unknown", 5)
    progress.done("middle")
    assert progress.text == "3 of 3 tables"


def test_the_bar_goes_by_rows_and_never_beyond_its_end() -> None:
    progress = Progress()
    assert (progress.share, progress.line(80)) == (0.0, "")
    progress.expect({"one": 99, "other": 299})
    progress.begin("other")
    progress.read("other", 100)
    assert progress.share == 0.25
    assert (
        progress.line(80) == f"{'━' * 6}{'─' * 18}  25%  0 of 2 tables; other 100 of about 299 rows"
    )
    assert progress.line(40) == f"{'━' * 6}{'─' * 18}  25%  0 of 2 t…"
    # The server's own number of rows may be an estimate.
    progress.read("other", 9_900)
    progress.done("one")
    assert progress.share == 1.0


def test_it_is_told_until_the_work_has_ended() -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match="in the middle"), telling(lambda: told.append("x"), 0.01):
        while len(told) < 3:
            time.sleep(0.01)
        raise ValueError("in the middle")
    before = len(told)
    assert before >= 3
    with logged(told.append) as progress:
        assert progress.text == ""
    assert len(told) == before


@pytest.fixture
def loaded(databases: Databases) -> Databases:
    databases.on_source(
        "CREATE TABLE visit (VisitNum int PRIMARY KEY, Note text)",
        "INSERT INTO visit SELECT seq, REPEAT('x', 200) FROM seq_1_to_5000",
        "CREATE TABLE empty (Num int PRIMARY KEY)",
    )
    return databases


@pytest.mark.database
def test_a_run_and_a_verification_tell_of_every_table(loaded: Databases) -> None:
    progress = Progress()
    loaded.run("first", progress=progress)
    assert (progress.text, progress.share) == ("2 of 2 tables", 1.0)
    progress = Progress()
    assert pipeline.verify(loaded.settings, run_id="first", progress=progress).ok
    assert (progress.text, progress.share) == ("2 of 2 tables", 1.0)


@pytest.mark.database
def test_on_a_terminal_lines_stay_and_the_bar_is_gone(loaded: Databases) -> None:
    # A pace that makes the run last for some looks at it.
    environ = {**loaded.environ, "OPENDENTAL_SOURCE_MAX_MB_PER_SECOND": "1"}
    shown, status = on_terminal(["run"], environ)
    assert status == 0
    assert re.search("[━─]{24} +[0-9]+%  [01] of 2 tables", shown)
    # What stands at the end, once each part of a line is drawn over what was there.
    lines = [line.split("\x1b[2K")[-1] for line in shown.replace("\r\n", "\n").split("\n")]
    stays = [line.split(",")[0] for line in lines if line.startswith("[")]
    assert [line.split("] ")[0] for line in stays] == ["[1/2", "[2/2"]
    assert {line.split("] ")[1] for line in stays} == {"visit: full", "empty: full"}
    assert not any("━" in line or "─" in line for line in lines)


def on_terminal(arguments: list[str], environ: dict[str, str]) -> tuple[str, int]:
    """What a terminal of a hundred columns gets from stderr, and the exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "etl_pipeline", *arguments],
        env={**environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    return shown.decode(), process.wait(timeout=60)

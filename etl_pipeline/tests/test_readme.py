"""The README's commands, as a shell reads them one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scratch import ROOT, Databases

MARK = re.compile(r"```sh run=etl\n(.*?)```", re.DOTALL)


def blocks() -> list[str]:
    return MARK.findall((ROOT / "README.md").read_text())


@pytest.mark.database
@pytest.mark.parametrize("block", blocks(), ids=("a practice", "a clinic"))
def test_the_commands_do_what_they_say(block: str, databases: Databases, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    source = {
        name.replace("OPENDENTAL_", "DEMO_"): value
        for name, value in databases.environ.items()
        if name.startswith("OPENDENTAL_SOURCE_")
    }
    done = subprocess.run(
        ["sh", "-e", "-c", block],
        env={
            **databases.environ,
            **source,
            "DEMO_SCALE": "0.02",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert databases.on_source("SELECT count(*) > 20 FROM patient") == [(1,)]
    if "etl_pipeline run" in block:
        (kept,) = databases.on_analytics("select status from etl.runs")
        assert kept == ("success",)

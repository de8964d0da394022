"""Throw-away databases and the ways in which tests use them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etl_pipeline import pipeline
from etl_pipeline.settings import Settings
from etl_pipeline.tracking import TableResult

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Databases:
    """A source and an analytics database that are thrown away after the test."""

    source: Any
    analytics: Any
    environ: dict[str, str]
    log: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environ)

    def on_source(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.source.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def on_analytics(self, statement: str) -> list[tuple[Any, ...]]:
        with self.analytics.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def run(self, run_id: str = "r1", **options: Any) -> dict[str, TableResult]:  # noqa: ANN401
        """One run; results by table."""
        result = pipeline.run(self.settings, run_id=run_id, log=self.log.append, **options)
        return {t.table: t for t in result.tables}

    def cli(self, *args: str, module: str = "etl_pipeline") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *args],
            env={**self.environ, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

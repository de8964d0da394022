"""A metadata database of one's own: a schema in the Postgres that the runner names.

Nothing of Airflow is replaced here. The runner gives AIRFLOW__DATABASE__SQL_ALCHEMY_CONN; the tests
never look at the `public` schema of that database, and fail, not skip, where there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# By hand, so that it holds under each of pytest's import modes.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from airflow_bed import BOOTSTRAP, DAGS, REPOSITORY, Metadata, Slack, airflow_environ


@pytest.fixture
def fresh() -> Iterator[Metadata]:
    """An empty metadata database."""
    metadata = Metadata()
    yield metadata
    metadata.drop()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metadata]:
    """A migrated metadata database that *this* process's Airflow uses."""
    metadata = Metadata()
    home = tmp_path_factory.mktemp("airflow")
    os.environ.update(
        {k: v for k, v in airflow_environ(metadata.url, home).items() if k.startswith("AIRFLOW_")}
    )
    # pytest may have imported Airflow already (this directory is named like it): point it here.
    from airflow.utils.db import upgradedb

    from airflow import settings

    settings.dispose_orm()
    settings.configure_vars()
    settings.configure_orm()
    settings.engine.dispose()
    assert metadata.url == settings.SQL_ALCHEMY_CONN
    for path in (str(DAGS), str(REPOSITORY / "etl_pipeline")):
        if path not in sys.path:
            sys.path.insert(0, path)
    upgradedb(reserialize_dags=False)
    yield metadata
    settings.dispose_orm()
    metadata.drop()


@pytest.fixture
def bootstrap(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs bootstrap.py as airflow-init does: one process, told by its environment."""

    def run(
        url: str, *arguments: str, unset: tuple[str, ...] = (), **environ: str
    ) -> subprocess.CompletedProcess[str]:
        given = {**airflow_environ(url, tmp_path / "home"), **environ}
        return subprocess.run(
            [sys.executable, str(BOOTSTRAP), *arguments],
            env={k: v for k, v in given.items() if k not in unset},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def slack() -> Iterator[Slack]:
    server = Slack()
    yield server
    server.close()

"""What has to hold before a release may serve.

It runs with the code of that release, in a container of its image: the environment leads there
(AIRFLOW__CORE__DAGS_FOLDER, PYTHONPATH, DBT_PROJECT_DIR). Every check is made, and all that fail
are told together; a line for each goes to standard error, and to standard output JSON:

    {"dags": {DAG id: hash by which the scheduler will know it}, "checks": {name: seconds}}

Exit codes: 0 every check holds, 1 otherwise.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bootstrap")]

import bootstrap  # noqa: E402 - beside this folder, not installed
import policy  # noqa: E402

if TYPE_CHECKING:
    from airflow.models import DAG, DagBag

CHECKS = ("dags", "policy", "fernet", "databases", "dbt")
DBT_LIMIT = 300
DBT_LINES = 15


class GateError(Exception):
    """What does not hold; then, on a line of its own, the hint that mends it."""


def dag_hash(dag: DAG, lies: str, served: str) -> str:
    """The hash that the scheduler will write to serialized_dag for `dag`, which lies below `lies`
    now and will be read below `served`. As airflow.models.serialized_dag makes it.
    """
    from airflow.serialization.serialized_objects import SerializedDAG

    def moved(node: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(node, str):
            return served + node.removeprefix(lies) if node.startswith(lies) else node
        if isinstance(node, dict):
            return {key: moved(child) for key, child in node.items()}
        return [moved(child) for child in node] if isinstance(node, list) else node

    text = json.dumps(moved(SerializedDAG.to_dict(dag)), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def check_policy(bag: DagBag) -> None:
    """Every DAG is as the project's DAGs are. Raises GateError."""
    if found := [line for dag in bag.dags.values() for line in policy.violations(dag)]:
        raise GateError("holding the DAGs to the policy: " + "; ".join(found) + "\nhint: mend them")


def check_fernet() -> None:
    """The secrets that Airflow holds open with the key of the environment. Raises
    BootstrapError.
    """
    with bootstrap.connect(20, lambda line: print(line, file=sys.stderr)).connect() as connection:
        bootstrap.check_fernet(connection)


def check_databases() -> None:
    """Source and analytics answer, with the rights that a night needs. Raises GateError."""
    from etl_pipeline import pipeline
    from etl_pipeline.errors import PipelineError
    from etl_pipeline.settings import Settings

    try:
        pipeline.validate(Settings.from_env(os.environ))
    except PipelineError as error:
        hint = error.hint or "cargo xtask etl -- test-connections"
        raise GateError(f"reaching the databases: {error}\nhint: {hint}") from error


def check_dbt() -> None:
    """dbt can read its project. Raises GateError."""
    project = os.environ["DBT_PROJECT_DIR"]
    with tempfile.TemporaryDirectory() as scratch:
        words = ["dbt", "--no-use-colors", "--log-level-file", "none", "parse"]
        words += ["--project-dir", project, "--profiles-dir", project]
        words += ["--target-path", scratch, "--log-path", scratch]
        parsed = subprocess.run(  # noqa: S603 - argv is data, no shell
            words,
            capture_output=True,
            text=True,
            timeout=DBT_LIMIT,
            check=False,
            env={**os.environ, "DBT_TARGET_PATH": scratch, "DBT_LOG_PATH": scratch},
        )
    if parsed.returncode != 0:
        said = "\n".join((parsed.stdout + parsed.stderr).strip().splitlines()[-DBT_LINES:])
        raise GateError(f"parsing the dbt project: {said}\nhint: cargo xtask dbt -- parse")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dags", default="", metavar="ID,ID", help="DAGs that have to be there")
    parser.add_argument("--serve-as", default="=", metavar="LIES=SERVED", help="where it will be")
    parser.add_argument("--skip", default="", metavar="CHECK,…", help=", ".join(CHECKS))
    args = parser.parse_args(argv)
    skipped = set(filter(None, args.skip.split(",")))
    if unknown := skipped - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    lies, _, served = args.serve_as.partition("=")
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    os.environ["SQLALCHEMY_SILENCE_UBER_WARNING"] = "1"
    seconds: dict[str, float] = {}
    failures: list[str] = []
    bags: list[DagBag] = []

    def check(name: str, run: Callable[[], None]) -> None:
        if name in skipped:
            print(f"{name}: skipped", file=sys.stderr, flush=True)
            return
        begun = time.monotonic()
        try:
            run()
        except (GateError, bootstrap.BootstrapError) as error:
            failures.append(str(error))
        seconds[name] = round(time.monotonic() - begun, 2)
        print(f"{name}: {seconds[name]} s", file=sys.stderr, flush=True)

    check("dags", lambda: bags.append(bootstrap.load_dags(list(filter(None, args.dags.split(","))))))
    for bag in bags:
        check("policy", lambda bag=bag: check_policy(bag))
    check("fernet", check_fernet)
    check("databases", check_databases)
    check("dbt", check_dbt)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        return 1
    dags = {dag.dag_id: dag_hash(dag, lies, served) for bag in bags for dag in bag.dags.values()}
    print(json.dumps({"dags": dags, "checks": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

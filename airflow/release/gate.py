"""What has to hold before a release may serve.

It runs with the code of that release, in a container of its image: the environment leads there
(AIRFLOW__CORE__DAGS_FOLDER, PYTHONPATH, PROJECT_ROOT, DBT_PROJECT_DIR, DBT_PROFILES_DIR). Every
check is made, and all that fail are told together; a line for each goes to standard error. When all
hold, standard output has one JSON object, and nothing otherwise:

    {"dags": {DAG id: hash that the scheduler will write to serialized_dag.dag_hash},
     "checks": [{"name": check, "seconds": number, or null where it was skipped}]}

With --dbt-manifest a second line is dbt's manifest.json of the project, as `dbt --state` reads it.

Exit codes: 0 every check holds, 1 one does not, 2 the arguments are wrong.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bootstrap")]

import bootstrap  # noqa: E402 - beside this folder, not installed
import policy  # noqa: E402

if TYPE_CHECKING:
    from airflow.models import DAG, DagBag

    from etl_pipeline.pipeline import Validation
    from etl_pipeline.settings import Settings

SOURCE = "opendental"  # as dbt calls it
DATABASES = ("source", "analytics")
CHECKS = ("dags", "policy", "metadata", "fernet", *DATABASES, "dbt")
OURS = "postgres"  # the service of the stack, on a network that is the host's alone
ALIASES = {"databases": DATABASES}
METADATA_PATIENCE = 20.0
DBT_LIMIT = 300.0


class GateError(Exception):
    """What does not hold; then, on a line of its own, the hint that mends it."""

    def __init__(self, doing: str, hint: str) -> None:
        super().__init__(f"{doing}\nhint: {hint}")


class Served:
    """Where a release lies now and where it will be served; texts move from one to the other."""

    def __init__(self, lies: str = "", served: str = "") -> None:
        self.served = served.rstrip("/")
        # Only the whole path: releases/1 is no part of releases/10.
        self.pattern = re.compile(rf"(?<![\w./-]){re.escape(lies.rstrip('/'))}(?![\w.-])")
        self.moves = bool(lies)

    def __call__(self, node: Any) -> Any:  # noqa: ANN401 - JSON
        """`node`, JSON, with the path moved in each text."""
        if isinstance(node, str):
            return self.pattern.sub(lambda _: self.served, node) if self.moves else node
        if isinstance(node, dict):
            return {key: self(child) for key, child in node.items()}
        return [self(child) for child in node] if isinstance(node, list | tuple) else node


def dag_hash(dag: DAG, served: Served) -> str:
    """The hash that the scheduler will write to serialized_dag for `dag`, as
    `airflow.models.serialized_dag` makes it.
    """
    from airflow.serialization.serialized_objects import SerializedDAG

    text = json.dumps(served(SerializedDAG.to_dict(dag)), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Gate:
    """The checks. Each raises GateError, BootstrapError or PipelineError where it does not hold."""

    def __init__(self, wanted: Sequence[str], served: Served) -> None:
        self.wanted, self.served = wanted, served
        self.bag: DagBag | None = None
        self.hashes: dict[str, str] = {}
        self.manifest = ""

    def dags(self) -> None:
        """Every DAG file imports, and the DAGs that are wanted are there; their hashes."""
        from airflow.models import DagBag

        bag = DagBag(include_examples=False, read_dags_from_db=False, collect_dags=False)
        bag.dagbag_import_error_traceback_depth = bootstrap.WHOLE_TRACE
        bag.collect_dags(include_examples=False)
        self.bag = bag
        self.hashes = {dag.dag_id: dag_hash(dag, self.served) for dag in bag.dags.values()}
        wrong, places = [], []
        for path, trace in sorted(bag.import_errors.items()):
            place, end = bootstrap._innermost(path, trace, Path(bag.dag_folder))
            wrong.append(f"{Path(path).name}:\n{end.rstrip()}")
            places.append(place)
        if absent := sorted(set(self.wanted) - set(bag.dags)):
            wrong.append(f"there is no DAG {', '.join(absent)}")
            places.append("the DAG files, or airflow/bootstrap/objects.yml, which names the DAGs")
        if wrong:
            raise GateError(
                "reading the DAG files: " + "\n".join(wrong),
                f"mend {' and '.join(dict.fromkeys(places))}",
            )

    def policy(self) -> None:
        """Every DAG that could be read is as the project's DAGs are."""
        dags = self.bag.dags.values() if self.bag else ()
        if found := [line for dag in dags for line in policy.violations(dag)]:
            raise GateError(
                f"holding the DAGs to the policy: {'; '.join(found)}",
                "mend the DAG; the rules are in airflow/release/policy.py",
            )

    def metadata(self) -> None:
        """The metadata database answers, and by TLS where it is not the stack's own."""
        engine = bootstrap.connect(METADATA_PATIENCE, tell)
        with engine.connect() as connection:
            # libpq's own word: between it and the database may be a proxy with a link of its own.
            secure = connection.connection.dbapi_connection.info.ssl_in_use
        if engine.url.host != OURS and not secure:
            raise GateError(
                f"connecting to the metadata database at {engine.url.host}: it is not by TLS",
                "end AIRFLOW__DATABASE__SQL_ALCHEMY_CONN with ?sslmode=verify-full&sslrootcert=…",
            )

    def fernet(self) -> None:
        """The secrets in the metadata database open with the key; without a schema there are
        none.
        """
        if not os.environ.get("AIRFLOW__CORE__FERNET_KEY"):
            # Airflow would then take each token for the value itself.
            raise GateError(
                "opening the secrets: AIRFLOW__CORE__FERNET_KEY is not set",
                "`cargo xtask env` writes a good one",
            )
        engine = bootstrap.connect(METADATA_PATIENCE, tell)
        with engine.connect() as connection:
            bootstrap.check_fernet(connection)

    def source(self) -> None:
        """The source answers, and its account may read what dbt's models need, and no more."""
        from etl_pipeline import pipeline

        self._reach(lambda settings: pipeline.check_source(settings, tables=source_tables()))

    def analytics(self) -> None:
        """The analytics database answers and may be written, in dbt's schemas too."""
        from etl_pipeline import pipeline

        self._reach(lambda settings: pipeline.check_analytics(settings, schemas=dbt_schemas()))

    @staticmethod
    def _reach(check: Callable[[Settings], Validation]) -> None:
        from etl_pipeline.settings import Settings

        environment = variable("etl_environment")
        given = {"ETL_ENVIRONMENT": environment} if environment else {}
        check(Settings.from_env({**os.environ, **given})).required()

    def dbt(self) -> None:
        """dbt reads the project without a fault. Nothing is written beside it, and the database is
        not asked.
        """
        from etl_pipeline import dbt

        project = os.environ.get("DBT_PROJECT_DIR")
        if not project:
            raise GateError(
                "parsing the dbt project: DBT_PROJECT_DIR is not set",
                "it stands in the files of Compose",
            )
        with tempfile.TemporaryDirectory(prefix="gate-") as folder:
            scratch = Path(folder)
            paths = {name: str(scratch) for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH")}
            try:
                result = dbt.run_dbt(
                    Path(project),
                    command=("parse",),
                    target=variable("dbt_target") or os.environ.get("DBT_TARGET") or "local",
                    target_path=scratch,
                    log_path=scratch,
                    log=lambda _: None,
                    timeout=DBT_LIMIT,
                    environ={**os.environ, **paths},
                )
            except dbt.DbtError as error:
                doing, _, hint = str(error).partition("\nhint: ")
                raise GateError(doing, hint or "build the image again") from error
            if result.exit_code != 0:
                raise GateError(
                    f"parsing the dbt project: {result.error}", "try `cargo xtask dbt -- parse`"
                )
            # On one line, whatever dbt's own layout.
            self.manifest = json.dumps(json.loads((scratch / "manifest.json").read_text()))


def dbt_files(pattern: str) -> Iterator[Any]:
    """The YAML of the dbt project's files of that name. What cannot be read, dbt itself refuses."""
    project = os.environ.get("DBT_PROJECT_DIR")
    for path in sorted(Path(project).glob(pattern)) if project else ():
        with suppress(OSError, yaml.YAMLError):
            yield yaml.safe_load(path.read_text(encoding="utf-8"))


def source_tables() -> list[str]:
    """The tables of the source that dbt's models read, once the ETL has copied them."""
    documents = [found for found in dbt_files("models/**/*.yml") if isinstance(found, dict)]
    sources = [source for found in documents for source in found.get("sources") or ()]
    return [
        table.get("identifier") or table["name"]
        for source in sources
        if source["name"] == SOURCE
        for table in source.get("tables") or ()
    ]


def dbt_schemas() -> list[str]:
    """The schemas that dbt's models are made in."""

    def below(node: object) -> Iterator[str]:
        for key, child in node.items() if isinstance(node, dict) else ():
            if key in ("schema", "+schema"):
                yield str(child)
            else:
                yield from below(child)

    projects = [found for found in dbt_files("dbt_project.yml") if isinstance(found, dict)]
    return sorted({schema for found in projects for schema in below(found.get("models"))})


def variable(key: str) -> str | None:
    """The Airflow Variable, which wins over the environment in the tasks too; None without it."""
    from airflow.models import Variable

    return Variable.get(key, default_var=None) or None


def tell(line: str) -> None:
    """A line for a person."""
    print(line, file=sys.stderr, flush=True)


def explain(error: Exception) -> str:
    """The error's text. Of an error that nobody foresaw, only its type and place: its message may
    hold anything.
    """
    from etl_pipeline.errors import PipelineError

    if isinstance(error, PipelineError):
        hint = "" if error.hint else "\nhint: try `cargo xtask etl -- test-connections`"
        return f"{error}{hint}"
    if isinstance(error, GateError | bootstrap.BootstrapError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unexpected {type(error).__name__} at {frame.filename}, line {frame.lineno}\n"
        "hint: run the gate in a container of this image to see more"
    )


@contextmanager
def own_output() -> Iterator[TextIO]:
    """Standard output for the JSON alone: what else is printed, also by another process, goes to
    standard error.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(kept, "w", encoding="utf-8") as output:
        yield output


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dags", default="", metavar="ID,ID", help="DAGs that have to be there")
    parser.add_argument(
        "--serve-as", metavar="OLD=NEW", help="the release lies in OLD and will be served as NEW"
    )
    parser.add_argument(
        "--skip", default="", metavar="CHECK,…", help=", ".join((*CHECKS, *ALIASES))
    )
    parser.add_argument("--dbt-manifest", action="store_true", help="print dbt's manifest too")
    args = parser.parse_args(argv)

    def wrong(what: str) -> NoReturn:
        print(f"error: reading the arguments: {what}\nhint: see --help", file=sys.stderr)
        sys.exit(2)

    words = [word for word in args.skip.split(",") if word]
    skipped = {name for word in words for name in ALIASES.get(word, (word,))}
    if unknown := sorted(skipped - set(CHECKS)):
        wrong(f"there is no check {', '.join(unknown)}")
    lies, _, served = (args.serve_as or "").partition("=")
    if args.serve_as is not None and not (lies.startswith("/") and served.startswith("/")):
        wrong("--serve-as takes two absolute paths with = between")

    with own_output() as output:
        # What fails is told once, at the end; Airflow would log it with a traceback before.
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        os.environ["SQLALCHEMY_SILENCE_UBER_WARNING"] = "1"
        gate = Gate([dag for dag in args.dags.split(",") if dag], Served(lies, served))
        checks: list[dict[str, Any]] = []
        failures: list[str] = []
        for name in CHECKS:
            if name in skipped:
                tell(f"{name} skipped")
                checks.append({"name": name, "seconds": None})
                continue
            begun = time.monotonic()
            held = True
            try:
                getattr(gate, name)()
            except Exception as error:
                held = False
                failures.append(explain(error))
            seconds = round(time.monotonic() - begun, 1)
            tell(f"{name} {seconds} s" if held else f"{name} failed, {seconds} s")
            checks.append({"name": name, "seconds": seconds})
        # Wrong settings fail both databases alike.
        for failure in dict.fromkeys(failures):
            tell(f"error: {failure}")
        if failures:
            return 1
        print(json.dumps({"dags": gate.hashes, "checks": checks}), file=output)
        if args.dbt_manifest and gate.manifest:
            print(gate.manifest, file=output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

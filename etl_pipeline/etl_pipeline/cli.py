"""The command line: data on stdout, talk on stderr; exit 0 done, 1 failed, 2 usage or settings."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl_pipeline import commands, pipeline, schemas
from etl_pipeline.errors import PipelineError, SettingsError
from etl_pipeline.plan import TablePlan
from etl_pipeline.progress import SELDOM, Progress, telling
from etl_pipeline.report import align
from etl_pipeline.running import CONNECTIONS
from etl_pipeline.settings import Settings

# Seconds between two looks at a line that moves.
_TICK = 0.2

_EPILOG = """\
A first look:
  %(prog)s test-connections      can both databases be reached, with which rights?
  %(prog)s plan                  what would a run do, table by table?
  %(prog)s run --table patient   load one table
  %(prog)s run                   load all: changed rows where a stamp tells, else all
  %(prog)s verify                does raw agree with the source?
  %(prog)s status                how fresh is raw?
  %(prog)s schema diff           what changed at the source since the last run?

Databases and passwords come from OPENDENTAL_SOURCE_* and POSTGRES_ANALYTICS_* (.env.template).
Exit status: 0 done, 1 failed, 2 usage or settings.
"""

_SCHEMA_EPILOG = """\
A look after the vendor's update, before the night comes:
  %(prog)s diff               what changed, and which dbt models read it?
  %(prog)s diff --exit-code   for a script: exit 1 on changes, or an error
  %(prog)s refresh            keep it, write tables.yml: stamps, keys, sizes
  %(prog)s history            when did that column come?

Every run keeps the schema when it is another than the last, and names what changed in its report.
Changes name the dbt models that read what changed, where DBT_PROJECT_DIR names the project.
What a person decides about a table goes to overrides.yml (ETL_OVERRIDES), see its example.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return args.command(Settings.from_env(os.environ), args)
    except SettingsError as error:
        _talk(f"error: {error}")
        return 2
    except PipelineError as error:
        _talk(f"error: {error}")
        return 1
    except BrokenPipeError:
        # `… | head`: whoever read stdout has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _talk("interrupted: loaded tables are kept; run again to go on")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=commands.etl(),
        description="Copy OpenDental's database into Postgres schema raw, correct and incremental.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="JSON on stdout")
        return sub

    command("test-connections", _test, "connect to both databases, show rights and versions")
    planned = command("plan", _plan, "show what a run would do; reads both sides, changes nothing")
    running = command("run", _run, "load raw from the source; one run at a time")
    for sub in (planned, running):
        sub.add_argument(
            "--table", action="append", metavar="T", help="only this table (may be repeated)"
        )
        sub.add_argument(
            "--full", action="store_true", help="read every row, not only changed ones"
        )
    running.add_argument("--dry-run", action="store_true", help="the same as plan")
    running.add_argument(
        "--connections",
        type=int,
        choices=range(1, 9),
        default=CONNECTIONS,
        metavar="N",
        help=f"tables that are read at once, 1 to 8 (default {CONNECTIONS})",
    )
    running.add_argument("--run-id", help="continue or name a run; default manual__<time>")
    verifying = command("verify", _verify, "compare rows, keys and sums of raw with the source")
    verifying.add_argument("--run-id", help="the run to keep the outcome with; default the last")
    command("status", _status, "the last run, rows and freshness of each table")
    _add_schema(subparsers)
    return parser


def _add_schema(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    text = "what the source's tables are, and how they changed over time"
    parser = subparsers.add_parser(
        "schema",
        help=text,
        description=text,
        epilog=_SCHEMA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = commands_of.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="JSON on stdout")
        return sub

    compared = command(
        "diff", _schema_diff, "show what changed since the schema was kept last; changes nothing"
    )
    compared.add_argument("--exit-code", action="store_true", help="exit 1 where something changed")
    refreshed = command(
        "refresh",
        _schema_refresh,
        "show what changed, keep the schema and write the file of tables",
    )
    refreshed.add_argument(
        "--file",
        type=Path,
        default=Path("tables.yml"),
        metavar="PATH",
        help="where to write strategy, stamp, key, size and columns of each table"
        " (default tables.yml)",
    )
    past = command("history", _schema_history, "show the schemas that were kept, the newest first")
    past.add_argument("--limit", type=int, default=10, metavar="N", help="how many (default 10)")


def _test(settings: Settings, args: argparse.Namespace) -> int:
    validation = pipeline.check(settings)
    lines = []
    for finding in validation.findings:
        lines.append(f"{finding.level}: {finding.message}")
        if finding.hint:
            lines.append(f"hint: {finding.hint}")
    _show(args, validation.to_dict(), "\n".join(lines))
    return 0 if validation.ok else 1


def _plan(settings: Settings, args: argparse.Namespace) -> int:
    plans = pipeline.observe_plan(settings, tables=args.table, full=args.full)
    _show(args, {"tables": [p.to_dict() for p in plans]}, _plan_text(plans))
    return 1 if any(p.action == "blocked" for p in plans) else 0


def _run(settings: Settings, args: argparse.Namespace) -> int:
    if args.dry_run:
        return _plan(settings, args)
    run_id = args.run_id or f"manual__{datetime.now(UTC).isoformat(timespec='seconds')}"
    with _Screen() as screen:
        result = pipeline.run(
            settings,
            run_id=run_id,
            tables=args.table,
            full=args.full,
            connections=args.connections,
            log=screen.talk,
            progress=screen.progress,
        )
    report = pipeline.report(settings, run_id=run_id)
    _show(args, result.to_dict(), report.to_text())
    return 0 if result.ok else 1


def _verify(settings: Settings, args: argparse.Namespace) -> int:
    run_id = args.run_id or pipeline.last_run_id(settings)
    if run_id is None:
        raise PipelineError("verifying: there was no run yet", commands.nightly())
    with _Screen() as screen:
        verification = pipeline.verify(settings, run_id=run_id, progress=screen.progress)
    _show(args, verification.to_dict(), verification.to_text())
    return 0 if verification.ok else 1


def _status(settings: Settings, args: argparse.Namespace) -> int:
    status = pipeline.status(settings)
    _show(args, status.to_dict(), status.to_text())
    return 0


def _schema_diff(settings: Settings, args: argparse.Namespace) -> int:
    found = schemas.diff(settings)
    _show(args, found.to_dict(), found.to_text())
    return 1 if args.exit_code and found.changes else 0


def _schema_refresh(settings: Settings, args: argparse.Namespace) -> int:
    found = schemas.refresh(settings, args.file)
    _show(args, found.to_dict(), found.to_text())
    return 0


def _schema_history(settings: Settings, args: argparse.Namespace) -> int:
    seen = schemas.history(settings, max(1, args.limit))
    told = "\n".join(s.to_text() for s in seen) or "no schema is kept yet"
    _show(args, {"schemas": [s.to_dict() for s in seen]}, told)
    return 0


def _plan_text(plans: Sequence[TablePlan]) -> str:
    rows = [("table", "action", "rows there", "reason")]
    rows += [
        (p.table.name, p.action, f"{p.table.estimated_rows:,}", p.reason)
        for p in plans
        if p.action != "blocked"
    ]
    lines = align(rows, left=(0, 1, 3))
    for p in plans:
        if p.action == "blocked":
            lines += [f"blocked: {p.reason}", *([f"hint: {p.hint}"] if p.hint else [])]
    actions = Counter(p.action for p in plans)
    told = ", ".join(f"{count} {action}" for action, count in actions.most_common())
    some = "; of these incremental and buckets read what moved alone"
    lines.append(
        f"{len(plans)} tables: {told}{some if actions.keys() & {'incremental', 'buckets'} else ''}"
    )
    return "\n".join(lines)


def _show(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    print(json.dumps(data, indent=2) if args.json else text, flush=True)


class _Screen:
    """Talk on stderr: on a terminal above a line that moves, else with one now and then."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._lock = threading.Lock()
        self._live = sys.stderr.isatty()
        self._telling = telling(self._tell, _TICK if self._live else SELDOM)

    def __enter__(self) -> _Screen:
        self._telling.__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:  # noqa: ANN401 - three of them
        self._telling.__exit__(*ended)
        self._write("")

    def talk(self, line: str) -> None:
        """One line that stays."""
        self._write(f"{line}\n")

    def _tell(self) -> None:
        if self._live:
            self._write(self.progress.line(shutil.get_terminal_size().columns))
        elif self.progress.text:
            self._write(f"{self.progress.text}\n")

    def _write(self, text: str) -> None:
        # Over the line that moves; it is drawn again below what stays.
        over = "\r\x1b[2K" if self._live else ""
        with self._lock:
            print(f"{over}{text}", end="", file=sys.stderr, flush=True)


def _talk(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

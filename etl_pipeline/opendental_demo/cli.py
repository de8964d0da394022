"""The command line: `load` a practice, `advance` it by days of business."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pymysql

from etl_pipeline import commands
from etl_pipeline.connecting import explain_source
from etl_pipeline.errors import PipelineError
from etl_pipeline.settings import EnvReader, SourceSettings
from opendental_demo import clinic, office_hours, schema
from opendental_demo.database import Database, DemoSettings, Marker
from opendental_demo.practice import Practice

YEARS = 3
PROFILES = ("practice", "clinic")
_EPILOG = """\
  %(prog)s load               fill the demo source once; a second time does nothing
  %(prog)s advance --days 1   a day of business: new rows, changes, hard deletes
  %(prog)s load --reset       start again from nothing

Profile practice (the default) keeps books that agree. Profile clinic is as large and as wide as a
real clinic's database: 446 tables, at scale 1 20 million rows, made by the server itself (MariaDB).

The database comes from DEMO_SOURCE_HOST, _PORT, _DB, _USER, _PASSWORD; its rows from DEMO_PROFILE,
DEMO_SEED and DEMO_SCALE. The same seed, scale and end date always give the same rows. All people
are invented. Exit status: 0 done, 1 failed, 2 usage or settings.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        reader = EnvReader(os.environ)
        settings = DemoSettings(
            host=reader.text("DEMO_SOURCE_HOST", "mysql"),
            port=reader.port("DEMO_SOURCE_PORT", 3306),
            database=reader.text("DEMO_SOURCE_DB", "opendental"),
            user=reader.required("DEMO_SOURCE_USER"),
            password=reader.required("DEMO_SOURCE_PASSWORD"),
        )
        seed = reader.number("DEMO_SEED", 1, 0, 2**31)
        scale = args.scale if args.scale is not None else _scale(reader.text("DEMO_SCALE", "1"))
        profile = reader.choice("DEMO_PROFILE", "practice", PROFILES)
        reader.finish()
        args.profile = getattr(args, "profile", None) or profile
        chosen = "" if args.profile == profile else f" --profile {args.profile}"
        args.load = f"load{chosen}"
        wanted = (args.seed if args.seed is not None else seed, scale)
        with _open(settings) as database:
            return args.command(database, args, *wanted)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if type(error).__name__ == "SettingsError" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_command(),
        description="A synthetic OpenDental source: one invented dental practice over three years.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    load = subparsers.add_parser("load", help="create the tables and fill them")
    load.set_defaults(command=_load)
    load.add_argument("--profile", choices=PROFILES, help="default DEMO_PROFILE, or practice")
    load.add_argument("--end-date", type=date.fromisoformat, help="the books end before this day")
    load.add_argument("--reset", action="store_true", help="drop what is there and load again")
    advance = subparsers.add_parser("advance", help="live the next days of business")
    advance.set_defaults(command=_advance)
    advance.add_argument("--days", type=int, help="practice: calendar days (default 1)")
    advance.add_argument("--percent", type=float, help="clinic: of each table (default 1)")
    for sub in (load, advance):
        sub.add_argument("--seed", type=int, help="default DEMO_SEED, or 1")
        sub.add_argument(
            "--scale", type=float, help="default DEMO_SCALE, or 1 (practice: 3,000 patients)"
        )
    return parser


def _load(database: Database, args: argparse.Namespace, seed: int, scale: float) -> int:
    found = database.marker()
    today = office_hours.today()
    if found is not None and not args.reset:
        # Without --end-date any finished load of this practice will do: a stack that is started
        # again tomorrow keeps its data.
        same_end = args.end_date in (None, found.end)
        wanted = (args.profile, seed, scale)
        if (found.profile, found.seed, found.scale) == wanted and same_end:
            _talk(f"nothing to do: {_what(found)}, books up to {found.today}")
            return 0
        raise PipelineError(
            f"loading the demo: the database holds {_what(found)}, end date {found.end}",
            _fill(f"{args.load} --reset"),
        )
    strangers = database.strangers()
    if strangers:
        raise PipelineError(
            f"loading the demo: {database.settings.database} holds {len(strangers)} tables with"
            " rows that are not ours",
            "point DEMO_SOURCE_DB at an empty database; real data is never overwritten",
        )
    end = args.end_date or (clinic.END if args.profile == "clinic" else today)
    if end > today:
        # Stamps in the future would hide the changes that a person makes today.
        raise PipelineError("loading the demo: the end date lies in the future", "leave it out")
    marker = Marker(seed, scale, end, end, args.profile)
    if args.profile == "clinic":
        clinic.load(database, marker, _talk)
    else:
        _load_practice(database, marker)
    return 0


def _load_practice(database: Database, marker: Marker) -> None:
    began = time.monotonic()
    practice = Practice(marker.seed, marker.scale, _start(marker.end))
    practice.run_until(marker.end)
    _talk(f"simulated {YEARS} years in {time.monotonic() - began:.1f} s")
    database.create(schema.statements(), schema.tables())
    count = database.write(practice.store)
    database.mark(marker)
    patients = len(practice.store.rows["patient"])
    seconds = time.monotonic() - began
    _talk(f"loaded {count} rows, {patients} patients, books up to {marker.end}, in {seconds:.1f} s")


def _advance(database: Database, args: argparse.Namespace, seed: int, scale: float) -> int:
    del seed, scale  # the database knows which practice it holds
    if args.days is not None and args.days < 1:
        raise PipelineError("advancing the demo: --days must be at least 1")
    if args.percent is not None and not 0 < args.percent <= 100:
        raise PipelineError("advancing the demo: --percent must be above 0 and at most 100")
    found = database.marker()
    if found is None:
        raise PipelineError("advancing the demo: there is no practice yet", _fill(args.load))
    if found.profile == "clinic":
        _refuse(args.days, "--days", "a clinic", "advance --percent 1")
        began = time.monotonic()
        counts = clinic.advance(database, found, args.percent or 1, _talk)
        database.mark(replace(found, advances=found.advances + 1))
        where = f"for the {found.advances + 1}. time in {time.monotonic() - began:.1f} s"
    else:
        _refuse(args.percent, "--percent", "a practice", "advance --days 1")
        counts, end = _advance_practice(database, found, args.days or 1)
        where = f"from {found.today} to {end}"
    told = ", ".join(f"{number} {action}s" for action, number in counts.items())
    _talk(f"advanced {where}: {told}")
    return 0


def _advance_practice(database: Database, found: Marker, days: int) -> tuple[dict[str, int], date]:
    # The past is lived again in memory (seconds): the database holds no state of the simulation.
    practice = Practice(found.seed, found.scale, _start(found.end))
    practice.run_until(found.today)
    practice.store.forget_changes()
    end = found.today + timedelta(days=days)
    practice.run_until(end)
    counts = database.apply(practice.store)
    database.mark(replace(found, today=end))
    return counts, end


def _refuse(value: float | None, option: str, what: str, instead: str) -> None:
    if value is not None:
        raise PipelineError(
            f"advancing the demo: the database holds {what}, which knows no {option}",
            _command(instead),
        )


def _what(found: Marker) -> str:
    profile = "" if found.profile == "practice" else f"profile {found.profile}, "
    return f"{profile}seed {found.seed}, scale {found.scale:g}"


def _start(end: date) -> date:
    day = 28 if (end.month, end.day) == (2, 29) else end.day
    return date(end.year - YEARS, end.month, day)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 100:
        raise PipelineError("reading DEMO_SCALE: it is not a number above 0 and up to 100")
    return scale


def _open(settings: DemoSettings) -> Database:
    try:
        return Database(settings)
    except (pymysql.MySQLError, OSError, RuntimeError) as error:
        source = SourceSettings(
            settings.host, settings.port, settings.database, settings.user, settings.password
        )
        safe = explain_source(error, source)
        hint = safe.hint.replace("OPENDENTAL_SOURCE_", "DEMO_SOURCE_")
        raise PipelineError(safe.message, hint) from None


def _command(arguments: str = "") -> str:
    """As a person types it here; DEMO_COMMAND says what stands before the arguments."""
    return commands.typed("DEMO_COMMAND", "python -m opendental_demo", arguments)


def _fill(load: str) -> str:
    # Only a full run sees what it replaces: another practice's rows have the same keys, and stamps
    # that may lie behind the watermark.
    return f"{_command(load)}\nthen, for raw to follow: {commands.nightly('--full')}"


def _talk(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

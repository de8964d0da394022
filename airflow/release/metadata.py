"""What a deploy asks of Airflow's metadata database, and the little that it changes there.

    python metadata.py state                 what there is, as JSON
    python metadata.py unpaused              ids of the DAGs that are not paused, one a line
    python metadata.py pause --wait 60       pause every DAG, once no run is active
    python metadata.py unpause ID…
    python metadata.py reparse               let the scheduler read every DAG file anew
    python metadata.py live --since … --expect … --limit 30

It runs inside of a container of the stack, several times in a deploy, so it starts fast: nothing of
Airflow is imported. The tables are those of Airflow 2.6 and 2.7.

Exit codes: 0 done, 1 failed, 4 a run is active.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg2
from psycopg2.extras import RealDictCursor

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

URL = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
MANAGER = b"DagFileProcessorManager"
ACTIVE = 4
ERROR_LINES = 6

DAGS = """
select d.dag_id as id, d.is_paused as paused, s.dag_hash as hash, d.last_parsed_time as parsed
from dag d join serialized_dag s on s.dag_id = d.dag_id
where d.is_active order by d.dag_id
"""
# A run of a paused DAG of which nothing runs goes on when the DAG is unpaused: nobody waits for it.
RUNS = """
select r.dag_id as dag, r.run_id as id, r.state,
    d.is_paused and not exists (
        select from task_instance t
        where t.dag_id = r.dag_id and t.run_id = r.run_id and t.state in ('running', 'queued')
    ) as suspended
from dag_run r join dag d on d.dag_id = r.dag_id
where r.state in ('queued', 'running') order by r.dag_id, r.run_id
"""
TASKS = """
select dag_id as dag, run_id as run, task_id as task, state, start_date as since
from task_instance where state in ('running', 'queued', 'restarting') order by 1, 2, 3
"""
ERRORS = """
select filename as file, stacktrace as error, timestamp as at from import_error order by filename
"""
HEARTBEAT = """
select extract(epoch from now() - max(latest_heartbeat))::float8
from job where job_type = 'SchedulerJob' and state = 'running'
"""

# Inside of `pause`, where every DAG is paused already: %s are those that just now were not. A run of
# another counts only while something of it runs.
ACTIVE_RUNS = """
select r.dag_id as dag, r.run_id as id, r.state
from dag_run r
where r.state in ('queued', 'running') and (
    r.dag_id = any(%s)
    or exists (
        select from task_instance t
        where t.dag_id = r.dag_id and t.run_id = r.run_id and t.state in ('running', 'queued')
    )
) order by r.dag_id, r.run_id
"""


class MetadataError(Exception):
    """What was being done; then, on a line of its own, the hint that mends it."""


def connect(url: str) -> Connection:
    """A connection by SQLAlchemy's URL, in autocommit. Raises MetadataError."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgresql"):
        raise MetadataError(f"reading {URL}: it names no PostgreSQL\nhint: see .env")
    try:
        connection = psycopg2.connect(
            host=parts.hostname,
            port=parts.port or 5432,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            dbname=unquote(parts.path.lstrip("/")),
            connect_timeout=5,
            **dict(parse_qsl(parts.query)),
        )
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise MetadataError(
            f"connecting to the metadata database at {parts.hostname}: {reason}\n"
            "hint: is the postgres service up?"
        ) from None
    connection.autocommit = True
    return connection


def rows(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    """What a query gives, instants as ISO 8601."""
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(query, values)
        found = [dict(row) for row in cursor.fetchall()] if cursor.description else []
    for row in found:
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.isoformat()
    return found


def one(connection: Connection, query: str) -> Any:  # noqa: ANN401 - whatever the query gives
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None


def errors(connection: Connection) -> list[dict[str, Any]]:
    """DAG files that cannot be imported, with the end of each traceback."""
    found = rows(connection, ERRORS)
    for error in found:
        error["error"] = "\n".join((error["error"] or "").rstrip().splitlines()[-ERROR_LINES:])
    return found


def state(connection: Connection) -> dict[str, Any]:
    """All that a deploy decides by; `revision` is null and all else empty without a schema."""
    now = one(connection, "select now()").isoformat()
    if one(connection, "select to_regclass('alembic_version')") is None:
        empty: dict[str, Any] = {"dags": [], "import_errors": [], "runs": [], "tasks": []}
        return {"now": now, "revision": None, "heartbeat": None, **empty}
    return {
        "now": now,
        "revision": one(connection, "select version_num from alembic_version"),
        "heartbeat": one(connection, HEARTBEAT),
        "dags": rows(connection, DAGS),
        "import_errors": errors(connection),
        "runs": rows(connection, RUNS),
        "tasks": rows(connection, TASKS),
    }


def unpaused(connection: Connection) -> list[str]:
    """DAGs that are not paused."""
    query = "select dag_id from dag where is_active and not is_paused order by dag_id"
    return [row["dag_id"] for row in rows(connection, query)]


def pause(connection: Connection, wait: float) -> int:
    """Pause every DAG while no run is active; wait so many seconds for that. The exit code.

    The scheduler locks the rows of the DAGs for which it creates runs: our update waits until those
    runs can be seen, and a run that is seen undoes it.
    """
    deadline = time.monotonic() + wait
    told = False
    while True:
        connection.autocommit = False
        paused = rows(
            connection,
            "update dag set is_paused = true where is_active and not is_paused returning dag_id",
        )
        ids = sorted(row["dag_id"] for row in paused)
        active = rows(connection, ACTIVE_RUNS, (ids,))
        if not active:
            connection.commit()
            connection.autocommit = True
            print(json.dumps({"paused": ids}))
            return 0
        connection.rollback()
        connection.autocommit = True
        names = ", ".join(f"{run['id']} of {run['dag']}" for run in active)
        if time.monotonic() >= deadline:
            print(f"error: a run is active: {names}", file=sys.stderr)
            print(json.dumps({"active": active}))
            return ACTIVE
        if not told:
            print(f"waiting for {names}", file=sys.stderr, flush=True)
            told = True
        time.sleep(2)


def unpause(connection: Connection, ids: list[str]) -> None:
    """Unpause exactly these."""
    rows(connection, "update dag set is_paused = false where dag_id = any(%s)", (ids,))


def managers() -> list[int]:
    """Processes of this container that read DAG files for the scheduler."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if MANAGER in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it has ended
                continue
    return found


def reparse() -> None:
    """End the process that reads DAG files. The scheduler starts another, which knows of no earlier
    reading: changed, new and removed files are seen at once. Raises MetadataError.
    """
    before = managers()
    if not before:
        raise MetadataError(
            "finding the process that reads DAG files: there is none\n"
            "hint: this is no container of a scheduler that is up"
        )
    for pid in before:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while set(before) & set(managers()):
        if time.monotonic() >= deadline:
            raise MetadataError(
                "ending the process that reads DAG files: it goes on\nhint: restart the scheduler"
            )
        time.sleep(0.02)


def live(connection: Connection, since: datetime, expect: dict[str, str], limit: float) -> float:
    """Wait until the scheduler has, after `since`, read just these DAGs, by their hashes, and no
    file failed. The seconds that it took. Raises MetadataError with what is lacking.
    """
    begun = time.monotonic()
    while True:
        lacking = []
        there = {row["id"]: row for row in rows(connection, DAGS)}
        for dag in sorted(set(there) | set(expect)):
            row = there.get(dag)
            if row is None:
                lacking.append(f"{dag} is not there")
            elif dag not in expect:
                lacking.append(f"{dag} is still there")
            elif row["hash"] != expect[dag]:
                lacking.append(f"{dag} is read as {row['hash']}, not as {expect[dag]}")
            elif row["parsed"] is None or datetime.fromisoformat(row["parsed"]) <= since:
                lacking.append(f"{dag} was last read at {row['parsed']}")
        failed = errors(connection)
        lacking += [f"{error['file']} cannot be imported:\n{error['error']}" for error in failed]
        if not lacking:
            return time.monotonic() - begun
        fresh = any(datetime.fromisoformat(error["at"]) > since for error in failed)
        if fresh or time.monotonic() - begun > limit:
            raise MetadataError(
                "seeing the release live: " + "; ".join(lacking) + "\nhint: see the scheduler's log"
            )
        time.sleep(0.1)


def expected(text: str) -> dict[str, str]:
    """What `gate.py` printed, or its `dags` alone: DAG id → hash."""
    document = json.loads(text)
    return document["dags"] if isinstance(document.get("dags"), dict) else document


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("state", "unpaused", "reparse"):
        commands.add_parser(name)
    commands.add_parser("pause").add_argument("--wait", type=float, default=0, metavar="S")
    commands.add_parser("unpause").add_argument("ids", nargs="+", metavar="ID")
    command = commands.add_parser("live")
    command.add_argument("--since", type=datetime.fromisoformat, required=True, metavar="INSTANT")
    command.add_argument("--expect", type=expected, required=True, metavar="JSON")
    command.add_argument("--limit", type=float, default=30, metavar="S")
    args = parser.parse_args(argv)
    try:
        if args.command == "reparse":
            reparse()
            return 0
        connection = connect(os.environ.get(URL, ""))
        if args.command == "state":
            print(json.dumps(state(connection)))
        elif args.command == "unpaused":
            print("".join(f"{dag}\n" for dag in unpaused(connection)), end="")
        elif args.command == "pause":
            return pause(connection, args.wait)
        elif args.command == "unpause":
            unpause(connection, args.ids)
        else:
            seconds = live(connection, args.since, args.expect, args.limit)
            print(json.dumps({"seconds": round(seconds, 3)}))
    except (MetadataError, psycopg2.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

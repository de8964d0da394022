"""What a deploy asks of Airflow's metadata database, and the little that it changes there.

    state                 what there is: see `state` below
    revision              alembic's, not JSON; an empty line without a schema
    unpaused              ids of the DAGs that are not paused, one a line, not JSON
    pause --wait 60       pause every DAG, once no run is active: {"paused": [id]}, or, with exit
                          code 4, {"active": [run]}
    unpause ID…           unpause just these: {"unpaused": [id]}, without ids that are unknown
    reparse               let the scheduler read every DAG file anew: {"since": instant}
    live --since INSTANT [--expect JSON] --limit 30
                          wait until just these DAGs were read after that: {"seconds": number}

It runs inside of a container of the stack (`reparse`: the scheduler's), several times in a deploy,
so it starts fast: nothing of Airflow is imported. The tables are those of Airflow 2.6 and 2.7.
Instants are ISO 8601 with an offset.

Exit codes: 0 done, 1 failed, 2 the settings or the arguments are wrong, 4 a run is active.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import psycopg2
from psycopg2 import errors, extensions
from psycopg2.extras import RealDictCursor

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

URL = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
MANAGER = b"airflow scheduler -- DagFileProcessorManager"
ACTIVE = 4
ERROR_LINES = 6
LOCK_LIMIT = "20s"
POLL = 2.0
MANAGER_STARTS = 3.0
MANAGER_ENDS = 10.0
SIGNAL_AGAIN = 2.0

# SQLAlchemy's own reading of a URL: a password may hold `/`, `?` and `#` as they are.
URL_PARTS = re.compile(
    r"postgres(ql)?(\+\w+)?://"
    r"((?P<user>[^:/]*)(:(?P<password>[^@]*))?@)?"
    r"(\[(?P<host6>[^/?]+)\]|(?P<host>[^/:?]+))?(:(?P<port>[^/?]*))?"
    r"(/(?P<dbname>[^?]*))?(\?(?P<query>.*))?"
)

DAGS = """
select d.dag_id as id, d.is_paused as paused, s.dag_hash as hash, d.last_parsed_time as parsed
from dag d join serialized_dag s on s.dag_id = d.dag_id
where d.is_active order by d.dag_id
"""
# A task that is restarting still runs: its process was told to end.
BUSY = """exists (
    select from task_instance t where t.dag_id = r.dag_id and t.run_id = r.run_id
    and t.state in ('running', 'queued', 'restarting')
)"""
# A run of a paused DAG of which nothing runs goes on when the DAG is unpaused: nobody waits for it.
RUNS = f"""
select r.dag_id as dag, r.run_id as id, r.state, d.is_paused and not {BUSY} as suspended
from dag_run r join dag d on d.dag_id = r.dag_id
where r.state in ('queued', 'running') order by r.dag_id, r.run_id
"""  # noqa: S608 - constants
# For `pause`, which has paused every DAG already: %s are those that just now were not.
ACTIVE_RUNS = f"""
select r.dag_id as dag, r.run_id as id, r.state, false as suspended
from dag_run r join dag d on d.dag_id = r.dag_id
where r.state in ('queued', 'running') and (not d.is_paused or r.dag_id = any(%s) or {BUSY})
order by r.dag_id, r.run_id
"""  # noqa: S608 - constants
TASKS = """
select t.dag_id as dag, t.run_id as run, t.task_id as task, t.state,
    coalesce(case when t.state = 'queued' then t.queued_dttm end, t.start_date) as since
from task_instance t join dag_run r on r.dag_id = t.dag_id and r.run_id = t.run_id
where r.state in ('queued', 'running') and t.state in (
    'running', 'queued', 'restarting', 'scheduled', 'up_for_reschedule', 'up_for_retry', 'deferred'
) order by 1, 2, 3
"""
# Of each DAG, the run that ended last, and which of its tasks failed first.
LAST = """
select distinct on (r.dag_id)
    r.dag_id as dag, r.run_id as id, r.state, r.start_date as began, r.end_date as ended, (
        select t.task_id from task_instance t
        where t.dag_id = r.dag_id and t.run_id = r.run_id and t.state = 'failed'
        order by t.end_date limit 1
    ) as failed
from dag_run r join dag d on d.dag_id = r.dag_id
where d.is_active and r.state in ('success', 'failed')
order by r.dag_id, r.end_date desc nulls last
"""
IMPORT_ERRORS = """
select filename as file, stacktrace as error, timestamp as at from import_error order by filename
"""
HEARTBEAT = """
select extract(epoch from clock_timestamp() - max(latest_heartbeat))::float8
from job where job_type = 'SchedulerJob' and state = 'running'
"""
NOW = "select clock_timestamp()"
PAUSE = "update dag set is_paused = true where not is_paused and is_active returning dag_id as id"
UNPAUSE = "update dag set is_paused = false where dag_id = any(%s) returning dag_id as id"
UNPAUSED = "select dag_id as id from dag where is_active and not is_paused order by dag_id"


class MetadataError(Exception):
    """What was being done; then, on a line of its own, the hint that mends it. `code` is the exit
    code.
    """

    def __init__(self, doing: str, hint: str, *, code: int = 1) -> None:
        super().__init__(f"{doing}\nhint: {hint}")
        self.code = code


def parameters(url: str) -> dict[str, str]:
    """libpq's parameters of SQLAlchemy's URL; its query may hold any of them. Raises
    MetadataError, which never repeats the URL.
    """
    match = URL_PARTS.fullmatch(url)
    if match is None:
        what = "it names no PostgreSQL" if url else "it is not set"
        raise MetadataError(f"reading {URL}: {what}", "`cargo xtask env` writes it", code=2)
    found = {
        "user": unquote(match["user"] or ""),
        "password": unquote(match["password"] or ""),
        "host": match["host"] or match["host6"],
        "port": match["port"],
        "dbname": match["dbname"],
        **dict(parse_qsl(match["query"] or "")),
    }
    return {"connect_timeout": "5", **{name: value for name, value in found.items() if value}}


def connect(url: str) -> Connection:
    """A connection by SQLAlchemy's URL, in autocommit. Raises MetadataError."""
    given = parameters(url)
    try:
        connection = psycopg2.connect(**given)
    except psycopg2.OperationalError as error:
        # An indented line is libpq's question, not its answer.
        lines = [line for line in str(error).splitlines() if line.strip() and line[0] != "\t"]
        reason = (lines or ["no answer"])[-1]
        where = f"{given.get('dbname', '')} at {given.get('host', '')}:{given.get('port', 5432)}"
        raise MetadataError(
            f"connecting to the metadata database {where}: {reason}",
            "is the postgres service up and are its credentials in .env?",
        ) from None
    except psycopg2.ProgrammingError as error:  # a word in the query that libpq does not know
        raise MetadataError(
            f"reading {URL}: libpq refuses a parameter of its query", "see .env", code=2
        ) from error
    connection.autocommit = True
    return connection


@contextmanager
def transaction(connection: Connection, *, snapshot: bool = False) -> Iterator[None]:
    """One transaction: committed at the end, rolled back by any exception. A snapshot is read-only
    and sees one state of the database.
    """
    level = extensions.ISOLATION_LEVEL_REPEATABLE_READ if snapshot else None
    connection.set_session(isolation_level=level, readonly=snapshot, autocommit=False)
    try:
        with connection:
            yield
    finally:
        if not connection.closed:
            connection.set_session(isolation_level="DEFAULT", readonly=False, autocommit=True)


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


def ids(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> list[str]:
    """The ids that a query gives, in order."""
    return sorted(row["id"] for row in rows(connection, query, values))


def import_errors(connection: Connection) -> list[dict[str, Any]]:
    """DAG files that cannot be imported, with the end of each traceback."""
    found = rows(connection, IMPORT_ERRORS)
    for error in found:
        error["error"] = "\n".join((error["error"] or "").rstrip().splitlines()[-ERROR_LINES:])
    return found


def revision(connection: Connection) -> str | None:
    """Alembic's name of the schema, or None without one."""
    if not migrated(connection):
        return None
    found: str = one(connection, "select version_num from alembic_version")
    return found


def migrated(connection: Connection) -> bool:
    """Whether there is a schema."""
    return one(connection, "select to_regclass('alembic_version')") is not None


def state(connection: Connection) -> dict[str, Any]:
    """All that a deploy decides by, of one moment.

    now: the database's clock. revision: alembic's; null without a schema, and all else is empty.
    heartbeat: seconds since that of the newest running scheduler, or null. dags: id, paused, hash,
    parsed (or null) of those that the scheduler has read. import_errors: file, error, at. runs:
    dag, id, state, suspended of those that have not ended. tasks: dag, run, task, state, since (or
    null) of what has begun and not ended in these. last: of each DAG, dag, id, state, began, ended
    (or null) of the run that ended last, and failed, the task that failed first, or null.
    """
    with transaction(connection, snapshot=True):
        found: dict[str, Any] = {
            "now": one(connection, NOW).isoformat(),
            "revision": None,
            "heartbeat": None,
            **{name: [] for name in ("dags", "import_errors", "runs", "tasks", "last")},
        }
        if migrated(connection):
            found |= {
                "revision": revision(connection),
                "heartbeat": one(connection, HEARTBEAT),
                "dags": rows(connection, DAGS),
                "import_errors": import_errors(connection),
                "runs": rows(connection, RUNS),
                "tasks": rows(connection, TASKS),
                "last": rows(connection, LAST),
            }
    return found


class RunsActive(Exception):
    """An answer that also undoes the transaction: these runs are active, these tasks run."""

    def __init__(self, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
        super().__init__()
        self.runs = runs
        self.names = ", ".join(
            f"{run['id']} of {run['dag']} ({self._tasks(run, tasks)})" for run in runs
        )

    @staticmethod
    def _tasks(run: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
        own = [task for task in tasks if (task["dag"], task["run"]) == (run["dag"], run["id"])]
        return ", ".join(f"{task['task']} {task['state']}" for task in own) or "no task yet"


def try_to_pause(connection: Connection) -> list[str]:
    """Pause every DAG; their ids. Raises RunsActive, and has changed nothing then.

    The scheduler locks the rows of the DAGs for which it creates runs: the update waits until those
    runs can be seen, and the next statement, which has a snapshot of its own, sees them.
    """
    if not migrated(connection):
        return []
    while True:
        try:
            with transaction(connection):
                rows(connection, f"set local lock_timeout = '{LOCK_LIMIT}'")
                paused = ids(connection, PAUSE)
                if active := rows(connection, ACTIVE_RUNS, (paused,)):
                    raise RunsActive(active, rows(connection, TASKS))
            return paused
        except errors.DeadlockDetected:  # with a reader of DAG files, which goes on now
            continue


def pause(connection: Connection, wait: float) -> int:
    """Pause every DAG while no run is active; wait up to `wait` seconds for that. The exit code."""
    deadline = time.monotonic() + wait
    told = False
    while True:
        try:
            print(json.dumps({"paused": try_to_pause(connection)}))
            return 0
        except RunsActive as active:
            left = deadline - time.monotonic()
            if left <= 0:
                print(json.dumps({"active": active.runs}))
                print(
                    f"error: pausing the DAGs: a run is active: {active.names}\n"
                    "hint: wait for its end, or mark it as failed in the UI",
                    file=sys.stderr,
                )
                return ACTIVE
            if not told:
                print(f"waiting for {active.names}", file=sys.stderr, flush=True)
                told = True
        time.sleep(min(POLL, left))


def processes() -> dict[int, tuple[int, bytes]]:
    """Of each process of this container that has not ended: its group and its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # Ended meanwhile.
            with suppress(OSError):
                status = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if status[0] not in "ZX":
                    title = (folder / "cmdline").read_bytes().rstrip(b"\0 ")
                    found[int(folder.name)] = (int(status[2]), title)
    return found


def managers() -> list[int]:
    """Processes that read DAG files for a scheduler. Each leads the group of its children, which
    have its title for a moment.
    """
    return [pid for pid, (group, title) in processes().items() if title == MANAGER and group == pid]


def reparse() -> None:
    """End the process that reads DAG files, and wait for its end and its children's. The scheduler
    starts another, which knows of no earlier reading: changed, new and removed files are seen at
    once. Raises MetadataError.
    """
    begun = time.monotonic()
    while not (ended := managers()):  # the scheduler may be about to start one
        if time.monotonic() - begun > MANAGER_STARTS:
            raise MetadataError(
                "finding the process that reads DAG files: there is none",
                "run this in the container of a scheduler that is up",
            )
        time.sleep(0.05)
    begun = time.monotonic()
    signals = 0
    while any(group in ended for group, _ in processes().values()):
        passed = time.monotonic() - begun
        if passed > MANAGER_ENDS:
            raise MetadataError(
                f"ending the process that reads DAG files: {ended} go on", "restart the scheduler"
            )
        # In its first moments it ignores the signal.
        if passed >= signals * SIGNAL_AGAIN:
            signals += 1
            for pid in ended:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        time.sleep(0.02)


def live(
    connection: Connection, since: datetime, expect: dict[str, str] | None, limit: float
) -> float:
    """Wait until the scheduler has, after `since`, read just these DAGs, by their hashes, or where
    there are none all that it knows, and no file failed. The seconds that it took. Raises
    MetadataError with what is lacking.
    """
    begun = time.monotonic()
    while True:
        lacking = []
        there = {row["id"]: row for row in rows(connection, DAGS)}
        wanted = {dag: row["hash"] for dag, row in there.items()} if expect is None else expect
        for dag in sorted(set(there) | set(wanted)):
            row = there.get(dag)
            if row is None:
                lacking.append(f"{dag} is not there")
            elif dag not in wanted:
                lacking.append(f"{dag} is still there")
            elif row["hash"] != wanted[dag]:
                lacking.append(f"{dag} is read as {row['hash']}, not as {wanted[dag]}")
            elif row["parsed"] is None or datetime.fromisoformat(row["parsed"]) <= since:
                lacking.append(f"{dag} was last read at {row['parsed']}")
        failed = import_errors(connection)
        lacking += [f"{error['file']} cannot be imported:\n{error['error']}" for error in failed]
        if not lacking:
            return time.monotonic() - begun
        fresh = any(datetime.fromisoformat(error["at"]) > since for error in failed)
        if fresh or time.monotonic() - begun > limit:
            raise MetadataError(
                f"waiting until the scheduler has read the release: {'; '.join(lacking)}",
                "see the log of the scheduler: `cargo xtask logs airflow-scheduler`",
            )
        time.sleep(0.1)


def expected(text: str) -> dict[str, str]:
    """DAG id → hash: an object of these, or all that `gate.py` printed. Raises ValueError."""
    document = json.loads(text)
    inner = document.get("dags") if isinstance(document, dict) else None
    hashes = inner if isinstance(inner, dict) else document
    if not isinstance(hashes, dict) or not all(isinstance(v, str) for v in hashes.values()):
        raise ValueError("not an object of hashes")
    return hashes


def instant(text: str) -> datetime:
    """An ISO 8601 instant. Raises ValueError for one without an offset."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no offset")
    return found


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("state", "revision", "unpaused", "reparse"):
        commands.add_parser(name)
    commands.add_parser("pause").add_argument("--wait", type=float, default=0, metavar="SECONDS")
    commands.add_parser("unpause").add_argument("ids", nargs="+", metavar="ID")
    command = commands.add_parser("live")
    command.add_argument("--since", type=instant, required=True, metavar="INSTANT")
    command.add_argument("--expect", type=expected, metavar="JSON")
    command.add_argument("--limit", type=float, default=30, metavar="SECONDS")
    args = parser.parse_args(argv)
    try:
        connection = connect(os.environ.get(URL, ""))
        if args.command == "pause":
            return pause(connection, args.wait)
        if args.command == "revision":
            print(revision(connection) or "")
            return 0
        if args.command == "unpaused":
            print("".join(f"{dag}\n" for dag in ids(connection, UNPAUSED)), end="")
            return 0
        if args.command == "state":
            answer = state(connection)
        elif args.command == "unpause":
            answer = {"unpaused": ids(connection, UNPAUSE, (args.ids,))}
        elif args.command == "reparse":
            reparse()
            answer = {"since": one(connection, NOW).isoformat()}
        else:
            seconds = live(connection, args.since, args.expect, args.limit)
            answer = {"seconds": round(seconds, 3)}
        print(json.dumps(answer))
    except MetadataError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except psycopg2.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(
            f"error: asking the metadata database: {reason}\n"
            "hint: see `cargo xtask logs postgres`, then try again",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

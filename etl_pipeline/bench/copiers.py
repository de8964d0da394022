"""The copiers side by side: what each needs before its run, and the command that is measured.

    copiers.py names                  those that can run here, with versions; why the others cannot
    copiers.py prepare COPIER TABLE…  nothing in raw, and its command at COMMAND
    copiers.py rest                   what Postgres does by itself in the day between two nights
    copiers.py rows source|raw TABLE… how many rows each table has; null where it is missing
    copiers.py sums source|raw TABLE  rows, and the sum of each double of a table, in cents

Copies go into schema raw under the tables' own names in lowercase. Passwords come by the
environment (MYSQL_PWD, PGPASSWORD) and reach a copier by that or by a file in FOLDER, a tmpfs.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pymysql

FOLDER = Path("/run/bench")
COMMAND = FOLDER / "command"
RIVALS = Path("/opt/rivals/bin")
OURS = "python -m etl_pipeline"


@dataclass(frozen=True)
class Servers:
    """Where both databases are."""

    source_host: str
    source_user: str
    source_password: str
    database: str
    target_host: str
    target_user: str
    target_password: str
    target_database: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Servers:
        return cls(
            environ["OPENDENTAL_SOURCE_HOST"],
            environ["OPENDENTAL_SOURCE_USER"],
            environ["MYSQL_PWD"],
            environ["OPENDENTAL_SOURCE_DB"],
            environ["PGHOST"],
            environ["PGUSER"],
            environ["PGPASSWORD"],
            environ["PGDATABASE"],
        )

    def source_url(self, scheme: str) -> str:
        return (
            f"{scheme}://{self.source_user}:{self.source_password}@{self.source_host}:3306"
            f"/{self.database}"
        )

    def target_url(self, scheme: str, tail: str = "") -> str:
        return (
            f"{scheme}://{self.target_user}:{self.target_password}@{self.target_host}:5432"
            f"/{self.target_database}{tail}"
        )


Tables = Sequence[str]


def floor(servers: Servers, tables: Tables) -> str:
    """mariadb's text into COPY: the least that a copy of these rows can cost with stock tools."""
    lines = [
        f"mariadb --host={shlex.quote(servers.source_host)} --user={servers.source_user}"
        " --default-character-set=utf8mb4 --quick --batch --skip-column-names"
        f" --execute='select * from `{table}`' {servers.database}"
        " | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1"
        f""" --command="copy raw.\\"{table.lower()}\\" from stdin with (null 'NULL')\""""
        for table in tables
    ]
    return "\n".join(["set -e -o pipefail", *lines])


def ours(servers: Servers, tables: Tables, connections: int = 1) -> str:
    del servers
    chosen = "".join(f" --table {table}" for table in tables)
    return f"exec {OURS} run --full --connections {connections}{chosen}"


def ours_twice(servers: Servers, tables: Tables) -> str:
    return ours(servers, tables, 2)


def pgloader(servers: Servers, tables: Tables) -> str:
    names = ", ".join(f"'{table}'" for table in tables)
    script = secret_file(
        "pgloader.load",
        f"""\
LOAD DATABASE
     FROM {servers.source_url("mysql")}
     INTO {servers.target_url("pgsql")}

 WITH include no drop, create tables, create no indexes, no foreign keys, reset no sequences

INCLUDING ONLY TABLE NAMES MATCHING {names}

ALTER SCHEMA '{servers.database}' RENAME TO 'raw';
""",
    )
    return f"exec pgloader --root-dir /tmp/pgloader {script}"


def sling(servers: Servers, tables: Tables) -> str:
    streams = {
        f"{servers.database}.{table}": {"object": f"raw.{table.lower()}"} for table in tables
    }
    replication = {
        "source": "BENCH_SOURCE",
        "target": "BENCH_TARGET",
        "defaults": {"mode": "full-refresh"},
        "streams": streams,
    }
    # JSON is YAML.
    script = secret_file("sling.yaml", json.dumps(replication))
    return "\n".join(
        [
            f"export BENCH_SOURCE={servers.source_url('mysql')}",
            f"export BENCH_TARGET={servers.target_url('postgres', '?sslmode=disable')}",
            "export SLING_DISABLE_TELEMETRY=true",
            f"exec {RIVALS}/sling run --replication {script}",
        ]
    )


def dlt(servers: Servers, tables: Tables) -> str:
    script = Path(__file__).with_name("copy_by_dlt.py")
    return "\n".join(
        [
            f"export SOURCES__SQL_DATABASE__CREDENTIALS={servers.source_url('mysql+pymysql')}",
            f"export DESTINATION__POSTGRES__CREDENTIALS={servers.target_url('postgresql')}",
            "export RUNTIME__DLTHUB_TELEMETRY=false DLT_DATA_DIR=/tmp/dlt",
            "unset PYTHONPATH",
            "rm -rf /tmp/dlt",
            f"exec {RIVALS}/python -s {script} {' '.join(tables)}",
        ]
    )


@dataclass(frozen=True)
class Copier:
    """`command` gives the shell script that copies; `asks` says whether and as what it runs."""

    command: Callable[[Servers, Tables], str]
    asks: str
    own_tables: bool = True


COPIERS = {
    # Its target tables are not its own work: they are there before it begins.
    "floor": Copier(floor, "mariadb --version && psql --version", own_tables=False),
    "ours": Copier(ours, f"{OURS} run --help"),
    "ours-2": Copier(ours_twice, f"{OURS} run --help"),
    "pgloader": Copier(pgloader, "pgloader --version | sed -n 's/^pgloader version //p'"),
    "sling": Copier(sling, f"{RIVALS}/sling --version | sed -n 's/^Version: *//p'"),
    "dlt": Copier(dlt, f"cd / && {RIVALS}/python -s -c 'import dlt; print(dlt.__version__)'"),
}
VERSIONED = ("pgloader", "sling", "dlt")


def names() -> dict[str, dict[str, str]]:
    """Of each copier its version, or why it cannot run."""
    found = {}
    for name, copier in COPIERS.items():
        asked = subprocess.run(
            ["bash", "-o", "pipefail", "-c", copier.asks],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        said = asked.stdout.strip().strip('"')
        if asked.returncode != 0 or (name in VERSIONED and not said):
            words = (asked.stderr.strip().splitlines() or ["it does not know that"])[-1]
            found[name] = {"missing": words}
        else:
            found[name] = {"version": said if name in VERSIONED else ""}
    return found


def secret_file(name: str, text: str) -> Path:
    """Writes a file that nobody else can read."""
    path = FOLDER / name
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def floor_table(table: str, columns: Sequence[tuple[str, str]]) -> str:
    """A table that takes what mariadb prints.

    Numbers are numbers, all else is text: dates as well, for 0000-00-00 is none to Postgres. That
    leaves the floor less to do than a copy that is right, and so it is where it belongs: below.
    """
    whole = {"tinyint", "smallint", "mediumint", "int", "year"}
    types = dict.fromkeys(whole, "integer") | {
        "int": "bigint",
        "bigint": "numeric(20,0)",
        "float": "real",
        "double": "double precision",
        "decimal": "numeric",
    }

    def type_of(full: str) -> str:
        kind = full.split("(")[0].split()[0]
        if kind == "bigint" and "unsigned" not in full:
            return "bigint"
        return types.get(kind, "text")

    listed = ", ".join(f'"{name}" {type_of(full.lower())}' for name, full in columns)
    return f'create table raw."{table.lower()}" ({listed})'


def source(servers: Servers) -> pymysql.connections.Connection:
    return pymysql.connect(
        host=servers.source_host,
        user=servers.source_user,
        password=servers.source_password,
        database=servers.database,
    )


def prepare(servers: Servers, name: str, tables: Tables) -> None:
    copier = COPIERS[name]
    # libpq reads the environment.
    target = psycopg2.connect("")
    target.autocommit = True
    with target, target.cursor() as cursor:
        cursor.execute("drop schema if exists raw cascade")
        cursor.execute("drop schema if exists etl cascade")
        if not name.startswith("ours"):
            cursor.execute("create schema raw")
        if not copier.own_tables:
            with source(servers) as connection, connection.cursor() as asked:
                for table in tables:
                    asked.execute(
                        "select column_name, column_type from information_schema.columns"
                        " where table_schema = %s and table_name = %s order by ordinal_position",
                        [servers.database, table],
                    )
                    cursor.execute(floor_table(table, asked.fetchall()))
        # What the run before has left to write is not this one's.
        cursor.execute("checkpoint")
    target.close()
    secret_file(COMMAND.name, copier.command(servers, tables) + "\n")


def rest() -> None:
    target = psycopg2.connect("")
    # `with target` would open a transaction, in which VACUUM cannot run.
    target.autocommit = True
    with target.cursor() as cursor:
        cursor.execute("vacuum analyze")
        cursor.execute("checkpoint")
    target.close()


def rows(servers: Servers, side: str, tables: Tables) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    if side == "source":
        with source(servers) as connection, connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"select count(*) from `{table}`")
                found[table] = cursor.fetchone()[0]
        return found
    target = psycopg2.connect("")
    target.autocommit = True
    with target, target.cursor() as cursor:
        for table in tables:
            # Ours keeps the source's spelling, the others do not.
            cursor.execute(
                "select format('%%I.%%I', schemaname, tablename) from pg_tables"
                " where schemaname = 'raw' and lower(tablename) = lower(%s)",
                [table],
            )
            name = cursor.fetchone()
            found[table] = None
            if name is not None:
                cursor.execute(f"select count(*) from {name[0]}")
                found[table] = cursor.fetchone()[0]
    target.close()
    return found


def sums(servers: Servers, side: str, table: str) -> list[int]:
    """What an update that was missed would change."""
    with source(servers) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select column_name from information_schema.columns where table_schema = %s"
            " and table_name = %s and data_type = 'double' order by ordinal_position",
            [servers.database, table],
        )
        doubles = [name for (name,) in cursor.fetchall()]
        if side == "source":
            added = ", ".join(f"sum(round(`{name}` * 100))" for name in doubles)
            cursor.execute(f"select count(*), {added} from `{table}`")
            return [int(value or 0) for value in cursor.fetchone()]
    target = psycopg2.connect("")
    with target, target.cursor() as cursor:
        added = ", ".join(f'sum(round("{name}" * 100))' for name in doubles)
        cursor.execute(f'select count(*), {added} from raw."{table}"')
        return [int(value or 0) for value in cursor.fetchone()]


def main(arguments: Sequence[str]) -> int:
    servers = Servers.from_env(os.environ)
    match list(arguments):
        case ["names"]:
            print(json.dumps(names()))
        case ["prepare", name, *tables]:
            prepare(servers, name, tables)
        case ["rest"]:
            rest()
        case ["rows", side, *tables]:
            print(json.dumps(rows(servers, side, tables)))
        case ["sums", side, table]:
            print(json.dumps(sums(servers, side, table)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

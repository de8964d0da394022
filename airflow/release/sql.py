"""A prompt for a database that is no service of the stack, so that no container has its client.

    sql.py analytics|metadata|source [STATEMENT]

Connects as the nightly run and Airflow do, TLS and all, by the environment of the scheduler's
container. Without STATEMENT it reads statements from standard input; each ends with `;` at the end
of a line. Rows go to standard output, separated by tabs, below a line of their columns' names.

Exit codes: 0 done, 1 a statement or the connection failed, 2 the arguments or settings are wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import metadata  # noqa: E402 - beside this file, not installed

DATABASES = ("analytics", "metadata", "source")


def connect(database: str) -> Any:  # noqa: ANN401 - of psycopg2 or PyMySQL
    """A connection in autocommit. Raises MetadataError or PipelineError."""
    if database == "metadata":
        return metadata.connect(os.environ.get(metadata.URL, ""))
    from etl_pipeline.settings import Settings

    settings = Settings.from_env(os.environ)
    if database == "source":
        from etl_pipeline.source import Source

        # For reading alone: the session says so too, whatever the account may.
        return Source(settings.source)._connection
    from etl_pipeline.target import Target

    connection = Target(settings.analytics).connection
    connection.rollback()
    connection.autocommit = True
    return connection


def statements(line_after: Callable[[str], str], database: str) -> Iterator[str]:
    """Each statement that `line_after` a prompt gives; the last one may end without `;`."""
    held = ""
    while line := line_after(f"{database}{'->' if held else '=>'} "):
        held = f"{held}{line}".lstrip()
        if held.rstrip().endswith(";"):
            yield held
            held = ""
    if held.strip():
        yield held


def ask(prompt: str) -> str:
    """A line that a person types, empty at the end."""
    try:
        return f"{input(prompt)}\n"
    except EOFError:
        print()
        return ""


def show(value: object) -> str:
    if value is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def run(connection: Any, statement: str) -> None:  # noqa: ANN401 - as above
    """Executes one and prints its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        if cursor.description is None:
            return
        print("\t".join(column[0] for column in cursor.description))
        for row in cursor:
            print("\t".join(show(value) for value in row))
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("database", choices=DATABASES)
    parser.add_argument("statement", nargs="?")
    given = parser.parse_args(argv)

    import psycopg2
    import pymysql

    from etl_pipeline.errors import PipelineError

    try:
        connection = connect(given.database)
    except (metadata.MetadataError, PipelineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code if isinstance(error, metadata.MetadataError) else 1
    asks = given.statement is None and sys.stdin.isatty()
    if asks:
        with suppress(ImportError):
            import readline  # noqa: F401 - lets a person edit the line
    lines = ask if asks else lambda _: sys.stdin.readline()
    wanted = statements(lines, given.database) if given.statement is None else [given.statement]
    for statement in wanted:
        try:
            run(connection, statement)
        except (psycopg2.Error, pymysql.MySQLError) as error:
            print(f"error: {str(error).strip()}", file=sys.stderr)
            if not asks:
                return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)

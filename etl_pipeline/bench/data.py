"""What changes in the clinic that the copiers copy.

    data.py create              an empty database
    data.py plain TABLE…        no carriage returns in texts, which the floor cannot carry
    data.py grow TABLE ROWS     repeats the table's rows until it has so many; says how many
    data.py touch TABLE PERCENT so much of one table gets other values; says how many rows
    data.py tables              the tables that a run copies

The session has no sql_mode, as OpenDental's has none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import pymysql
from pymysql.cursors import Cursor

from etl_pipeline.exclusions import table_reason
from etl_pipeline.settings import SourceSettings
from etl_pipeline.source import Source


def stamped(cursor: Cursor, table: str) -> tuple[str, str]:
    """Key and change stamp of a table that has one of each."""
    cursor.execute(
        "select k.column_name, c.column_name from information_schema.columns c"
        " join information_schema.statistics k on k.table_schema = c.table_schema"
        "  and k.table_name = c.table_name and k.index_name = 'PRIMARY'"
        " where c.table_schema = database() and c.extra like '%%on update%%'"
        "  and c.table_name = %s",
        [table],
    )
    ((key, stamp),) = cursor.fetchall()
    return key, stamp


def plain(cursor: Cursor, tables: Sequence[str]) -> int:
    """mariadb's text has them as they are, and COPY refuses them: how many rows had some."""
    count = 0
    for table in tables:
        cursor.execute(
            "select column_name from information_schema.columns where table_schema = database()"
            " and table_name = %s and data_type in ('varchar', 'text', 'mediumtext')",
            [table],
        )
        columns = [name for (name,) in cursor.fetchall()]
        if columns:
            cursor.execute(
                "select column_name from information_schema.columns where table_schema = database()"
                " and table_name = %s and extra like '%%on update%%'",
                [table],
            )
            # A stamp of today would make every night of the benchmark read the row again.
            kept = [f"`{stamp}` = `{stamp}`" for (stamp,) in cursor.fetchall()]
            plain = [f"`{c}` = replace(`{c}`, '\\r', ' ')" for c in columns]
            values = ", ".join(kept + plain)
            some = " or ".join(f"`{c}` like '%\\r%'" for c in columns)
            count += cursor.execute(f"update `{table}` set {values} where {some}")
    return count


def grow(cursor: Cursor, table: str, rows: int) -> int:
    """Repeats the rows of a table under new keys until it has `rows`; how many it has then."""
    key, _ = stamped(cursor, table)
    cursor.execute(
        "select column_name from information_schema.columns"
        " where table_schema = database() and table_name = %s order by ordinal_position",
        [table],
    )
    columns = [name for (name,) in cursor.fetchall()]
    while True:
        cursor.execute(f"select count(*), max(`{key}`) from `{table}`")
        ((there, last),) = cursor.fetchall()
        if there >= rows:
            return there
        values = ", ".join(f"`{c}` + {last}" if c == key else f"`{c}`" for c in columns)
        cursor.execute(f"insert into `{table}` select {values} from `{table}` limit {rows - there}")


def touch(cursor: Cursor, table: str, percent: float) -> int:
    """Other rows than those of the last times, whose stamps go back to where old ones are: an
    incremental run reads again what is younger than its watermark less ten minutes."""
    key, stamp = stamped(cursor, table)
    cursor.execute(f"select max(`{stamp}`) > current_timestamp - interval 1 day from `{table}`")
    if cursor.fetchone()[0]:
        cursor.execute(
            f"update `{table}` set `{stamp}` = timestamp '2024-01-01 00:00:00'"
            f" + interval `{key}` % 1000000 second"
            f" where `{stamp}` > current_timestamp - interval 1 day"
        )
    cursor.execute(
        "select column_name from information_schema.columns where table_schema = database()"
        " and table_name = %s and data_type = 'double' order by ordinal_position limit 1",
        [table],
    )
    ((money,),) = cursor.fetchall()
    every = round(100 / percent)
    cursor.execute(f"select floor(rand() * {every})")
    ((which,),) = cursor.fetchall()
    return cursor.execute(
        f"update `{table}` set `{money}` = `{money}` + 1 where `{key}` % {every} = {int(which)}"
    )


def loadable() -> list[str]:
    """The tables that ours would copy: those with a primary key that no rule excludes."""
    env = os.environ
    settings = SourceSettings(
        env["OPENDENTAL_SOURCE_HOST"],
        3306,
        env["OPENDENTAL_SOURCE_DB"],
        env["OPENDENTAL_SOURCE_USER"],
        env["OPENDENTAL_SOURCE_PASSWORD"],
    )
    with Source(settings) as source:
        return [t.name for t in source.tables() if t.primary_key and not table_reason(t.name)]


def main(arguments: Sequence[str]) -> int:
    if list(arguments) == ["tables"]:
        print(json.dumps(loadable()))
        return 0
    database = os.environ["OPENDENTAL_SOURCE_DB"]
    connection = pymysql.connect(
        host=os.environ["OPENDENTAL_SOURCE_HOST"],
        user=os.environ["OPENDENTAL_SOURCE_USER"],
        password=os.environ["OPENDENTAL_SOURCE_PASSWORD"],
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(f"create database if not exists `{database}` character set utf8mb4")
        cursor.execute(f"use `{database}`")
        cursor.execute("set session sql_mode = '', time_zone = '+00:00'")
        match list(arguments):
            case ["create"]:
                count = 0
            case ["plain", *tables]:
                count = plain(cursor, tables)
            case ["grow", table, rows]:
                count = grow(cursor, table, int(rows))
            case ["touch", table, percent]:
                count = touch(cursor, table, float(percent))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
        print(json.dumps(count))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

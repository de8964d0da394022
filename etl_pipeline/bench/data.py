"""What the copiers copy, and what changes in it.

    data.py fill SCALE             a stand-in for a clinic's database: the demo's tables, three more
    data.py advance PERCENT        so much of every table gets another stamp, some rows come and go
    data.py touch TABLE PERCENT    so much of one table gets other values; says how many rows
    data.py tables                 the tables that a run copies

The stand-in is made by the server out of sequences: rows as wide as a practice's, values that are
not. The session has no sql_mode, as OpenDental's has none.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence

import pymysql
from pymysql.cursors import Cursor

from etl_pipeline.exclusions import table_reason
from etl_pipeline.settings import SourceSettings
from etl_pipeline.source import Source
from opendental_demo.schema import statements

MORE = (
    """CREATE TABLE `securitylog` (
  `SecurityLogNum` bigint NOT NULL AUTO_INCREMENT,
  `PermType` smallint NOT NULL,
  `UserNum` bigint NOT NULL,
  `LogDateTime` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `LogText` text,
  `PatNum` bigint NOT NULL,
  `CompName` varchar(255) NOT NULL,
  `FKey` bigint NOT NULL,
  `LogSource` tinyint NOT NULL,
  `DefNum` bigint NOT NULL,
  `DefNumError` bigint NOT NULL,
  `DateTPrevious` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  PRIMARY KEY (`SecurityLogNum`),
  KEY `idx_PatNum` (`PatNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3""",
    """CREATE TABLE `sheetfield` (
  `SheetFieldNum` bigint NOT NULL AUTO_INCREMENT,
  `SheetNum` bigint NOT NULL,
  `FieldType` int NOT NULL,
  `FieldName` varchar(255) DEFAULT NULL,
  `FieldValue` text NOT NULL,
  `FontSize` float NOT NULL,
  `FontName` varchar(255) DEFAULT NULL,
  `FontIsBold` tinyint NOT NULL,
  `XPos` int NOT NULL,
  `YPos` int NOT NULL,
  `Width` int NOT NULL,
  `Height` int NOT NULL,
  `GrowthBehavior` int NOT NULL,
  `RadioButtonValue` varchar(255) NOT NULL,
  `RadioButtonGroup` varchar(255) NOT NULL,
  `IsRequired` tinyint NOT NULL,
  `TabOrder` int NOT NULL,
  `ReportableName` varchar(255) DEFAULT NULL,
  `TextAlign` tinyint NOT NULL,
  `IsPaymentOption` tinyint NOT NULL,
  `ItemColor` int NOT NULL DEFAULT -16777216,
  `DateTimeSig` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  PRIMARY KEY (`SheetFieldNum`),
  KEY `idx_SheetNum` (`SheetNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3""",
    """CREATE TABLE `commlog` (
  `CommlogNum` bigint NOT NULL AUTO_INCREMENT,
  `PatNum` bigint NOT NULL,
  `CommDateTime` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `CommType` bigint NOT NULL,
  `Note` text,
  `Mode_` tinyint unsigned NOT NULL,
  `SentOrReceived` tinyint unsigned NOT NULL,
  `UserNum` bigint NOT NULL,
  `SigIsTopaz` tinyint NOT NULL,
  `DateTStamp` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
  `DateTimeEnd` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  `CommSource` tinyint NOT NULL,
  `ProgramNum` bigint NOT NULL,
  `DateTEntry` datetime NOT NULL DEFAULT '0001-01-01 00:00:00',
  PRIMARY KEY (`CommlogNum`),
  KEY `idx_PatNum` (`PatNum`)
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3""",
)
# Rows at scale 1; of every other table a few.
ROWS = {
    "securitylog": 3_000_000,
    "sheetfield": 3_000_000,
    "paysplit": 1_490_000,
    "commlog": 700_000,
    "procedurelog": 2_000_000,
}
OTHERS = 20_000
# Wide texts of a practice.
LONG = {"LogText": 60, "FieldValue": 30, "Note": 120}


def value(name: str, definition: str, key: str, long: bool) -> str:
    """SQL for one column of row number `seq`: as the same row of another load."""
    kind = definition.split("(")[0].split()[0].lower()
    if name == key:
        return "seq"
    if kind == "timestamp":
        # Long ago, so that a first incremental run reads what changed and not all.
        return "timestamp '2024-01-01 08:00:00' + interval (seq * 7) % 50000000 second"
    if kind == "datetime":
        return "timestamp '2021-01-01 08:00:00' + interval (seq * 11) % 90000000 second"
    if kind == "date":
        return "if(seq % 3 = 0, '0001-01-01', date '2021-01-01' + interval seq % 1000 day)"
    if kind == "time":
        return "sec_to_time(seq % 86400)"
    if kind in ("double", "float", "decimal"):
        return "(seq * 37) % 100000 / 100"
    if kind in ("tinyint", "smallint"):
        return "seq % 7"
    if kind in ("bigint", "int", "mediumint"):
        return f"(seq * {len(name) + 3}) % 50000"
    if kind in ("char", "varchar") and not long:
        width = int(re.search(r"\((\d+)\)", definition)[1])
        return "''" if width < 20 or len(name) % 2 else f"left(md5(seq), {min(width, 12)})"
    words = LONG.get(name, 10)
    return f"if(seq % 4 = 0, '', left(repeat(concat(md5(seq), ' \\n'), 4), {words}))"


def parts(statement: str) -> tuple[str, str, dict[str, str]]:
    """Name, key and columns of a CREATE TABLE of ours."""
    name, body = re.match(r"CREATE TABLE `(\w+)` \((.*)\n\)", statement, re.S).groups()
    key = re.search(r"PRIMARY KEY \(`(\w+)`\)", body)[1]
    return name, key, dict(re.findall(r"^  `(\w+)` (.*?),?$", body, re.M))


def fill(cursor: Cursor, scale: float) -> int:
    count = 0
    for statement in (*statements(), *MORE):
        name, key, columns = parts(statement)
        cursor.execute(statement)
        rows = max(100, round(ROWS.get(name, OTHERS) * scale))
        if name in ("preference", "demo_marker"):
            continue
        cursor.execute(f"alter table `{name}` disable keys")
        names = ", ".join(f"`{column}`" for column in columns)
        values = ", ".join(value(c, text, key, c in LONG) for c, text in columns.items())
        cursor.execute(f"insert into `{name}` ({names}) select {values} from seq_1_to_{rows}")
        cursor.execute(f"alter table `{name}` enable keys")
        count += rows
    return count


def stamped(cursor: Cursor, table: str | None = None) -> list[tuple[str, str, str]]:
    """Table, key and stamp of each table that has both, one column each."""
    cursor.execute(
        "select c.table_name, k.column_name, c.column_name from information_schema.columns c"
        " join information_schema.statistics k on k.table_schema = c.table_schema"
        "  and k.table_name = c.table_name and k.index_name = 'PRIMARY'"
        " where c.table_schema = database() and c.extra like '%%on update%%'"
        "  and (%s is null or c.table_name = %s)"
        " group by c.table_name having count(*) = 1",
        [table, table],
    )
    return list(cursor.fetchall())


def advance(cursor: Cursor, percent: float) -> int:
    every, count = round(100 / percent), 0
    for table, key, stamp in stamped(cursor):
        count += cursor.execute(
            f"update `{table}` set `{stamp}` = current_timestamp where `{key}` % {every} = 1"
        )
        count += cursor.execute(f"delete from `{table}` where `{key}` % {every * 100} = 2")
    return count


def touch(cursor: Cursor, table: str, percent: float) -> int:
    """Other rows than those of the last times, whose stamps go back to where old ones are: an
    incremental run reads again what is younger than its watermark less ten minutes."""
    ((_, key, stamp),) = stamped(cursor, table)
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
            case ["fill", scale]:
                count = fill(cursor, float(scale))
            case ["advance", percent]:
                count = advance(cursor, float(percent))
            case ["touch", table, percent]:
                count = touch(cursor, table, float(percent))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
        print(json.dumps(count))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Every value arrives as it was: nasty values of each type, there and compared."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from scratch import Databases

pytestmark = pytest.mark.database

TEXTS = [
    "",
    " ",
    "NULL",
    "\\N",
    "\\.",
    'say "ah", please',
    "comma, semicolon; tab\t.",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\nof them",
    "a\n\\.\nb",
    "back\\slash \\x41",
    "it's",
    "%s %(x)s",
    "äöü ß € 漢字",
    '"',
    '""',
    ",",
    "\x01",
    "a\x01\x01,b\x01",
    "\x1f\x7f",
]


def arrived(databases: Databases, definition: str, values: list[str], raw_type: str) -> list[Any]:
    """Load a table with one column `v` holding SQL literals; what raw holds, in order."""
    databases.on_source(
        f"CREATE TABLE nasty (id bigint PRIMARY KEY AUTO_INCREMENT, v {definition}) ENGINE=MyISAM",
        *[f"INSERT INTO nasty (v) VALUES ({value})" for value in values],
    )
    result = databases.run()["nasty"]
    assert result.error is None
    assert result.rows_read == len(values)
    types = databases.on_analytics(
        "select format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = 'raw.nasty'::regclass and attname = 'v'"
    )
    assert types == [(raw_type,)]
    return [row[0] for row in databases.on_analytics("select v from raw.nasty order by id")]


def test_text(databases: Databases) -> None:
    databases.on_source("CREATE TABLE nasty (id bigint PRIMARY KEY, v text, w varchar(9) NOT NULL)")
    with databases.source.cursor() as cursor:
        for number, text in enumerate(TEXTS):
            cursor.execute("INSERT INTO nasty VALUES (%s, %s, '')", [number, text])
        cursor.execute("INSERT INTO nasty VALUES (900, NULL, 'x')")
    assert databases.run()["nasty"].error is None
    rows = databases.on_analytics("select v, w from raw.nasty order by id")
    assert rows == [*[(text, "") for text in TEXTS], (None, "x")]


def test_nul_is_removed_and_large_text_survives(databases: Databases) -> None:
    values = ["CONCAT('a', CHAR(0), 'b', CHAR(0))", "REPEAT('\"x', 400000)"]
    assert arrived(databases, "longtext", values, "text") == ["ab", '"x' * 400000]


@pytest.mark.parametrize(
    ("definition", "values", "raw_type", "expected"),
    [
        ("tinyint(1)", ["0", "1", "2", "-128"], "smallint", [0, 1, 2, -128]),
        ("tinyint unsigned", ["255", "NULL"], "smallint", [255, None]),
        ("smallint unsigned", ["65535"], "integer", [65535]),
        ("mediumint", ["-8388608"], "integer", [-8388608]),
        ("int unsigned", ["4294967295"], "bigint", [4294967295]),
        ("bigint", ["-9223372036854775808"], "bigint", [-(2**63)]),
        ("bigint unsigned", ["18446744073709551615"], "numeric(20,0)", [Decimal(2**64 - 1)]),
        ("decimal(12,4)", ["-12345678.9012"], "numeric(12,4)", [Decimal("-12345678.9012")]),
        ("double", ["0.1", "19.999999999", "1e300", "NULL", "1/3"], "double precision",
         [0.1, 19.999999999, 1e300, None, 0.333333333]),
        ("year", ["2026", "NULL"], "smallint", [2026, None]),
        ("bit(12)", ["b'101000001111'", "b'1'", "NULL"], "bytea", [b"\x0a\x0f", b"\x00\x01", None]),
        ("varbinary(20)", ["X'00ff5c0a22'", "''"], "bytea", [b"\x00\xff\\\n\"", b""]),
        ("enum('a','b')", ["'b'", "NULL"], "text", ["b", None]),
    ],
)  # fmt: skip
def test_numbers_and_bytes(
    databases: Databases, definition: str, values: list[str], raw_type: str, expected: list[Any]
) -> None:
    got = arrived(databases, definition, values, raw_type)
    assert [bytes(v) if isinstance(v, memoryview) else v for v in got] == expected


def test_float_keeps_all_its_digits(databases: Databases) -> None:
    # 16777215 and 0.1234567 need more than the six digits that the text protocol prints.
    arrived(databases, "float", ["16777215", "0.1234567", "-3.4e38"], "real")
    same = "select bool_and(v = x) from raw.nasty join (values (1, 16777215::real),"
    same += " (2, 0.1234567::real), (3, -3.4e38::real)) as e (i, x) on id = i"
    assert databases.on_analytics(same) == [(True,)]


def test_dates(databases: Databases) -> None:
    values = ["'2024-02-29'", "'0001-01-01'", "'0000-00-00'", "'2020-02-00'", "'2020-00-15'",
              "'0001-01-02'", "'9999-12-31'", "NULL"]  # fmt: skip
    assert arrived(databases, "date", values, "date") == [
        date(2024, 2, 29), None, None, None, None, date(1, 1, 2), date(9999, 12, 31), None,
    ]  # fmt: skip


def test_datetimes_are_wall_clock(databases: Databases) -> None:
    values = ["'2024-03-10 02:30:00'", "'0001-01-01 00:00:00'", "'0000-00-00 00:00:00'",
              "'0001-01-01 08:15:00'", "'2024-11-03 01:30:00.123456'"]  # fmt: skip
    assert arrived(databases, "datetime(6)", values, "timestamp without time zone") == [
        datetime(2024, 3, 10, 2, 30), None, None, None, datetime(2024, 11, 3, 1, 30, 0, 123456),
    ]  # fmt: skip


def test_timestamps_are_moments_whatever_the_zone_of_the_server(databases: Databases) -> None:
    databases.on_source("SET time_zone = '-06:00'")
    values = ["'2024-06-01 12:00:00'", "'0000-00-00 00:00:00'"]
    definition = "timestamp NULL DEFAULT NULL"
    got = arrived(databases, definition, values, "timestamp with time zone")
    assert got == [datetime(2024, 6, 1, 18, tzinfo=UTC), None]


def test_times_outside_a_day(databases: Databases) -> None:
    values = ["'08:30:00'", "'-00:15:00'", "'838:59:59'", "'-25:00:01'", "NULL"]
    assert arrived(databases, "time", values, "interval") == [
        timedelta(hours=8, minutes=30), timedelta(minutes=-15),
        timedelta(hours=838, minutes=59, seconds=59), timedelta(hours=-25, seconds=-1), None,
    ]  # fmt: skip


def test_mixed_charsets_and_collations_in_one_row(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE mixed (id int PRIMARY KEY, a varchar(9) CHARACTER SET latin1,"
        " b varchar(9) COLLATE utf8mb3_bin, c varchar(9) CHARACTER SET utf8mb4,"
        " d varchar(9) COLLATE utf8mb3_general_ci)",
        "INSERT INTO mixed VALUES (1, 'é', 'é', '😀', 'é')",
    )
    databases.run()
    assert databases.on_analytics("select a, b, c, d from raw.mixed") == [("é", "é", "😀", "é")]


def test_bytes_that_are_no_utf8_are_replaced(databases: Databases) -> None:
    """MariaDB takes the halves of a surrogate pair for letters, Postgres and Unicode do not."""
    values = ["CONCAT('a', _utf8mb3 X'EDA080', 'z')", "'\u00fc'"]
    got = arrived(databases, "text CHARACTER SET utf8mb3", values, "text")
    assert got == ["a\ufffd\ufffd\ufffdz", "\u00fc"]


def test_a_row_above_max_allowed_packet_fails_loudly(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE wide (id int PRIMARY KEY, a longtext, b longtext)",
        "INSERT INTO wide VALUES (1, REPEAT('a', 9000000), NULL)",
        "UPDATE wide SET b = a",
        "CREATE TABLE narrow (id int PRIMARY KEY)",
    )
    results = databases.run()
    assert "max_allowed_packet" in str(results["wide"].error)
    assert results["narrow"].error is None


def test_an_unknown_type_blocks_its_table_only(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE shapes (id int PRIMARY KEY, outline geometry)",
        "CREATE TABLE fine (id int PRIMARY KEY)",
    )
    results = databases.run()
    assert 'column "outline"' in str(results["shapes"].error)
    assert results["fine"].error is None

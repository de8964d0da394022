"""Both servers tell the same figures of the same rows, and others when any value is another."""

from __future__ import annotations

import pytest
from scratch import Databases

from etl_pipeline.figures import SAMPLES, Sieve
from etl_pipeline.source import Source
from etl_pipeline.target import Target

pytestmark = pytest.mark.database

# Column type → values at the source; the first row of each takes the other's place in a test.
TYPES = {
    "tinyint": ["-128", "127", "NULL", "0"],
    "smallint unsigned": ["65535", "0", "NULL"],
    "mediumint": ["-8388608", "8388607", "NULL"],
    "int unsigned": ["4294967295", "1", "NULL"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "NULL", "-1"],
    "bigint unsigned": ["18446744073709551615", "0", "NULL"],
    "decimal(20,6)": ["-12345678901234.567891", "0.000001", "NULL", "99999999999999.999999"],
    "double": ["19.999999999", "-0.00005", "NULL", "1e300", "-1e15", "0.1", "123456789.12"],
    "float": ["0.1", "-3.4e38", "NULL", "16777215", "19.99"],
    "year": ["2026", "1901", "NULL"],
    "date": ["'2024-02-29'", "'0001-01-02'", "NULL", "'0001-01-01'", "'0000-00-00'",
             "'2020-02-00'", "'2020-00-15'", "'9999-12-31'"],
    "datetime(6)": ["'2024-11-03 01:30:00.999999'", "'1969-12-31 23:59:59.5'", "NULL",
                    "'0001-01-01 08:00:00'", "'0001-01-02 00:00:00'", "'9999-12-31 23:59:59'"],
    "timestamp NULL DEFAULT NULL": ["'2038-01-19 03:14:07'", "'1970-01-01 00:00:01'", "NULL",
                                    "'0000-00-00 00:00:00'"],
    "time(3)": ["'838:59:59'", "'-838:59:59'", "NULL", "'-00:00:01'", "'08:30:00.500'"],
    "varchar(50) CHARACTER SET latin1": ["'é'", "'ab'", "NULL", "''", "' '"],
    "text CHARACTER SET utf8mb3": ["'漢字'", "'abcdef'", "NULL", "''", "'a\\\\b\\n\\t'", "X'01'"],
    "longtext CHARACTER SET utf8mb4": ["'😀'", "REPEAT('x', 70000)", "NULL", "''"],
    "enum('a','b')": ["'b'", "'a'", "NULL", "''"],
    "set('a','b')": ["'a,b'", "'a'", "NULL", "''"],
    "varbinary(20)": ["X'00ff5c0a22'", "X'01'", "NULL", "''"],
    "uuid": ["'123e4567-e89b-12d3-a456-426614174000'", "'123e4567-e89b-12d3-a456-426614174001'",
             "NULL"],
}  # fmt: skip


def figures(databases: Databases, sample: int | None = None) -> tuple[object, object]:
    """What the source and raw say of table `nasty`."""
    settings = databases.settings
    with Source(settings.source) as source, Target(settings.analytics) as target:
        table = next(t for t in source.tables() if t.name == "nasty")
        sieve = Sieve(table, 2, sample)
        with target.transaction() as cursor:
            return sieve.source(source).figures, sieve.raw(cursor, target.name("nasty")).figures


@pytest.mark.parametrize("definition", TYPES)
def test_a_type_is_told_alike_and_any_other_value_is_told(
    databases: Databases, definition: str
) -> None:
    values = TYPES[definition]
    databases.on_source(
        f"CREATE TABLE nasty (id bigint PRIMARY KEY AUTO_INCREMENT, v {definition})",
        *[f"INSERT INTO nasty (v) VALUES ({value})" for value in values],
    )
    assert databases.run()["nasty"].error is None
    there, here = figures(databases)
    assert there == here
    assert sum(bucket[0] for bucket in there.values()) == len(values)
    changes = (
        "update raw.nasty set v = null where id = 2",
        "update raw.nasty as a set v = b.v from raw.nasty as b where a.id + b.id = 3",
        "update raw.nasty set id = 900 where id = 1",
        "delete from raw.nasty where id = 3",
    )
    for change in changes:
        databases.on_analytics(f"begin; {change}")
        with databases.analytics.cursor() as cursor:
            cursor.execute("commit")
        assert figures(databases)[1] != here, change
        databases.run("again", tables=["nasty"], full=True)
        assert figures(databases)[1] == here


def test_not_null_columns_and_names_that_need_quotes(databases: Databases) -> None:
    databases.on_source(
        'CREATE TABLE nasty (`the key` int PRIMARY KEY, `100%` int NOT NULL, `a"b` text NOT NULL,'
        " `c``d` double NOT NULL, `e'f` date NOT NULL)",
        "INSERT INTO nasty VALUES (-3, 1, 'x', 0.5, '2026-01-01'), (3, 2, '', -0.5, '0001-01-01')",
    )
    assert databases.run()["nasty"].error is None
    there, here = figures(databases)
    assert there == here


def test_each_character_is_compared_on_one_of_sixteen_nights(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE nasty (id bigint PRIMARY KEY, v text)",
        "INSERT INTO nasty SELECT CAST(seq AS SIGNED) - 50, 'abc' FROM seq_1_to_100",
    )
    databases.run()
    databases.on_analytics("update raw.nasty set v = 'abd' where id in (-7, 9)")
    told = {night: figures(databases, night) for night in range(SAMPLES)}
    nights = [night for night, (there, here) in told.items() if there != here]
    # -7 is ...1001 in two's complement, as 9 is.
    assert nights == [9]
    there, here = figures(databases)
    assert there != here

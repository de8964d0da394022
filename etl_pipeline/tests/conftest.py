"""Real databases for the tests: one source and one analytics database, emptied for each test.

TEST_SOURCE_HOST, _PORT, _USER, _PASSWORD: a MariaDB account that may create databases and users.
TEST_ANALYTICS_HOST, _PORT, _USER, _PASSWORD, _DB: a Postgres superuser and a database to start in.
TEST_ANALYTICS_SMALL_DISK: a file system of 64 MB that Postgres may write to, which tests fill.
Without them the tests fail rather than pass unseen; `-m "not database"` selects the others.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg2
import pymysql
import pytest
from psycopg2 import sql
from scratch import Databases

pytest.register_assert_rewrite("faulty")  # its assertions tell what differs, as a test's do


def needed(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f'{name} is not set; name the databases, or run pytest -m "not database"')
    return value


@pytest.fixture
def databases(created: Databases) -> Databases:
    """A source and an analytics database without a table."""
    # Another session may have left a lock or a zone behind in the shared connection.
    created.on_source("SET time_zone = '+00:00'")
    for (table,) in created.on_source("SHOW TABLES"):
        created.on_source(f"DROP TABLE `{table}`")
    created.on_analytics(
        "set client_min_messages = warning; drop schema if exists raw, etl, staging cascade"
    )
    return replace(created, environ=dict(created.environ), log=[])


@pytest.fixture(scope="session")
def created() -> Iterator[Databases]:
    name = f"etl_test_{uuid.uuid4().hex[:10]}"
    source = pymysql.connect(
        host=needed("TEST_SOURCE_HOST"),
        port=int(needed("TEST_SOURCE_PORT")),
        user=needed("TEST_SOURCE_USER"),
        password=needed("TEST_SOURCE_PASSWORD"),
        charset="utf8mb4",
        autocommit=True,
    )
    connect: Callable[[str], Any] = lambda database: psycopg2.connect(  # noqa: E731
        host=needed("TEST_ANALYTICS_HOST"),
        port=needed("TEST_ANALYTICS_PORT"),
        user=needed("TEST_ANALYTICS_USER"),
        password=needed("TEST_ANALYTICS_PASSWORD"),
        dbname=database,
    )
    maintenance = connect(needed("TEST_ANALYTICS_DB"))
    maintenance.autocommit = True
    with source.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} DEFAULT CHARACTER SET utf8mb3")
        cursor.execute(f"USE {name}")
        cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
    with maintenance.cursor() as cursor:
        cursor.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    analytics = connect(name)
    analytics.autocommit = True
    environ = {
        "OPENDENTAL_SOURCE_HOST": os.environ["TEST_SOURCE_HOST"],
        "OPENDENTAL_SOURCE_PORT": os.environ["TEST_SOURCE_PORT"],
        "OPENDENTAL_SOURCE_DB": name,
        "OPENDENTAL_SOURCE_USER": os.environ["TEST_SOURCE_USER"],
        "OPENDENTAL_SOURCE_PASSWORD": os.environ["TEST_SOURCE_PASSWORD"],
        "POSTGRES_ANALYTICS_HOST": os.environ["TEST_ANALYTICS_HOST"],
        "POSTGRES_ANALYTICS_PORT": os.environ["TEST_ANALYTICS_PORT"],
        "POSTGRES_ANALYTICS_DB": name,
        "POSTGRES_ANALYTICS_USER": os.environ["TEST_ANALYTICS_USER"],
        "POSTGRES_ANALYTICS_PASSWORD": os.environ["TEST_ANALYTICS_PASSWORD"],
    }
    try:
        yield Databases(source, analytics, environ)
    finally:
        analytics.close()
        with source.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")
        source.close()
        with maintenance.cursor() as cursor:
            cursor.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        maintenance.close()

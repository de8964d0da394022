"""No value gets out by an error, whatever fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from faulty import (
    SIDES,
    Outcome,
    attempt,
    data_way,
    forget,
    killer,
    large,
    proxy_of,
    quiet,
    settle,
    stamp,
    terminator,
    wired,
)
from proxy import Action, Fault, Link
from scratch import Databases

from etl_pipeline import pipeline

pytestmark = pytest.mark.database

CHANGED = "DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
CANARY = "kanarienvogel"
NUMBER = 1987654321  # a canary that fits an int and no smallint


class Cage:
    """Everything that leaves the package: lines, exceptions, tracebacks, streams, tables."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.records: list[str] = []
        self.said: list[str] = []

    def run(self, name: str, databases: Databases | None = None, **options: Any) -> Outcome:  # noqa: ANN401
        """A run in this process; its exception is kept as a log would print it."""
        target = databases or self.databases
        outcome = attempt(target, name, **options)
        if outcome.error is not None:
            self.said += [repr(outcome.error), *traceback.format_exception(outcome.error)]
        self.said += [json.dumps(t.to_dict()) for t in outcome.tables.values()]
        return outcome

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        done = self.databases.cli(*args)
        self.said += [done.stdout, done.stderr]
        return done

    def escaped(self) -> list[str]:
        """Where a canary was seen."""
        texts = [*self.said, *self.records, *self.databases.log]
        for (table,) in self.databases.on_analytics(
            "select table_name from information_schema.tables where table_schema = 'etl'"
        ):
            texts += [
                text
                for (text,) in self.databases.on_analytics(f"select t::text from etl.{table} t")
            ]
        return [t for t in texts if CANARY in t.lower() or str(NUMBER) in t]


PROVOCATIONS: dict[str, tuple[str, ...]] = {
    "text too narrow": ("alter table raw.bird alter \"Note\" type varchar(3) using ''",),
    "text to number": ('alter table raw.bird alter "Note" type integer using 0',),
    "text to date": ('alter table raw.bird alter "Note" type date using null',),
    "number too narrow": ('alter table raw.bird alter "Big" type smallint using 0',),
    "check": ("alter table raw.bird add constraint no_bird check (\"Note\" = '') not valid",),
    "duplicate text": (
        'delete from raw.bird where "BirdNum" > 1',
        'create unique index one_bird on raw.bird ("Same")',
    ),
    "duplicate number": (
        'delete from raw.bird where "BirdNum" > 1',
        'create unique index one_bird on raw.bird ("Big")',
    ),
    "foreign key": (
        'delete from raw.bird where "BirdNum" > 1',
        "create table raw.nest (note text primary key)",
        'alter table raw.bird add constraint no_nest foreign key ("Note") references raw.nest'
        " not valid",
    ),
    "wide index": (
        "delete from raw.bird",
        'create index wide_bird on raw.bird ("Wide")',
    ),
    "trigger that speaks": (
        "create function raw.speak() returns trigger language plpgsql as $$ begin raise exception"
        " 'row %', new using detail = new::text, hint = new::text; end $$",
        "create trigger speak before insert or update on raw.bird for each row"
        " execute function raw.speak()",
    ),
    "trigger that whispers": (
        "create function raw.whisper() returns trigger language plpgsql as $$ begin"
        " raise warning 'row %', new; raise log 'row %', new; return new; end $$",
        "create trigger whisper before insert or update on raw.bird for each row"
        " execute function raw.whisper()",
    ),
    "trigger that casts": (
        "create function raw.cast_it() returns trigger language plpgsql as $$ begin"
        ' perform new."Note"::date; return new; end $$',
        "create trigger cast_it before insert or update on raw.bird for each row"
        " execute function raw.cast_it()",
    ),
}


def birds(databases: Databases) -> None:
    """Two tables whose every text is a canary: also keys, default values, and a wide one."""
    text = f"CONCAT('{CANARY} ', seq, ' ', MD5(seq))"
    databases.on_source(
        "CREATE TABLE bird (BirdNum bigint PRIMARY KEY, Note text, Same varchar(60),"
        f" Short char(50), Big int, Wide mediumtext, Kind varchar(60) DEFAULT '{CANARY} default',"
        f" {CHANGED})",
        "INSERT INTO bird (BirdNum, Note, Same, Short, Big, Wide, DateTStamp)"
        f" SELECT seq, {text}, '{CANARY} same', {text}, {NUMBER},"
        " (SELECT GROUP_CONCAT(MD5(CONCAT(s.seq, '" + CANARY + "')) SEPARATOR ' " + CANARY + "')"
        f" FROM seq_1_to_200 s), {stamp(0, 'seq')} FROM seq_1_to_60",
        f"CREATE TABLE birdkey (Code varchar(80) PRIMARY KEY, Note text, {CHANGED})",
        f"INSERT INTO birdkey SELECT {text}, {text}, {stamp(0, 'seq')} FROM seq_1_to_60",
    )


@pytest.fixture
def cage(databases: Databases) -> Iterator[Cage]:
    """Listens to all loggers as well."""
    cage = Cage(databases)
    handler = logging.Handler()
    handler.emit = lambda record: cage.records.append(  # type: ignore[method-assign]
        logging.Formatter().format(record)
    )
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        yield cage
    finally:
        logging.root.removeHandler(handler)
        logging.root.setLevel(level)


def test_errors_of_the_target_hold_no_value(databases: Databases, cage: Cage) -> None:
    """Postgres quotes values in its messages, details and contexts: none of them gets out."""
    birds(databases)
    failures = 0
    for number, (name, statements) in enumerate(PROVOCATIONS.items(), start=1):
        forget(databases)
        settle(databases)
        databases.on_source(
            f"UPDATE bird SET Short = REVERSE(Short), DateTStamp = {stamp(number, 'BirdNum')}"
        )
        for statement in statements:
            databases.on_analytics(statement)
        for full in (False, True):
            quiet(databases)
            outcome = cage.run(f"{name} {full}", full=full)
            assert outcome.error is None
            assert "birdkey" not in outcome.failed
            failures += len(outcome.failed)
        quiet(databases)
        if number % 6 == 0:  # the command line is the same code below, so twice will do
            assert cage.command("run", "--json").returncode == 1
            cage.command("verify", "--json")
            cage.command("status")
        pipeline.verify(databases.settings, run_id=f"{name} True")
        cage.said.append(pipeline.report(databases.settings, run_id=f"{name} True").to_text())
        assert cage.escaped() == [], name
    assert failures >= len(PROVOCATIONS), "most of the provocations did nothing"
    forget(databases)
    settle(databases)


def test_errors_on_the_way_hold_no_value(databases: Databases, cage: Cage) -> None:
    """The same for cut connections, killed threads, and an account that may not read."""
    birds(databases)
    large(databases, rows=60)
    databases.on_source(f"UPDATE bulk SET Pad = REPEAT('{CANARY} ', 9000)")
    settle(databases)
    for side in SIDES:
        actions: list[Action] = [Link.cut, Link.close]
        if side == "source":
            actions += [killer(databases, "KILL"), killer(databases, "KILL QUERY")]
        else:
            actions += [
                terminator(databases, "pg_terminate_backend"),
                terminator(databases, "pg_cancel_backend"),
            ]
        with proxy_of(databases, side) as proxy:
            for number, action in enumerate(actions):
                for at_byte in (9_000, 700_000):
                    forget(databases)
                    fault = proxy.arm(Fault(data_way(side), action, at_byte=at_byte))
                    cage.run(f"{side} {number} {at_byte}", wired(databases, side, proxy))
                    assert fault.fired.is_set()
                    proxy.heal()
                    quiet(databases)
    assert cage.escaped() == []

    user = f"etl_{os.urandom(4).hex()}"
    name = databases.environ["OPENDENTAL_SOURCE_DB"]
    databases.on_source(
        f"CREATE USER {user}@'%' IDENTIFIED BY '{CANARY} password'",
        f"GRANT SELECT ON {name}.birdkey TO {user}@'%'",
        f"GRANT SELECT (BirdNum, Note) ON {name}.bird TO {user}@'%'",
    )
    try:
        poor = replace(
            databases,
            environ={
                **databases.environ,
                "OPENDENTAL_SOURCE_USER": user,
                "OPENDENTAL_SOURCE_PASSWORD": f"{CANARY} password",
            },
        )
        cage.run("poor", poor)
        cage.run("poor tables", poor, tables=["bird", "birdkey"])
        poor.environ["OPENDENTAL_SOURCE_PASSWORD"] = f"{CANARY} wrong"
        assert cage.run("no way in", poor).error is not None
    finally:
        databases.on_source(f"DROP USER {user}@'%'")
    assert cage.escaped() == []
    settle(databases)

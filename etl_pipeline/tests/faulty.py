"""What the fault tests share: a practice with every kind of table, runs that may fail, the end.

The tests were written from the promises alone (`README.md`, `types.py`), so they have to hold for
any loader. Most faults are made by a proxy (`proxy.py`) at an exact byte or at a statement. Every
test ends with one more run, a verification and `differ.py`, which shares no code with the package.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import psycopg2
import pymysql
from differ import differences, raw_rows
from proxy import DOWN, UP, Action, Link, Proxy
from scratch import Databases

from etl_pipeline import pipeline
from etl_pipeline.errors import PipelineError
from etl_pipeline.tracking import TableResult

T = TypeVar("T")

BOUND = 60.0  # seconds after which a wait is a failure

STAGES = ("first", "incremental")
SIDES = ("source", "analytics")

# Tables with a change stamp and without, an append-only log, composite and text keys, wide text.
PRACTICE = (
    """CREATE TABLE visit (
        VisitNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, Note text NOT NULL,
        Fee double NOT NULL, Share float, Minutes smallint unsigned, IsDone tinyint NOT NULL,
        VisitDate date NOT NULL, Began datetime NOT NULL, Length time, Picture blob,
        SecDateTEdit timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    ) ENGINE=MyISAM""",
    """CREATE TABLE entrylog (
        EntryLogNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, LogDateTime datetime NOT NULL,
        LogText text NOT NULL
    ) ENGINE=MyISAM""",
    """CREATE TABLE fee (
        FeeNum int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, Amount double NOT NULL,
        Exact decimal(12,4), Descript varchar(60)
    ) ENGINE=InnoDB""",
    """CREATE TABLE link (
        FromNum bigint NOT NULL, ToNum bigint NOT NULL, Kind enum('a','b') NOT NULL,
        PRIMARY KEY (FromNum, ToNum)
    ) ENGINE=MyISAM""",
    """CREATE TABLE code (
        CodeText varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
        Descript varchar(255)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4""",
    """CREATE TABLE nothing (
        NothingNum bigint NOT NULL PRIMARY KEY, Note text,
        DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    ) ENGINE=MyISAM""",
    """CREATE TABLE letter (
        LetterNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, Body mediumtext NOT NULL,
        DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    ) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4""",
    # Two tables whose every committed state is whole: one generation, 400 rows, sum zero.
    *(
        f"""CREATE TABLE {name} (
            PairNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, Gen int NOT NULL,
            Amount int NOT NULL {stamp}
        ) ENGINE={engine}"""
        for name, engine, stamp in (
            (
                "pairstamped",
                "InnoDB",
                ", DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP"
                " ON UPDATE CURRENT_TIMESTAMP",
            ),
            ("pairplain", "MyISAM", ""),
        )
    ),
)
TABLES = (
    "code",
    "entrylog",
    "fee",
    "letter",
    "link",
    "nothing",
    "pairplain",
    "pairstamped",
    "visit",
)
PAIRS = ("pairstamped", "pairplain")
PAIR_ROWS = 300


def fill(databases: Databases, rows: int = 300) -> None:
    """The practice as it is before anything happens to it."""
    databases.on_source(
        *PRACTICE,
        "INSERT INTO visit (Note, Fee, Share, Minutes, IsDone, VisitDate, Began, Length, Picture,"
        " SecDateTEdit)"
        " SELECT CONCAT('note ', seq, ', \"q\" \\\\ ', REPEAT('x', seq % 400)), seq / 7, seq / 3,"
        " NULLIF(seq % 9, 0), seq % 2, IF(seq % 5, '2024-02-29', '0001-01-01'),"
        " IF(seq % 7, '2025-03-01 08:00:00', '0000-00-00 00:00:00'),"
        f" SEC_TO_TIME(CAST(seq AS SIGNED) * 900 - 9000), UNHEX(MD5(seq)), {stamp(0, 'seq')}"
        f" FROM seq_1_to_{rows}",
        "INSERT INTO entrylog (LogDateTime, LogText) SELECT '2025-01-01' + INTERVAL seq MINUTE,"
        f" CONCAT('line\\n', seq) FROM seq_1_to_{rows}",
        "INSERT INTO fee (Amount, Exact, Descript)"
        " SELECT seq * 1.1, seq / 3, NULLIF(CONCAT('fee ', seq % 4), 'fee 0')"
        f" FROM seq_1_to_{rows}",
        f"INSERT INTO link SELECT seq % 23, seq, IF(seq % 2, 'a', 'b') FROM seq_1_to_{rows}",
        "INSERT INTO code"
        " SELECT CONCAT(IF(seq % 2, 'D', 'd'), seq DIV 2, IF(seq % 3, '', ' é,\"')),"
        f" IF(seq % 5, '', NULL) FROM seq_1_to_{rows}",
        "INSERT INTO letter (Body, DateTStamp) SELECT REPEAT(CONCAT('Dear \"', seq,"
        f" '\",\\r\\n\\\\. Grüße 😀 '), 400), {stamp(0, 'seq')} FROM seq_1_to_12",
        "INSERT INTO pairplain (Gen, Amount)"
        f" SELECT 0, IF(seq % 2, 1, -1) FROM seq_1_to_{PAIR_ROWS}",
        "INSERT INTO pairstamped (Gen, Amount, DateTStamp)"
        f" SELECT 0, IF(seq % 2, 1, -1), {stamp(0, 'seq')} FROM seq_1_to_{PAIR_ROWS}",
    )


def stamp(step: int, number: str) -> str:
    """SQL of the moment of a change: a day for each step, and fifty minutes within it.

    Far enough apart that no overlap of reading covers a step, or a part of it, that was lost.
    """
    return f"'2025-06-01 08:00:00' + INTERVAL {step} DAY + INTERVAL 50 * ({number} % 2) MINUTE"


def live(databases: Databases, step: int) -> None:
    """Some business in every table: inserts, changes, deletes. `step` has to grow."""
    databases.on_source(
        f"UPDATE visit SET Note = CONCAT('step {step} ', Note), Fee = Fee + 1,"
        f" SecDateTEdit = {stamp(step, 'VisitNum')} WHERE VisitNum % 5 = {step} % 5",
        f"DELETE FROM visit WHERE VisitNum % 41 = {step} % 41",
        "INSERT INTO visit (Note, Fee, IsDone, VisitDate, Began, SecDateTEdit)"
        f" SELECT 'new in step {step}', seq, 0, '2025-05-05', '2025-05-05 10:00:00',"
        f" {stamp(step, 'seq')} FROM seq_1_to_30",
        "INSERT INTO entrylog (LogDateTime, LogText)"
        f" SELECT '2025-06-01 12:00:00' + INTERVAL {step} HOUR, 'step {step}' FROM seq_1_to_40",
        f"UPDATE fee SET Amount = Amount + 0.1 WHERE FeeNum % 6 = {step} % 6",
        f"DELETE FROM fee WHERE FeeNum % 37 = {step} % 37",
        f"DELETE FROM link WHERE ToNum % 29 = {step} % 29",
        f"INSERT INTO link VALUES ({step} + 1000, {step}, 'b')",
        f"INSERT INTO code VALUES ('step {step}', 'x')",
        f"DELETE FROM code WHERE CodeText LIKE 'd%{step % 10}'",
        f"UPDATE letter SET Body = CONCAT('PS {step} ', Body),"
        f" DateTStamp = {stamp(step, 'LetterNum')} WHERE LetterNum % 3 = {step} % 3",
        # A new generation is one statement; rows that leave are replaced by as many.
        f"UPDATE pairplain SET Gen = {step}",
        f"UPDATE pairstamped SET Gen = {step}, DateTStamp = {stamp(step, 'PairNum')}",
    )


def large(databases: Databases, engine: str = "MyISAM", *, rows: int = 1800) -> None:
    """A table `bulk` of some 7 MB: more than fits under way between the server and the proxy."""
    databases.on_source(
        "CREATE TABLE bulk (BulkNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " Small smallint NOT NULL, Note varchar(12) NOT NULL, Pad mediumtext NOT NULL,"
        " DateTStamp timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"
        f" ENGINE={engine}",
        "INSERT INTO bulk (Small, Note, Pad, DateTStamp)"
        f" SELECT seq % 100, CONCAT('n', seq), REPEAT(CHAR(97 + seq % 26), 4000), {stamp(0, 'seq')}"
        f" FROM seq_1_to_{rows}",
    )


@dataclass
class Outcome:
    """What a run came to: its tables, or the error that it ended with.

    Attributes:
        foreign: the error is a driver's own and not a `PipelineError`.
    """

    tables: dict[str, TableResult] = field(default_factory=dict)
    error: Exception | None = None
    foreign: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None and all(t.ok for t in self.tables.values())

    @property
    def failed(self) -> dict[str, str]:
        return {name: t.error for name, t in self.tables.items() if t.error is not None}


def attempt(databases: Databases, run_id: str = "faulty", **options: Any) -> Outcome:  # noqa: ANN401
    """One run that may fail, after all others have gone."""
    quiet(databases)
    return attempt_now(databases, run_id, **options)


def attempt_now(databases: Databases, run_id: str, **options: Any) -> Outcome:  # noqa: ANN401
    """One run that may fail, whoever else is at work."""
    try:
        outcome = Outcome(databases.run(run_id, **options))
    except PipelineError as error:
        outcome = Outcome(error=error)
    except (psycopg2.Error, pymysql.MySQLError, OSError) as error:
        outcome = Outcome(error=error, foreign=True)
    if not outcome.ok:
        gc.collect()  # the driver's halves of cut connections, before they fail within a test
    return outcome


class Background(Generic[T]):
    """A call in a thread of its own; its wait is bounded."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._result: T
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> T:
        self._thread.join(BOUND)
        assert self.done, f"still at work after {BOUND:.0f} s"
        if self._error is not None:
            raise self._error
        return self._result


def wait_until(what: str, happened: Callable[[], object]) -> None:
    """Wait for `happened`, not for ever."""
    end = time.monotonic() + BOUND
    while not happened():
        assert time.monotonic() < end, f"waited {BOUND:.0f} s in vain: {what}"
        time.sleep(0.01)


def through(
    databases: Databases, *, source: Proxy | None = None, analytics: Proxy | None = None
) -> Databases:
    """The same databases, reached through proxies that can read along."""
    environ = dict(databases.environ)
    if source is not None:
        environ |= {
            "OPENDENTAL_SOURCE_HOST": "127.0.0.1",
            "OPENDENTAL_SOURCE_PORT": str(source.port),
            "OPENDENTAL_SOURCE_SSL_MODE": "disabled",
        }
    if analytics is not None:
        environ |= {
            "POSTGRES_ANALYTICS_HOST": "127.0.0.1",
            "POSTGRES_ANALYTICS_PORT": str(analytics.port),
            "POSTGRES_ANALYTICS_SSLMODE": "disable",
        }
    return replace(databases, environ=environ)


def source_proxy(databases: Databases, *, login: Action | None = None) -> Proxy:
    environ = databases.environ
    return Proxy(
        environ["OPENDENTAL_SOURCE_HOST"], int(environ["OPENDENTAL_SOURCE_PORT"]), login=login
    )


def analytics_proxy(databases: Databases) -> Proxy:
    environ = databases.environ
    return Proxy(environ["POSTGRES_ANALYTICS_HOST"], int(environ["POSTGRES_ANALYTICS_PORT"]))


def source_session(environ: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Another session at the source."""
    connection = pymysql.connect(
        host=environ["OPENDENTAL_SOURCE_HOST"],
        port=int(environ["OPENDENTAL_SOURCE_PORT"]),
        user=environ["OPENDENTAL_SOURCE_USER"],
        password=environ["OPENDENTAL_SOURCE_PASSWORD"],
        database=environ["OPENDENTAL_SOURCE_DB"],
        charset="utf8mb4",
        autocommit=True,
    )
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
    return connection


@contextlib.contextmanager
def on_other_session(databases: Databases, *statements: str) -> Iterator[Background[None]]:
    """Statements at the source beside the run, in order; the end waits for them."""

    def work() -> None:
        connection = source_session(databases.environ)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    thread = Background(work)
    yield thread
    thread.result()


def analytics_session(databases: Databases) -> Any:  # noqa: ANN401
    """Another session at the target, e.g. dbt's."""
    environ = databases.environ
    return psycopg2.connect(
        host=environ["POSTGRES_ANALYTICS_HOST"],
        port=environ["POSTGRES_ANALYTICS_PORT"],
        user=environ["POSTGRES_ANALYTICS_USER"],
        password=environ["POSTGRES_ANALYTICS_PASSWORD"],
        dbname=environ["POSTGRES_ANALYTICS_DB"],
        application_name="beside",
    )


def quiet(databases: Databases) -> None:
    """Wait until no session of a dead run is left at the target (it may hold the run's lock)."""
    wait_until(
        "sessions of the run at the target end",
        lambda: (
            not databases.on_analytics(
                "select 1 from pg_stat_activity where datname = current_database()"
                " and backend_type = 'client backend' and pid <> pg_backend_pid()"
                " and application_name <> 'beside'"
            )
        ),
    )


def check(databases: Databases, run_id: str) -> None:
    """`verify` says that all is well, and so does the differ."""
    verification = pipeline.verify(databases.settings, run_id=run_id)
    outcomes = {c.table: (c.outcome, c.differences) for c in verification.checks}
    equal = (("match", ()), ("unchanged", ()))
    assert {t: o for t, o in outcomes.items() if o not in equal} == {}
    assert verification.ok
    assert differences(databases.environ) == []


def settle(databases: Databases, run_id: str | None = None) -> None:
    """The promise after every fault: one more run, and both sides are equal."""
    run_id = run_id or f"after-{uuid.uuid4().hex[:8]}"
    outcome = attempt(databases, run_id)
    assert (outcome.error, outcome.failed) == (None, {})
    check(databases, run_id)


def raw_state(
    databases: Databases, tables: Sequence[str] | None = None
) -> dict[str, Counter[tuple[Any, ...]] | None]:
    """All rows of raw tables; without names, of all that the source has."""
    if tables is None:
        tables = [str(n) for (n,) in databases.on_source("SHOW TABLES")]
    return raw_rows(databases.environ, tables)


def check_whole(
    databases: Databases,
    run_id: str,
    before: Mapping[str, Counter[tuple[Any, ...]] | None],
) -> None:
    """Each raw table is what it was before the run or what the source is: nothing half, or twice.

    And what the run has recorded as loaded is there. For a source that stood still meanwhile.
    `before`: all tables that the run may have touched, or nothing before a first load.
    """
    after = raw_state(databases, list(before) or None)
    changed = {t for t, rows in after.items() if rows != before.get(t)}
    if databases.on_analytics("select 1 where to_regclass('etl.tables') is not null"):
        changed |= {
            table
            for (table,) in databases.on_analytics(
                "select table_name from etl.tables"
                f" where run_id = '{run_id}' and status = 'success'"
            )
        }
    if changed:
        assert differences(databases.environ, sorted(changed)) == [], "half changed"


class Watcher:
    """A reader of raw that looks all the time: every state of a pair of tables has to be whole."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._stop = threading.Event()
        self.looks = 0
        self.wrong: list[str] = []
        self._thread = Background(self._watch)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.result()
        assert self.looks, "the watcher saw nothing"
        assert self.wrong == []

    def _watch(self) -> None:
        connection = analytics_session(self._databases)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                while not self._stop.is_set():
                    for name in PAIRS:
                        self._look(cursor, name)
                    time.sleep(0.002)
        finally:
            connection.close()

    def _look(self, cursor: Any, name: str) -> None:  # noqa: ANN401
        try:
            cursor.execute(
                f'select count(*), count(distinct "Gen"), sum("Amount"), count(distinct "PairNum")'
                f" from raw.{name}"
            )
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return
        seen = cursor.fetchone()
        if seen != (PAIR_ROWS, 1, 0, PAIR_ROWS):
            self.wrong.append(f"raw.{name}: rows, generations, sum, keys = {seen}")
        self.looks += 1


def forget(databases: Databases) -> None:
    """As before the first load."""
    databases.on_analytics(
        "set client_min_messages = warning; drop schema if exists raw, etl, staging cascade"
    )


def measured(databases: Databases, proxy: Proxy, run_id: str, **options: Any) -> dict[str, int]:  # noqa: ANN401
    """The bytes that an undisturbed run passes through `proxy`, each way."""
    proxy.heal()
    outcome = attempt(databases, run_id, **options)
    assert (outcome.error, outcome.failed) == (None, {})
    return dict(proxy.passed)


# What the tests break.


def wired(databases: Databases, side: str, proxy: Proxy) -> Databases:
    return through(databases, **{side: proxy})


def proxy_of(databases: Databases, side: str) -> Proxy:
    return source_proxy(databases) if side == "source" else analytics_proxy(databases)


def data_way(side: str) -> str:
    """The way that rows take through the proxy of a side."""
    return DOWN if side == "source" else UP


def killer(databases: Databases, verb: str) -> Action:
    """Ends the source's thread of this connection, or its statement."""

    def kill(link: Link) -> None:
        session = source_session(databases.environ)
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT ID FROM information_schema.PROCESSLIST"
                    f" WHERE HOST LIKE '%:{link.port}' AND DB = DATABASE()"
                )
                (thread,) = cursor.fetchone()
                cursor.execute(f"{verb} {thread}")
        finally:
            session.close()

    return kill


def terminator(databases: Databases, function: str) -> Action:
    """Ends the target's backend of this connection, or its statement."""

    def terminate(link: Link) -> None:
        session = analytics_session(databases)
        session.autocommit = True
        try:
            with session.cursor() as cursor:
                cursor.execute(
                    f"select {function}(pid) from pg_stat_activity"
                    " where client_port = %s and datname = current_database()",
                    [link.port],
                )
                assert cursor.fetchall() == [(True,)]
        finally:
            session.close()

    return terminate

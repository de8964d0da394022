"""Keys and rows are compared by bucket: what differs is found, and little else is read."""

from __future__ import annotations

import random
import time

import pytest
from scratch import Databases

from etl_pipeline import digests, pipeline
from etl_pipeline.digests import Buckets
from etl_pipeline.plan import BUCKETS_FROM
from etl_pipeline.source import Source

ROWS = BUCKETS_FROM + 5_000

FIELDS = """
CREATE TABLE field (
  FieldNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  Answer text NOT NULL
) ENGINE=MyISAM
"""


def settle(databases: Databases) -> None:
    """Wait until the source's clock has left the seconds of the last write."""
    time.sleep(3)
    databases.on_source("SELECT 1")


@pytest.fixture
def fields(databases: Databases) -> Databases:
    """A table without a stamp, large enough for buckets, loaded."""
    databases.on_source(
        FIELDS, f"INSERT INTO field SELECT seq, CONCAT('answer ', seq) FROM seq_1_to_{ROWS}"
    )
    databases.run("first")
    return databases


def equal(databases: Databases, table: str, key: str, value: str) -> bool:
    """Row by row, without a line of the package."""
    there = databases.on_source(f"SELECT `{key}`, `{value}` FROM `{table}` ORDER BY 1")
    here = databases.on_analytics(f'select "{key}", "{value}" from raw."{table}" order by 1')
    return there == here


@pytest.mark.database
def test_only_buckets_that_changed_are_read(fields: Databases) -> None:
    fields.on_source(
        "UPDATE field SET Answer = 'other' WHERE FieldNum IN (1, 2, 4500)",
        "DELETE FROM field WHERE FieldNum IN (9100, 9101)",
        f"INSERT INTO field (Answer) SELECT 'new' FROM seq_1_to_{10}",
    )
    result = fields.run("second")["field"]
    assert result.strategy == "buckets"
    # Four buckets of about a thousand rows: of 1, of 4500, of 9100, and the last.
    assert 3 + 10 < result.rows_read < 4_100
    assert result.rows_written == 3 + 2 + 10
    assert result.rows_after == ROWS - 2 + 10
    assert equal(fields, "field", "FieldNum", "Answer")
    third = fields.run("third")["field"]
    assert (third.strategy, third.rows_read, third.rows_written) == ("buckets", 0, 0)


@pytest.mark.database
def test_a_change_everywhere_is_one_scan(fields: Databases) -> None:
    fields.on_source(
        "UPDATE field SET Answer = 'other' WHERE FieldNum % 100 = 5",
        "DELETE FROM field WHERE FieldNum % 5000 = 6",
    )
    result = fields.run("second")["field"]
    assert (result.strategy, result.rows_read) == ("buckets", ROWS - 5)
    assert result.rows_written == ROWS // 100 + 5
    assert equal(fields, "field", "FieldNum", "Answer")


@pytest.mark.database
def test_a_table_that_moved_everywhere_is_read_without_asking_until_it_does_not(
    fields: Databases,
) -> None:
    def night(number: int, *changes: str) -> tuple[str, int, int]:
        fields.on_source(*changes)
        result = fields.run(f"night {number}")["field"]
        assert equal(fields, "field", "FieldNum", "Answer")
        return result.strategy, result.rows_read, result.rows_written

    everywhere = "UPDATE field SET Answer = CONCAT(Answer, '!') WHERE FieldNum % 100 = 5"
    gone, new = "DELETE FROM field WHERE FieldNum = 17", "INSERT INTO field VALUES (17, 'again')"
    assert night(2, everywhere) == ("buckets", ROWS, ROWS // 100)
    assert night(3, everywhere, gone) == ("full", ROWS - 1, ROWS // 100 + 1)
    assert night(4, new) == ("full", ROWS, 1)
    # Of the night before, one bucket had moved.
    strategy, read, written = night(5, "UPDATE field SET Answer = 'x' WHERE FieldNum = 9")
    assert (strategy, written) == ("buckets", 1)
    assert 0 < read < 2_000


@pytest.mark.database
def test_states_that_an_older_version_kept(fields: Databases) -> None:
    fields.on_analytics("alter table etl.states drop column moved")
    (plan,) = pipeline.observe_plan(fields.settings, tables=["field"])
    assert plan.action == "buckets"
    assert fields.run("second")["field"].ok
    assert fields.on_analytics("select moved from etl.states") == [(0,)]


@pytest.mark.database
def test_a_bucket_that_lost_all_its_rows_is_emptied(fields: Databases) -> None:
    fields.on_source("DELETE FROM field WHERE FieldNum BETWEEN 3000 AND 7999")
    result = fields.run("second")["field"]
    assert (result.strategy, result.rows_written) == ("buckets", 5000)
    assert result.rows_read < 2_000
    assert equal(fields, "field", "FieldNum", "Answer")


@pytest.mark.database
def test_a_load_that_fails_keeps_what_the_source_had_said_before(fields: Databases) -> None:
    fields.on_analytics("alter table raw.field add constraint odd check (\"Answer\" <> 'new')")
    fields.on_source("UPDATE field SET Answer = 'new' WHERE FieldNum = 7")
    assert not fields.run("second")["field"].ok
    fields.on_analytics("alter table raw.field drop constraint odd")
    assert fields.run("third")["field"].rows_written == 1
    assert equal(fields, "field", "FieldNum", "Answer")


@pytest.mark.database
def test_a_new_column_is_read_for_all_rows_and_buckets_begin_anew(fields: Databases) -> None:
    fields.on_source("ALTER TABLE field ADD COLUMN Locked tinyint NOT NULL DEFAULT 1")
    assert fields.run("second")["field"].rows_written == ROWS
    assert fields.run("third")["field"].rows_read == 0
    assert fields.on_analytics('select distinct "Locked" from raw.field') == [(1,)]


@pytest.mark.database
@pytest.mark.parametrize("engine", ["MyISAM", "InnoDB"])
def test_deletes_are_found_by_bucket_whatever_the_keys(databases: Databases, engine: str) -> None:
    """Keys below zero, around it, far apart and random, as multi-server offices have them."""
    generator = random.Random(5)  # noqa: S311
    keys = {generator.randrange(-(2**62), 2**62) for _ in range(3_000)}
    keys |= {-(2**63), -1001, -1000, -999, -1, 0, 1, 999, 1000, 1001, 2**63 - 1}
    listed = sorted(keys)
    databases.on_source(
        "CREATE TABLE visit (VisitNum bigint NOT NULL PRIMARY KEY, Note text, DateTStamp timestamp"
        f" NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()) ENGINE={engine}",
        "INSERT INTO visit (VisitNum, Note) VALUES " + ", ".join(f"({k}, 'x')" for k in listed),
        "UPDATE visit SET DateTStamp = '2020-01-01 00:00:00'",
    )
    databases.run("first")
    gone = [*generator.sample(listed, 40), -(2**63), -1, 0, 2**63 - 1]
    databases.on_source(
        f"DELETE FROM visit WHERE VisitNum IN ({', '.join(map(str, gone))})",
        "INSERT INTO visit VALUES (123456, 'restored', '2001-01-01 00:00:00')",
    )
    result = databases.run("second")["visit"]
    assert result.strategy == "incremental"
    assert result.rows_written == len(set(gone)) + 1
    assert equal(databases, "visit", "VisitNum", "Note")


@pytest.mark.database
@pytest.mark.parametrize("engine", ["MyISAM", "InnoDB"])
def test_a_whole_read_adds_up_what_the_server_would(databases: Databases, engine: str) -> None:
    """Of lines as they are sent: the key in another place, rows in any order, bytes of any kind."""
    generator = random.Random(7)  # noqa: S311
    # InnoDB estimates how many there are.
    keys = [*range(1, BUCKETS_FROM * 2), -5, -2_000, 0, 2**40]
    generator.shuffle(keys)
    texts = ["''", "NULL", "'a,b'", "'\\n\\r\\0'", "X'01'", "X'FFFE'", "REPEAT('x', 300)"]
    rows = [f"({texts[k % len(texts)]}, {k}, {k % 9})" for k in keys]
    databases.on_source(
        "CREATE TABLE field (Answer blob, FieldNum bigint NOT NULL PRIMARY KEY, Note varchar(9))"
        f" ENGINE={engine}",
        f"INSERT INTO field VALUES {', '.join(rows)}",
        "ANALYZE TABLE field",
    )
    kept = "select keys_per_bucket, bucket, rows, checksum from etl.buckets order by bucket"

    def as_the_server_says() -> list[tuple[int, ...]]:
        with Source(databases.settings.source) as source:
            (table,) = source.tables()
            found = digests.source_rows(source, table, digests.width(source, table))
        return [(found.width, b, *figures) for b, figures in sorted(found.figures.items())]

    databases.run("first")
    assert sum(rows for _, _, rows, _ in as_the_server_says()) == len(keys)
    assert databases.on_analytics(kept) == as_the_server_says()
    databases.on_source("UPDATE field SET Answer = 'other' WHERE FieldNum IN (7000, -5)")
    assert databases.run("second", full=True)["field"].rows_read == len(keys)
    assert databases.on_analytics(kept) == as_the_server_says()
    databases.on_source("UPDATE field SET Answer = 'another' WHERE FieldNum = 7000")
    assert databases.run("third")["field"].rows_written == 1
    assert databases.on_analytics(kept) == as_the_server_says()


VISIT = (
    "CREATE TABLE visit (VisitNum bigint NOT NULL PRIMARY KEY, Note text, DateTStamp timestamp NOT"
    " NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()) ENGINE=MyISAM",
    "INSERT INTO visit SELECT seq, CONCAT('note ', seq), '2020-01-01' FROM seq_1_to_3000",
    "DELETE FROM visit WHERE VisitNum = 77",
)


@pytest.fixture
def visits(databases: Databases) -> Databases:
    """A table with a stamp and a gap among its keys, loaded."""
    databases.on_source(*VISIT)
    databases.run("first")
    return databases


@pytest.mark.database
def test_counts_that_agree_spare_a_comparison_of_keys(
    visits: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    real = digests.source_keys
    monkeypatch.setattr(
        digests, "source_keys", lambda *args: compared.append("keys") or real(*args)
    )
    visits.on_source(
        "UPDATE visit SET Note = 'other' WHERE VisitNum % 100 = 5",
        "INSERT INTO visit (VisitNum, Note) VALUES (3001, 'new'), (3002, 'new')",
        # Below the others, so that keys that count up do not explain it.
        "INSERT INTO visit (VisitNum, Note) VALUES (-7, 'new')",
    )
    result = visits.run("second")["visit"]
    assert (result.rows_written, result.rows_after) == (30 + 3, 2999 + 3)
    assert compared == []
    assert equal(visits, "visit", "VisitNum", "Note")
    visits.on_source("DELETE FROM visit WHERE VisitNum IN (8, 9)")
    assert visits.run("third")["visit"].rows_written == 2
    assert compared == ["keys"]
    assert equal(visits, "visit", "VisitNum", "Note")


@pytest.mark.database
def test_a_row_deleted_and_one_added_among_old_keys_show_in_the_next_night(
    visits: Databases,
) -> None:
    """Their counts agree; that a row came where none was expected says that one must be gone."""
    visits.on_source(
        "DELETE FROM visit WHERE VisitNum = 5",
        "INSERT INTO visit (VisitNum, Note) VALUES (77, 'back')",
    )
    second = visits.run("second")["visit"]
    assert (second.rows_written, second.rows_after) == (1, 3000)
    assert visits.run("third")["visit"].rows_written == 1
    assert equal(visits, "visit", "VisitNum", "Note")


@pytest.mark.database
def test_a_row_deleted_and_one_restored_under_an_old_stamp_are_found_by_the_proof(
    visits: Databases,
) -> None:
    visits.on_source(
        "DELETE FROM visit WHERE VisitNum = 5",
        "INSERT INTO visit VALUES (77, 'restored', '2001-01-01')",
    )
    assert visits.run("second")["visit"].rows_written == 0
    verification = pipeline.verify(visits.settings, run_id="second")
    assert [c.outcome for c in verification.checks] == ["differs"]
    assert visits.run("third")["visit"].rows_written == 2
    assert equal(visits, "visit", "VisitNum", "Note")


@pytest.mark.database
def test_everything_deleted(databases: Databases) -> None:
    databases.on_source(
        "CREATE TABLE visit (VisitNum bigint NOT NULL PRIMARY KEY, DateTStamp timestamp"
        " NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp())",
        "INSERT INTO visit (VisitNum) SELECT seq FROM seq_1_to_5000",
    )
    databases.run("first")
    databases.on_source("DELETE FROM visit")
    assert databases.run("second")["visit"].rows_written == 5000
    assert databases.on_analytics("select count(*) from raw.visit") == [(0,)]


@pytest.mark.database
def test_a_table_that_was_not_written_is_not_read(fields: Databases) -> None:
    settle(fields)
    fields.run("second")  # the first was read in the second of its writing
    third = fields.run("third")["field"]
    assert (third.strategy, third.rows_read, third.rows_after) == ("unchanged", 0, ROWS)
    counts = {t.table: t.rows for t in pipeline.status(fields.settings).tables}
    assert counts == {"field": ROWS}
    # Each of these is seen: a write of equal length, raw emptied, a name, all rows asked for.
    fields.on_source("UPDATE field SET Answer = 'answer 2' WHERE FieldNum = 1")
    assert fields.run("fourth")["field"].rows_written == 1
    settle(fields)
    fields.run("fifth")
    fields.on_analytics("truncate raw.field")
    assert fields.run("sixth")["field"].rows_after == ROWS
    assert fields.run("seventh")["field"].strategy == "unchanged"
    assert fields.run("eighth", tables=["field"])["field"].strategy == "buckets"
    assert fields.run("ninth", full=True)["field"].strategy == "full"
    assert equal(fields, "field", "FieldNum", "Answer")


@pytest.mark.database
def test_what_a_verification_finds_is_mended_by_the_next_run(fields: Databases) -> None:
    settle(fields)
    fields.run("second")
    fields.on_analytics('delete from raw.field where "FieldNum" = 5')
    assert fields.run("third")["field"].strategy == "unchanged"
    assert not pipeline.verify(fields.settings, run_id="third").ok
    fourth = fields.run("fourth")["field"]
    assert (fourth.strategy, fourth.rows_written) == ("buckets", 1)
    assert pipeline.verify(fields.settings, run_id="fourth").ok
    assert fields.run("fifth")["field"].strategy == "unchanged"


def test_ranges_hold_every_key_of_their_buckets_and_no_other() -> None:
    width = 7
    for buckets in ([-2, -1, 0, 1], [0], [-1], [1], [-3, 2], [0, 1, 3]):
        keys = [key for low, high in digests.ranges(buckets, width) for key in range(low, high + 1)]
        # Division towards zero, as both servers divide.
        assert keys == [k for k in range(-40, 40) if int(k / width) in buckets]


def test_neighbours_are_one_range() -> None:
    assert digests.ranges([3, 4, 5, 9], 10) == [(30, 59), (90, 99)]


def test_what_has_moved_is_told_by_the_rows_that_are_there() -> None:
    before = Buckets(10, {1: (5, 1), 2: (5, 2), 3: (5, 3)})
    assert digests.moved(before, before) == 0
    # One is another, one is gone, one is new.
    assert digests.moved(Buckets(10, {1: (5, 1), 2: (6, 2), 4: (1, 1)}), before) == 7 / 12
    assert digests.moved(Buckets(10, {}), before) == 0


def test_buckets_differ_by_any_figure_and_by_absence() -> None:
    left = Buckets(10, {1: (3, 6, 14), 2: (1, 20, 400), 3: (1, 30, 900)})
    right = Buckets(10, {1: (3, 6, 14), 2: (1, 21, 441), 4: (1, 40, 1600)})
    assert digests.differing(left, right) == [2, 3, 4]

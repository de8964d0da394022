"""What a person says in overrides.yml, and what becomes of it in raw."""

from __future__ import annotations

from pathlib import Path

import pytest
from scratch import ROOT, Databases

from etl_pipeline import overrides, pipeline
from etl_pipeline.errors import PipelineError
from etl_pipeline.plan import BUCKETS_FROM

VISIT = """
CREATE TABLE visit (
  VisitNum bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  Note varchar(20),
  IsNew tinyint,
  DateEntry datetime,
  DateTStamp timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()
) ENGINE=MyISAM
"""
RECALL = """
CREATE TABLE recall (
  RecallNum bigint PRIMARY KEY, Days int NOT NULL, Edited datetime, Kind tinyint NOT NULL
) ENGINE=MyISAM
"""


@pytest.fixture
def clinic(databases: Databases, tmp_path: Path) -> Databases:
    databases.on_source(
        VISIT,
        "INSERT INTO visit VALUES (1, 'a', 0, NULL, '2026-01-05 10:00:00'),"
        " (2, 'b', 1, NULL, '2026-01-05 10:00:00'), (3, 'c', NULL, NULL, '2026-01-05 10:00:00')",
        RECALL,
        "INSERT INTO recall VALUES (1, 30, '2026-01-05 10:00:00', 0),"
        " (2, 60, '2026-01-05 11:00:00', 1)",
    )
    databases.environ["ETL_OVERRIDES"] = str(tmp_path / "overrides.yml")
    say(databases, "")
    return databases


def say(databases: Databases, text: str) -> None:
    Path(databases.environ["ETL_OVERRIDES"]).write_text(text)


def planned(databases: Databases) -> dict[str, tuple[str, str]]:
    plans = pipeline.observe_plan(databases.settings)
    return {p.table.name: (p.action, p.reason) for p in plans}


def retype(databases: Databases, statement: str) -> None:
    """Do what a hint says."""
    databases.on_analytics(statement.split("'")[1])


def hint(databases: Databases, table: str) -> str:
    return {p.table.name: p.hint for p in pipeline.observe_plan(databases.settings)}[table]


def test_the_file_that_ships_says_nothing_and_its_example_can_be_read(tmp_path: Path) -> None:
    shipped = ROOT / "overrides.yml"
    assert overrides.read(shipped) == overrides.Overrides(shipped, {})
    example = "".join(
        line.removeprefix("#").removeprefix(" ") + "\n"
        for line in shipped.read_text().splitlines()[2:]
    )
    file = tmp_path / "overrides.yml"
    file.write_text(example)
    read = overrides.read(file)
    assert read.problems == {}
    assert read.tables["procedurelog"] == overrides.Override(
        columns=("Note",), flags=("IsDateProsthEst",)
    )
    assert set(read.tables) == {"procedurelog", "securitylog", "claimproc", "appointment"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("visit: 3\n", {"visit": ("it is no mapping of keys",)}),
        (
            "visit: {columns: {On: exclude}}\n",
            {"visit": ("columns: True: a column's name has to be quoted here",)},
        ),
        (
            "visit: {exclude: true, columns: [Note], strategy: fast, stamp: , flags: IsNew, x: 1}\n"
            "recall: {exclude: ' ', columns: {Days: keep}}\n",
            {
                "visit": (
                    "x: no such key; there are exclude, columns, strategy, stamp, flags",
                    "strategy: fast is none of full, incremental, buckets",
                    "exclude: a reason has to stand there",
                    "columns: has to be a mapping such as {Note: exclude}",
                    "stamp: a name has to stand there",
                    "flags: has to be a list of columns such as [IsHidden]",
                ),
                "recall": (
                    "exclude: a reason has to stand there",
                    "columns: Days: can only be exclude",
                ),
            },
        ),
    ],
)
def test_everything_that_is_wrong_is_said_at_once(
    tmp_path: Path, text: str, told: dict[str, tuple[str, ...]]
) -> None:
    file = tmp_path / "overrides.yml"
    file.write_text(text)
    assert overrides.read(file).problems == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- visit\n", ": it is no mapping of tables"),
        ("1: {strategy: full}\n", ": 1: a table's name has to be quoted"),
        ("visit: {strategy: full\n", ", line 2: expected ',' or '}', but got '<stream end>'"),
        ("visit: {stamp: A}\nvisit: {stamp: B}\n", ", line 2: visit stands there twice"),
        ("[visit]: {stamp: A}\n", ", line 1: found unhashable key"),
        ("visit: !!python/name:os.system\n", ", line 1: could not determine a constructor for"),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "overrides.yml"
    file.write_text(text)
    with pytest.raises(PipelineError) as raised:
        overrides.read(file)
    assert raised.value.message.startswith(f"reading {file}{told}")


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="there is no such file"):
        overrides.read(tmp_path / "overrides.yml")


@pytest.mark.database
def test_an_entry_that_cannot_be_followed_blocks_its_table_and_no_other(clinic: Databases) -> None:
    say(
        clinic,
        """
visit:
  columns: {Nothing: exclude, VisitNum: exclude, IsNew: exclude}
  flags: [Note, IsNew, Gone]
  stamp: Note
  strategy: full
loose: {strategy: full}
""",
    )
    told = (
        f"{clinic.environ['ETL_OVERRIDES']}: visit:"
        " columns: Nothing: no such column, or a rule leaves it out;"
        " columns: VisitNum: it is part of the primary key;"
        " flags: Note: is varchar, not tinyint;"
        " flags: IsNew: columns leaves it out;"
        " flags: Gone: no such column, or a rule leaves it out;"
        " stamp: Note: is varchar, not timestamp or datetime;"
        " stamp: strategy full reads no stamp"
    )
    hint = "the example in etl_pipeline/overrides.yml shows what can be said"
    assert planned(clinic)["visit"] == ("blocked", f"planning table visit: {told}")
    validation = pipeline.check(clinic.settings)
    assert validation.ok
    assert [(f.level, f.hint) for f in validation.findings if f.message == told] == [
        ("warning", f"{hint}; until then it is not loaded")
    ]
    results = clinic.run("r1")
    assert results["visit"].error == f"planning table visit: {told}; hint: {hint}"
    assert results["recall"].ok
    # Nothing of it has been copied, the column neither that was to be left out.
    assert clinic.on_analytics("select to_regclass('raw.visit')") == [(None,)]


@pytest.mark.database
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("visit: {strategy: fast}", "strategy: fast is none of full, incremental, buckets"),
        ("visit: {exclude: old, flags: [IsNew]}", "flags: exclude leaves the whole table out"),
        (
            "visit: {exclude: old, strategy: full}",
            "strategy: exclude leaves the whole table out",
        ),
        (
            "recall: {strategy: incremental}",
            "strategy: incremental needs a change stamp; stamp can name one",
        ),
        ("keyed: {strategy: buckets}", "strategy: buckets needs a primary key of one whole number"),
    ],
)
def test_what_a_table_cannot_have(clinic: Databases, text: str, told: str) -> None:
    clinic.on_source("CREATE TABLE keyed (Code varchar(9) PRIMARY KEY) ENGINE=MyISAM")
    say(clinic, text)
    name = text.split(":")[0]
    action, reason = planned(clinic)[name]
    assert (action, reason.split(f"yml: {name}: ")[1]) == ("blocked", told)


@pytest.mark.database
def test_a_table_that_the_source_lacks_is_a_warning(clinic: Databases) -> None:
    say(clinic, "gone: {strategy: full}\nvisits: {exclude: old}\n")
    validation = pipeline.check(clinic.settings)
    assert validation.ok
    file = clinic.environ["ETL_OVERRIDES"]
    lacking = [f"{file}: {name}: the source has no such table" for name in ("gone", "visits")]
    warnings = [f for f in validation.findings if f.level == "warning" and file in f.message]
    assert [f.message for f in warnings] == lacking
    assert [f.hint for f in warnings] == [
        "remove it, if the table is gone for good",
        "is it visit?",
    ]
    assert clinic.run("r1")["visit"].ok
    assert [line for line in clinic.log if "warning" in line] == [f"warning: {w}" for w in lacking]


@pytest.mark.database
def test_a_table_is_left_out(clinic: Databases) -> None:
    say(clinic, "visit: {exclude: 'nobody reads it'}\n")
    assert planned(clinic)["visit"] == ("excluded", "nobody reads it")
    assert set(clinic.run("r1")) == {"recall"}
    with pytest.raises(PipelineError, match=r"it is excluded \(nobody reads it\)") as raised:
        clinic.run("r2", tables=["visit"])
    assert "overrides.yml" in raised.value.hint


@pytest.mark.database
def test_a_column_is_left_out_and_comes_back(clinic: Databases) -> None:
    clinic.run("r1")
    say(clinic, "visit: {columns: {Note: exclude}}\n")
    assert clinic.run("r2")["visit"].error == (
        'planning table visit: overrides.yml leaves column "Note" out, and raw has it; hint:'
        ' `psql -c \'alter table raw."visit" drop column "Note";\'`'
    )
    retype(clinic, hint(clinic, "visit"))
    assert clinic.run("r3")["visit"].ok
    assert pipeline.verify(clinic.settings, run_id="r3").ok
    columns = "select attname from pg_attribute where attrelid = 'raw.visit'::regclass"
    assert ("Note",) not in clinic.on_analytics(columns)
    # What a person decides is no change of the source's.
    assert clinic.cli("schema", "diff").stdout.startswith("no change since")
    say(clinic, "")
    clinic.run("r4")
    notes = 'select "Note" from raw.visit order by "VisitNum"'
    assert clinic.on_analytics(notes) == [("a",), ("b",), ("c",)]


@pytest.mark.database
def test_strategies(clinic: Databases) -> None:
    clinic.run("r1")
    clinic.on_source("UPDATE visit SET Note = 'B' WHERE VisitNum = 2", "FLUSH TABLES")
    assert planned(clinic)["visit"][0] == "incremental"
    for strategy in ("full", "buckets", "incremental"):
        say(clinic, f"visit: {{strategy: {strategy}}}\n")
        assert planned(clinic)["visit"][0] == strategy
        clinic.on_source(f"UPDATE visit SET Note = '{strategy}' WHERE VisitNum = 2")
        assert clinic.run(strategy)["visit"].strategy == strategy
        assert clinic.on_analytics('select "Note" from raw.visit where "VisitNum" = 2') == [
            (strategy,)
        ]
    say(clinic, "recall: {strategy: full}\n")
    clinic.on_source(f"INSERT INTO recall SELECT seq, 1, NULL, 0 FROM seq_3_to_{BUCKETS_FROM + 2}")
    assert planned(clinic)["recall"] == ("full", "by overrides.yml")
    say(clinic, "")
    assert planned(clinic)["recall"][0] == "buckets"


@pytest.mark.database
def test_figures_of_an_earlier_night_are_not_believed_after_another_strategy(
    clinic: Databases,
) -> None:
    note = 'select "Note" from raw.visit where "VisitNum" = 2'
    say(clinic, "visit: {strategy: buckets}\n")
    stamp = "DateTStamp = '2026-01-05 10:00:00'"
    clinic.run("r1")
    clinic.run("r2", tables=["visit"])
    say(clinic, "visit: {strategy: full}\n")
    clinic.on_source(f"UPDATE visit SET Note = 'X', {stamp} WHERE VisitNum = 2")
    clinic.run("r3", tables=["visit"])
    assert clinic.on_analytics(note) == [("X",)]
    # As it was when the buckets were asked for.
    clinic.on_source(f"UPDATE visit SET Note = 'b', {stamp} WHERE VisitNum = 2")
    say(clinic, "visit: {strategy: buckets}\n")
    clinic.run("r4", tables=["visit"])
    assert clinic.on_analytics(note) == [("b",)]


@pytest.mark.database
def test_a_stamp_that_a_person_vouches_for(clinic: Databases) -> None:
    say(clinic, "recall: {stamp: Edited}\n")
    clinic.run("r1")
    clinic.on_source(
        "UPDATE recall SET Days = 90, Edited = '2026-01-06 09:00:00' WHERE RecallNum = 1",
        # Set by the clock that was put back in between.
        "UPDATE recall SET Days = 99, Edited = '2026-01-05 10:00:01' WHERE RecallNum = 2",
        "INSERT INTO recall VALUES (3, 7, NULL, 0)",
    )
    result = clinic.run("r2")["recall"]
    assert result.strategy == "incremental"
    assert result.watermark == "2026-01-06 09:00:00.000000"
    days = 'select "Days" from raw.recall order by "RecallNum"'
    assert clinic.on_analytics(days) == [(90,), (99,), (7,)]
    plans = {p.table.name: p for p in pipeline.observe_plan(clinic.settings, tables=["recall"])}
    assert plans["recall"].since == "2026-01-06 07:50:00"
    assert plans["recall"].reason == "by Edited, a scan at the source"
    assert pipeline.verify(clinic.settings, run_id="r2").ok


@pytest.mark.database
def test_a_stamp_in_the_future_does_not_hide_what_changes_today(clinic: Databases) -> None:
    say(clinic, "recall: {stamp: Edited}\n")
    clinic.on_source("INSERT INTO recall VALUES (3, 7, '2099-01-01 00:00:00', 0)")
    assert clinic.run("r1")["recall"].watermark == "2026-01-05 11:00:00.000000"


@pytest.mark.database
def test_a_flag_becomes_a_boolean(clinic: Databases) -> None:
    say(clinic, "visit: {flags: [IsNew]}\n")
    clinic.run("r1")
    flags = 'select "IsNew" from raw.visit order by "VisitNum"'
    assert clinic.on_analytics(flags) == [(False,), (True,), (None,)]
    assert pipeline.verify(clinic.settings, run_id="r1").ok
    clinic.on_analytics('update raw.visit set "IsNew" = false where "VisitNum" = 2')
    (check,) = [
        c for c in pipeline.verify(clinic.settings, run_id="r1").checks if c.table == "visit"
    ]
    assert check.differences == ("IsNew in 1 row",)
    clinic.run("r2", full=True)
    assert clinic.on_analytics(flags) == [(False,), (True,), (None,)]


@pytest.mark.database
@pytest.mark.parametrize("value", [2, -1, 127])
def test_a_flag_with_another_value_fails_its_table(clinic: Databases, value: int) -> None:
    say(clinic, "visit: {flags: [IsNew]}\n")
    clinic.on_source(f"UPDATE visit SET IsNew = {value} WHERE VisitNum = 2")
    found = clinic.run("r1")
    assert found["visit"].error == (
        "loading table visit: the analytics database reported invalid_text_representation (22P02)"
        ' in column "IsNew", row 2 as read'
    )
    assert found["recall"].ok


@pytest.mark.database
def test_a_flag_of_a_column_that_raw_has_and_back(clinic: Databases) -> None:
    clinic.run("r1")
    flags = 'select "IsNew" from raw.visit order by "VisitNum"'
    for text, kind, values in (
        ("visit: {flags: [IsNew]}\n", "boolean", [(False,), (True,), (None,)]),
        ("", "smallint", [(0,), (1,), (None,)]),
    ):
        say(clinic, text)
        assert hint(clinic, "visit") == (
            f'`psql -c \'alter table raw."visit" alter column "IsNew" type {kind}'
            f' using "IsNew"::int::{kind};\'`,'
            " then `python -m etl_pipeline run --full --table visit`"
        )
        assert not clinic.run(f"{kind}-1")["visit"].ok
        retype(clinic, hint(clinic, "visit"))
        assert clinic.run(f"{kind}-2", full=True)["visit"].ok
        assert clinic.on_analytics(flags) == values
        assert pipeline.verify(clinic.settings, run_id=f"{kind}-2").ok

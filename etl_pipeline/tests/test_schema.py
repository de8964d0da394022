"""What changed between two schemas of the source, and which dbt models read it: pure."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl_pipeline.catalog import Table
from etl_pipeline.exclusions import RULES
from etl_pipeline.lineage import Lineage
from etl_pipeline.schema import changes, digest, snapshot
from etl_pipeline.types import Column

Schema = dict[str, dict[str, Any]]


def column(name: str, kind: str, **facts: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "name": name,
        "type": kind,
        "nullable": False,
        "charset": None,
        "auto_stamp": False,
        **facts,
    }


def table(*columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "engine": "MyISAM",
        "columns": list(columns),
        "primary_key": [columns[0]["name"]],
        "indexed": [],
    }


BEFORE: Schema = {
    "recall": table(column("RecallNum", "bigint(20)"), column("Note", "text", charset="utf8mb3")),
    "visit": table(
        column("VisitNum", "bigint(20)"),
        column("Fee", "double"),
        column("Hours", "int(11)"),
        column("Note", "text", charset="utf8mb3", nullable=True),
        column("DateTStamp", "timestamp", auto_stamp=True),
    ),
}


def visit(schema: Schema, name: str) -> dict[str, Any]:
    return next(c for c in schema["visit"]["columns"] if c["name"] == name)


def insert(schema: Schema, place: int, name: str, kind: str) -> None:
    schema["visit"]["columns"].insert(place, column(name, kind))


def remove(schema: Schema, name: str) -> None:
    schema["visit"]["columns"].remove(visit(schema, name))


def swap(schema: Schema) -> None:
    columns = schema["visit"]["columns"]
    columns[1], columns[2] = columns[2], columns[1]


def rename_table(schema: Schema) -> None:
    schema["encounter"] = schema.pop("visit")


def rename_key(schema: Schema) -> None:
    visit(schema, "VisitNum").update(name="EncounterNum")
    schema["visit"]["primary_key"] = ["EncounterNum"]


def split(schema: Schema) -> None:
    """Two new tables that are equally like the one that is gone."""
    schema["visit_a"] = schema.pop("visit")
    schema["visit_b"] = copy.deepcopy(schema["visit_a"])


def rename_and_gain(schema: Schema) -> None:
    rename_table(schema)
    schema["encounter"]["columns"].append(column("IsNew", "tinyint(4)"))


def rename_and_rebuild(schema: Schema) -> None:
    rename_table(schema)
    schema["encounter"]["columns"][1:3] = [column("Money", "bigint(20)"), column("Days", "date")]


CASES: list[tuple[Callable[[Schema], object], list[str]]] = [
    (lambda s: None, []),
    (
        lambda s: s.update(sheet=table(column("SheetNum", "int(11)"))),
        ["sheet is a new table of 1 column"],
    ),
    (lambda s: s.pop("recall"), ["recall is gone"]),
    (rename_table, ["visit seems to be called encounter now"]),
    (
        rename_and_gain,
        [
            "visit seems to be called encounter now",
            "encounter gains column IsNew tinyint(4)",
        ],
    ),
    (rename_and_rebuild, ["encounter is a new table of 5 columns", "visit is gone"]),
    (
        split,
        [
            "visit is gone",
            "visit_a is a new table of 5 columns",
            "visit_b is a new table of 5 columns",
        ],
    ),
    (
        lambda s: insert(s, 5, "IsMirrored", "tinyint(4)"),
        ["visit gains column IsMirrored tinyint(4)"],
    ),
    (
        lambda s: insert(s, 1, "IsMirrored", "tinyint(4)"),
        ["visit gains column IsMirrored tinyint(4)"],
    ),
    (lambda s: remove(s, "Fee"), ["visit loses column Fee double"]),
    (
        lambda s: visit(s, "Fee").update(name="Amount"),
        ["visit has a column Fee that seems to be called Amount now"],
    ),
    # Another type, or another place: nobody can tell that it is the same.
    (
        lambda s: visit(s, "Fee").update(name="Amount", type="decimal(10,2)"),
        ["visit gains column Amount decimal(10,2)", "visit loses column Fee double"],
    ),
    (
        lambda s: (remove(s, "Fee"), insert(s, 4, "Amount", "double")),
        ["visit gains column Amount double", "visit loses column Fee double"],
    ),
    # Renamed in spite of a new neighbour.
    (
        lambda s: (visit(s, "Hours").update(name="Units"), insert(s, 1, "IsNew", "tinyint(4)")),
        [
            "visit gains column IsNew tinyint(4)",
            "visit has a column Hours that seems to be called Units now",
        ],
    ),
    (rename_key, ["visit has a column VisitNum that seems to be called EncounterNum now"]),
    (
        lambda s: visit(s, "Hours").update(type="bigint(20)"),
        ["visit changes column Hours from int(11) to bigint(20)"],
    ),
    (
        lambda s: visit(s, "Fee").update(nullable=True),
        ["visit changes column Fee from not null to null"],
    ),
    (
        lambda s: visit(s, "Note").update(nullable=False),
        ["visit changes column Note from null to not null"],
    ),
    (
        lambda s: visit(s, "Note").update(charset="utf8mb4"),
        ["visit changes the charset of Note from utf8mb3 to utf8mb4"],
    ),
    (
        lambda s: visit(s, "DateTStamp").update(auto_stamp=False),
        ["visit has no change stamp in DateTStamp any more"],
    ),
    (
        lambda s: s["visit"].update(primary_key=["VisitNum", "Hours"]),
        ["visit changes its primary key from (VisitNum) to (VisitNum, Hours)"],
    ),
    (
        lambda s: s["visit"].update(engine="InnoDB"),
        ["visit changes its engine from MyISAM to InnoDB"],
    ),
    (lambda s: s["visit"].update(indexed=["DateTStamp"]), ["visit gains an index on DateTStamp"]),
    (swap, ["visit has its columns in another order"]),
]


@pytest.mark.parametrize(("change", "told"), CASES)
def test_each_change_is_told_in_words(change: Callable[[Schema], object], told: list[str]) -> None:
    after = copy.deepcopy(BEFORE)
    change(after)
    found = changes(BEFORE, after)
    assert [c.text for c in found] == told
    # A line of the history that tells nothing would be noise, and an untold one a lie.
    assert (digest(BEFORE) == digest(after)) == (found == ())
    # The way back is a change as well, of the same size or nearly.
    assert bool(changes(after, BEFORE)) == bool(found)


def test_what_a_reader_gets_of_a_change() -> None:
    after = copy.deepcopy(BEFORE)
    visit(after, "Hours").update(type="bigint(20)")
    assert [c.to_dict() for c in changes(BEFORE, after)] == [
        {
            "table": "visit",
            "kind": "type_changed",
            "column": "Hours",
            "before": "int(11)",
            "after": "bigint(20)",
            "models": [],
            "downstream": [],
            "text": "visit changes column Hours from int(11) to bigint(20)",
        }
    ]


def test_a_snapshot_has_no_estimate_and_no_table_that_a_rule_leaves_out() -> None:
    key = Column("VisitNum", "bigint", "bigint(20)", nullable=False)
    note = Column("Note", "text", "text", charset="utf8")
    stamp = Column("DateTStamp", "timestamp", "timestamp", auto_stamp=True)
    found = Table(
        "visit", (key, note, stamp), ("VisitNum",), 5, frozenset(["VisitNum", "DateTStamp"])
    )
    other = Table("tmpvisit", (key,), ("VisitNum",))
    assert RULES[0].table == "tmp.*"
    assert snapshot([found, other]) == {
        "visit": {
            "engine": "",
            "columns": [
                column("VisitNum", "bigint(20)"),
                # Two servers' names of one charset.
                column("Note", "text", nullable=True, charset="utf8mb3"),
                column("DateTStamp", "timestamp", nullable=True, auto_stamp=True),
            ],
            "primary_key": ["VisitNum"],
            "indexed": ["DateTStamp"],
        }
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """visit → stg_visit → int_visits → mart_money; stg_days reads visit too."""
    texts = {
        "staging/stg_visit": """select "Fee" from {{ source('opendental', 'visit') }}""",
        "staging/stg_days": """
            -- no "Fee" in here, nor {{ source('opendental', 'recall') }}
            select "VisitNum", "FeeCode" from {{ source("opendental", "visit") }}""",
        "int_visits": "select * from {{ ref('stg_visit') }} /* {{ ref('stg_days') }} */",
        "marts/mart_money": "{# a note #} select * from {{ ref('models', 'int_visits') }}",
        "marts/mart_days": "select * from {{ ref( 'stg_days' ) }}",
    }
    for name, text in texts.items():
        path = tmp_path / "models" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s: s.pop("visit"),
            "visit is gone; dbt: int_visits, mart_days, mart_money, stg_days, stg_visit",
        ),
        (
            rename_table,
            "visit seems to be called encounter now;"
            " dbt: int_visits, mart_days, mart_money, stg_days, stg_visit",
        ),
        (
            lambda s: visit(s, "Fee").update(name="Amount"),
            "visit has a column Fee that seems to be called Amount now;"
            " dbt: stg_visit and 2 downstream",
        ),
        (lambda s: remove(s, "Hours"), "visit loses column Hours int(11)"),
        (lambda s: s.pop("recall"), "recall is gone"),
        (
            lambda s: s["visit"].update(engine="InnoDB"),
            "visit changes its engine from MyISAM to InnoDB",
        ),
    ],
)
def test_the_models_that_read_what_changed(
    project: Path, change: Callable[[Schema], object], told: str
) -> None:
    after = copy.deepcopy(BEFORE)
    change(after)
    (found,) = Lineage.read(project).touched(changes(BEFORE, after))
    assert found.text == told


def test_the_models_of_this_repository_are_found() -> None:
    models = Lineage.read(Path(__file__).resolve().parents[2] / "dbt_dental_models")
    assert models.readers["procedurelog"] == {"stg_opendental__procedures"}
    assert "int_ledger_entries" in models.children["stg_opendental__procedures"]

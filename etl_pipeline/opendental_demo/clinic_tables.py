"""The tables of the clinic profile: its facts (`clinic.tsv`) and a CREATE TABLE for each.

Real columns where `schema.sql` or `clinic.sql` has them; else columns in the vendor's manner, up to
the number that the clinic's table has.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from etl_pipeline.types import quoted
from opendental_demo import schema

_HERE = Path(__file__).parent
_END = "\n) ENGINE=MyISAM DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci"
_ON_UPDATE = "timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()"
_AT_INSERT = "datetime NOT NULL DEFAULT '0001-01-01 00:00:00'"

# What an invented table has beside key and stamps; taken from the front, again and again.
_REFERENCE, _TEXT = "reference", "text"
_PATTERN = (
    _REFERENCE, "varchar", "flag", _REFERENCE, "date", "double", "code", "text", "int", "datetime",
    "flag", _REFERENCE, "varchar", "flag", "smallint", "day", "short", "time", "code", "double",
)  # fmt: skip
_DEFINITIONS = {
    _REFERENCE: "bigint NOT NULL",
    "varchar": "varchar(255) NOT NULL",
    "short": "varchar(50) DEFAULT ''",
    "text": "text DEFAULT NULL",
    "longtext": "mediumtext NOT NULL",
    "flag": "tinyint NOT NULL",
    "code": "tinyint unsigned NOT NULL DEFAULT 0",
    "smallint": "smallint NOT NULL",
    "int": "int NOT NULL",
    "double": "double NOT NULL DEFAULT 0",
    "date": "date NOT NULL DEFAULT '0001-01-01'",
    "day": "date DEFAULT NULL",
    "datetime": "datetime NOT NULL DEFAULT '0001-01-01 00:00:00'",
    "time": "time NOT NULL DEFAULT '00:00:00'",
}
_NAMES = {
    _REFERENCE: ("PatNum", "ProvNum", "ClinicNum", "UserNum", "ProcNum", "AptNum", "FKey"),
    "varchar": ("Description", "ItemName", "FileName", "CompName"),
    "short": ("Abbr", "Phone", "Code"),
    "text": ("Note", "Instructions", "MessageText"),
    "longtext": ("RawData",),
    "flag": ("IsHidden", "IsDefault", "HasDetail", "IsLocked"),
    "code": ("ItemStatus", "ItemType", "Source"),
    "smallint": ("ItemOrder", "Quantity"),
    "int": ("ItemColor", "DaysWait"),
    "double": ("Amount", "Fee", "Balance"),
    "date": ("DateEntry", "DateService"),
    "day": ("DateTerm",),
    "datetime": ("DateTimeEntry", "DateTimeSent"),
    "time": ("TimeOfDay",),
}


@dataclass(frozen=True)
class Column:
    """`size`: characters of char and varchar, else 0. `default`: the DEFAULT clause, '' if none."""

    name: str
    kind: str
    size: int
    nullable: bool
    default: str


@dataclass(frozen=True)
class ClinicTable:
    """One table at scale 1.

    Attributes:
        rows: 0 for a table that the clinic does not use.
        row_bytes: data and indexes per row.
        key: '' for the leftovers that have none.
        on_update: the `timestamp … ON UPDATE`, '' if none; `at_insert`: the datetime that is
            written once, '' if none.
        indexed: those stamps that have an index.
    """

    name: str
    rows: int
    row_bytes: float
    width: int
    key: str
    on_update: str
    at_insert: str
    indexed: tuple[str, ...]

    @property
    def ddl(self) -> str:
        return _real().get(self.name) or self._invented()

    @property
    def columns(self) -> list[Column]:
        body = self.ddl.partition("(\n")[2]
        return [
            _column(*c) for c in re.findall(r"^  `(\w+)` ([a-z]+)(?:\((\d+)\))?(.*)$", body, re.M)
        ]

    def _invented(self) -> str:
        used: Counter[str] = Counter()
        taken = [self.key, self.on_update, self.at_insert]
        lines = [f"  {quoted(self.key)} bigint NOT NULL AUTO_INCREMENT"] if self.key else []
        rest = [
            f"  {quoted(_name(kind, used, taken))} {_DEFINITIONS[kind]}"
            for kind in self._kinds(self.width - sum(map(bool, taken)))
        ]
        stamps = [(self.at_insert, _AT_INSERT), (self.on_update, _ON_UPDATE)]
        lines += rest + [f"  {quoted(name)} {text}" for name, text in stamps if name]
        lines += [f"  PRIMARY KEY ({quoted(self.key)})"] if self.key else []
        lines += [f"  KEY {quoted('idx_' + name)} ({quoted(name)})" for name in self.indexed]
        return f"CREATE TABLE {quoted(self.name)} (\n" + ",\n".join(lines) + _END

    def _kinds(self, count: int) -> list[str]:
        kinds = [_PATTERN[i % len(_PATTERN)] for i in range(count)]
        if self.row_bytes > 20_000:
            kinds[-1] = "longtext"
        elif self.row_bytes > 80 and _TEXT not in kinds and kinds:
            kinds[-1] = _TEXT
        return kinds


@cache
def clinic_tables() -> dict[str, ClinicTable]:
    """All 446 by name."""
    with (_HERE / "clinic.tsv").open(encoding="utf-8", newline="") as file:
        facts = list(csv.DictReader(file, delimiter="\t"))
    return {
        f["table"]: ClinicTable(
            name=f["table"],
            rows=int(f["rows"]),
            row_bytes=float(f["size_mb"]) * 2**20 / max(1, int(f["rows"])),
            width=int(f["columns"]),
            key=f["key"],
            on_update=f["on_update"],
            at_insert=f["at_insert"],
            indexed=tuple(filter(None, f["indexed"].split(","))),
        )
        for f in facts
    }


@cache
def _real() -> dict[str, str]:
    found = schema.statements() + schema.statements(_HERE / "clinic.sql")
    return {s.split("`")[1]: s for s in found}


def _column(name: str, kind: str, size: str, rest: str) -> Column:
    default = re.search(r"DEFAULT ('[^']*'|[^\s,]+)", rest)
    return Column(
        name, kind, int(size or 0), "NOT NULL" not in rest, default.group(1) if default else ""
    )


def _name(kind: str, used: Counter[str], taken: list[str]) -> str:
    names = _NAMES[kind]
    while True:
        turn, place = divmod(used[kind], len(names))
        used[kind] += 1
        name = names[place] + (str(turn + 1) if turn else "")
        if name not in taken:
            return name

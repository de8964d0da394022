"""The rows of the clinic profile as SQL that the server computes from its sequence engine.

A value is a function of seed, table, column and key: `crc32(seq + K)`, K from the first three.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from random import Random

from etl_pipeline.types import quoted
from opendental_demo.clinic_tables import ClinicTable, Column

YEARS = 10
# Every GAP-th key was deleted; at most SHARED rows have the same second in their stamp.
GAP = 53
SHARED = 20
_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
# MariaDB's TO_DAYS('0001-01-01'), the vendor's "no date".
_NO_DAY = 366
_TEXTS = ("char", "varchar", "text", "mediumtext")
_BYTES = {"bigint": 8, "double": 8, "datetime": 5, "int": 4, "float": 4, "timestamp": 4, "date": 3,
          "time": 3, "smallint": 2, "tinyint": 1}  # fmt: skip
_INDEX_BYTES = 11
_ROW_BYTES = 8
# é and ß take two bytes.
_CHARACTER_BYTES = 1.05


def _words() -> str:
    """Invented words with all that makes CSV hard: quotes, commas, tabs, newlines, é and ß."""
    draw = Random(0)  # noqa: S311
    syllables = ("lo", "mi", "ra", "tun", "ke", "sol", "ba", "né", "dor", "pi", "vas", "gro", "ß")
    ends = (*(" ",) * 40, ", ", ". ", "\n", "\r\n", "\t", ' "', "' ", "\\ ", "; ")
    text = ""
    while len(text) < 4000:
        text += "".join(draw.choices(syllables, k=draw.randint(1, 4))) + draw.choice(ends)
    return text


# One byte a character, so that SUBSTR need not count them from the start.
_WORDS = f"_latin1 x'{_words().encode('latin1').hex()}'"
_LETTERS = "_latin1'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'"
_PLACES = 2000


@dataclass(frozen=True)
class Filling:
    """How to fill one table.

    Attributes:
        rows: what a load writes.
        parents: key column → largest key of the table it leads to.
        end: the day on which the books close, exclusive.
    """

    table: ClinicTable
    rows: int
    seed: int
    parents: Mapping[str, int]
    end: date

    @property
    def last_key(self) -> int:
        return last_key(self.rows)

    def load(self, first: int, last: int) -> str:
        """INSERT of the rows with keys from `first` to `last`, both included."""
        values = {c.name: self._value(c) for c in self.table.columns}
        return self._insert(values, first, last) + f" WHERE seq % {GAP} <> 0"

    def append(self, first: int, last: int) -> str:
        """INSERT of new rows; the server sets the change stamp, and the time is now."""
        values = {c.name: self._value(c) for c in self.table.columns}
        values.pop(self.table.on_update, None)
        if self.table.at_insert:
            values[self.table.at_insert] = "now()"
        return self._insert(values, first, last)

    def _insert(self, values: Mapping[str, str], first: int, last: int) -> str:
        return (
            f"INSERT INTO {quoted(self.table.name)} ({', '.join(map(quoted, values))})\n"
            f"SELECT {', '.join(values.values())}\nFROM seq_{first}_to_{last}"
        )

    def _value(self, column: Column) -> str:
        name, draw = column.name, _Draw(f"{self.seed}/{self.table.name}/{column.name}")
        if name == self.table.key:
            return "seq"
        if name in (self.table.on_update, self.table.at_insert):
            return self._stamp(draw, name == self.table.on_update)
        if column.kind in _TEXTS:
            value = self._text(draw, column)
            return f"if({draw(25)}, {value}, NULL)" if column.nullable else value
        value = (
            self._number(draw, column)
            if column.kind not in ("date", "datetime", "timestamp")
            else self._moment(draw, column)
        )
        return f"if({draw(11)}, {value}, NULL)" if column.nullable else value

    def _number(self, draw: _Draw, column: Column) -> str:
        name, kind = column.name, column.kind
        if kind == "bigint":
            reach = self.parents.get(name, 200)
            return f"if({draw(5)}, 1 + {draw(reach)}, 0)" if reach else "0"
        if kind == "time":
            return f"sec_to_time({draw(_DAY)})"
        if kind == "double":
            money = f"{draw(30_000)} / 100e0"
            spare = column.default if column.default == "-1" else "0"
            return f"if({draw(3)}, {money}, {spare})"
        if kind == "float":
            return f"{draw(20)} / 2e0"
        if "Color" in name:
            return f"-cast({draw(2**24)} AS signed)"
        if name.startswith(("Is", "Has")):
            return f"{draw(10)} = 0"
        return draw({"tinyint": 4, "smallint": 10}.get(kind, 100))

    def _moment(self, draw: _Draw, column: Column) -> str:
        first = self.end.toordinal() + _NO_DAY - 1 - YEARS * 365 - 30
        if column.name == "Birthdate":
            return f"from_days({first - 70 * 365} + {draw(25_000)})"
        days = f"{first} + seq * {YEARS * 365} div {self.last_key} + {draw(30)}"
        if column.kind == "date":
            return f"from_days(if({draw(20)}, {days}, {_NO_DAY}))"
        seconds = f"({days} - {_NO_DAY}) * {_DAY} + {draw(_DAY)}"
        return f"timestamp'0001-01-01 00:00:00' + interval if({draw(20)}, {seconds}, 0) second"

    def _stamp(self, draw: _Draw, changes: bool) -> str:
        """A time that rises with the key; 1 row in 16 was changed up to 100 days later."""
        span = YEARS * 365 * _DAY
        start = (self.end.toordinal() - _EPOCH) * _DAY - span
        shared = max(1, min(SHARED, self.rows // 50))
        # The last key lies a second before the end: a stamp in the future would hide changes.
        seconds = f"seq div {shared} * {max(1, (span - 1) * shared // self.last_key)}"
        if changes:
            later = f"if({draw(16)}, 0, {draw(100 * _DAY)})"
            seconds = f"least({span - 1}, {seconds} + {later})"
        return f"from_unixtime({start} + {seconds})"

    def _text(self, draw: _Draw, column: Column) -> str:
        mean = self._lengths[column.name]
        if column.kind in ("char", "varchar") and column.size <= 4:
            return f"substr({_LETTERS}, 1 + {draw(36 - column.size)}, {draw(column.size + 1)})"
        place = f"1 + {draw(_PLACES)}"
        if mean > 900:
            return f"repeat(substr({_WORDS}, {place}, 500), 1 + {draw(2 * mean // 500)})"
        return f"substr({_WORDS}, {place}, {draw(2 * mean + 1)})" if mean else "''"

    @cached_property
    def _lengths(self) -> dict[str, int]:
        """Text column → mean characters, so that a row has the bytes that the clinic's has.

        Varchars get a word each as long as there is room, the rest goes into text columns, or where
        there is none into the varchars. Zeros take no room in a MyISAM row.
        """
        columns = self.table.columns
        keys = bool(self.table.key) + self.table.ddl.count("\n  KEY ")
        room = self.table.row_bytes - keys * _INDEX_BYTES - _ROW_BYTES - len(columns) / 8
        room -= sum(_BYTES.get(c.kind, 2) * (0.75 if c.kind in ("bigint", "double") else 1)
                    for c in columns)  # fmt: skip
        room /= _CHARACTER_BYTES
        lengths = {c.name: 0 for c in columns if c.kind in _TEXTS}
        for column in (c for c in columns if c.kind == "varchar" and c.size > 4):
            lengths[column.name] = max(0, min(10, column.size // 2, int(room)))
            room -= lengths[column.name]
        wide = [c for c in columns if "text" in c.kind] or [c for c in columns if c.size > 20]
        for place, column in enumerate(wide):
            share = max(0, int(room / (len(wide) - place)))
            if column.size:
                share = min(share, column.size // 2 - lengths[column.name])
            lengths[column.name] += share
            room -= share
        return lengths


class _Draw:
    """SQL for whole numbers; each draw for a column is another function of the key."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def __call__(self, below: int) -> str:
        self._count += 1
        return f"crc32(seq + {zlib.crc32(f'{self._name}/{self._count}'.encode())}) % {below}"


def last_key(rows: int) -> int:
    """The key of the last of `rows` rows, none of whose keys is a multiple of GAP."""
    return rows + max(0, rows - 1) // (GAP - 1)

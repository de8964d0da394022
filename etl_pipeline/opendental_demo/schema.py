"""The schema as data, read from `schema.sql`: keys, stamps, and what an omitted value becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SQL = Path(__file__).with_name("schema.sql")
_BOOKKEEPING = ("demo_marker",)


@dataclass(frozen=True)
class TableSchema:
    """`defaults`: column → SQL literal that stands where a row says nothing."""

    name: str
    key: str
    stamp: str | None
    defaults: dict[str, str]


def statements(path: Path = _SQL) -> list[str]:
    """The CREATE TABLE statements of the file, in order."""
    text = re.sub(r"^--.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [part.strip() for part in text.split(";\n") if part.strip()]


def marker_statement() -> str:
    """CREATE TABLE of `demo_marker`, which each profile has."""
    return next(s for s in statements() if s.split("`")[1] in _BOOKKEEPING)


@cache
def tables() -> dict[str, TableSchema]:
    """All tables of the practice by name, without our own bookkeeping."""
    found = {}
    for statement in statements():
        name, body = re.match(r"CREATE TABLE `(\w+)` \((.*)\n\)", statement, re.S).groups()
        if name in _BOOKKEEPING:
            continue
        key = re.search(r"PRIMARY KEY \(`(\w+)`\)", body).group(1)
        columns = dict(re.findall(r"^  `(\w+)` (.*?),?$", body, re.M))
        stamp = next((c for c, text in columns.items() if "ON UPDATE" in text), None)
        defaults = {c: _default(text) for c, text in columns.items()}
        found[name] = TableSchema(name, key, stamp, defaults)
    return found


def _default(definition: str) -> str:
    """The DEFAULT clause, or what sql_mode='' puts where a NOT NULL column has none."""
    stated = re.search(r"DEFAULT ('[^']*'|-?\d+|NULL)", definition)
    if stated:
        return stated.group(1)
    kind = definition.split()[0].split("(")[0]
    if kind in ("varchar", "char", "text"):
        return "''" if "NOT NULL" in definition else "NULL"
    zeros = {"date": "'0000-00-00'", "datetime": "'0000-00-00 00:00:00'", "time": "'00:00:00'"}
    return zeros.get(kind, "0")

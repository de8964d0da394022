"""The source's schema as data, and what changed between two looks at it. Pure.

A snapshot has only what a load depends on, and every difference of two snapshots is a change: one
that no change names would be a new line in the history that says nothing.

Renames are not recorded by the server, so they are inferred, and the words say "seems":
- a column: one is gone and one is there, of the same type, at the same place between the columns
  that stayed;
- a table: one is gone and one is there, with the same key and at least four of five columns alike
  in name and type. Where two candidates are equally alike, none is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from etl_pipeline.catalog import Table
from etl_pipeline.exclusions import table_reason

# Share of columns that are alike in name and type.
_NEARLY = 0.8
# Columns that may be a change stamp, by the server's hand or by a person's word.
_STAMPS = ("timestamp", "datetime")

# Table → engine, columns, primary_key, indexed; JSON types.
Snapshot = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """One difference between two snapshots.

    Attributes:
        table: its name now, or the last it had.
        kind: what happened, e.g. `column_added`.
        column: None for a change of the table.
        before, after: the fact in question as it was and as it is; None where there was none.
        models: dbt models that read what changed, sorted; empty where no project is known.
        downstream: dbt models that are built on those.
    """

    table: str
    kind: str
    column: str | None = None
    before: str | None = None
    after: str | None = None
    models: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "text": self.text,
            "models": list(self.models),
            "downstream": list(self.downstream),
        }

    @property
    def text(self) -> str:
        """One line; what reads it in dbt stands behind it."""
        line = _TEXTS[self.kind].format(
            table=self.table, column=self.column, before=self.before, after=self.after
        )
        if not self.models:
            return line
        if self.column is None:
            return f"{line}; dbt: {', '.join(sorted({*self.models, *self.downstream}))}"
        more = f" and {len(self.downstream)} downstream" if self.downstream else ""
        return f"{line}; dbt: {', '.join(self.models)}{more}"


# In the order in which the changes of one table are told.
_TEXTS = {
    "table_added": "{table} is a new table of {after}",
    "table_dropped": "{table} is gone",
    "table_renamed": "{before} seems to be called {after} now",
    "engine_changed": "{table} changes its engine from {before} to {after}",
    "primary_key_changed": "{table} changes its primary key from {before} to {after}",
    "column_added": "{table} gains column {column} {after}",
    "column_dropped": "{table} loses column {column} {before}",
    "column_renamed": "{table} has a column {before} that seems to be called {after} now",
    "columns_reordered": "{table} has its columns in another order",
    "type_changed": "{table} changes column {column} from {before} to {after}",
    "nullability_changed": "{table} changes column {column} from {before} to {after}",
    "charset_changed": "{table} changes the charset of {column} from {before} to {after}",
    "stamp_gained": "{table} has a change stamp in {column} now",
    "stamp_lost": "{table} has no change stamp in {column} any more",
    "index_gained": "{table} gains an index on {column}",
    "index_lost": "{table} loses its index on {column}",
}
_ORDER = {kind: n for n, kind in enumerate(_TEXTS)}


def snapshot(tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """What is kept of `tables`, as the source describes them and before any override.

    Tables that a rule leaves out have no history: the vendor's reports make and drop theirs daily.
    """
    return {
        t.name: {
            "engine": t.facts.engine if t.facts else "",
            "columns": [
                {
                    "name": c.name,
                    "type": c.full_type,
                    "nullable": c.nullable,
                    # One thing with two names: a newer server says utf8mb3.
                    "charset": "utf8mb3" if c.charset == "utf8" else c.charset,
                    "auto_stamp": c.auto_stamp,
                }
                for c in t.columns
            ],
            "primary_key": list(t.primary_key),
            "indexed": sorted(
                c.name for c in t.columns if c.kind in _STAMPS and c.name in t.indexed
            ),
        }
        for t in tables
        if table_reason(t.name) is None
    }


def digest(found: Snapshot) -> str:
    """SHA-256 of a snapshot, in hex: equal digests, no change."""
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """Every difference, sorted by table, kind and column."""
    renamed = _renamed_tables(before, after)
    found = [Change(new, "table_renamed", None, old, new) for old, new in renamed.items()]
    new_names = set(renamed.values())
    for name in before.keys() - after.keys() - renamed.keys():
        found.append(Change(name, "table_dropped"))
    for name in after.keys() - before.keys() - new_names:
        size = len(after[name]["columns"])
        text = "1 column" if size == 1 else f"{size} columns"
        found.append(Change(name, "table_added", None, None, text))
    for old, table in before.items():
        name = renamed.get(old, old)
        if name in after:
            found += _of_table(name, table, after[name])
    return tuple(sorted(found, key=lambda c: (c.table, _ORDER[c.kind], c.column or "")))


def _renamed_tables(before: Snapshot, after: Snapshot) -> dict[str, str]:
    """Old name → new name, only where each is the other's one best candidate."""
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    likeness = {
        (old, name): share
        for old in gone
        for name in new
        if (share := _likeness(before[old], after[name])) >= _NEARLY
    }
    found = {}
    for (old, name), share in likeness.items():
        rivals = [s for (o, n), s in likeness.items() if (o == old) != (n == name)]
        if all(share > rival for rival in rivals):
            found[old] = name
    return found


def _likeness(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    left, right = ({(c["name"], c["type"]) for c in t["columns"]} for t in (old, new))
    # A lone number called id is like any other.
    if old["primary_key"] != new["primary_key"] or len(left & right) < 2:
        return 0.0
    return len(left & right) / max(len(left), len(right))


def _of_table(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if old["engine"] != new["engine"]:
        yield Change(name, "engine_changed", None, old["engine"], new["engine"])
    was = {c["name"]: c for c in old["columns"]}
    now = {c["name"]: c for c in new["columns"]}
    renamed = _renamed_columns(old["columns"], new["columns"])
    key = [renamed.get(c, c) for c in old["primary_key"]]
    if key != new["primary_key"]:
        keys = (f"({', '.join(t['primary_key'])})" for t in (old, new))
        yield Change(name, "primary_key_changed", None, *keys)
    for column in was.keys() - now.keys() - renamed.keys():
        yield Change(name, "column_dropped", column, was[column]["type"])
    for column in now.keys() - was.keys() - set(renamed.values()):
        yield Change(name, "column_added", column, None, now[column]["type"])
    for column, called in renamed.items():
        yield Change(name, "column_renamed", called, column, called)
    stayed = [renamed.get(c, c) for c in was if renamed.get(c, c) in now]
    if stayed != [c for c in now if c in set(stayed)]:
        yield Change(name, "columns_reordered")
    called = {renamed.get(c, c): was[c] for c in was}
    for column in stayed:
        yield from _of_column(name, called[column], now[column])
    indexed = {renamed.get(c, c) for c in old["indexed"]}
    for column in set(stayed) & (indexed ^ set(new["indexed"])):
        yield Change(name, "index_lost" if column in indexed else "index_gained", column)


def _renamed_columns(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Old name → new name of columns of one type at one place."""
    stayed = {c["name"] for c in old} & {c["name"] for c in new}
    places = {(place, c["type"]): c["name"] for place, c in _left_over(new, stayed)}
    return {
        c["name"]: places[place, c["type"]]
        for place, c in _left_over(old, stayed)
        if (place, c["type"]) in places
    }


def _left_over(
    columns: Sequence[Mapping[str, Any]], stayed: set[str]
) -> Iterator[tuple[tuple[str, int], Mapping[str, Any]]]:
    """Columns that have no namesake, with their place: behind which one that stayed, how far."""
    behind, distance = "", 0
    for column in columns:
        if column["name"] in stayed:
            behind, distance = column["name"], 0
        else:
            distance += 1
            yield (behind, distance), column


def _of_column(table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    change = Change(table, "", new["name"])
    if old["type"] != new["type"]:
        yield replace(change, kind="type_changed", before=old["type"], after=new["type"])
    if old["nullable"] != new["nullable"]:
        words = ("null", "not null") if old["nullable"] else ("not null", "null")
        yield replace(change, kind="nullability_changed", before=words[0], after=words[1])
    if old["charset"] != new["charset"]:
        yield replace(
            change,
            kind="charset_changed",
            before=old["charset"] or "none",
            after=new["charset"] or "none",
        )
    if old["auto_stamp"] != new["auto_stamp"]:
        yield replace(change, kind="stamp_gained" if new["auto_stamp"] else "stamp_lost")

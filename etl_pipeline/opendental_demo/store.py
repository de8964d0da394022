"""The practice's database in memory: rows by table and key, and what changed since a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opendental_demo.schema import tables

Row = dict[str, Any]


class Store:
    """Keys count up from 1 as AUTO_INCREMENT does; `now` (UTC) goes into the change stamps."""

    def __init__(self) -> None:
        self.now = datetime(2000, 1, 1)
        self.rows: dict[str, dict[int, Row]] = {name: {} for name in tables()}
        self._next = dict.fromkeys(tables(), 1)
        self.changed: dict[str, dict[int, str]] = {}
        self.forget_changes()

    def forget_changes(self) -> None:
        self.changed = {name: {} for name in tables()}

    def insert(self, table: str, **values: Any) -> int:  # noqa: ANN401
        """Add a row; returns its key."""
        schema = tables()[table]
        key = self._next[table]
        self._next[table] = key + 1
        values[schema.key] = key
        if schema.stamp:
            values[schema.stamp] = self.now
        self.rows[table][key] = values
        self.changed[table][key] = "insert"
        return key

    def update(self, table: str, key: int, **values: Any) -> None:  # noqa: ANN401
        """Change a row in place; a row that already is so keeps its stamp, as in MySQL."""
        row = self.rows[table][key]
        if all(row.get(column) == value for column, value in values.items()):
            return
        row.update(values)
        stamp = tables()[table].stamp
        if stamp:
            row[stamp] = self.now
        self.changed[table].setdefault(key, "update")

    def delete(self, table: str, key: int) -> None:
        """Remove a row for good."""
        del self.rows[table][key]
        if self.changed[table].get(key) == "insert":
            del self.changed[table][key]
        else:
            self.changed[table][key] = "delete"

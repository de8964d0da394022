"""Which dbt models read a table of the source: found in their SQL, without dbt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from etl_pipeline import commands
from etl_pipeline.plan import TablePlan
from etl_pipeline.schema import Change

_COMMENTS = re.compile(r"\{#.*?#\}|/\*.*?\*/|--[^\n]*", re.DOTALL)
_SOURCE = re.compile(r"""\bsource\(\s*['"]opendental['"]\s*,\s*['"]([^'"]+)['"]\s*\)""")
# `ref('model')`, `ref('package', 'model')`, `ref('model', v=2)`.
_REF = re.compile(r"""\bref\(\s*(?:['"][^'"]+['"]\s*,\s*)?['"]([^'"]+)['"][^)]*\)""")
# What no model can see: rows come in as before.
_UNSEEN = frozenset(
    [
        "table_added",
        "engine_changed",
        "columns_reordered",
        "charset_changed",
        "stamp_gained",
        "stamp_lost",
        "index_gained",
        "index_lost",
    ]
)


@dataclass(frozen=True)
class Lineage:
    """The models of one dbt project.

    Attributes:
        texts: model → SQL without comments.
        readers: table of the source → models that read it.
        children: model → models that refer to it.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    children: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Lineage:
        """Of the project that DBT_PROJECT_DIR names; without models where it names none."""
        folder = os.environ.get("DBT_PROJECT_DIR")
        return cls.read(Path(folder)) if folder else cls()

    @classmethod
    def read(cls, project: Path) -> Lineage:
        """Of the project in a folder. A file that cannot be read is no model."""
        texts = {}
        for path in sorted((project / "models").rglob("*.sql")):
            try:
                texts[path.stem] = _COMMENTS.sub(" ", path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError):
                continue
        return cls(
            texts,
            _inverted({model: _SOURCE.findall(text) for model, text in texts.items()}),
            _inverted({model: _REF.findall(text) for model, text in texts.items()}),
        )

    def readers_of(self, table: str, column: str | None) -> frozenset[str]:
        """The models that read a table of the source, or the column of it: by its name's word."""
        models = self.readers.get(table, frozenset())
        if column is None:
            return models
        word = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)")
        return frozenset(m for m in models if word.search(self.texts[m]))

    def explained(self, plan: TablePlan) -> TablePlan:
        """`plan` whose hint begins with the models that have to do without the column first."""
        models = sorted(self.readers_of(plan.table.name, plan.column)) if plan.column else []
        if not models:
            return plan
        build = commands.dbt(f"build --select {' '.join(f'{m}+' for m in models)}")
        out = f'take "{plan.column}" out of {", ".join(models)}, or put null in its place'
        first = f"{out}, and `{build}`, then "
        return replace(plan, hint=first + plan.hint)

    def touched(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """`changes` with the models that each one touches."""
        return tuple(self._touched(change) for change in changes)

    def _touched(self, change: Change) -> Change:
        renames = change.kind == "table_renamed"
        table = change.before if renames else change.table
        if change.kind in _UNSEEN or table is None:
            return change
        column = change.before if change.kind == "column_renamed" else change.column
        models = self.readers_of(table, column)
        return replace(
            change, models=tuple(sorted(models)), downstream=tuple(sorted(self._below(models)))
        )

    def _below(self, models: frozenset[str]) -> set[str]:
        found: set[str] = set()
        left = list(models)
        while left:
            for child in self.children.get(left.pop(), ()):
                if child not in found and child not in models:
                    found.add(child)
                    left.append(child)
        return found


def _inverted(names: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for model, read in names.items():
        for name in read:
            found.setdefault(name, set()).add(model)
    return {name: frozenset(models) for name, models in found.items()}

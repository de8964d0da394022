"""Which dbt models read a table of the source: found in their SQL, without dbt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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

    def touched(self, changes: Iterable[Change]) -> tuple[Change, ...]:
        """`changes` with the models that each one touches."""
        return tuple(self._touched(change) for change in changes)

    def _touched(self, change: Change) -> Change:
        renames = change.kind == "table_renamed"
        table = change.before if renames else change.table
        if change.kind in _UNSEEN or table is None:
            return change
        models = self.readers.get(table, frozenset())
        column = change.before if change.kind == "column_renamed" else change.column
        if column is not None:
            word = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)")
            models = frozenset(m for m in models if word.search(self.texts[m]))
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

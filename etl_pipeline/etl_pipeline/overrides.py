"""What a person has decided about tables: `overrides.yml`, read strictly.

A table whose entry is wrong is blocked, for it may say what must not be copied; the others go on.
Everything that is wrong is said at once. Only a table that the source lacks is no error: the schema
moves on, and a file that names a table of an older OpenDental must not fail the night.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from etl_pipeline.catalog import Table
from etl_pipeline.errors import PipelineError
from etl_pipeline.settings import OVERRIDES

STRATEGIES = ("full", "incremental", "buckets")
# Types that can be a change stamp by a person's word.
_STAMPS = ("timestamp", "datetime")
HINT = "the example in etl_pipeline/overrides.yml shows what can be said"


@dataclass(frozen=True)
class Override:
    """What one table's entry says.

    Attributes:
        exclude: why the table is not copied.
        columns: those that are left out of raw.
        strategy: how the table is read when it was written.
        stamp: the column that the application sets on every change.
        flags: tinyint columns that become boolean.
    """

    exclude: str | None = None
    columns: tuple[str, ...] = ()
    strategy: str | None = None
    stamp: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overrides:
    """The file as read; `problems` is what is wrong with an entry whatever the source has."""

    path: Path
    tables: Mapping[str, Override]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def unknown(self, tables: Sequence[Table]) -> tuple[str, ...]:
        """Tables of the file that the source lacks."""
        return tuple(sorted(self.tables.keys() - {t.name for t in tables}))

    def applied(self, tables: Sequence[Table]) -> tuple[Table, ...]:
        """`tables` as a person wants them; one whose entry is wrong carries the mistake."""
        return tuple(
            self._applied(table, self.tables[table.name]) if table.name in self.tables else table
            for table in tables
        )

    def _applied(self, table: Table, override: Override) -> Table:
        problems = (*self.problems.get(table.name, ()), *_conflicts(table, override))
        if problems:
            return replace(table, mistake=f"{self.path}: {table.name}: {'; '.join(problems)}")
        return _apply(table, override)


def read(path: Path) -> Overrides:
    """The file at `path`; the default one need not be there.

    Raises:
        PipelineError: it cannot be read, or is no YAML of tables.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe one
    except FileNotFoundError:
        if path == OVERRIDES:
            return Overrides(path, {})
        raise PipelineError(
            f"reading {path}: there is no such file", "ETL_OVERRIDES names it"
        ) from None
    except OSError as error:
        raise PipelineError(f"reading {path}: {error.strerror}", "ETL_OVERRIDES names it") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PipelineError(f"reading {path}{line}: {error.problem}", HINT) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PipelineError(f"reading {path}: it is no YAML in UTF-8", HINT) from None
    if document is None:
        return Overrides(path, {})
    if not isinstance(document, dict):
        raise PipelineError(f"reading {path}: it is no mapping of tables", HINT)
    tables, problems = {}, {}
    for name, entry in document.items():
        parser = _Entry()
        if not isinstance(name, str):
            raise PipelineError(f"reading {path}: {name}: a table's name has to be quoted", HINT)
        tables[name] = parser.parse(entry)
        if parser.problems:
            problems[name] = tuple(parser.problems)
    return Overrides(path, tables, problems)


class _Loader(yaml.SafeLoader):
    """Safe, and a key that stands there twice is an error: the last would win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} stands there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Entry:
    """Parses what the file says of one table, and remembers what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def parse(self, entry: object) -> Override:
        if not isinstance(entry, dict):
            self.problems.append("it is no mapping of keys")
            return Override()
        known = ("exclude", "columns", "strategy", "stamp", "flags")
        for key in entry:
            if key not in known:
                self.problems.append(f"{key}: no such key; there are {', '.join(known)}")
        strategy = self._text(entry, "strategy")
        if strategy is not None and strategy not in STRATEGIES:
            self.problems.append(f"strategy: {strategy} is none of {', '.join(STRATEGIES)}")
            strategy = None
        return Override(
            self._text(entry, "exclude"),
            self._columns(entry),
            strategy,
            self._text(entry, "stamp"),
            self._flags(entry),
        )

    def _text(self, entry: Mapping[Any, Any], key: str) -> str | None:
        if key not in entry:
            return None
        value = entry[key]
        if isinstance(value, str) and value.strip():
            return value
        self.problems.append(
            f"{key}: {'a reason' if key == 'exclude' else 'a name'} has to stand there"
        )
        return None

    def _columns(self, entry: Mapping[Any, Any]) -> tuple[str, ...]:
        value = entry.get("columns", {})
        if not isinstance(value, dict):
            self.problems.append("columns: has to be a mapping such as {Note: exclude}")
            return ()
        for name, what in value.items():
            if not isinstance(name, str):
                self.problems.append(f"columns: {name}: a column's name has to be quoted here")
            elif what != "exclude":
                self.problems.append(f"columns: {name}: can only be exclude")
        return tuple(name for name in value if isinstance(name, str))

    def _flags(self, entry: Mapping[Any, Any]) -> tuple[str, ...]:
        value = entry.get("flags", [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self.problems.append("flags: has to be a list of columns such as [IsHidden]")
            return ()
        return tuple(value)


def _conflicts(table: Table, override: Override) -> Iterator[str]:
    """What of an entry the table cannot have, or the entry says against itself."""
    kinds = {c.name: c.kind for c in table.columns}
    named = {"columns": override.columns, "flags": override.flags}
    if override.stamp is not None:
        named["stamp"] = (override.stamp,)
    for key, columns in named.items():
        for column in columns:
            if column not in kinds:
                yield f"{key}: {column}: no such column, or a rule leaves it out"
            elif key != "columns" and column in override.columns:
                yield f"{key}: {column}: columns leaves it out"
            elif key != "stamp" and column in table.primary_key:
                yield f"{key}: {column}: it is part of the primary key"
            elif key == "stamp" and kinds[column] not in _STAMPS:
                yield f"stamp: {column}: is {kinds[column]}, not timestamp or datetime"
            elif key == "flags" and kinds[column] != "tinyint":
                yield f"flags: {column}: is {kinds[column]}, not tinyint"
    if override.exclude is not None:
        for key, said in {**named, "strategy": override.strategy}.items():
            if said:
                yield f"{key}: exclude leaves the whole table out"
    elif override.stamp is not None and override.strategy in ("full", "buckets"):
        yield f"stamp: strategy {override.strategy} reads no stamp"
    kept = tuple(c for c in table.columns if c.name not in override.columns)
    if override.strategy == "incremental" and override.stamp is None:
        if replace(table, columns=kept).stamp is None:
            yield "strategy: incremental needs a change stamp; stamp can name one"
    elif override.strategy == "buckets" and table.counted_key is None:
        yield "strategy: buckets needs a primary key of one whole number"


def _apply(table: Table, override: Override) -> Table:
    return replace(
        table,
        columns=tuple(
            replace(c, flag=True) if c.name in override.flags else c
            for c in table.columns
            if c.name not in override.columns
        ),
        excluded=override.exclude,
        left_out=frozenset(override.columns),
        strategy=override.strategy,
        vouched=override.stamp,
    )

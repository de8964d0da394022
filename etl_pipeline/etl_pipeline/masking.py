"""Which values may be shown in a log or a report: those that say nothing of a person.

Whole numbers that are codes, flags or references, and the server's own change stamps. Everything
else is shown by its kind: a birth date, an amount, a note and a name are the practice's.
"""

from __future__ import annotations

from etl_pipeline.types import INTEGERS, TEXTS, Column

# `…Num` is OpenDental's name for a key or a reference to one.
_REFERENCE = "Num"
_SMALL = ("tinyint", "smallint")


def may_show(column: Column) -> bool:
    """Whether the values of `column` are shown as they are."""
    if column.kind in _SMALL or column.auto_stamp:
        return True
    return column.kind in INTEGERS and column.name.endswith(_REFERENCE)


def shown(column: Column, value: object) -> str:
    """A value for a person who looks for the cause: as it is, or what kind of value it is."""
    if value is None:
        return "NULL"
    if may_show(column):
        return str(value)
    if column.kind in TEXTS:
        size = len(str(value))
        return f"text of {size} characters" if size else "empty text"
    return f"a {column.kind}"

"""MariaDB/MySQL types: the Postgres type of a column and the SQL that renders it as a CSV field.

The source server renders each row as one CSV line, so that this process only forwards bytes. The
fields follow Postgres' COPY csv rules: SQL NULL is an empty unquoted field, '' is two quotes.
The quote is the control character 0x01 and not `"`: a quote inside a text must be doubled, and
MariaDB's REPLACE moves the rest of the text for each match (an 800 KB text full of `"`: 60 s).
A line is put together as bytes, never as characters: between texts of utf8mb3 and utf8mb4 the
server would convert each one (twice the CPU seconds of a plain dump, for a table of long texts).

Rules that are decided here and nowhere else:
- zero dates, partial dates and every value of the day 0001-01-01 ("no date") become NULL;
- a tinyint stays a number: enumerations are tinyint too, data cannot tell them from booleans,
  but a person can (`flags` in overrides.yml);
- FLOAT is widened to double first, for the text protocol prints only six of its digits;
- TIME may be negative or above 24 h, so it becomes an interval;
- NUL characters are removed and bytes that are no UTF-8 become U+FFFD (`source.py`): Postgres'
  text can hold neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from etl_pipeline.errors import PipelineError

QUOTE = "\x01"

INTEGERS = {
    # name: (signed, unsigned)
    "tinyint": ("smallint", "smallint"),
    "smallint": ("smallint", "integer"),
    "mediumint": ("integer", "integer"),
    "int": ("integer", "bigint"),
    "bigint": ("bigint", "numeric(20,0)"),
}
TEXTS = frozenset(
    [
        "char",
        "varchar",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "enum",
        "set",
        "uuid",
        "inet6",
    ]
)
BYTES = frozenset(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"])
# Character sets whose bytes are UTF-8 already.
_UTF8 = frozenset(["utf8mb4", "utf8mb3", "utf8", "ascii"])
_PLAIN = {
    "float": "real",
    "double": "double precision",
    "date": "date",
    "datetime": "timestamp without time zone",
    "timestamp": "timestamp with time zone",
    "time": "interval",
    "year": "smallint",
    "bit": "bytea",
    "json": "jsonb",
}


@dataclass(frozen=True)
class Column:
    """One column of the source as information_schema describes it.

    Attributes:
        kind: DATA_TYPE, lowercase, e.g. `bigint`.
        full_type: COLUMN_TYPE, e.g. `bigint(20) unsigned`.
        precision: digits of a decimal, bits of a bit.
        auto_stamp: maintained by the server on every update.
        charset: CHARACTER_SET_NAME; None for what is no text.
        flag: a tinyint that a person knows to be 0, 1 or NULL; another value fails the COPY.
    """

    name: str
    kind: str
    full_type: str
    precision: int | None = None
    scale: int | None = None
    auto_stamp: bool = False
    nullable: bool = True
    charset: str | None = None
    flag: bool = False

    @property
    def unsigned(self) -> bool:
        return "unsigned" in self.full_type


def postgres_type(table: str, column: Column) -> str:
    """The Postgres type of `column`, spelled as Postgres itself spells it (`format_type`).

    Raises:
        PipelineError: for a type that nobody has decided about (geometry, …).
    """
    if column.flag:
        return "boolean"
    if column.kind in INTEGERS:
        return INTEGERS[column.kind][column.unsigned]
    if column.kind == "decimal":
        return f"numeric({column.precision},{column.scale})"
    if column.kind in TEXTS:
        return "text"
    if column.kind in BYTES:
        return "bytea"
    if column.kind in _PLAIN:
        return _PLAIN[column.kind]
    raise PipelineError(
        f'mapping table {table}: column "{column.name}" has type {column.kind}, which is unknown',
        "add the type to etl_pipeline/types.py or the column to etl_pipeline/exclusions.py",
    )


def quoted(name: str) -> str:
    """A name as a MariaDB identifier."""
    return "`" + name.replace("`", "``") + "`"


def is_real_day(column: Column, strict_days: bool) -> str:
    """SQL (source dialect) that is true for a date that raw keeps; see the rules above."""
    name = quoted(column.name)
    # 366 is 0001-01-01.
    real = f"TO_DAYS({name}) > 366"
    if column.kind != "timestamp" and not strict_days:
        real += f" AND MONTH({name}) > 0 AND DAYOFMONTH({name}) > 0"
    return real


def text_as_utf8(column: Column) -> str:
    """SQL (source dialect) for a text whose bytes are UTF-8."""
    name = quoted(column.name)
    return name if column.charset in _UTF8 else f"CONVERT({name} USING utf8mb4)"


def csv_field(column: Column, *, strict_days: bool = False) -> str:
    """SQL (source dialect, sql_mode='') for one CSV field; never SQL NULL.

    `IF(c IS NULL, …)` and not `IFNULL(f(c), …)`: a function whose result exceeds
    max_allowed_packet yields NULL, which must break the row and not turn into an empty field.

    Args:
        strict_days: TO_DAYS of this server knows no day of a partial date.
    """
    name = quoted(column.name)
    kind = column.kind
    if kind in ("date", "datetime", "timestamp"):
        return f"IF({is_real_day(column, strict_days)}, {name}, '')"
    if kind in ("float", "year"):
        return _or_empty(column, f"{name} + 0{'e0' if kind == 'float' else ''}")
    if kind in INTEGERS or kind in ("decimal", "double", "time"):
        return _or_empty(column, name)
    if kind == "bit":
        digits = 2 * -(-(column.precision or 1) // 8)
        field = f"CONCAT(X'5C78', LPAD(HEX({name} + 0), {digits}, '0'))"
    elif kind in BYTES:
        field = f"CONCAT(X'5C78', HEX({name}))"
    else:
        text = text_as_utf8(column)
        field = f"CONCAT(X'01', REPLACE(CAST({text} AS BINARY), X'01', X'0101'), X'01')"
    return f"IF({name} IS NULL, '', {field})" if column.nullable else field


def csv_row(columns: tuple[Column, ...], *, strict_days: bool = False) -> str:
    """SQL for one whole CSV line, as bytes."""
    fields = ", ".join(csv_field(c, strict_days=strict_days) for c in columns)
    return f"CAST(CONCAT_WS(',', {fields}) AS BINARY)"


def _or_empty(column: Column, value: str) -> str:
    return f"IFNULL({value}, '')" if column.nullable else value

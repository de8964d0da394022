"""What is never copied, as rules. Versioned here and nowhere else.

Rules, not a list of tables: a practice's database has 446 tables and changes with each release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """`table` and `column` are whole-name, case-insensitive patterns; no column = whole table."""

    table: str
    reason: str
    column: str | None = None


RULES = (
    # Left behind by conversions of the vendor; most lack a key and hold stale patient data.
    Rule(r"tmp.*", "conversion leftover"),
    Rule(r"temp.*", "conversion leftover"),
    Rule(r".*bak.*", "conversion leftover"),
    # Configuration that holds tokens and passwords.
    Rule(r"preference", "holds secrets"),
    Rule(r"programproperty", "holds secrets"),
    Rule(r"securityloghash", "integrity hashes, no analytic value"),
    Rule(r"demo_marker", "bookkeeping of the demo source"),
    Rule(r"userod", "secret", r"MobileWebPin|EClipboardClinicalPin|BadgeId"),
    Rule(r".*", "secret", r".*(Password|Passw|PasswordHash|Token|ApiKey|SecretKey|ClientSecret)"),
    Rule(r".*", "signature", r".*Signature"),
    Rule(r".*", "integrity hash, no analytic value", r"SecurityHash|ChartLetterHash"),
)


def table_reason(table: str) -> str | None:
    """Why the whole table is left out, or None."""
    return next(
        (r.reason for r in RULES if r.column is None and _matches(r.table, table)),
        None,
    )


def column_reason(table: str, column: str) -> str | None:
    """Why one column is left out, or None."""
    return next(
        (
            r.reason
            for r in RULES
            if r.column is not None and _matches(r.table, table) and _matches(r.column, column)
        ),
        None,
    )


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern, name, re.IGNORECASE) is not None

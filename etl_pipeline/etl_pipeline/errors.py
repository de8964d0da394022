"""Errors that a person can act on: what was being done, then a hint that mends it.

Nothing here repeats a value of a row. Database drivers put values into their messages
(`invalid input syntax for type date: "…"`), so only codes, columns and line numbers are taken over.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import psycopg2
import psycopg2.errorcodes
import pymysql

P = ParamSpec("P")
R = TypeVar("R")


class PipelineError(Exception):
    """A failure with the sentence that explains it and, where known, the way out.

    Args:
        message: lowercase fragment: what was being done, to what, and what happened.
        hint: the command or setting that mends it; empty when nobody knows one.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class SettingsError(PipelineError):
    """The environment lacks a variable or holds a malformed one (all of them are named)."""


class ConnectionFailed(PipelineError):
    """A database could not be reached or refused us."""


class Refused(ConnectionFailed):
    """A server's answer that another try does not change: it knows no such account or database."""


class Busy(PipelineError):
    """Another run holds the lock."""


class WindowClosed(PipelineError):
    """The hours in which the source may be read were over."""


# MariaDB/MySQL error number → (what it means, hint). Numbers: mariadb.com/kb "MariaDB Error Codes".
_SOURCE_ERRORS = {
    1054: ("a column vanished while it was being read", "run again: the schema is read anew"),
    1142: ("the account may not read it", "grant select on it to the account"),
    1143: ("the account may not read one of its columns", "grant select on it to the account"),
    1146: ("the table vanished", "run again: the list of tables is read anew"),
    1194: ("the table is marked as crashed", "ask the practice to repair it in OpenDental"),
    1195: ("the table is marked as crashed", "ask the practice to repair it in OpenDental"),
    1205: ("waiting for a lock took too long", "run when the practice is closed"),
    1969: (
        "the server's limit for the time of a statement was reached",
        "raise max_statement_time",
    ),
    2006: ("the source server closed the connection", "see whether it was restarted, run again"),
    2013: ("the connection to the source was lost", "see the network or VPN, then run again"),
}


def describe(error: BaseException) -> PipelineError:
    """Any exception as a `PipelineError` that is safe to log and to store."""
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, pymysql.MySQLError):
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        meaning, hint = _SOURCE_ERRORS.get(code, ("the source reported an error", ""))
        return PipelineError(f"{meaning} (source error {code})", hint)
    if isinstance(error, psycopg2.Error):
        return PipelineError(*_describe_analytics(error))
    return PipelineError(f"unexpected {type(error).__name__}{_place(error)}")


def described(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose failures are all `PipelineError`s, whatever a driver raises inside."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (psycopg2.Error, pymysql.MySQLError, OSError) as error:
            raise describe(error) from None

    return call


def _place(error: BaseException) -> str:
    """The line that raised: a file's name and a number, the only safe words of a stranger."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _describe_analytics(error: psycopg2.Error) -> tuple[str, str]:
    if error.pgcode is None:
        return (
            "the connection to the analytics database was lost",
            "see whether it was restarted, then run again",
        )
    try:
        name = psycopg2.errorcodes.lookup(error.pgcode).lower()
    except KeyError:
        name = "error"
    # The context of COPY reads: COPY stage, line 3, column Note: "<value>". Stop before the value.
    place = re.search(r"line (\d+), column ([^:\s]+)", error.diag.context or "")
    where = f' in column "{place.group(2)}", row {place.group(1)} as read' if place else ""
    hints = {
        "42501": "grant the account what it needs on schemas raw and etl",
        "53100": "free disk space on the analytics server",
        "57014": "the statement was cancelled; run again",
    }
    return (
        f"the analytics database reported {name} ({error.pgcode}){where}",
        hints.get(error.pgcode, ""),
    )

"""What dbt says, made fit for logs: which node failed and why, and never a value of a row. Pure.

PostgreSQL names columns and constraints in its messages, but quotes values there too, and puts
whole rows behind DETAIL; both may span lines and hold quotes of their own. So of an error of the
database the message alone is kept, and what stands between quotes only in messages that quote
nothing but names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

FAILURES_SHOWN = 8

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# dbt stamps the first line of each message; lines without a stamp go on with the one before.
_STAMPED = re.compile(r"^\d\d:\d\d:\d\d(\s|$)")
_DATABASE_ERROR = re.compile(r"\bDatabase Error( in \w+ \S+ \(.*\))?$")
_HEADING = re.compile(r"^\w+ Error( in .*)?$")
_ROW_VALUE_LINES = re.compile(r"^\s*(DETAIL|CONTEXT|LINE \d+|HINT)\s*:", re.IGNORECASE)
_MEANT = re.compile(r'^\s*HINT:\s+P(erhaps you meant to reference the [\w "().]+)\.$')
_HOOK_FAILED = re.compile(r"(on-run-(?:start|end)) failed, error:$")
_COMPILED = re.compile(r"^\s*compiled Code at \S+$")
_SUSPECT = re.compile(
    r"invalid|malformed|out of range|not recognized|not a number|\bvalue\b", re.IGNORECASE
)
_ONLY_NAMES = re.compile(
    r"(does not exist|already exists|is ambiguous|is not unique|specified more than once"
    r'|syntax error at or near "[^"]*"|missing FROM-clause entry for table "[^"]*"'
    r'|violates (not-null|[\w ]+) constraint( "[^"]*")?|cannot be matched)$'
    r"|^(permission denied for|must be owner of|cannot drop|connection to server at) "
    r"|must appear in the GROUP BY clause"
)
_QUOTED = re.compile(r'".*"|".*$')  # greedy: a value may hold quotes


class Scrubber:
    """Lines of one run of dbt, one after the other; remembers what the last line began."""

    def __init__(self) -> None:
        self._message_next = False
        self._withhold = False

    def __call__(self, line: str) -> str | None:
        """The line as a log may have it; `None` where it may carry values of rows."""
        line = _ANSI.sub("", line.rstrip())
        if _STAMPED.match(line):
            self._message_next = self._withhold = False
        if self._message_next:
            self._message_next, self._withhold = False, True
            return _message(line)
        if _ROW_VALUE_LINES.match(line):
            self._withhold = True
            return line if _MEANT.match(line) else None
        if self._withhold:
            return line if _COMPILED.match(line) else None
        if _DATABASE_ERROR.search(line):
            self._message_next = True
        elif _SUSPECT.search(line) and '"' in line:
            self._withhold = True  # the value may go on in the next line
            return _QUOTED.sub('"…"', line)
        return line


@dataclass(frozen=True)
class Failure:
    """A node that failed.

    Attributes:
        unique_id: dbt's.
        text: kind, name, column, file, and what dbt or the database said, on one line.
        select: what `dbt build --select` takes to build it again with all that stands on it, the
            models of a test that is about several.
    """

    unique_id: str
    text: str
    select: tuple[str, ...]


def failure(result: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> Failure:
    """One failed entry of run_results.json; `manifest` is manifest.json of the same run."""
    unique_id = str(result["unique_id"])
    kind, *parts = unique_id.split(".")
    node = (manifest or {}).get("nodes", {}).get(unique_id, {})
    name = node.get("name") or (parts[1] if len(parts) > 1 else unique_id)
    tested = _tested(node)
    on = " and ".join(_short(one) for one in tested)
    if column := node.get("column_name"):
        on = f"{on}.{column}"
    text = f"{kind} {name}"
    if kind == "test" and on:
        text += f" on {on}"
    if path := node.get("original_file_path"):
        text += f" ({path})"
    built = [_selector(one) for one in tested] if kind == "test" and tested else [name]
    return Failure(unique_id, f"{text}: {_reason(result)}", tuple(f"{one}+" for one in built))


def cause(lines: Sequence[str]) -> str:
    """Why dbt failed though no node did, from its scrubbed output: before the first node, or when
    it published what they had made; empty where it does not say.
    """
    for line, words in pairwise(lines):
        if hook := _HOOK_FAILED.search(line):
            return f"{hook[1]} failed: {words.strip()}"
    found = [n for n, line in enumerate(lines) if line.endswith("Encountered an error:")]
    if not found:
        return ""
    told: list[str] = []
    for line in lines[found[-1] + 1 : found[-1] + 3]:
        if _STAMPED.match(line):
            break
        told.append(line.strip())
    return ": ".join(told)


def _message(line: str) -> str:
    return line if _ONLY_NAMES.search(line.strip()) else _QUOTED.sub('"…"', line)


def _reason(result: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in str(result.get("message") or "").splitlines()]
    if lines and _HEADING.match(lines[0]):
        del lines[0]
    if not lines:
        return str(result["status"])
    meant = next((f"; p{found[1]}" for line in lines if (found := _MEANT.match(line))), "")
    said = _message(lines[0])
    return f"{said[:1].lower()}{said[1:]}{meant}"


def _tested(node: Mapping[str, Any]) -> list[str]:
    """The unique ids of what a test looks at: a column's model, or all models that a query of its
    own reads, sources only where it reads nothing else; empty where the manifest does not tell.
    """
    if attached := node.get("attached_node"):
        return [attached]
    parents: list[str] = node.get("depends_on", {}).get("nodes") or []
    return [one for one in parents if one.startswith("model.")] or parents[:1]


def _short(unique_id: str) -> str:
    return ".".join(unique_id.split(".")[2:])


def _selector(unique_id: str) -> str:
    source = "source:" if unique_id.startswith("source.") else ""
    return source + _short(unique_id)

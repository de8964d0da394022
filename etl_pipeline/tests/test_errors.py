"""Every error that the package can raise: a fragment of a sentence, and a way out of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from scratch import ROOT

from etl_pipeline import errors

PACKAGE = ROOT / "etl_pipeline"
NAMES = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
}


def words(node: ast.expr | None) -> str | None:
    """A text as far as it is written down; None where it comes from elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (words(part) for part in node.values)
        return "".join("…" if part is None else part for part in parts)
    if isinstance(node, ast.BinOp):
        return f"{words(node.left) or '…'}{words(node.right) or '…'}"
    return None


def raised() -> Iterator[tuple[str, str | None, str | None]]:
    """Where, the message, the hint."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id in NAMES and node.args:
                where = f"{path.name}:{node.lineno}"
                if isinstance(node.args[0], ast.Starred):
                    continue
                hint = node.args[1] if len(node.args) > 1 else None
                if hint is not None and words(hint) is None:
                    yield where, words(node.args[0]), "…"
                else:
                    yield where, words(node.args[0]), words(hint)


ALL = list(raised())


def test_there_are_many() -> None:
    assert {"PipelineError", "SettingsError", "ConnectionFailed", "Busy"} <= NAMES
    assert len(ALL) > 30


@pytest.mark.parametrize(("where", "message", "hint"), ALL, ids=[where for where, *_ in ALL])
def test_it_is_a_fragment_with_a_way_out(where: str, message: str | None, hint: str | None) -> None:
    if message is not None:
        assert not message[0].isupper() or message.split()[0].isupper(), message
        assert not message.endswith((".", "!")), message
        assert "\n" not in message, message
    # What nobody foresaw has none: errors.py describes it by its name and place alone.
    assert hint or where.startswith("errors.py"), f"{where}: {message}"

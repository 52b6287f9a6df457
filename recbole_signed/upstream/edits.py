"""Changes of a piece of source text by the places that its syntax tree gives, so that comments and layout survive."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from recbole_signed.errors import UsageError
from recbole_signed.upstream.modules import SourceModule
from recbole_signed.upstream.python38 import strict_zips
from recbole_signed.upstream.scopes import global_names

Edit = tuple[int, int, bytes]
"""Offset of the first byte, of the first one after, and what comes between."""


def apply(module: SourceModule, start: int, end: int, edits: Iterable[Edit]) -> str:
    """Return the text from ``start`` to ``end`` with the edits made; one inside another is passed over."""
    pieces, at = [], start
    for first, last, text in sorted(edits, key=lambda each: (each[0], -each[1])):
        if first >= at and last <= end:
            pieces += [module.source[at:first], text]
            at = last
    return b"".join([*pieces, module.source[at:end]]).decode()


def renamed(module: SourceModule, node: ast.AST, new_name: Callable[[str], str]) -> list[Edit]:
    """Return the edits that give the names of the module in ``node`` other names."""
    edits = []
    for name in global_names(node):
        new = new_name(name.id)
        if new != name.id:
            start, end = module.span(name)
            if module.source[start:end] != name.id.encode():  # places inside f-strings are wrong before Python 3.12
                raise UsageError(
                    f"{module.path}:{name.lineno} uses '{name.id}' inside an f-string, where it can't be renamed; give "
                    "it to a variable first."
                )
            edits.append((start, end, new.encode()))
    return edits


def renamed_definition(module: SourceModule, statement: ast.stmt, new: str) -> list[Edit]:
    """Return the edit that gives a function or class another name; an assignment's targets are names like others."""
    if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)) or statement.name == new:
        return []
    start, _ = module.span(statement)
    match = re.compile(rb"(?:def|class)\s+(\w+)").search(module.source, start)
    assert match is not None
    return [(match.start(1), match.end(1), new.encode())]


def without_hints(module: SourceModule, node: ast.AST, fields: Callable[[ast.AnnAssign], str] | None) -> list[Edit]:
    """Return the edits that take out hints of types, which RecBole's models do not have.

    Args:
        module: where the node is.
        node: a statement.
        fields: what the hint of a dataclass' field becomes, which can't be left out; None in other classes.
    """
    edits: list[Edit] = []
    kept = set(node.body) if fields is not None and isinstance(node, ast.ClassDef) else set()
    for each in ast.walk(node):
        if isinstance(each, ast.arg) and each.annotation is not None:
            start, _ = module.span(each)
            edits.append((start + len(each.arg.encode()), module.span(each.annotation)[1], b""))
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.returns is not None:
            start, end = module.span(each.returns)
            edits.append((module.source.rindex(b"->", 0, start), end, b""))
        elif isinstance(each, ast.AnnAssign):
            if each in kept:
                assert fields is not None
                edits.append((*module.span(each.annotation), fields(each).encode()))
            elif each.value is None:
                edits.append((*module.span(each), b"pass"))
            else:
                edits.append((module.span(each.target)[1], module.span(each.value)[0], b" = "))
    return edits


def for_python38(module: SourceModule, node: ast.AST) -> list[Edit]:
    """Return the edits that take out what Python 3.8 does not have and does not need."""
    return [(module.span(before)[1], module.span(keyword.value)[1], b"") for before, keyword in strict_zips(node)]


def removed(module: SourceModule, statement: ast.stmt) -> Edit:
    """Return the edit that takes out the lines of a statement."""
    return (*module.lines_of(statement), b"")


_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")
_FILE = re.compile(r"\s*\(``(?:graph|model|data)/\w+\.py``\)|``(?:graph|model|data)/(\w+)\.py``")


def plain_docstrings(text: str) -> str:
    """Return code whose docstrings do not refer to modules of this package any more."""
    text = _ROLE.sub(lambda match: f"``{match[1].rpartition('.')[2]}``", text)
    text = text.replace("UsageError:", "ValueError:")
    return _FILE.sub(lambda match: f"``{match[1]}``" if match[1] else "", text)

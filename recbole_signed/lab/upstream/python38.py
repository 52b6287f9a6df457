"""Python 3.8, on which RecBole is tested: what is rewritten for it, and what is refused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from recbole_signed.errors import MissingExtraError, UsageError

OLDEST = (3, 8)

BACKPORTS: dict[tuple[str, str | None], tuple[str, str]] = {
    ("itertools", "pairwise"): (
        "",
        'def {name}(values):\n    """Return the pairs of neighbours."""\n    values = list(values)\n'
        "    return zip(values, values[1:])\n",
    ),
    ("functools", "cache"): ("from functools import lru_cache", "{name} = lru_cache(maxsize=None)\n"),
}
"""(module, name) of what came after 3.8: an import and code that stand for it."""


def formatted(text: str) -> str:
    """Return the code as black formats it with its defaults, which are RecBole's."""
    try:
        import black
    except ImportError as error:
        raise MissingExtraError("Formatting an exported model", "upstream") from error
    mode = black.Mode(target_versions={black.TargetVersion.PY38})
    try:
        return black.format_str(text, mode=mode)
    except black.InvalidInput as error:
        raise UsageError(f"the exported code is not Python 3.8: {error}.") from error


def check(text: str, name: str) -> None:
    """Make sure that Python 3.8 reads and runs a file, as far as its text tells."""
    try:
        import vermin
    except ImportError as error:
        raise MissingExtraError("Checking an exported model", "upstream") from error
    try:
        tree = ast.parse(text, feature_version=OLDEST)
    except SyntaxError as error:
        raise _too_new(text, name, error.lineno or 1, error.msg) from error
    for line, what in _newer(tree):
        raise _too_new(text, name, line, what)
    config = vermin.Config()
    config.set_verbose(3)  # with lines
    config.set_eval_annotations(True)  # there are none: it finds list[int] at run time
    visitor = vermin.visit(text, config)
    for line, features in sorted(_by_line(visitor.output_text()).items()):
        for needed, feature in features:
            if needed > OLDEST:
                raise _too_new(text, name, line, f"{feature.rstrip(':')} needs {needed[0]}.{needed[1]}")
    needed = visitor.minimum_versions()[1]
    if needed is None or needed[:2] > OLDEST:  # without a line: should not happen
        raise UsageError(f"{name} needs Python {'.'.join(map(str, needed or ()))}, but RecBole runs on 3.8.")


_TYPES = frozenset({"list", "dict", "tuple", "set", "frozenset", "type", "int", "float", "str", "bool", "bytes"})
_METHODS = frozenset({"removeprefix", "removesuffix", "bit_count"})  # new methods of old types


def _newer(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and words of what vermin does not know: unions of types at run time, methods of what has no type."""
    types = _TYPES | {each.name for each in tree.body if isinstance(each, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            for side in (node.left, node.right):
                if getattr(side, "id", "") in types or (isinstance(side, ast.Constant) and side.value is None):
                    yield node.lineno, "a union of types at run time needs 3.10"
        elif isinstance(node, ast.Attribute) and node.attr in _METHODS:
            yield node.lineno, f"the method {node.attr} is newer"


def _by_line(report: str) -> dict[int, list[tuple[tuple[int, int], str]]]:
    """Read vermin's report, ``L7: 'x' member requires 2.7, 3.10``, as line -> [(Python 3 version, feature)]."""
    found: dict[int, list[tuple[tuple[int, int], str]]] = {}
    for line in report.splitlines():
        match = re.search(r"L(\d+)[^:]*:\s*(.*?) requires? .*?(3)\.(\d+)\s*$", line)
        if match:
            found.setdefault(int(match[1]), []).append(((3, int(match[4])), match[2]))
    return found


def _too_new(text: str, name: str, line: int, what: str) -> UsageError:
    lines = text.splitlines()
    code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return UsageError(f"line {line} of {name}, '{code}', is not Python 3.8, which RecBole needs: {what}.")

"""Python 3.8, on which RecBole is tested: what is rewritten for it, and what is refused."""

from __future__ import annotations

import ast
import io
import re
import tokenize

from recbole_signed.errors import MissingExtraError, UsageError

OLDEST = (3, 8)

BACKPORTS: dict[tuple[str, str], tuple[str, str]] = {
    ("itertools", "pairwise"): (
        "",
        'def {name}(values):\n    """Return the pairs of neighbours."""\n    values = list(values)\n'
        "    return zip(values, values[1:])\n",
    ),
    ("functools", "cache"): ("from functools import lru_cache", "{name} = lru_cache(maxsize=None)\n"),
}
"""(module, name) of what came after 3.8: an import and code that stand for it."""

_MARKS = re.compile(r"#\s*(type:\s*ignore|noqa|fmt:)")


def without_marks(text: str) -> str:
    """Return Python code without the comments that are meant for this package's own checks."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and _MARKS.match(token.string):
            row, column = token.start
            reason = token.string.split("#", 2)[2:]  # "# type: ignore  # why" keeps the why
            kept = f"  #{reason[0]}" if reason else ""
            lines[row - 1] = lines[row - 1][:column].rstrip() + kept + "\n"
    return "".join(lines)


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
    finder = _RunTime(tree)
    finder.visit(tree)
    for line, what in finder.found:
        raise _too_new(text, name, line, what)
    config = vermin.Config()
    config.set_verbose(3)  # with lines
    visitor = vermin.visit(text, config)
    for line, features in sorted(_by_line(visitor.output_text()).items()):
        for needed, feature in features:
            if needed > OLDEST:
                raise _too_new(text, name, line, f"{feature.rstrip(':')} needs {needed[0]}.{needed[1]}")
    needed = visitor.minimum_versions()[1]
    if needed is None or needed[:2] > OLDEST:  # without a line: should not happen
        raise UsageError(f"{name} needs Python {'.'.join(map(str, needed or ()))}, but RecBole runs on 3.8.")


_GENERIC = frozenset({"list", "dict", "tuple", "set", "frozenset", "type"})
_METHODS = frozenset({"removeprefix", "removesuffix", "bit_count"})  # new methods of old types, which vermin may miss


class _RunTime(ast.NodeVisitor):
    """Finds types that are combined at run time, where vermin looks at hints alone: ``list[int]``, ``int | None``."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str]] = []
        self.types = {each.name for each in tree.body if isinstance(each, ast.ClassDef)}
        self.types |= {*_GENERIC, "int", "float", "str", "bool", "bytes"}
        self.generic = set(_GENERIC)
        for each in tree.body:
            if isinstance(each, ast.ImportFrom) and each.module == "collections.abc":
                self.generic |= {alias.asname or alias.name for alias in each.names}

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in [*node.defaults, *(each for each in node.kw_defaults if each is not None)]:
            self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for each in [*node.decorator_list, node.args, *node.body]:
            self.visit(each)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.generic:
            self.found.append((node.lineno, f"{node.value.id}[...] at run time needs 3.9"))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.BitOr) and (self._is_type(node.left) or self._is_type(node.right)):
            self.found.append((node.lineno, "a union of types at run time needs 3.10"))
        self.generic_visit(node)

    def _is_type(self, node: ast.expr) -> bool:
        return (isinstance(node, ast.Name) and node.id in self.types) or (
            isinstance(node, ast.Constant) and node.value is None
        )

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _METHODS:
            self.found.append((node.lineno, f"the method {node.attr} is newer"))
        self.generic_visit(node)


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

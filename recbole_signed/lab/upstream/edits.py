"""Changes of a piece of source text on its concrete syntax tree, so that comments and layout survive."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from recbole_signed.errors import MissingExtraError

try:
    import libcst as cst
    from libcst.metadata import BuiltinScope, GlobalScope, MetadataWrapper, ScopeProvider
except ImportError as error:
    raise MissingExtraError("Exporting a model", "upstream") from error

if TYPE_CHECKING:
    from libcst.metadata import Scope


@lru_cache(maxsize=4096)
def global_names(text: str) -> frozenset[str]:
    """Return the names in a piece of code that are looked up (or bound) in its module; hints of types aside."""
    finder = _Names()
    MetadataWrapper(cst.parse_module(text)).visit(finder)
    return frozenset(finder.found)


def changed(text: str, names: Mapping[str, str], new: str = "", field_hint: Callable[[str], str] | None = None) -> str:
    """Return a statement as it is exported: without hints of types, for Python 3.8, with other names.

    Args:
        text: the statement, with comments above and below it; it may be indented.
        names: what the names of its module are called in the exported file.
        new: the name of the function or class itself; unchanged if empty.
        field_hint: what the hint of a dataclass' field becomes, which can't be left out; None in other classes.
    """
    plain = textwrap.dedent(text)
    indent = " " * (len(text) - len(text.lstrip()) if plain != text else 0)
    tree = MetadataWrapper(cst.parse_module(plain)).visit(_Changes(names, new, field_hint))
    return textwrap.indent(tree.code, indent)


def _is_global(scope: Scope | None, name: str) -> bool:
    """Whether a name means something of its module; attributes and keywords have no scope."""
    return scope is not None and all(isinstance(each.scope, (GlobalScope, BuiltinScope)) for each in scope[name])


class _Names(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (ScopeProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._defined: list[cst.Name] = []

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._defined.append(node.name)

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._defined.append(node.name)

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def visit_Name(self, node: cst.Name) -> None:
        is_definition = any(node is each for each in self._defined)
        if not is_definition and _is_global(self.get_metadata(ScopeProvider, node, None), node.value):
            self.found.add(node.value)


class _Changes(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (ScopeProvider,)

    def __init__(self, names: Mapping[str, str], new: str, field_hint: Callable[[str], str] | None) -> None:
        super().__init__()
        self.names, self.new, self.field_hint = names, new, field_hint
        self._depth = 0  # of functions and classes

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        new = self.names.get(original_node.value, original_node.value)
        scope = self.get_metadata(ScopeProvider, original_node, None)
        is_other = new != original_node.value and _is_global(scope, original_node.value)
        return updated_node.with_changes(value=new) if is_other else updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._depth += 1

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        return updated_node.with_changes(name=self._own_name(original_node.name), returns=None)

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> cst.ClassDef:
        return updated_node.with_changes(name=self._own_name(original_node.name))

    def _own_name(self, name: cst.Name) -> cst.Name:
        self._depth -= 1
        return cst.Name(self.new) if self.new and not self._depth else name

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> cst.Param:
        return updated_node.with_changes(annotation=None)

    def leave_AnnAssign(
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.AnnAssign | cst.Assign | cst.Pass:
        if self.field_hint is not None and self._depth == 1:
            hint = self.field_hint(cst.Module([]).code_for_node(original_node.annotation.annotation))
            return updated_node.with_changes(annotation=cst.Annotation(cst.parse_expression(hint)))
        if updated_node.value is None:
            return cst.Pass()
        return cst.Assign([cst.AssignTarget(updated_node.target)], updated_node.value)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """Take ``strict`` from ``zip``, which 3.8 does not know: the shorter of two lengths counts there."""
        arguments = [each for each in updated_node.args if each.keyword is None or each.keyword.value != "strict"]
        if len(arguments) == len(updated_node.args) or not arguments or not original_node.func.deep_equals(_ZIP):
            return updated_node
        arguments[-1] = arguments[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return updated_node.with_changes(args=arguments)


_ZIP = cst.Name("zip")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")
_FILE = re.compile(r"\s*\(``(?:graph|model|data)/\w+\.py``\)|``(?:graph|model|data)/(\w+)\.py``")


def plain_docstrings(text: str) -> str:
    """Return code whose docstrings do not refer to modules of this package any more."""
    text = _ROLE.sub(lambda match: f"``{match[1].rpartition('.')[2]}``", text)
    text = text.replace("UsageError:", "ValueError:")
    return _FILE.sub(lambda match: f"``{match[1]}``" if match[1] else "", text)

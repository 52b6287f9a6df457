"""Source files read without importing them, and changed on the concrete syntax tree, so that comments survive."""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_signed.errors import MissingExtraError, UsageError

try:
    import libcst as cst
    from libcst.metadata import BuiltinScope, GlobalScope, MetadataWrapper, ScopeProvider
except ImportError as error:
    raise MissingExtraError("Exporting a model", "upstream") from error


@dataclass(frozen=True)
class Symbol:
    """Something that a module defines at its top level."""

    module: str
    name: str


@dataclass(frozen=True)
class Import:
    """What a name of a module stands for when it comes from elsewhere: ``import module`` or ``from module import``."""

    module: str
    name: str | None
    line: int


@dataclass
class SourceModule:
    """One file: its lines, its syntax tree, and what its top-level names are."""

    name: str
    path: Path
    lines: list[str]  # with their ends
    tree: ast.Module
    definitions: dict[str, ast.stmt] = field(default_factory=dict)  # the statement that defines a name
    imports: dict[str, Import] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> SourceModule:
        """Find and parse a module by its dotted name."""
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise UsageError(f"the module {name} has no source file to export.")
        path = Path(spec.origin)
        with path.open(encoding="utf-8") as file:
            lines = file.readlines()
        module = cls(name, path, lines, ast.parse("".join(lines)))
        for statement in module.tree.body:
            module._register(statement)
        stub = path.with_suffix(".pyi")
        if stub.is_file():  # the names that a package exports lazily
            for statement in ast.parse(stub.read_bytes()).body:
                if isinstance(statement, ast.ImportFrom):
                    origin = f"{name}.{statement.module}"
                    module.imports |= {
                        each.name: Import(origin, each.name, statement.lineno) for each in statement.names
                    }
        return module

    def _register(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                local = alias.asname or alias.name.partition(".")[0]
                self.imports[local] = Import(alias.name if alias.asname else local, None, statement.lineno)
        elif isinstance(statement, ast.ImportFrom):
            if statement.level:
                raise UsageError(f"{self.path}:{statement.lineno} imports relatively; name the whole module instead.")
            for alias in statement.names:
                self.imports[alias.asname or alias.name] = Import(statement.module or "", alias.name, statement.lineno)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.definitions[statement.name] = statement
        elif not (isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self.definitions[node.id] = statement

    def text(self, first: int, last: int, without: Iterable[ast.stmt] = ()) -> str:
        """Return the lines from ``first`` up to ``last``, from 0, without those of some statements."""
        left_out = {line for each in without for line in range(*self.lines_of(each))}
        return "".join(self.lines[line] for line in range(first, last) if line not in left_out)

    def lines_of(self, node: ast.stmt) -> tuple[int, int]:
        """Return a statement's first line, from 0, and the one after its last, decorators and comment included."""
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
        while first and re.match(r"\s*#(?! ----)", self.lines[first - 1]):  # a heading is no comment on it
            first -= 1
        assert node.end_lineno is not None
        return first, node.end_lineno

    def comment_on(self, statement: ast.stmt) -> ast.stmt | None:
        """Return the string below a constant that says what it is."""
        position = self.tree.body.index(statement) + 1
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and position < len(self.tree.body):
            following = self.tree.body[position]
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                return following
        return None

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]


class Sources:
    """The modules of the packages whose code is copied, read when they are first asked for."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots
        self._modules: dict[str, SourceModule] = {}

    def owns(self, module: str) -> bool:
        """Whether code of ``module`` is copied, rather than imported by the exported file."""
        return module.partition(".")[0] in self.roots

    def __getitem__(self, name: str) -> SourceModule:
        if name not in self._modules:
            self._modules[name] = SourceModule.read(name)
        return self._modules[name]

    def resolve(self, module: SourceModule, name: str) -> Symbol | Import | None:
        """Return what a top-level name of ``module`` is, through re-exports; None: a builtin, or nothing."""
        if name in module.definitions:
            return Symbol(module.name, name)
        found = module.imports.get(name)
        if found is None or not self.owns(found.module):
            return found
        if found.name is None or found.name not in {**self[found.module].definitions, **self[found.module].imports}:
            raise UsageError(
                f"{module.path}:{found.line} imports the module '{name}' as a whole; an exported model needs the names "
                "that it uses: from MODULE import NAME."
            )
        return self.resolve(self[found.module], found.name)


if TYPE_CHECKING:
    from libcst.metadata import Scope


@lru_cache(maxsize=4096)
def global_names(text: str) -> frozenset[str]:
    """Return the names in a piece of code that are looked up (or bound) in its module; hints of types aside."""
    finder = _Names()
    MetadataWrapper(cst.parse_module(text)).visit(finder)
    return frozenset(finder.found)


def changed(text: str, names: Mapping[str, str], new: str = "", field_hint: Callable[[str], str] | None = None) -> str:
    """Return a statement as it is exported: without hints of types, for Python 3.8, with other names."""
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

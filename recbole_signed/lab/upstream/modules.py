"""Source files read without importing them, and changed on the concrete syntax tree, so that comments survive."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from recbole_signed.errors import MissingExtraError, UsageError

try:
    import libcst as cst
    from libcst import matchers as m
    from libcst.helpers import get_full_name_for_node
    from libcst.metadata import BuiltinScope, GlobalScope, MetadataWrapper, PositionProvider, ScopeProvider
except ImportError as error:
    raise MissingExtraError("Exporting a model", "upstream") from error


class Symbol(NamedTuple):
    """Something that a module defines at its top level."""

    module: str
    name: str


class Import(NamedTuple):
    """What a name of a module stands for when it comes from elsewhere: ``import module`` or ``from module import``."""

    module: str
    name: str | None


@dataclass
class Uses:
    """What a piece of code refers to; hints of types aside."""

    names: set[str] = field(default_factory=set)  # that are looked up, or bound, in its module
    attributes: set[str] = field(default_factory=set)
    imports: list[Import] = field(default_factory=list)  # within it


class SourceModule:
    """One file: its syntax tree, and what its top-level names are."""

    def __init__(self, name: str) -> None:
        """Find and parse a module by its dotted name."""
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise UsageError(f"the module {name} has no source file to export.")
        self.name, self.path = name, Path(spec.origin)
        self.tree = cst.parse_module(self.path.read_text(encoding="utf-8"))
        self._wrapper = MetadataWrapper(self.tree, unsafe_skip_copy=True)  # no node is there twice
        self.definitions: dict[str, cst.BaseStatement] = {}  # the statement that defines a name
        self.imports: dict[str, Import] = {}
        self._uses: dict[int, Uses] = {}  # by the identity of a node
        self._places: dict[Import, cst.CSTNode] = {}
        for statement in self.tree.body:
            self._register(statement)
        stub = self.path.with_suffix(".pyi")
        if stub.is_file():  # the names that a package exports lazily
            node: Any
            for node in m.findall(cst.parse_module(stub.read_bytes()), m.ImportFrom()):
                origin = f"{name}.{get_full_name_for_node(node.module)}"
                self.imports |= {alias.evaluated_name: Import(origin, alias.evaluated_name) for alias in node.names}

    def _register(self, statement: cst.BaseStatement) -> None:
        if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
            self.definitions[statement.name.value] = statement
        elif isinstance(statement, cst.If) and code_of(statement.test).endswith("TYPE_CHECKING"):
            return
        elif m.matches(statement, m.SimpleStatementLine(body=[m.Import() | m.ImportFrom()])):
            self.imports |= self._imports_in(statement)
        else:
            self.definitions |= dict.fromkeys(_assigned(statement), statement)

    def _imports_in(self, node: cst.CSTNode) -> dict[str, Import]:
        imports = {}
        statement: Any
        for statement in m.findall(node, m.Import() | m.ImportFrom()):
            if getattr(statement, "relative", ()):
                raise UsageError(f"{self._place(statement)} imports relatively; name the whole module instead.")
            for alias in statement.names:
                name, renamed = alias.evaluated_name, alias.evaluated_alias
                if isinstance(statement, cst.ImportFrom):
                    local, target = renamed or name, Import(str(get_full_name_for_node(statement.module or "")), name)
                else:
                    local = renamed or name.partition(".")[0]
                    target = Import(name if renamed else local, None)
                imports[local] = target
                self._places.setdefault(target, statement)
        return imports

    def place_of(self, imported: Import) -> str:
        """Return the file and the line in which something is imported, for a message."""
        return self._place(self._places[imported])

    def _place(self, node: cst.CSTNode) -> str:
        return f"{self.path}:{self._wrapper.resolve(PositionProvider)[node].start.line}"

    def is_global(self, node: cst.Name) -> bool:
        """Whether a name means something of its module; attributes and keywords have no scope."""
        scope = self._wrapper.resolve(ScopeProvider).get(node)
        if scope is None:
            return False
        return all(isinstance(meaning.scope, (GlobalScope, BuiltinScope)) for meaning in scope[node.value])

    def uses(self, node: cst.CSTNode) -> Uses:
        """Return what a part of the module refers to."""
        if id(node) not in self._uses:
            visitor = _Names(self)
            node.visit(visitor)
            visitor.uses.imports = list(self._imports_in(node).values())
            self._uses[id(node)] = visitor.uses
        return self._uses[id(node)]

    def comment_on(self, statement: cst.BaseStatement) -> cst.BaseStatement | None:
        """Return the string below a constant that says what it is."""
        body = self.tree.body
        following = body[body.index(statement) + 1 : body.index(statement) + 2]
        is_constant = m.matches(statement, m.SimpleStatementLine(body=[m.Assign() | m.AnnAssign()]))
        return next((node for node in following if is_constant and is_text(node)), None)

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        return (self.tree.get_docstring() or "").partition("\n")[0]


class Sources:
    """The modules of the packages whose code is copied, read when they are first asked for."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots
        self._modules: dict[str, SourceModule] = {}

    def owns(self, module: str) -> bool:
        """Whether code of ``module`` is copied, rather than imported by the exported file."""
        return module.partition(".")[0] in self.roots

    def __getitem__(self, name: str) -> SourceModule:
        if name.startswith("recbole_signed."):
            return _own_module(name)
        if name not in self._modules:
            self._modules[name] = SourceModule(name)
        return self._modules[name]

    def class_of(self, symbol: Symbol) -> cst.ClassDef | None:
        """Return the statement of a class; None for what is none."""
        statement = self[symbol.module].definitions[symbol.name]
        return statement if isinstance(statement, cst.ClassDef) else None

    def resolve(self, module: SourceModule, name: str) -> Symbol | Import | None:
        """Return what a top-level name of ``module`` is, through re-exports; None: a builtin, or nothing."""
        if name in module.definitions:
            return Symbol(module.name, name)
        entry = module.imports.get(name)
        if entry is None or not self.owns(entry.module):
            return entry
        if entry.name is None or entry.name not in {**self[entry.module].definitions, **self[entry.module].imports}:
            raise UsageError(
                f"{module.place_of(entry)} imports the module '{name}' as a whole; an exported model needs the names "
                "that it uses: from MODULE import NAME."
            )
        return self.resolve(self[entry.module], entry.name)


@cache
def _own_module(name: str) -> SourceModule:
    """Read a module of this package, once in a process."""
    return SourceModule(name)


def code_of(node: cst.CSTNode) -> str:
    """Return a piece of a syntax tree as text."""
    return cst.Module([]).code_for_node(node)


def is_text(statement: cst.CSTNode) -> bool:
    """Whether a statement is a string and nothing else, such as a docstring."""
    return m.matches(statement, m.SimpleStatementLine(body=[m.Expr(value=m.SimpleString() | m.ConcatenatedString())]))


def name_of(member: cst.CSTNode) -> str:
    """Return the name that a function, a class or an assignment gives; empty for other statements."""
    if isinstance(member, (cst.FunctionDef, cst.ClassDef)):
        return member.name.value
    return next(_assigned(member), "") if isinstance(member, cst.SimpleStatementLine) else ""


def _assigned(statement: cst.CSTNode) -> Iterator[str]:
    """Yield the names to which a statement assigns, wherever in it."""
    node: Any
    for node in m.findall(statement, m.AssignTarget() | m.AnnAssign() | m.For()):
        target = node.target
        parts = [part.value for part in target.elements] if isinstance(target, cst.Tuple) else [target]
        yield from (part.value for part in parts if isinstance(part, cst.Name))


class _Names(cst.CSTVisitor):
    def __init__(self, module: SourceModule) -> None:
        super().__init__()
        self.module, self.uses = module, Uses()

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def visit_Attribute(self, node: cst.Attribute) -> None:
        self.uses.attributes.add(node.attr.value)

    def visit_Name(self, node: cst.Name) -> None:
        if self.module.is_global(node):
            self.uses.names.add(node.value)


_MARKS = re.compile(r"#\s*(type:\s*ignore|noqa|fmt:)[^#]*")  # comments for this package's own checks
_HEADING = re.compile("# ----")


class _Changes(cst.CSTTransformer):
    """Makes of statements what is exported: without hints of types, for Python 3.8, with other names."""

    def __init__(
        self, module: SourceModule, names: Mapping[str, str], attributes: Collection[str], of_fields: bool
    ) -> None:
        super().__init__()
        self.module, self.names, self.of_fields = module, names, of_fields
        target = m.Attribute(attr=m.Name(m.MatchIfTrue(lambda name: name in attributes)))
        dropped = m.Assign(targets=[m.AssignTarget(target)]) | m.AnnAssign(target=target)
        self._dropped = m.SimpleStatementLine(body=[dropped])
        self._depth = 0  # of functions

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        new = self.names.get(original_node.value, original_node.value)
        is_other = new != original_node.value and self.module.is_global(original_node)
        return updated_node.with_changes(value=new) if is_other else updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        self._depth -= 1
        return updated_node.with_changes(returns=None)

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> cst.Param:
        return updated_node.with_changes(annotation=None)

    def leave_AnnAssign(
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.AnnAssign | cst.Assign | cst.Pass:
        if self.of_fields and not self._depth and "ClassVar" not in code_of(original_node.annotation.annotation):
            return updated_node.with_changes(annotation=cst.Annotation(cst.Name("object")))
        if updated_node.value is None:
            return cst.Pass()
        return cst.Assign([cst.AssignTarget(updated_node.target)], updated_node.value)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """Take ``strict`` from ``zip``, which 3.8 does not know: the shorter of two lengths counts there."""
        if not m.matches(original_node.func, m.Name("zip")):
            return updated_node
        arguments = [
            argument for argument in updated_node.args if argument.keyword is None or argument.keyword.value != "strict"
        ]
        arguments[-1:] = [argument.with_changes(comma=cst.MaybeSentinel.DEFAULT) for argument in arguments[-1:]]
        return updated_node.with_changes(args=arguments)

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        return cst.RemoveFromParent() if m.matches(original_node, self._dropped) else updated_node

    def leave_Comment(self, original_node: cst.Comment, updated_node: cst.Comment) -> Any:
        rest = _MARKS.sub("", updated_node.value).strip()  # "# type: ignore  # why" keeps the why
        return updated_node.with_changes(value=rest) if rest else cst.RemoveFromParent()


def changed(
    statement: Any,
    module: SourceModule,
    names: Mapping[str, str],
    attributes: Collection[str] = (),
    of_fields: bool = False,
) -> Any:
    """Return a statement as it is exported, with the comment right above it and without what stands before that.

    ``names`` are what top-level names of the module are called there, ``attributes`` those of the object that are not
    set; ``of_fields``: it is a member of a dataclass, whose fields need a hint.
    """
    lines = list(statement.leading_lines)
    apart = [place for place, line in enumerate(lines) if line.comment is None or _HEADING.match(line.comment.value)]
    own = statement.with_changes(leading_lines=lines[apart[-1] + 1 if apart else 0 :])
    return own.visit(_Changes(module, names, attributes, of_fields))


_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")
_FILE = re.compile(r"\s*\(``(?:graph|model|data)/\w+\.py``\)|``(?:graph|model|data)/(\w+)\.py``")


def plain_docstrings(text: str) -> str:
    """Return code whose docstrings do not refer to modules of this package any more."""
    text = _ROLE.sub(lambda match: f"``{match[1].rpartition('.')[2]}``", text)
    text = text.replace("UsageError:", "ValueError:")
    return _FILE.sub(lambda match: f"``{match[1]}``" if match[1] else "", text)

"""Source files of this package (and of one that brings a model), read without importing them."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from recbole_signed.errors import UsageError


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
    lines: list[str]
    """With their ends."""
    tree: ast.Module
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    """The statement that defines a name."""
    imports: dict[str, Import] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> SourceModule:
        """Find and parse a module by its dotted name.

        Raises:
            UsageError: it has no source file.
        """
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
        elif not _only_for_type_checkers(statement):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self.definitions[node.id] = statement

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__`` of a package."""
        return self.path.name == "__init__.py"

    def text(self, first: int, last: int, without: Iterable[ast.stmt] = ()) -> str:
        """Return the lines from ``first`` up to ``last``, from 0, without those of some statements."""
        left_out = {line for each in without for line in range(*self.lines_of(each))}
        return "".join(self.lines[line] for line in range(first, last) if line not in left_out)

    def lines_of(self, node: ast.stmt) -> tuple[int, int]:
        """Return the first line of a statement, from 0, and the one after its last.

        Its decorators and the comment right above it are among them.
        """
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
        while first and self.lines[first - 1].lstrip().startswith("#") and not _is_heading(self.lines[first - 1]):
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


def _is_heading(line: str) -> bool:
    return line.strip().startswith("# ----")


def _only_for_type_checkers(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


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
        """Return what a top-level name of ``module`` is, through re-exports; None: a builtin, or nothing.

        Raises:
            UsageError: it is a whole module of these packages, which can't be copied.
        """
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

"""A model and all that it uses of this package as the text of one Python file."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass, field

from recbole_signed.errors import UsageError
from recbole_signed.upstream import edits
from recbole_signed.upstream.modules import Import, SourceModule, Sources, Symbol
from recbole_signed.upstream.python38 import BACKPORTS
from recbole_signed.upstream.recipes import METADATA, Recipe
from recbole_signed.upstream.scopes import global_names

LIBRARIES = frozenset({"torch", "numpy", "scipy", "recbole", "tqdm"})
"""What an exported file may import beside the standard library: what RecBole itself needs."""

BASE = Symbol("recbole_signed.model.abstract_recommender", "SignedRecommender")
STOCK = Symbol("recbole_signed.upstream.bridge", "StockRecommender")
"""Whose methods take the place of those of BASE."""
STOCK_BATCHES = Symbol(STOCK.module, "StockBatchRecommender")
"""Whose methods take theirs, where the model sets ``batches``."""
BUILTINS = {Symbol("recbole_signed.errors", "UsageError"): "ValueError"}

_Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Bundle:
    """The parts of a file, before they are put together."""

    imports: list[str] = field(default_factory=list)
    """Import statements."""
    sections: list[tuple[str, str]] = field(default_factory=list)
    """What the code of a module is about, and the code; the model's own module last."""
    postponed: bool = False
    """Whether hints must not be evaluated (``from __future__ import annotations``)."""


class Bundler:
    """Follows the names that a model uses through the modules of its package and of this one.

    Only what is used is kept: functions and classes that something refers to and, of classes that stand on no class
    from elsewhere, the methods whose names occur. The code stays as it is written, but for hints of types, arguments
    that Python 3.8 does not know, and names that two modules use for different things.
    """

    def __init__(self, module: str, model: str, recipe: Recipe) -> None:
        self.sources = Sources({"recbole_signed", module.partition(".")[0]})
        self.model = Symbol(module, model)
        self.recipe = recipe
        if model not in self.sources[module].definitions:
            raise UsageError(f"{self.sources[module].path} does not define the class {model}.")
        self.kept: set[Symbol] = set()
        self.mentioned: set[str] = set()
        self.external: dict[str, Import] = {}
        self.names: dict[Symbol, str] = {}
        self._followed: set[int] = set()  # nodes, by their identity
        self._heads: dict[Symbol, ast.ClassDef] = {}

    def bundle(self) -> Bundle:
        """Return the parts of the file.

        Raises:
            UsageError: something that is used can't be copied, or is not among RecBole's own requirements.
        """
        self._follow()
        self._choose_names()
        result = Bundle(imports=self._imports())
        helpers = "\n".join(
            BACKPORTS[each.module, each.name][1].format(name=local)
            for local, each in sorted(self.external.items())
            if each.name is not None and (each.module, each.name) in BACKPORTS
        )
        if helpers:
            result.sections.append(("", helpers))
        for module in self._modules_in_order():
            own = [each for each in module.definitions if Symbol(module.name, each) in self.kept]
            statements = sorted({module.definitions[each].lineno: module.definitions[each] for each in own}.items())
            if statements:
                about = "" if module.name == self.model.module else module.summary
                result.sections.append((about, "\n\n".join(self._text(module, each) for _, each in statements)))
        result.postponed = any(
            self._is_dataclass(self.sources[each.module], node)
            for each in self.kept
            if isinstance(node := self.sources[each.module].definitions[each.name], ast.ClassDef)
        )
        return result

    # ---- what is used ----

    def _follow(self) -> None:
        pending = {self.model}
        while True:
            before = len(self.kept | pending), len(self.mentioned)
            self.kept |= pending
            pending = set()
            for symbol in sorted(self.kept, key=lambda each: (each.module, each.name)):
                pending |= self._uses(symbol)
            pending -= self.kept
            if not pending and before == (len(self.kept), len(self.mentioned)):
                return

    def _uses(self, symbol: Symbol) -> set[Symbol]:
        found = set()
        for module, node in self._parts(symbol):
            if id(node) in self._followed:
                continue
            self._followed.add(id(node))
            for name in global_names(node):
                target = self._target(module, name.id)
                if isinstance(target, Symbol):
                    found.add(target)
                elif target is not None:
                    self._use_external(module, name.id, target)
            for each in ast.walk(node):
                if isinstance(each, ast.Attribute):
                    self.mentioned.add(each.attr)
                elif isinstance(each, (ast.Import, ast.ImportFrom)):
                    self._check_local_import(module, each)
        return found

    def _target(self, module: SourceModule, name: str) -> Symbol | Import | None:
        target = self.sources.resolve(module, name)
        if target in BUILTINS:
            return None
        return BASE if target == STOCK else target

    def _use_external(self, module: SourceModule, local: str, target: Import) -> None:
        root = target.module.partition(".")[0]
        if root == "__future__":
            return
        if root not in LIBRARIES and root not in sys.stdlib_module_names:
            raise UsageError(
                f"{module.path}:{target.line} imports {target.module}, which RecBole does not need and so can't have "
                f"({', '.join(sorted(LIBRARIES))} and the standard library are there)."
            )
        known = self.external.setdefault(local, target)
        if (known.module, known.name) != (target.module, target.name):
            raise UsageError(
                f"{module.path}:{target.line} calls {target.module}.{target.name} '{local}', and another module uses "
                "that name for something else; import one of them under another name."
            )

    def _check_local_import(self, module: SourceModule, node: ast.Import | ast.ImportFrom) -> None:
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        for name in modules:
            root = name.partition(".")[0]
            if root not in LIBRARIES and root not in sys.stdlib_module_names:
                raise UsageError(
                    f"{module.path}:{node.lineno} imports {name} inside a function, which an exported model can't; "
                    "import at the top, or leave it to code that the model does not use."
                )

    # ---- parts of a definition ----

    def _parts(self, symbol: Symbol) -> list[tuple[SourceModule, ast.AST]]:
        """Return what of a definition is kept: all of it, or of a class its head and its members."""
        module = self.sources[symbol.module]
        statement = module.definitions[symbol.name]
        if not isinstance(statement, ast.ClassDef):
            return [(module, statement)]
        if symbol not in self._heads:  # kept, so that its identity is not given to another
            self._heads[symbol] = ast.ClassDef(
                statement.name, statement.bases, statement.keywords, [], statement.decorator_list
            )
        parts: list[tuple[SourceModule, ast.AST]] = [(module, self._heads[symbol])]
        for owner, member in self._members(module, statement):
            parts.append((owner, member))
            if isinstance(member, ast.AnnAssign) and self._is_dataclass(owner, statement):
                names = [n for n in ast.walk(member.annotation) if isinstance(n, ast.Name)]
                outside = [n for n in names if isinstance(self.sources.resolve(owner, n.id), Import)]
                parts += [(owner, n) for n in outside if n.id not in ("npt",)]
        return parts

    def _members(self, module: SourceModule, statement: ast.ClassDef) -> list[tuple[SourceModule, ast.stmt]]:
        symbol, stays = Symbol(module.name, statement.name), self._stands_alone(module, statement)
        overriding = self._stock_members() if symbol == BASE else []
        others = {each.name for each in overriding if isinstance(each, _Functions)}
        members: list[tuple[SourceModule, ast.stmt]] = []
        for position, member in enumerate(statement.body):
            name = _member_name(member)
            if isinstance(member, ast.Expr) and position and _member_name(statement.body[position - 1]) in METADATA:
                continue  # the comment on what is left out
            dropped = name in others or (not stays and isinstance(member, _ASSIGNMENTS) and name in METADATA)
            if symbol == self.model and name in self.recipe.methods:
                dropped = True
            if stays and isinstance(member, _Functions) and not _is_special(member.name):
                dropped = member.name not in self.mentioned
            if symbol == BASE and position == 0:
                dropped = True  # its docstring is that of the stock class
            if not dropped:
                members.append((module, member))
        bridge = self.sources[STOCK.module]
        return [(bridge, each) for each in overriding[:1]] + members + [(bridge, each) for each in overriding[1:]]

    def _stock_members(self) -> list[ast.stmt]:
        """Docstring and methods of the class that stands for the base of all models."""
        bridge = self.sources[STOCK.module]
        members: dict[str, ast.stmt] = {}
        for symbol in (STOCK, STOCK_BATCHES) if self._sets_batches(self.model) else (STOCK,):
            statement = bridge.definitions[symbol.name]
            assert isinstance(statement, ast.ClassDef)
            for member in statement.body:
                if symbol == STOCK or isinstance(member, _Functions):
                    members[_member_name(member)] = member
        return list(members.values())

    def _sets_batches(self, symbol: Symbol) -> bool:
        """Whether a class, or one that it inherits from, has an attribute ``batches`` other than None."""
        module = self.sources[symbol.module]
        statement = module.definitions[symbol.name]
        assert isinstance(statement, ast.ClassDef)
        for member in statement.body:
            if isinstance(member, _ASSIGNMENTS) and _member_name(member) == "batches":
                return not (isinstance(member.value, ast.Constant) and member.value.value is None)
        targets = [self._target(module, base.id) for base in statement.bases if isinstance(base, ast.Name)]
        return any(self._sets_batches(each) for each in targets if isinstance(each, Symbol))

    def _stands_alone(self, module: SourceModule, statement: ast.ClassDef) -> bool:
        """Whether nobody outside can call a method of the class: it inherits from nothing but such classes."""
        for base in statement.bases:
            target = self._target(module, base.id) if isinstance(base, ast.Name) else None
            if not isinstance(target, Symbol):
                return False
            owner = self.sources[target.module]
            definition = owner.definitions[target.name]
            if not isinstance(definition, ast.ClassDef) or not self._stands_alone(owner, definition):
                return False
        return True

    def _is_dataclass(self, module: SourceModule, statement: ast.ClassDef) -> bool:
        for decorator in statement.decorator_list:
            name = decorator.func if isinstance(decorator, ast.Call) else decorator
            target = self.sources.resolve(module, name.id) if isinstance(name, ast.Name) else None
            if isinstance(target, Import) and (target.module, target.name) == ("dataclasses", "dataclass"):
                return True
        return False

    # ---- names ----

    def _choose_names(self) -> None:
        """Give the definitions of two modules that share a name different ones, unless they are the same."""
        wanted: dict[str, list[Symbol]] = defaultdict(list)
        for symbol in sorted(self.kept, key=lambda each: (each != self.model, each.module, each.name)):
            wanted[symbol.name].append(symbol)
        taken = {*wanted, *self.external}
        for name, symbols in wanted.items():
            same: dict[str, str] = {}
            for number, symbol in enumerate(symbols):
                content = ast.dump(self.sources[symbol.module].definitions[symbol.name])
                if content not in same:
                    own = number == 0 and name not in self.external
                    same[content] = name if own else _longer(symbol, taken)
                self.names[symbol] = same[content]

    def _name_in(self, module: SourceModule) -> dict[str, str]:
        """Return what the top-level names of a module are called in the exported file, where they are copied there."""
        found = {}
        for local in {**module.definitions, **module.imports}:
            target = self._try(module, local)
            if isinstance(target, Symbol):
                found[local] = BUILTINS.get(target) or self.names.get(BASE if target == STOCK else target, local)
        return found

    def _try(self, module: SourceModule, local: str) -> Symbol | Import | None:
        try:
            return self.sources.resolve(module, local)
        except UsageError:  # of something that is not used, or it would have been raised before
            return None

    # ---- text ----

    def _imports(self) -> list[str]:
        lines = []
        for local, target in self.external.items():
            if target.name is None:
                whole = f"import {target.module}"
                lines.append(whole if target.module == local else f"{whole} as {local}")
            elif (target.module, target.name) in BACKPORTS:
                lines.append(BACKPORTS[target.module, target.name][0])
            else:
                renamed = "" if target.name == local else f" as {local}"
                lines.append(f"from {target.module} import {target.name}{renamed}")
        return sorted({line for line in lines if line})

    def _modules_in_order(self) -> list[SourceModule]:
        """Return the modules of what is kept, each after those that it imports from."""
        order: list[SourceModule] = []
        visited: set[str] = set()

        def visit(name: str) -> None:
            if name in visited:
                return
            visited.add(name)
            module = self.sources[name]
            names = [each.module for each in module.imports.values() if self.sources.owns(each.module)]
            if name == BASE.module:
                names.append(STOCK.module)
            for each in names:
                visit(each)
            order.append(module)

        visit(self.model.module)
        return order

    def _text(self, module: SourceModule, statement: ast.stmt) -> str:
        names = [each for each, node in module.definitions.items() if node is statement]
        symbol = Symbol(module.name, names[0])
        if self._is_copy(symbol):
            return ""
        if isinstance(statement, ast.ClassDef):
            return self._class_text(module, statement)
        start, end = module.lines_of(statement)
        comment = module.comment_on(statement)
        if comment is not None:
            end = module.lines_of(comment)[1]
        return edits.apply(module, start, end, self._edits(module, statement, self.names[symbol]))

    def _is_copy(self, symbol: Symbol) -> bool:
        """Whether another module has defined the same under this name before."""
        twins = [each for each in self.names if self.names[each] == self.names[symbol]]
        order = [module.name for module in self._modules_in_order()]
        return min(twins, key=lambda each: order.index(each.module)) != symbol

    def _class_text(self, module: SourceModule, statement: ast.ClassDef) -> str:
        members = self._members(module, statement)
        own = {id(each) for owner, each in members if owner is module}
        new = self.names[Symbol(module.name, statement.name)]
        changes = self._edits(module, statement, new)
        changes += [edits.removed(module, each) for each in statement.body if id(each) not in own]
        if Symbol(module.name, statement.name) == self.model:
            changes += self._unused_attributes(module, statement)
        start, end = module.lines_of(statement)
        text = edits.apply(module, start, end, changes).rstrip() + "\n"
        borrowed = [(owner, each) for owner, each in members if owner is not module]
        pieces = [edits.apply(owner, *owner.lines_of(each), self._edits(owner, each, "")) for owner, each in borrowed]
        if not pieces:
            return text if own else f"{text}    pass\n"
        first = statement.body[0].lineno - statement.lineno  # lines of the head
        lines = text.splitlines(keepends=True)
        return "".join([*lines[:first], pieces[0], *lines[first:], "\n", "\n".join(pieces[1:])])

    def _unused_attributes(self, module: SourceModule, statement: ast.ClassDef) -> list[edits.Edit]:
        return [
            edits.removed(module, each)
            for each in ast.walk(statement)
            if isinstance(each, ast.Assign)
            and isinstance(target := each.targets[0], ast.Attribute)
            and target.attr in self.recipe.attributes
        ]

    def _edits(self, module: SourceModule, statement: ast.stmt, new: str) -> list[edits.Edit]:
        names = self._name_in(module)
        changes = edits.renamed(module, statement, lambda name: names.get(name, name))
        if new:
            changes += edits.renamed_definition(module, statement, new)
        plain = isinstance(statement, ast.ClassDef) and self._is_dataclass(module, statement)
        changes += edits.without_hints(
            module, statement, (lambda each: self._hint(module, each.annotation)) if plain else None
        )
        return changes + edits.for_python38(module, statement)

    def _hint(self, module: SourceModule, annotation: ast.expr) -> str:
        """Return the hint of a field, with aliases written out and arrays without their type."""
        return ast.unparse(_Hints(self.sources, module).visit(ast.parse(ast.unparse(annotation), mode="eval").body))


class _Hints(ast.NodeTransformer):
    def __init__(self, sources: Sources, module: SourceModule) -> None:
        self.sources, self.module = sources, module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        target = self.sources.resolve(self.module, node.id)
        if not isinstance(target, Symbol):
            return node
        owner = self.sources[target.module]
        definition = owner.definitions[target.name]
        return _Hints(self.sources, owner).visit(definition.value) if isinstance(definition, ast.Assign) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "NDArray":
            return ast.parse("np.ndarray", mode="eval").body
        return ast.Subscript(node.value, self.visit(node.slice), ast.Load())

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        return left if ast.dump(left) == ast.dump(right) else ast.BinOp(left, node.op, right)


_ASSIGNMENTS = (ast.Assign, ast.AnnAssign)


def _member_name(member: ast.stmt) -> str:
    if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return member.name
    target: ast.AST | None = None
    if isinstance(member, ast.Assign):
        target = member.targets[0]
    elif isinstance(member, ast.AnnAssign):
        target = member.target
    return target.id if isinstance(target, ast.Name) else ""


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _longer(symbol: Symbol, taken: set[str]) -> str:
    """Return a name that says the module too, in the style of the one it stands for."""
    stem = symbol.module.rpartition(".")[2]
    if symbol.name.isupper():
        name = f"{stem}_{symbol.name}".upper()
    elif symbol.name.lstrip("_")[:1].isupper():
        name = stem.title().replace("_", "") + symbol.name.lstrip("_")
    else:
        name = f"_{stem}_{symbol.name.lstrip('_')}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name

"""A model and all that it uses of this package as the text of one Python file."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from recbole_signed.errors import UsageError
from recbole_signed.lab.upstream.follow import BASE, BASES, BUILTINS, STOCK, ExportRecipe, Followed
from recbole_signed.lab.upstream.modules import Import, SourceModule, Sources, Symbol, changed, global_names
from recbole_signed.lab.upstream.python38 import BACKPORTS


@dataclass
class Bundle:
    """The parts of a file, before they are put together."""

    imports: list[str] = field(default_factory=list)  # import statements
    sections: list[tuple[str, str]] = field(default_factory=list)
    """What the code of a module is about, and the code; the model's own module last."""
    postponed: bool = False  # whether hints must not be evaluated (`from __future__ import annotations`)


class Bundler:
    """Puts the definitions that a model uses together, changed only for hints, Python 3.8 and clashes of names."""

    def __init__(self, module: str, model: str, recipe: ExportRecipe) -> None:
        self.used = Followed(module, model, recipe)
        self.names: dict[Symbol, str] = {}

    def bundle(self) -> Bundle:
        """Return the parts of the file."""
        self._choose_names()
        result = Bundle(imports=self._imports())
        helpers = "\n".join(
            BACKPORTS[each.module, each.name][1].format(name=local)
            for local, each in sorted(self.used.external.items())
            if each.name is not None and (each.module, each.name) in BACKPORTS
        )
        if helpers:
            result.sections.append(("", helpers))
        for module in self._modules_in_order():
            own = [each for each in module.definitions if Symbol(module.name, each) in self.used.kept]
            statements = sorted({module.definitions[each].lineno: module.definitions[each] for each in own}.items())
            if statements:
                about = "" if module.name == self.used.model.module else module.summary
                result.sections.append((about, "\n\n".join(self._text(module, each) for _, each in statements)))
        result.postponed = any(
            self.used.is_dataclass(self.used.sources[each.module], node)
            for each in self.used.kept
            if isinstance(node := self.used.sources[each.module].definitions[each.name], ast.ClassDef)
        )
        return result

    # ---- names ----

    def _choose_names(self) -> None:
        """Give the definitions of two modules that share a name different ones, unless they are the same."""
        wanted: dict[str, list[Symbol]] = defaultdict(list)
        for symbol in sorted(self.used.kept, key=lambda each: (each != self.used.model, each.module, each.name)):
            wanted[symbol.name].append(symbol)
        taken = {*wanted, *self.used.external}
        for name, symbols in wanted.items():
            same: dict[str, str] = {}
            for number, symbol in enumerate(symbols):
                content = self._content(symbol)
                if content not in same:
                    own = number == 0 and name not in self.used.external
                    same[content] = name if own else _longer(symbol, taken)
                self.names[symbol] = same[content]

    def _content(self, symbol: Symbol) -> str:
        """Return what is the same for two definitions that do the same: their code, and what the names in it are."""
        module = self.used.sources[symbol.module]
        node = module.definitions[symbol.name]
        names = global_names(ast.unparse(node)) - {symbol.name}
        meanings = {(each, self._try(module, each)) for each in names}
        return f"{ast.dump(node)} {sorted(meanings, key=str)}"

    def _name_in(self, module: SourceModule) -> dict[str, str]:
        """Return what the top-level names of a module are called in the exported file, where they are copied there."""
        found = {}
        for local in {**module.definitions, **module.imports}:
            target = self._try(module, local)
            if isinstance(target, Symbol):
                found[local] = BUILTINS.get(target) or self.names.get(BASES.get(target, target), local)
        return found

    def _try(self, module: SourceModule, local: str) -> Symbol | Import | None:
        try:
            return self.used.sources.resolve(module, local)
        except UsageError:  # of something that is not used, or it would have been raised before
            return None

    # ---- text ----

    def _imports(self) -> list[str]:
        lines = []
        for local, target in self.used.external.items():
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
            module = self.used.sources[name]
            names = [each.module for each in module.imports.values() if self.used.sources.owns(each.module)]
            if name == BASE.module:
                names.append(STOCK.module)
            for each in names:
                visit(each)
            order.append(module)

        visit(self.used.model.module)
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
        return changed(module.text(start, end), self._name_in(module), self.names[symbol])

    def _is_copy(self, symbol: Symbol) -> bool:
        """Whether another module has defined the same under this name before."""
        twins = [each for each in self.names if self.names[each] == self.names[symbol]]
        order = [module.name for module in self._modules_in_order()]
        return min(twins, key=lambda each: order.index(each.module)) != symbol

    def _class_text(self, module: SourceModule, statement: ast.ClassDef) -> str:
        members = self.used.members(module, statement)
        own = {id(each) for owner, each in members if owner is module}
        new = self.names[Symbol(module.name, statement.name)]
        removed = [each for each in statement.body if id(each) not in own]
        if not self.used.stands_alone(module, statement):  # the model, or a base of it
            removed += self._unused_attributes(statement)
        text = module.text(*module.lines_of(statement), without=removed).rstrip() + "\n"
        plain = self.used.is_dataclass(module, statement)
        hint = (lambda each: self._hint(module, each)) if plain else None
        text = changed(text if own else f"{text}    pass\n", self._name_in(module), new, hint)
        borrowed = [(owner, each) for owner, each in members if owner is not module]
        pieces = [changed(owner.text(*owner.lines_of(each)), self._name_in(owner)) for owner, each in borrowed]
        if not pieces:
            return text
        first = statement.body[0].lineno - statement.lineno  # lines of the head
        lines = text.splitlines(keepends=True)[: None if own else first]
        return "".join([*lines[:first], pieces[0], *lines[first:], "\n", "\n".join(pieces[1:])])

    def _unused_attributes(self, statement: ast.ClassDef) -> list[ast.stmt]:
        return [
            each
            for each in ast.walk(statement)
            if isinstance(each, (ast.Assign, ast.AnnAssign))
            and isinstance(target := each.targets[0] if isinstance(each, ast.Assign) else each.target, ast.Attribute)
            and target.attr in self.used.recipe.attributes
        ]

    def _hint(self, module: SourceModule, annotation: str) -> str:
        """Return the hint of a field, with aliases written out and arrays without their type."""
        return ast.unparse(_Hints(self.used.sources, module).visit(ast.parse(annotation, mode="eval").body))


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

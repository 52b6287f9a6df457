"""A model and all that it uses of its package and of this one, as the text of one file of Python 3.8."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import libcst as cst

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.lab.upstream.modules import (
    Import,
    SourceModule,
    Sources,
    Symbol,
    Uses,
    changed,
    code_of,
    is_text,
    name_of,
)
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import ModelFacts, facts_of, lineage
from recbole_signed.yaml_spec import read_yaml

LIBRARIES = frozenset({"torch", "numpy", "scipy", "recbole", "tqdm", "threadpoolctl"})
"""What an exported file may import beside the standard library: RecBole's own requirements."""

BASE = Symbol("recbole_signed.model.abstract_recommender", "SignedRecommender")
STOCK = Symbol("recbole_signed.lab.upstream.bridge", "StockRecommender")  # whose methods replace those of BASE
SEQUENCES = Symbol(BASE.module, "SignedSequentialRecommender")
STOCK_SEQUENCES = Symbol(STOCK.module, "StockSequentialRecommender")  # the same of sequential models
BASES = {STOCK: BASE, STOCK_SEQUENCES: SEQUENCES}  # what a class of the bridge stands for
STOCK_BATCHES = Symbol(STOCK.module, "StockBatchRecommender")  # whose methods replace theirs, for `batches`
BUILTINS = {Symbol("recbole_signed.errors", "UsageError"): "ValueError"}
METADATA = ("trainer_class", "parameter_ranges", "reads", *(fact.name for fact in fields(ModelFacts)))
"""Attributes of a model class that only the commands of this package ask for."""
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


@dataclass(frozen=True)
class ExportRecipe:
    """What is left out of one model, and what of it is told to the reader."""

    methods: tuple[str, ...] = ()  # methods that only a trainer or a loader of this package can call
    attributes: tuple[str, ...] = ()  # attributes set in `__init__` for these methods
    keys: tuple[str, ...] = ()  # their keys in the yaml
    rewordings: dict[str, str] = field(default_factory=dict)  # what the yaml's comments say instead of what is left out
    note: str = ""  # paragraph for the note beside the export
    refusal: str = ""  # why the model can't be exported; one sentence


def recipe_of(model: str) -> ExportRecipe:
    """Return a model's class attribute ``export_recipe``, else what ``recipes.yaml`` has for it; most need none."""
    ours = read_yaml(Path(__file__).with_name("recipes.yaml"))
    recipe = facts_of(model).export_recipe or next((ours[name] for name in lineage(model) if name in ours), {})
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.items()}
    return ExportRecipe(**given)


class Bundler:
    """The definitions that a model needs (``kept``), and what it imports (``external``: local name -> origin)."""

    def __init__(self, module: str, model: str, recipe: ExportRecipe) -> None:
        """Follow names from the model until nothing new is found."""
        self.sources = Sources({"recbole_signed", module.partition(".")[0]})
        self.model, self.recipe = Symbol(module, model), recipe
        if model not in self.sources[module].definitions:
            raise UsageError(f"{self.sources[module].path} does not define the class {model}.")
        self.batches = getattr(registry.load_object(f"{module}:{model}"), "batches", None)
        self.kept = {self.model}
        self.mentioned: set[str] = set()
        self.external: dict[str, Import] = {}
        self._needs: dict[str, set[str]] = defaultdict(set)  # module -> those of what its definitions use
        known = 0
        while known < len(self.kept) + len(self.mentioned):
            known = len(self.kept) + len(self.mentioned)
            for symbol in sorted(self.kept):
                for owner, node in self._parts(symbol):
                    self._follow(symbol, owner, owner.uses(node))

    @property
    def is_sequential(self) -> bool:
        """Whether it is a sequential model."""
        return SEQUENCES in self.kept

    # ---- what is used ----

    def _follow(self, symbol: Symbol, module: SourceModule, uses: Uses) -> None:
        self.mentioned |= uses.attributes
        for name in sorted(uses.names):
            target = self.target(module, name)
            if isinstance(target, Symbol):
                self.kept.add(target)
                self._needs[symbol.module].add(target.module)
            elif target is not None:
                self._use_external(module, name, target)
        for item in uses.imports:
            if not _may_be_imported(item.module):
                raise UsageError(
                    f"{module.place_of(item)} imports {item.module} inside a function, which an exported model can't; "
                    "import at the top, or leave it to code that the model does not use."
                )

    def target(self, module: SourceModule, name: str) -> Symbol | Import | None:
        """Return what a name of ``module`` is in the exported file; None: a builtin, or nothing."""
        target = self.sources.resolve(module, name)
        if target in BUILTINS:
            return None
        return BASES.get(target, target) if isinstance(target, Symbol) else target

    def _use_external(self, module: SourceModule, local: str, target: Import) -> None:
        if target.module == "__future__":
            return
        if not _may_be_imported(target.module):
            raise UsageError(
                f"{module.place_of(target)} imports {target.module}, which RecBole does not need and so can't have "
                f"({', '.join(sorted(LIBRARIES))} and the standard library are there)."
            )
        known = self.external.setdefault(local, target)
        if known != target:
            raise UsageError(
                f"{module.place_of(target)} calls {target.module}.{target.name} '{local}', and another module uses "
                "that name for something else; import one of them under another name."
            )

    # ---- parts of a definition ----

    def _parts(self, symbol: Symbol) -> list[tuple[SourceModule, cst.CSTNode]]:
        """Return what of a definition is kept: all of it, or of a class its head and its members."""
        module, statement = self.sources[symbol.module], self.sources.class_of(symbol)
        if statement is None:
            return [(module, self.sources[symbol.module].definitions[symbol.name])]
        head = [(module, node) for node in (*statement.decorators, *statement.bases, *statement.keywords)]
        return [*head, *self._members(symbol, statement)]

    def _members(self, symbol: Symbol, statement: cst.ClassDef) -> list[tuple[SourceModule, Any]]:
        """Return the statements of a class that are kept, each with the module that it is from."""
        module, alone = self.sources[symbol.module], self._stands_alone(symbol)
        overriding = self._stock_members(symbol)
        body = list(statement.body.body)
        members: list[tuple[SourceModule, Any]] = []
        for before, member in zip([None, *body], body, strict=False):
            name, is_method = name_of(member), isinstance(member, cst.FunctionDef)
            if alone:
                dropped = is_method and not re.fullmatch("__.*__", name) and name not in self.mentioned
            else:  # the model, or a base that it has it from; or what gives a class its facts
                dropped = name in (*(() if is_method else METADATA), *self.recipe.methods, "__init_subclass__")
            if before is not None and is_text(member):  # the comment on what may be left out
                dropped = name_of(before) in METADATA
            if not dropped and name not in overriding:
                members.append((module, member))
        bridge = self.sources[STOCK.module]
        theirs = [(bridge, member) for member in overriding.values()]
        return [*theirs[:1], *members, *theirs[1:]]  # the docstring is theirs, if there are any

    def _stock_members(self, base: Symbol) -> dict[str, Any]:
        """Return docstring and methods of the class that stands for a base of models, by name; none for others."""
        stock = [symbol for symbol, of in BASES.items() if of == base]
        batches = [STOCK_BATCHES] if base == BASE and self.batches is not None else []
        members: dict[str, Any] = {}
        for symbol in [*stock, *batches]:
            statement = self.sources.class_of(symbol)
            assert statement is not None
            for member in statement.body.body:
                if symbol in BASES or isinstance(member, cst.FunctionDef):
                    members[name_of(member)] = member
        return members

    def _bases(self, symbol: Symbol) -> list[Symbol | Import | None]:
        statement, module = self.sources.class_of(symbol), self.sources[symbol.module]
        return [self.target(module, code_of(base.value)) for base in (statement.bases if statement else ())]

    def _stands_alone(self, symbol: Symbol) -> bool:
        """Whether nobody outside can call a method of the class: it inherits from nothing but such classes."""
        return all(isinstance(base, Symbol) and self._stands_alone(base) for base in self._bases(symbol))

    # ---- names ----

    def _choose_names(self) -> None:
        """Give the definitions of two modules that share a name different ones, unless they are the same."""
        by_name: dict[str, list[Symbol]] = defaultdict(list)
        for symbol in sorted(self.kept, key=lambda symbol: (symbol != self.model, symbol)):
            by_name[symbol.name].append(symbol)
        taken = {*by_name, *self.external}
        self.names: dict[Symbol, str] = {}
        for name, symbols in by_name.items():
            same: dict[str, str] = {}
            for number, symbol in enumerate(symbols):
                content = self._content(symbol)
                if content not in same:
                    own = number == 0 and name not in self.external
                    same[content] = name if own else _longer(symbol, taken)
                self.names[symbol] = same[content]

    def _content(self, symbol: Symbol) -> str:
        """Return what is the same for two definitions that do the same: their code, and what the names in it are."""
        module = self.sources[symbol.module]
        node = module.definitions[symbol.name]
        meanings = {(name, self._try(module, name)) for name in module.uses(node).names - {symbol.name}}
        return f"{ast.dump(ast.parse(code_of(node)))} {sorted(meanings, key=str)}"

    def _name_in(self, module: SourceModule) -> dict[str, str]:
        """Return what the top-level names of a module are called in the exported file, where they are copied there."""
        names = {}
        for local in {**module.definitions, **module.imports}:
            target = self._try(module, local)
            if isinstance(target, Symbol):
                names[local] = BUILTINS.get(target) or self.names.get(BASES.get(target, target), local)
        return names

    def _try(self, module: SourceModule, local: str) -> Symbol | Import | None:
        try:
            return self.sources.resolve(module, local)
        except UsageError:  # of something that is not used, or it would have been raised before
            return None

    # ---- text ----

    def imports(self) -> list[str]:
        """Return the import statements of the file."""
        lines = set()
        for local, target in self.external.items():
            if target.name is None:
                lines.add(f"import {target.module}" + ("" if target.module == local else f" as {local}"))
            elif target in BACKPORTS:
                lines.add(BACKPORTS[target][0])
            else:
                renamed = "" if target.name == local else f" as {local}"
                lines.add(f"from {target.module} import {target.name}{renamed}")
        return sorted(lines - {""})

    def sections(self) -> list[tuple[str, str]]:
        """Return what the code of each module is about, and the code; the model's own module last."""
        self._choose_names()
        backports = ((local, BACKPORTS.get(origin)) for local, origin in sorted(self.external.items()))
        helpers = [backport[1].format(name=local) for local, backport in backports if backport is not None]
        sections = [("", "\n".join(helpers))] if helpers else []
        written: set[str] = set()
        for module in self._modules_in_order():
            texts = {}
            for name, statement in module.definitions.items():
                symbol = Symbol(module.name, name)
                if symbol in self.kept and (self.names[symbol] not in written or id(statement) in texts):
                    written.add(self.names[symbol])
                    texts[id(statement)] = self._text(module, symbol, statement)
            if texts:
                about = "" if module.name == self.model.module else module.summary
                sections.append((about, "\n\n".join(texts.values())))
        return sections

    def _modules_in_order(self) -> list[SourceModule]:
        """Return the modules of what is kept, each after those whose definitions it uses."""
        order: dict[str, SourceModule] = {}
        visited: set[str] = set()

        def visit(name: str) -> None:
            if name not in visited:
                visited.add(name)
                for other in sorted(self._needs[name]):
                    visit(other)
                order[name] = self.sources[name]

        visit(self.model.module)
        return list(order.values())

    def _text(self, module: SourceModule, symbol: Symbol, statement: Any) -> str:
        names = self._name_in(module)
        if not isinstance(statement, cst.ClassDef):
            comment = module.comment_on(statement)
            return "".join(code_of(changed(node, module, names)) for node in (statement, comment) if node)
        of_fields = any("dataclass" in code_of(decorator) for decorator in statement.decorators)
        attributes = () if self._stands_alone(symbol) else self.recipe.attributes  # the model, or a base of it
        members = [
            changed(member, owner, self._name_in(owner), attributes, of_fields)
            for owner, member in self._members(symbol, statement)
        ]
        head = changed(statement.with_changes(body=cst.IndentedBlock([])), module, names)
        return code_of(head.with_changes(body=statement.body.with_changes(body=members)))


def _may_be_imported(module: str) -> bool:
    root = module.partition(".")[0]
    return root in LIBRARIES or root in sys.stdlib_module_names


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


# ---- Python 3.8, on which RecBole is tested ----


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


def check_python38(text: str, name: str) -> None:
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
    types = _TYPES | {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            for side in (node.left, node.right):
                if getattr(side, "id", "") in types or (isinstance(side, ast.Constant) and side.value is None):
                    yield node.lineno, "a union of types at run time needs 3.10"
        elif isinstance(node, ast.Attribute) and node.attr in _METHODS:
            yield node.lineno, f"the method {node.attr} is newer"


def _by_line(report: str) -> dict[int, list[tuple[tuple[int, int], str]]]:
    """Read vermin's report, ``L7: 'x' member requires 2.7, 3.10``, as line -> [(Python 3 version, feature)]."""
    features: dict[int, list[tuple[tuple[int, int], str]]] = {}
    for line in report.splitlines():
        match = re.search(r"L(\d+)[^:]*:\s*(.*?) requires? .*?(3)\.(\d+)\s*$", line)
        if match:
            features.setdefault(int(match[1]), []).append(((3, int(match[4])), match[2]))
    return features


def _too_new(text: str, name: str, line: int, what: str) -> UsageError:
    lines = text.splitlines()
    code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return UsageError(f"line {line} of {name}, '{code}', is not Python 3.8, which RecBole needs: {what}.")

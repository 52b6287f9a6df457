"""What a model uses of its package and of this one, followed by names without importing anything."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.lab.upstream.modules import Import, SourceModule, Sources, Symbol, global_names
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

_Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


class Followed:
    """The definitions that a model needs (``kept``), and what it imports (``external``: local name -> origin)."""

    def __init__(self, module: str, model: str, recipe: ExportRecipe) -> None:
        self.sources = Sources({"recbole_signed", module.partition(".")[0]})
        self.model = Symbol(module, model)
        self.recipe = recipe
        if model not in self.sources[module].definitions:
            raise UsageError(f"{self.sources[module].path} does not define the class {model}.")
        self.kept: set[Symbol] = set()
        self.mentioned: set[str] = set()
        self.external: dict[str, Import] = {}
        self._followed: set[int] = set()  # nodes, by their identity
        self._heads: dict[Symbol, ast.ClassDef] = {}
        self._follow()

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
            for name in sorted(global_names(ast.unparse(node))):
                target = self.target(module, name)
                if isinstance(target, Symbol):
                    found.add(target)
                elif target is not None:
                    self._use_external(module, name, target)
            for each in ast.walk(node):
                if isinstance(each, ast.Attribute):
                    self.mentioned.add(each.attr)
                elif isinstance(each, (ast.Import, ast.ImportFrom)):
                    self._check_local_import(module, each)
        return found

    def target(self, module: SourceModule, name: str) -> Symbol | Import | None:
        """Return what a name of ``module`` is in the exported file; None: a builtin, or nothing."""
        target = self.sources.resolve(module, name)
        if target in BUILTINS:
            return None
        return BASES.get(target, target) if isinstance(target, Symbol) else target

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
                statement.name, statement.bases, statement.keywords, [ast.Pass()], statement.decorator_list
            )
        parts: list[tuple[SourceModule, ast.AST]] = [(module, self._heads[symbol])]
        for owner, member in self.members(module, statement):
            parts.append((owner, member))
            if isinstance(member, ast.AnnAssign) and self.is_dataclass(owner, statement):
                names = [n for n in ast.walk(member.annotation) if isinstance(n, ast.Name)]
                outside = [n for n in names if isinstance(self.sources.resolve(owner, n.id), Import)]
                parts += [(owner, n) for n in outside if n.id not in ("npt",)]
        return parts

    def members(self, module: SourceModule, statement: ast.ClassDef) -> list[tuple[SourceModule, ast.stmt]]:
        """Return the statements of a class that are kept, each with the module that it is from."""
        symbol, stays = Symbol(module.name, statement.name), self.stands_alone(module, statement)
        overriding = self._stock_members(symbol) if symbol in BASES.values() else []
        others = {each.name for each in overriding if isinstance(each, _Functions)}
        members: list[tuple[SourceModule, ast.stmt]] = []
        for position, member in enumerate(statement.body):
            name = _member_name(member)
            if isinstance(member, ast.Expr) and position and _member_name(statement.body[position - 1]) in METADATA:
                continue  # the comment on what is left out
            dropped = name in others or (not stays and isinstance(member, ASSIGNMENTS) and name in METADATA)
            # of the model, or of a base that it has it from; or what gives a class its facts
            if not stays and name in (*self.recipe.methods, "__init_subclass__"):
                dropped = True
            if stays and isinstance(member, _Functions) and not re.fullmatch("__.*__", member.name):
                dropped = member.name not in self.mentioned
            if overriding and position == 0:
                dropped = True  # its docstring is that of the stock class
            if not dropped:
                members.append((module, member))
        bridge = self.sources[STOCK.module]
        return [(bridge, each) for each in overriding[:1]] + members + [(bridge, each) for each in overriding[1:]]

    @property
    def is_sequential(self) -> bool:
        """Whether it is a sequential model."""
        return SEQUENCES in self.kept

    def _stock_members(self, base: Symbol) -> list[ast.stmt]:
        """Docstring and methods of the class that stands for a base of models."""
        bridge = self.sources[STOCK.module]
        members: dict[str, ast.stmt] = {}
        classes = [stock for stock, of in BASES.items() if of == base]
        for symbol in (*classes, STOCK_BATCHES) if base == BASE and self._sets_batches(self.model) else classes:
            statement = bridge.definitions[symbol.name]
            assert isinstance(statement, ast.ClassDef)
            for member in statement.body:
                if symbol in BASES or isinstance(member, _Functions):
                    members[_member_name(member)] = member
        return list(members.values())

    def _sets_batches(self, symbol: Symbol) -> bool:
        """Whether a class, or one that it inherits from, has an attribute ``batches`` other than None."""
        module = self.sources[symbol.module]
        statement = module.definitions[symbol.name]
        assert isinstance(statement, ast.ClassDef)
        for member in statement.body:
            if isinstance(member, ASSIGNMENTS) and _member_name(member) == "batches":
                return not (isinstance(member.value, ast.Constant) and member.value.value is None)
        targets = [self.target(module, base.id) for base in statement.bases if isinstance(base, ast.Name)]
        return any(self._sets_batches(each) for each in targets if isinstance(each, Symbol))

    def stands_alone(self, module: SourceModule, statement: ast.ClassDef) -> bool:
        """Whether nobody outside can call a method of the class: it inherits from nothing but such classes."""
        for base in statement.bases:
            target = self.target(module, base.id) if isinstance(base, ast.Name) else None
            if not isinstance(target, Symbol):
                return False
            owner = self.sources[target.module]
            definition = owner.definitions[target.name]
            if not isinstance(definition, ast.ClassDef) or not self.stands_alone(owner, definition):
                return False
        return True

    def is_dataclass(self, module: SourceModule, statement: ast.ClassDef) -> bool:
        """Whether the hints of a class say what its fields are."""
        for decorator in statement.decorator_list:
            name = decorator.func if isinstance(decorator, ast.Call) else decorator
            target = self.sources.resolve(module, name.id) if isinstance(name, ast.Name) else None
            if isinstance(target, Import) and (target.module, target.name) == ("dataclasses", "dataclass"):
                return True
        return False


ASSIGNMENTS = (ast.Assign, ast.AnnAssign)


def _member_name(member: ast.stmt) -> str:
    if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return member.name
    target: ast.AST | None = None
    if isinstance(member, ast.Assign):
        target = member.targets[0]
    elif isinstance(member, ast.AnnAssign):
        target = member.target
    return target.id if isinstance(target, ast.Name) else ""


ALL_IN_ONE_BATCH = 1_000_000_000  # `train_batch_size` for one batch of all likes: stock RecBole does not read 0 as that

TRAINER_KEYS = ("lr_milestones", "lr_gamma", "training_budget", "max_steps", "eval_every_steps")
"""Keys of ``SignedTrainer`` that RecBole's trainer does not read."""

METADATA = ("trainer_class", "parameter_ranges", "reads", *(each.name for each in fields(ModelFacts)))
"""Attributes of a model class that only the commands of this package ask for."""


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
    found = facts_of(model).export_recipe or next((ours[name] for name in lineage(model) if name in ours), {})
    given: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in found.items()}
    return ExportRecipe(**given)

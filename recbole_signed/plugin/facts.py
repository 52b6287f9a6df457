"""What the rest of the package needs to know of a model: attributes of its class, read without importing it.

Tables, the report, the export and the live learners ask :func:`facts_of`. The attributes are described at
:class:`~recbole_signed.model.abstract_recommender.SignedRecommender`, from which most models have them; any other class
may set them too. They are read from the source, along the base classes, so they must be literals.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.files import sha256
from recbole_signed.plugin import registry

OWN = "this package"
"""The ``source`` of a model that is this package's own."""
FOREIGN = frozenset(("recbole", "recbole_gnn", "torch", "abc", "typing"))
"""Packages whose classes have no facts."""


@dataclass(frozen=True)
class ModelFacts:
    """The attributes, with the values of a class that does not set them."""

    needs_sign: bool = False
    uses_dislikes: bool = False
    family: str = ""
    source: str = ""
    seedless: bool = False
    trained_by_gradients: bool = True
    is_reference: bool = False
    display_name: str = ""
    learner: str | None = None
    stream_chooser: str | None = None
    export_recipe: Mapping[str, Any] = field(default_factory=dict)
    parameter_ranges: Mapping[str, str] = field(default_factory=dict)


STOCK = {
    "Pop": ModelFacts(seedless=True, trained_by_gradients=False, is_reference=True),
    "Random": ModelFacts(trained_by_gradients=False, is_reference=True),
    "BPR": ModelFacts(),
    "LightGCN": ModelFacts(),
    "EASE": ModelFacts(seedless=True, trained_by_gradients=False),
    "ItemKNN": ModelFacts(seedless=True, trained_by_gradients=False),
    "AsymKNN": ModelFacts(seedless=True, trained_by_gradients=False),
    "NCEPLRec": ModelFacts(trained_by_gradients=False),  # a closed form, whose randomised decomposition has the seed
    "SLIMElastic": ModelFacts(trained_by_gradients=False),
    "ADMMSLIM": ModelFacts(trained_by_gradients=False),
}
"""RecBole's own models, whose classes can't be given attributes; those that are not here have the defaults."""

UNSIGNED_FAMILIES = {
    "context_aware": (
        "it predicts the label of an item that is shown, and no ranking; with 'SIGN_FIELD: ~', "
        "'threshold: {sign: 0.5}' and sign in load_col RecBole trains it to tell likes from dislikes (AUC, LogLoss)"
    ),
    "knowledge_aware": "it reads a knowledge graph (.kg, .link) beside the interactions, which is not supported",
    "exlib": "it is a library's classifier of labels, which gives no ranking",
}
"""Why RecBole's models of some families do not run on data with a sign."""
UNSIGNED_MODELS = dict.fromkeys(("GRU4RecKG", "KSR"), UNSIGNED_FAMILIES["knowledge_aware"])
"""The same of single models of other families."""


def why_unsigned(model: str, family: str) -> str | None:
    """Return why a model of RecBole's does not run on data with a sign; None where it does, on the likes.

    Args:
        model: its name.
        family: the folder of RecBole in which it is, without ``_recommender``.
    """
    return UNSIGNED_MODELS.get(model) or UNSIGNED_FAMILIES.get(family)


def facts_of(model: str) -> ModelFacts:
    """Return what is known of a model by its name; of an unknown one the defaults.

    Raises:
        UsageError: an attribute of its class is not a literal.
    """
    entry = registry.models().get(model)
    if entry is None:
        return STOCK.get(model, ModelFacts())
    found = _attributes(entry.module, entry.name)
    found.setdefault("uses_dislikes", found.get("needs_sign", False))
    return ModelFacts(**found)


def display_name(model: str) -> str:
    """Return how tables and figures write a model: its class name, unless its class says otherwise."""
    return facts_of(model).display_name or model


def class_name(name: object) -> str:
    """Return the class name of the model that tables print so, in any case (SSFL of SSF-L); any other as it is."""
    name = str(name)
    if name in registry.known_model_names():
        return name
    return next(
        (model for model in registry.models() if display_name(model).lower() == name.lower() != model.lower()), name
    )


def class_names(*names: object) -> list[str]:
    """Return the :func:`class_name` of each; raise :func:`~.registry.unknown_model` for the first that no model has."""
    found, known = [class_name(name) for name in names], registry.known_model_names() if names else []
    for name in found:
        if name not in known:
            raise registry.unknown_model(name)
    return found


def _source(module: str) -> tuple[ast.Module, dict[str, tuple[str, str]]]:
    """Return a module's syntax tree, and where the names that it imports are from: module and name (of a module "")."""
    spec = _spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ast.Module([], []), {}
    path, package = Path(spec.origin), _package(spec)
    trees = [_parsed(each, each.stat().st_mtime_ns) for each in (path, path.with_suffix(".pyi")) if each.is_file()]
    imports: dict[str, tuple[str, str]] = {}
    for node in [each for tree in trees for each in tree.body]:
        if isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            whole = ((each.asname, each.name.partition(".")[0], each.name) for each in node.names)
            imports |= {name or root: (full if name else root, "") for name, root, full in whole}
    return trees[0], imports


@lru_cache(maxsize=256)
def _parsed(path: Path, changed_ns: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def _attributes(module: str, name: str) -> dict[str, Any]:
    """Return the facts that a class, or one that it inherits from, sets."""
    definition = _class(module, name)
    if definition is None:
        return {}
    found: dict[str, Any] = {}
    for base in reversed(definition.bases):
        found |= _attributes(*base)
    found.pop("display_name", None)  # it names one class
    for member in definition.statement.body:
        targets = member.targets if isinstance(member, ast.Assign) else [getattr(member, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in NAMES and getattr(member, "value", None) is not None:
                found[target.id] = _literal(member.value, f"{definition.name}.{target.id}")  # type: ignore[attr-defined]
    return found


@dataclass(frozen=True)
class _Class:
    """A class statement, read and not imported."""

    statement: ast.ClassDef
    name: str
    """Module and class, with a dot between."""
    bases: list[tuple[str, str]]
    """Module and name of each base."""


def _class(module: str, name: str) -> _Class | None:
    """Find a class by a module that has it or imports it; None where it is RecBole's or not there."""
    if module.partition(".")[0] in FOREIGN:
        return None
    tree, imports = _source(module)
    statement = next((each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name), None)
    if statement is None:
        return _class(*imports[name]) if name in imports else None
    return _Class(statement, f"{module}.{name}", _bases(statement, module, imports))


def _bases(statement: ast.ClassDef, module: str, imports: Mapping[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return module and name of each class that a class of ``module`` names as its base."""
    found = []
    for base in statement.bases:
        if isinstance(base, ast.Name):
            # a class may have the name of the imported one that it extends
            found.append(imports[base.id] if base.id == statement.name and base.id in imports else (module, base.id))
        elif isinstance(base, ast.Attribute):  # package.Class
            first, *inner, last = ast.unparse(base).split(".")
            if first in imports:
                found.append((".".join(filter(None, (*imports[first], *inner))), last))
    return found


def foreign_code(model: str) -> str | None:
    """Return a checksum of the code of a model from outside this package, read without importing the model.

    Its module counts, with those of its base classes and of the data set and trainer that it was registered with, and
    what these import, as far as it is the author's code: the package of the model, and packages and modules that lie
    beside it, unless that is where packages are installed. None for any other model.
    """
    path = registry.foreign_source(model)
    if path is None:
        return None
    entry = registry.models()[model]
    named = [each.partition(":")[0] for each in (entry.dataset, entry.trainer) if each is not None]
    bases = [module for module, _ in _lineage(entry.module, entry.name)]
    modules = [each for each in dict.fromkeys([entry.module, *bases, *named]) if not _is_known(each)]
    home, roots = _home(entry.module), {each.partition(".")[0] for each in (entry.module, *named)}

    def is_own(module: str) -> bool:
        root = module.partition(".")[0]
        return not _is_known(root) and (root in roots or (home is not None and _home(root) == home))

    paths = {path: None}
    for module in modules:  # which grows
        spec = _spec(module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            paths[Path(spec.origin)] = None
            modules += [each for each in _imports(spec, is_own) if each not in modules]
    sums = [sha256(each) for each in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def lineage(model: str) -> list[str]:
    """Return the names of a model and of the classes that it extends, as far as their source is read."""
    entry = registry.models().get(model)
    return [model] if entry is None else [name for _, name in _lineage(entry.module, entry.name)]


def _lineage(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of a class and of those that it extends."""
    definition = _class(module, name)
    if definition is None:
        return
    module, _, name = definition.name.rpartition(".")
    yield module, name
    for base in definition.bases:
        yield from _lineage(*base)


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in {registry.PACKAGE.name, *FOREIGN}


def _home(module: str) -> Path | None:
    """Return the folder that holds the package or the single module of the highest level; None of installed ones."""
    spec = _spec(module.partition(".")[0])
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else [])]
    installed = {"site-packages", "dist-packages", Path(os.__file__).parent.name}
    folder = Path(places[0]).absolute().parent if places else None
    return None if folder is None or installed & {*folder.parts, folder.name} else folder


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module is; None where there is none, or its package can't be imported."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _package(spec: ModuleSpec) -> str:
    """Return the package that relative imports of a module start from."""
    return spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]


def _imports(spec: ModuleSpec, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the wanted modules that the statements of a module import, wherever they stand."""
    path, package = Path(str(spec.origin)), _package(spec)
    for node in ast.walk(_parsed(path, path.stat().st_mtime_ns)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if wanted(each.name))
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if wanted(origin) and (found := _spec(origin)) is not None:
                yield origin
                if found.submodule_search_locations:  # what is looked for in a module is imported with it
                    yield from (f"{origin}.{each.name}" for each in node.names)


def default_file(model: str) -> Path | None:
    """Return what :func:`~.registry.properties_of` gives for a registered model, without importing it."""
    entry = registry.models().get(model)
    return None if entry is None else entry.properties or _inherited_file(entry.module, entry.name)


def _inherited_file(module: str, name: str) -> Path | None:
    definition = _class(module, name)
    if definition is None:
        return None
    entry = registry.models().get(definition.statement.name)
    if entry is not None and entry.properties is not None:
        return entry.properties
    files = (_inherited_file(*base) for base in definition.bases)
    return next((file for file in files if file is not None), None)


NAMES = frozenset(each.name for each in fields(ModelFacts))


def _literal(node: ast.expr, what: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UsageError(f"{what} is {ast.unparse(node)}; write a literal, which is read without importing.") from error

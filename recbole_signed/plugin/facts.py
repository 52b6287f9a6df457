"""What the rest of the package needs to know of a model, by its name; of our own from ``properties/models.yaml``."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from recbole_signed.files import sha256
from recbole_signed.plugin import registry

OWN = "this package"  # the `source` of a model that is this package's own
KNOWN = frozenset((registry.PACKAGE.name, "recbole", "recbole_gnn", "torch", "abc", "typing", "builtins"))
"""Packages that are no code of a model's author."""


@dataclass(frozen=True)
class ModelFacts:
    """The attributes, with the values of a class that does not set them."""

    needs_sign: bool = False
    uses_dislikes: bool = False
    reads_neutrals: bool = False
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
        "'threshold: {sign: 0.5}' and sign in load_col RecBole trains it to tell likes from other rows (AUC, LogLoss)"
    ),
    "knowledge_aware": "it reads a knowledge graph (.kg, .link) beside the interactions, which is not supported",
    "exlib": "it is a library's classifier of labels, which gives no ranking",
}
"""Why RecBole's models of some families do not run on data with a sign."""
UNSIGNED_MODELS = dict.fromkeys(("GRU4RecKG", "KSR"), UNSIGNED_FAMILIES["knowledge_aware"])  # of other families


def why_unsigned(model: str, family: str) -> str | None:
    """Return why a model of RecBole's does not run on data with a sign; None where it does, on the likes."""
    return UNSIGNED_MODELS.get(model) or UNSIGNED_FAMILIES.get(family)


@cache
def own_facts() -> dict[str, ModelFacts]:
    """Return what ``properties/models.yaml`` says of each model of this package."""
    from recbole_signed.yaml_spec import read_yaml

    return {name: _made(given) for name, given in read_yaml(registry.PROPERTIES.with_name("models.yaml")).items()}


def _made(given: dict[str, Any]) -> ModelFacts:
    return ModelFacts(**{"uses_dislikes": given.get("needs_sign", False), **given})


def set_facts(kind: type) -> None:
    """Give a class of this package's models its facts as attributes; any other class stays as it is."""
    if kind.__module__.partition(".")[0] == registry.PACKAGE.name and kind.__name__ in own_facts():
        for name, value in vars(own_facts()[kind.__name__]).items():
            setattr(kind, name, value)


def facts_of(model: str) -> ModelFacts:
    """Return what is known of a model by its name; of an unknown one the defaults."""
    entry = registry.models().get(model)
    if entry is None:
        return STOCK.get(model, ModelFacts())
    if _is_known(entry.module):
        return own_facts()[model]
    kind = _class_of(entry)
    facts = {name: getattr(kind, name) for name in NAMES if hasattr(kind, name)}
    facts["display_name"] = vars(kind).get("display_name", "")  # it names one class
    return _made(facts)


def _class_of(entry: registry.ModelEntry) -> type:
    """Return the class of a model from outside; one without facts where it can't be imported, as its run will say."""
    try:
        kind = registry.load_object(f"{entry.module}:{entry.name}")
    except Exception:
        return object
    return kind if isinstance(kind, type) else object


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
    classes, known = [class_name(name) for name in names], registry.known_model_names() if names else []
    for name in classes:
        if name not in known:
            raise registry.unknown_model(name)
    return classes


def foreign_code(model: str) -> str | None:
    """Return a checksum of the code of a model from outside this package, with what it imports beside it; else None."""
    path = registry.foreign_source(model)
    if path is None:
        return None
    entry = registry.models()[model]
    named = [reference.partition(":")[0] for reference in (entry.dataset, entry.trainer) if reference is not None]
    bases = [kind.__module__ for kind in _class_of(entry).__mro__]
    modules = [module for module in dict.fromkeys([entry.module, *bases, *named]) if not _is_known(module)]
    home, roots = _home(entry.module), {name.partition(".")[0] for name in (entry.module, *named)}

    def is_own(module: str) -> bool:
        root = module.partition(".")[0]
        return not _is_known(root) and (root in roots or (home is not None and _home(root) == home))

    paths = {path: None}
    for module in modules:  # which grows
        spec = _spec(module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            paths[Path(spec.origin)] = None
            modules += [imported for imported in _imports(spec, is_own) if imported not in modules]
    sums = [sha256(file) for file in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def lineage(model: str) -> Iterator[str]:
    """Yield the names of a model and of the classes that it extends; its class is imported for the second one."""
    yield model
    entry = registry.models().get(model)
    kind = object if entry is None else registry.load_object(f"{entry.module}:{entry.name}")
    yield from (base.__name__ for base in kind.__mro__[1:])


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in KNOWN


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


@lru_cache(maxsize=256)
def _parsed(path: Path, changed_ns: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def _imports(spec: ModuleSpec, accepts: Callable[[str], bool]) -> Iterator[str]:
    """Yield the accepted modules that the statements of a module import, wherever they stand."""
    path, package = Path(str(spec.origin)), _package(spec)
    for node in ast.walk(_parsed(path, path.stat().st_mtime_ns)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if accepts(alias.name))
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if accepts(origin) and (imported := _spec(origin)) is not None:
                yield origin
                if imported.submodule_search_locations:  # what is looked for in a module is imported with it
                    yield from (f"{origin}.{alias.name}" for alias in node.names)


def default_file(model: str) -> Path | None:
    """Return what :func:`~.registry.properties_of` gives for a registered model."""
    entry = registry.models().get(model)
    return None if entry is None else entry.properties or registry.properties_of(_class_of(entry))


NAMES = frozenset(fact.name for fact in fields(ModelFacts))


# ---- families: the groups that figures colour and that the report compares ----

OURS = "ours"
SIGNED_CLOSED = "signed, closed form"
SIGNED_TRAINED = "signed, gradient-trained"
LIKES_CLOSED = "likes only, closed form"
LIKES_TRAINED = "likes only, gradient-trained"
REFERENCE = "reference"

FAMILY_COLOURS = {
    OURS: "#D55E00",
    SIGNED_TRAINED: "#56B4E9",
    SIGNED_CLOSED: "#0072B2",
    LIKES_TRAINED: "#999999",
    LIKES_CLOSED: "#009E73",
    REFERENCE: "#000000",
}
"""Of Okabe and Ito, which most readers can tell apart; in the order of a legend."""


def family(model: str) -> str:
    """Return the family of a model class, by the attributes of the class (:mod:`recbole_signed.plugin.facts`)."""
    facts = facts_of(model)
    if facts.is_reference or facts.source == OWN:
        return REFERENCE if facts.is_reference else OURS
    if facts.uses_dislikes:
        return SIGNED_TRAINED if facts.trained_by_gradients else SIGNED_CLOSED
    return LIKES_TRAINED if facts.trained_by_gradients else LIKES_CLOSED


# ---- the list of models ----


@dataclass(frozen=True)
class ModelInfo:
    """A model that ``run`` finds by name."""

    name: str
    origin: str  # `recbole_signed`, `recbole`, or the package that registered it
    family: str  # what kind of model it is; RecBole's own: general, sequential,
    uses_dislikes: bool
    source: str  # the paper, where the class names it
    refused: str = ""  # why it does not run on data with a sign; empty where it does

    def as_dict(self) -> dict[str, Any]:
        """Return the model as JSON can hold it."""
        return asdict(self)


def list_models() -> list[ModelInfo]:
    """Return this package's models and third parties' first, in order of name, then RecBole's own by family."""
    ours = []
    for name, entry in sorted(registry.models().items()):
        facts = facts_of(name)
        origin = entry.module.partition(".")[0]
        ours.append(ModelInfo(name, origin, facts.family, facts.uses_dislikes, facts.source))
    stock = [
        ModelInfo(name, "recbole", family, False, "", refused=why_unsigned(name, family) or "")
        for name, family in registry.stock_models()
    ]
    families = list(dict.fromkeys(("general", *sorted(model.family for model in stock))))
    return ours + sorted(stock, key=lambda model: (families.index(model.family), model.name.lower()))

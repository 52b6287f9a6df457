"""The models that can be run by name: those of this package, of third parties, and RecBole's own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_signed.compat import checkpoint
from recbole_signed.errors import UsageError, nearest
from recbole_signed.files import path_of, sha256

MODEL_PACKAGE = "recbole.model.general_recommender"  # where RecBole's get_model looks first
LAST_PACKAGE = "recbole.model.exlib_recommender"  # where it looks last
GNN_PACKAGE = "recbole_gnn"  # which looks among its own models first
ENTRY_POINT_GROUP = "recbole_signed.models"
PACKAGE = Path(__file__).parents[1]
PROPERTIES = PACKAGE / "properties" / "model"
OWN_MODEL_ROOMS = ("ssf", "model")  # the packages that hold the models of this package
INHERITED, INHERITED_METRICS = "RECBOLE_SIGNED_REGISTERED", "RECBOLE_SIGNED_METRICS"  # tell child processes
OWN_METRICS = (
    *("DislikeRecall", "DislikeHit", "DislikeNDCG", "DislikeShare", "DeltaRecall", "DeltaNDCG", "SignAUC"),
    *("SignedRecall", "SignedNDCG", "SignedHit", "GroupRecall", "GroupNDCG", "GroupShare"),
    *("ColdRecall", "ColdNDCG", "PooledNDCG"),
)
"""The metrics of this package, which are known without importing torch."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that RecBole finds by name."""

    name: str
    module: str
    properties: Path | None = None  # its default yaml
    dataset: str | None = None  # `module:Class` of a data set class of its own
    trainer: str | None = None  # `module:Class` of a trainer other than the class attribute `trainer_class` names


@dataclass(frozen=True)
class MetricEntry:
    """A metric that was registered from outside this package."""

    name: str
    module: str
    smaller: bool  # whether smaller values are better


registered: dict[str, ModelEntry] = {}  # by name; without entry points that were not read yet
own_metrics: dict[str, MetricEntry] = {}  # by name


def register_model(
    name: str,
    module: str,
    *,
    properties: str | Path | None = None,
    dataset: str | None = None,
    trainer: str | None = None,
) -> None:
    """Make ``run_recbole(model=name)`` find the class ``name`` of ``module``.

    The processes that ``compare``, ``tune`` and others start from this one find it too. A package can do the same
    without a call, by an entry point of the group ``recbole_signed.models`` whose name is the model's
    and whose value is ``module:Class``; a file ``properties/model/NAME.yaml`` beside that module's package, or
    ``NAME.yaml`` beside the module itself, then holds its defaults.

    Args:
        name: the class name; RecBole lower-cases it to look for the module.
        module: the importable module that defines the class; imported when the model is first used.
        properties: yaml file of default hyper-parameters.
        dataset: ``module:Class`` where the model needs its own ``Dataset``.
        trainer: ``module:Class`` of the trainer; by default that of the class attribute ``trainer_class``, if any.

    Raises:
        UsageError: another model of that name (or RecBole itself) has the place, or the yaml file does not exist.
    """
    path = None if properties is None else path_of(properties, "properties")
    if path is not None and not path.is_file():
        raise UsageError(f"the model '{name}' is registered with the file {path}, which does not exist.")
    known = next((model for model in registered.values() if model.name.lower() == name.lower()), None)
    if known is not None and (known.name, known.module) != (name, module):
        why = "" if known.name == name else ", and RecBole finds a model by its name in lower case"
        raise UsageError(
            f"the model '{known.name}' is registered already, by {known.module}{why}; give one of the two another name."
        )
    folder = recbole_folder()
    if folder is not None and any((folder / "model").glob(f"*_recommender/{name.lower()}.py")):
        raise UsageError(f"RecBole has a model of the name '{name}'; register yours under another name.")
    _register(ModelEntry(name, module, path, dataset, trainer))
    defaults = None if path is None else str(path.absolute())
    _pass_on(INHERITED, name, {"module": module, "properties": defaults, "dataset": dataset, "trainer": trainer})


def _pass_on(variable: str, name: str, about: Mapping[str, Any]) -> None:
    paths = [str(Path(folder).absolute()) for folder in sys.path]  # where the module is found
    os.environ[variable] = json.dumps(inherited(variable) | {name: {**about, "path": paths}})


def inherited(variable: str) -> dict[str, Any]:
    """Return what was told by one of the environment variables :data:`INHERITED` and :data:`INHERITED_METRICS`."""
    return dict(json.loads(os.environ.get(variable, "{}")))


def keep_metric(entry: MetricEntry) -> None:
    """Know a metric, and tell the processes that this one starts, unless its module is the script that runs."""
    own_metrics[entry.name] = entry
    if entry.module != "__main__":
        _pass_on(INHERITED_METRICS, entry.name, {"module": entry.module})


@cache
def metric_names() -> dict[str, str]:
    """Return the names of RecBole's metrics and of this package's by their lower case, without importing them."""
    folder = recbole_folder()
    text = "" if folder is None else (folder / "evaluator" / "metrics.py").read_text(encoding="utf-8")
    return {name.lower(): name for name in [*re.findall(r"^class (\w+)\(", text, re.MULTILINE), *OWN_METRICS]}


def check_metrics(names: Iterable[str], where: str = "") -> None:
    """Refuse names of metrics that a process started by this one will not know; ``where`` is for the message."""
    known = [*metric_names().values(), *own_metrics]
    lower = [metric.lower() for metric in known]
    for name in names:
        if name.lower() not in lower:
            own = "; one of your own is known once a module calls register_metric (--import FILE.py)."
            raise UsageError(f"{where}there is no metric named '{name}'{nearest(name, known) or own}")
    script = [metric.name for metric in own_metrics.values() if metric.module == "__main__"]
    for name in script:
        if name.lower() in (metric.lower() for metric in names):
            raise UsageError(
                f"{where}the metric {name} is defined in the script that runs, which the processes of its runs do not "
                "run again; put it into a file of its own, and import that (--import FILE.py)."
            )


def metric_code(names: Iterable[str]) -> dict[str, str]:
    """Return the checksums of the files of those metrics that were registered from outside, by name."""
    asked = {name.lower() for name in names}
    files = {
        metric.name: getattr(sys.modules.get(metric.module), "__file__", None)
        for metric in own_metrics.values()
        if metric.name.lower() in asked
    }
    return {name: sha256(Path(file)) for name, file in files.items() if file}


def import_file(file: str | Path) -> None:
    """Import a Python file, which registers models or metrics."""
    path = path_of(file, "import").absolute()
    if path.suffix != ".py" or not path.stem.isidentifier() or not path.is_file():
        raise UsageError(f"{file} is not a Python file that can be imported, such as own_model.py.")
    sys.path.insert(0, str(path.parent))
    try:
        origin = importlib.import_module(path.stem).__file__
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} can't be imported ({type(error).__name__}: {error}); correct it.") from error
    if origin is None or Path(origin).resolve() != path.resolve():
        raise UsageError(f"{file} has the name of another module, {origin}; give it another name.")


def register_inherited_models() -> None:
    """Register what the process that started this one had registered."""
    for name, entry in inherited(INHERITED).items():
        properties = None if entry["properties"] is None else Path(entry["properties"])
        _register(ModelEntry(name, entry["module"], properties, entry["dataset"], entry["trainer"]))
        sys.path.extend(path for path in entry["path"] if path not in sys.path)


def _register(entry: ModelEntry) -> None:
    registered[entry.name] = entry
    _add_alias(entry)
    checkpoint.TRUSTED_ROOTS.add(entry.module.partition(".")[0])


def models() -> dict[str, ModelEntry]:
    """Return the models that this package and its third parties add to RecBole, by name."""
    read_entry_points()
    return dict(registered)


def foreign_source(name: str) -> Path | None:
    """Return the file of a model that was registered from outside this package; None for any other."""
    entry = models().get(name)
    if entry is None or entry.module.partition(".")[0] == PACKAGE.name:
        return None
    spec = importlib.util.find_spec(entry.module)
    return None if spec is None or spec.origin is None else Path(spec.origin)


def register_own_models() -> None:
    """Register each model of this package: ``properties/model/NAME.yaml`` names one in ``ssf`` or ``model``."""
    for path in sorted(PROPERTIES.glob("*.yaml")):
        lower = path.stem.lower()
        names = lower, lower.removeprefix("signed")  # what reads dislikes too lies beside what it extends
        files = (PACKAGE / room / f"{name}.py" for name in names for room in OWN_MODEL_ROOMS)
        file = next(candidate for candidate in files if candidate.is_file())
        module = f"{PACKAGE.name}.{file.parent.name}.{file.stem}"
        checkpoint.SPELLINGS[f"{PACKAGE.name}.model.{lower}"] = module  # as each had a file of its own once
        _register(ModelEntry(path.stem, module, path))


def load_object(spec: str) -> Any:
    """Return the object that ``module:name`` names."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


def serves(entry: ModelEntry | None, model_class: type) -> bool:
    """Whether ``model_class`` is what ``entry`` leads to, and not RecBole-GNN's model of the same name."""
    return entry is not None and model_class.__module__.partition(".")[0] != GNN_PACKAGE


def properties_of(model_class: type) -> Path | None:
    """Return the yaml of defaults of a class, or of the nearest registered one that it extends; None without any."""
    known = models()
    entries = ((known.get(kind.__name__), kind) for kind in model_class.__mro__)
    files = (entry.properties for entry, kind in entries if entry is not None and serves(entry, kind))
    return next((path for path in files if path is not None), None)


class _Alias(ModuleType):
    """``recbole.model.general_recommender.<lower name>``; gives the class of the real module when it is asked for."""

    def __init__(self, alias: str, entry: ModelEntry) -> None:
        super().__init__(alias, f"Leads to {entry.module}.")
        self.__spec__ = ModuleSpec(alias, loader=None, origin=entry.module)
        self._entry = entry

    def __getattr__(self, attribute: str) -> Any:
        entry = self.__dict__.get("_entry")
        if entry is None or attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(_module_of(entry), attribute)


def _module_of(entry: ModelEntry) -> ModuleType:
    try:
        return importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{entry.module}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports another that is not
        raise UsageError(
            f"the model '{entry.name}' is registered with the module {entry.module}, which can't be found; register "
            "it with the name that 'import' takes, and put its folder into sys.path or PYTHONPATH."
        ) from error


def _add_alias(entry: ModelEntry) -> None:
    alias = f"{MODEL_PACKAGE}.{entry.name.lower()}"
    sys.modules[alias] = _Alias(alias, entry)


def lead_to(model_class: type) -> None:
    """Let RecBole find by its name a class that no model of that name was registered for, and read its checkpoints."""
    name, module = model_class.__name__, model_class.__module__
    checkpoint.TRUSTED_ROOTS.add(module.partition(".")[0])
    package = f"{MODEL_PACKAGE}.{name.lower()}"
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        _add_alias(ModelEntry(name, module))


@cache
def read_entry_points() -> None:
    """Third parties' models; read when RecBole is imported, to keep our own import fast."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in registered:
            register_model(point.name, point.module, properties=_properties_beside(point.module, point.name))


def _properties_beside(module: str, name: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"the entry point '{name}' of {ENTRY_POINT_GROUP} names the module {module}, which can't be found."
        )
    folder = Path(spec.origin).parent
    candidates = (
        folder / f"{name}.yaml",
        folder / "properties" / "model" / f"{name}.yaml",
        folder.parent / "properties" / "model" / f"{name}.yaml",
    )
    return next((path for path in candidates if path.is_file()), None)


def stock_models(package: str = "recbole") -> Iterator[tuple[str, str]]:
    """Yield (name, family) of RecBole's (or RecBole-GNN's) own models, read from its files without importing them."""
    folder = recbole_folder(package)
    for path in sorted((folder / "model").glob("*_recommender/*.py")) if folder is not None else ():
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name.lower() == path.stem:
                yield name, path.parent.name.removesuffix("_recommender")


def known_model_names() -> list[str]:
    """Return the names of all models that can be run; RecBole-GNN's too where it is in use."""
    packages = ["recbole", *(["recbole_gnn"] if "recbole_gnn" in sys.modules else [])]
    return [*models(), *(name for package in packages for name, _ in stock_models(package))]


def unknown_model(name: object, known: Iterable[str] | None = None) -> UsageError:
    """Return the error of a name that no model has; ``known`` are the models that can be meant, by default all."""
    hint = nearest(str(name), known_model_names() if known is None else known)
    others = "; 'recbole-signed models' lists them, and one of your own once it is registered (CONTRIBUTING.md)."
    return UsageError(f"there is no model named '{name}'{hint or others}")


def recbole_folder(package: str = "recbole") -> Path | None:
    """Return RecBole's (or RecBole-GNN's) package folder without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(locations))) if locations else None


def serve_classes(attribute: str, package: ModuleType) -> None:
    """Let ``getattr(package, 'NameTrainer')`` find what was registered, imported when it is asked for."""

    def find(name: str) -> Any:
        model = name.removesuffix(attribute.capitalize())
        entry = registered.get(model)
        spec = getattr(entry, attribute, None)
        if spec is None and entry is not None and attribute == "trainer":
            spec = getattr(load_object(f"{entry.module}:{model}"), "trainer_class", None)
        if name == model or spec is None:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return load_object(spec)

    package.__getattr__ = find  # type: ignore[method-assign]


class _UnknownModelFinder:
    """The last finder of all: whoever asks it for a model has found it nowhere else, and it says so."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, name = fullname.rpartition(".")
        if package == LAST_PACKAGE:
            raise unknown_model(name)


def open_last_package(recbole: ModuleType) -> None:
    """Let RecBole's exlib package be searched without LightGBM and XGBoost, which its ``__init__`` imports."""
    missing = [name for name in ("lightgbm", "xgboost") if importlib.util.find_spec(name) is None]
    if missing and LAST_PACKAGE not in sys.modules:
        folder = Path(recbole.__path__[0]) / "model" / "exlib_recommender"
        package = ModuleType(LAST_PACKAGE, "Stands in while LightGBM or XGBoost is missing.")
        package.__path__ = [str(folder)]
        package.__spec__ = ModuleSpec(LAST_PACKAGE, loader=None, is_package=True)
        package.__spec__.submodule_search_locations = package.__path__
        sys.modules[LAST_PACKAGE] = package
    if not any(isinstance(finder, type) and finder is _UnknownModelFinder for finder in sys.meta_path):
        sys.meta_path.append(_UnknownModelFinder)

"""What makes this package known to RecBole and RecBole-GNN, whichever of them is imported first.

RecBole looks things up by a model's name in a few places. Each place is filled from outside by a hook that runs
right after RecBole's module is imported (or at once, where it is imported already). No function of RecBole is
replaced by another one; a few methods are wrapped, and act only where the data has a sign.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from recbole_signed import compat
from recbole_signed.errors import UsageError, nearest

MODEL_PACKAGE = "recbole.model.general_recommender"  # where RecBole's get_model looks first
LAST_PACKAGE = "recbole.model.exlib_recommender"  # where it looks last
ENTRY_POINT_GROUP = "recbole_signed.models"
PROPERTIES = Path(__file__).parent / "properties" / "model"


@dataclass(frozen=True)
class ModelEntry:
    """A model that RecBole finds by name."""

    name: str
    module: str
    properties: Path | None = None
    """Its default yaml."""
    dataset: str | None = None
    """``module:Class`` of a data set class of its own."""
    trainer: str | None = None
    """``module:Class`` of a trainer of its own."""


@dataclass
class _Registry:
    models: dict[str, ModelEntry] = field(default_factory=dict)
    installed: bool = False
    entry_points_read: bool = False


_registry = _Registry()


def register_model(
    name: str,
    module: str,
    *,
    properties: str | Path | None = None,
    dataset: str | None = None,
    trainer: str | None = None,
) -> None:
    """Make ``run_recbole(model=name)`` find the class ``name`` of ``module``.

    A package can do the same without a call, by an entry point of the group ``recbole_signed.models`` whose name is
    the model's and whose value is ``module:Class``; a file ``properties/model/NAME.yaml`` beside that module's
    package, or ``NAME.yaml`` beside the module itself, then holds its defaults.

    Args:
        name: the class name; RecBole lower-cases it to look for the module.
        module: the importable module that defines the class; imported when the model is first used.
        properties: yaml file of default hyper-parameters.
        dataset: ``module:Class`` where the model needs its own ``Dataset``.
        trainer: ``module:Class`` where the model needs its own ``Trainer``.

    Raises:
        UsageError: another model of that name (or RecBole itself) has the place, or the yaml file does not exist.
    """
    path = None if properties is None else Path(properties)
    if path is not None and not path.is_file():
        raise UsageError(f"the model '{name}' is registered with the file {path}, which does not exist.")
    entry = ModelEntry(name, module, path, dataset, trainer)
    known = _registry.models.get(name)
    if known is not None and known.module != module:
        raise UsageError(
            f"the model '{name}' is registered already, by {known.module}; give one of the two another name."
        )
    if known is None and "recbole" in sys.modules:
        _refuse_stock_name(entry)
    _registry.models[name] = entry
    _add_alias(entry)
    compat.TRUSTED_ROOTS.add(module.partition(".")[0])


def models() -> dict[str, ModelEntry]:
    """Return the models that this package and its third parties add to RecBole, by name."""
    _read_entry_points()
    return dict(_registry.models)


def install() -> None:
    """Leave the hooks; called once, by ``import recbole_signed``."""
    if _registry.installed:
        return
    _registry.installed = True
    for path in sorted(PROPERTIES.glob("*.yaml")):
        register_model(path.stem, f"recbole_signed.model.{path.stem.lower()}", properties=path)
    for module_name in compat.REPAIRS:
        _when_imported(module_name, lambda module: compat.apply(module.__name__, module))
    for module_name, hook in _HOOKS.items():
        _when_imported(module_name, hook)


def _when_imported(module_name: str, hook: Callable[[ModuleType], None]) -> None:
    wrapt.register_post_import_hook(hook, module_name)


def _serve_classes(attribute: str, package: ModuleType) -> None:
    """Let ``getattr(package, 'NameTrainer')`` find what was registered, imported when it is asked for."""

    def find(name: str) -> Any:
        model = name.removesuffix(attribute.capitalize())
        spec = getattr(_registry.models.get(model), attribute, None)
        if name == model or spec is None:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return load_object(spec)

    package.__getattr__ = find  # type: ignore[method-assign]


def load_object(spec: str) -> Any:
    """Return the object that ``module:name`` names."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


# ---- models: lazy modules where RecBole looks for them ----


class _Alias(ModuleType):
    """``recbole.model.general_recommender.<lower name>``; gives the class of the real module when it is asked for.

    The class exists once and is pickled under its real module, unlike with a package search path of our own.
    """

    def __init__(self, alias: str, entry: ModelEntry) -> None:
        super().__init__(alias, f"Leads to {entry.module}.")
        self.__spec__ = ModuleSpec(alias, loader=None, origin=entry.module)
        self._entry = entry

    def __getattr__(self, attribute: str) -> Any:
        entry = self.__dict__.get("_entry")
        if entry is None or attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(importlib.import_module(entry.module), attribute)


def _add_alias(entry: ModelEntry) -> None:
    alias = f"{MODEL_PACKAGE}.{entry.name.lower()}"
    sys.modules[alias] = _Alias(alias, entry)


def _refuse_stock_name(entry: ModelEntry) -> None:
    """Nothing of RecBole's own may be hidden by accident."""
    alias = f"{MODEL_PACKAGE}.{entry.name.lower()}"
    if isinstance(sys.modules.get(alias), _Alias):
        return
    package = importlib.import_module(MODEL_PACKAGE)
    if alias in sys.modules or any(
        (Path(folder) / f"{entry.name.lower()}.py").is_file() for folder in package.__path__
    ):
        raise UsageError(f"RecBole has a model of the name '{entry.name}'; register yours under another name.")


def _read_entry_points() -> None:
    """Third parties' models; read when RecBole is imported, to keep our own import fast."""
    if _registry.entry_points_read:
        return
    _registry.entry_points_read = True
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in _registry.models:
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


def stock_models() -> Iterator[tuple[str, str]]:
    """Yield (name, family) of RecBole's own models, read from its files without importing them."""
    for path in sorted((_recbole_folder() / "model").glob("*_recommender/*.py")):
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name.lower() == path.stem:
                yield name, path.parent.name.removesuffix("_recommender")


def known_model_names() -> list[str]:
    """Return the names of all models that can be run."""
    return [*models(), *(name for name, _ in stock_models())]


def _recbole_folder() -> Path:
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("RecBole is not installed; pip install 'recbole>=1.2,<1.3'.")
    return Path(next(iter(spec.submodule_search_locations)))


class _UnknownModelFinder:
    """The last finder of all: whoever asks it for a model has found it nowhere else.

    RecBole's ``get_model`` searches five packages by ``find_spec`` and dies in the last one, for lack of LightGBM.
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, name = fullname.rpartition(".")
        if package == LAST_PACKAGE:
            raise UsageError(f"there is no model named '{name}'{nearest(name, known_model_names())}")


def _open_last_package(_recbole: ModuleType) -> None:
    """Let RecBole's exlib package be searched without LightGBM and XGBoost, which its ``__init__`` imports."""
    missing = [name for name in ("lightgbm", "xgboost") if importlib.util.find_spec(name) is None]
    if missing and LAST_PACKAGE not in sys.modules:
        folder = _recbole_folder() / "model" / "exlib_recommender"
        package = ModuleType(LAST_PACKAGE, "Stands in while LightGBM or XGBoost is missing.")
        package.__path__ = [str(folder)]
        package.__spec__ = ModuleSpec(LAST_PACKAGE, loader=None, is_package=True)
        package.__spec__.submodule_search_locations = package.__path__
        sys.modules[LAST_PACKAGE] = package
    if not any(isinstance(finder, type) and finder is _UnknownModelFinder for finder in sys.meta_path):
        sys.meta_path.append(_UnknownModelFinder)


def _on_recbole(module: ModuleType) -> None:
    _read_entry_points()
    for entry in _registry.models.values():
        _refuse_stock_file(entry)
    _open_last_package(module)


def _refuse_stock_file(entry: ModelEntry) -> None:
    if (_recbole_folder() / "model" / "general_recommender" / f"{entry.name.lower()}.py").is_file():
        raise UsageError(f"RecBole has a model of the name '{entry.name}'; register yours under another name.")


# ---- configuration, data, evaluation ----


def _on_configurator(module: ModuleType) -> None:
    from recbole_signed import config as ours

    def load_internal(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        ours.load_defaults(instance, *args, **kwargs)

    def set_defaults(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        ours.check_metrics(instance)
        wrapped(*args, **kwargs)
        ours.add_signed_settings(instance)

    def find_model(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        except (AttributeError, UsageError) as error:
            name = args[0] if args and isinstance(args[0], str) else instance.external_config_dict.get("model")
            known = known_model_names()
            if name in known:  # the fault lies in the model's own module
                raise
            raise UsageError(f"there is no model named '{name}'{nearest(str(name), known)}") from error

    wrapt.wrap_function_wrapper(module, "Config._load_internal_config_dict", load_internal)
    wrapt.wrap_function_wrapper(module, "Config._set_default_parameters", set_defaults)
    wrapt.wrap_function_wrapper(module, "Config._get_model_and_dataset", find_model)


def _on_argument_list(module: ModuleType) -> None:
    # a data set cached by save_dataset is used again only if all of these agree
    module.dataset_arguments.append("signed")


def _on_dataset(module: ModuleType) -> None:
    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        config = args[0] if args else kwargs.get("config")
        if config is not None:
            from recbole_signed.data.dispatch import class_for

            cls = class_for(cls, config)
        return object.__new__(cls)

    module.Dataset.__new__ = staticmethod(new)

    def unknown_dataset(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from recbole_signed.config import unknown_dataset_error

        try:
            return wrapped(*args, **kwargs)
        except ValueError as error:
            raise unknown_dataset_error(instance.config) from error

    wrapt.wrap_function_wrapper(module, "Dataset._get_download_url", unknown_dataset)


def _on_data_utils(module: ModuleType) -> None:
    def get_dataloader(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from recbole_signed.data.dispatch import loader_for

        return loader_for(wrapped(*args, **kwargs), *args, **kwargs)

    wrapt.wrap_function_wrapper(module, "get_dataloader", get_dataloader)


def _on_metric_register(module: ModuleType) -> None:
    from recbole_signed.evaluation import metrics

    metrics.register(module)


def _on_collector(module: ModuleType) -> None:
    from recbole_signed.evaluation import collector

    collector.install(module)


def _on_pop(module: ModuleType) -> None:
    """Let RecBole's popularity baseline count likes, on signed data.

    Its training loop counts an item once in each batch, however often it is in it, and counts sampled negatives as
    well (pop.py:47, no upstream issue), so its ranking depends on the batch size. Without a sign it stays as it is.
    """
    import torch

    def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        config, dataset = (*args, *kwargs.values())[:2]
        instance.counts_likes = bool(config["signed"])
        if instance.counts_likes:
            items = dataset.inter_feat[instance.ITEM_ID]
            instance.item_cnt = torch.bincount(items, minlength=instance.n_items)[:, None].to(instance.device)
            instance.max_cnt = instance.item_cnt.max(dim=0)[0]

    def calculate_loss(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        if instance.counts_likes:
            return instance.fake_loss.sum()
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(module, "Pop.__init__", init)
    wrapt.wrap_function_wrapper(module, "Pop.calculate_loss", calculate_loss)


def _on_quick_start(module: ModuleType) -> None:
    """Let worker processes know the plugin: they import what a pickled function names as its module.

    The functions stay the very same objects, so that it does not matter who imported them before.
    """
    for name in PICKLED_FUNCTIONS:
        getattr(module, name).__module__ = "recbole_signed.quick_start"


PICKLED_FUNCTIONS = ("run", "run_recbole", "run_recboles", "objective_function", "load_data_and_model")

_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "recbole": _on_recbole,
    "recbole.config.configurator": _on_configurator,
    "recbole.utils.argument_list": _on_argument_list,
    "recbole.data.dataset.dataset": _on_dataset,
    "recbole.data.dataset": partial(_serve_classes, "dataset"),
    "recbole.trainer": partial(_serve_classes, "trainer"),
    "recbole.data.utils": _on_data_utils,
    "recbole.evaluator.register": _on_metric_register,
    "recbole.evaluator.collector": _on_collector,
    "recbole.model.general_recommender.pop": _on_pop,
    "recbole.quick_start.quick_start": _on_quick_start,
}

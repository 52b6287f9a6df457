"""Values from files and command lines are data: what RecBole evaluates, imports or unpickles of them, made harmless."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from glob import escape
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from recbole_signed.compat.checkpoint import TRAINED_VOCABULARY, VOCABULARY, CheckpointUnpickler
from recbole_signed.errors import UsageError, ending

_logger = logging.getLogger(__name__)


def literal(text: str) -> Any:
    """Return the Python literal that ``text`` spells; raise NameError for none, which RecBole takes for plain text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise NameError(f"{text[:80]!r} is not a literal") from error


def settings_are_literals(module: ModuleType) -> None:
    """RecBole's ``Config`` calls ``eval`` on the text of every setting (configurator.py:131)."""
    module.eval = literal  # type: ignore[attr-defined]


def search_spaces_are_literals(module: ModuleType) -> None:
    """RecBole's ``HyperTuning`` calls ``eval`` on the choices in a file of search spaces (hyper_tuning.py:239)."""

    def choices(text: str) -> Any:
        try:
            return literal(text)
        except NameError as error:
            raise UsageError(f"the choices {text[:80]!r} must be a list of values, such as [0.01, 0.001].") from error

    module.eval = choices  # type: ignore[attr-defined]


def teacher_is_a_class(module: ModuleType) -> None:
    """``KD_DAGFM`` evaluates the setting ``teacher`` (kd_dagfm.py:44)."""
    import torch

    def teacher(text: str) -> Any:
        classes = {name: kind for name, kind in vars(module).items() if isinstance(kind, type)}
        known = [name for name, kind in classes.items() if issubclass(kind, torch.nn.Module)]
        if text not in known:
            raise UsageError(f"there is no teacher network '{text[:80]}'{ending(text, known)}")
        return classes[text]

    module.eval = teacher  # type: ignore[attr-defined]


def arrays_hold_no_pickles(module: ModuleType) -> None:
    """``LDiffRec`` unpickles the file of item embeddings that a setting names (ldiffrec.py:232)."""
    import numpy as np

    class _NumPy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        @staticmethod
        def load(file: Any, allow_pickle: bool = False, **options: Any) -> Any:
            try:
                return np.load(file, allow_pickle=False, **options)
            except ValueError as error:
                raise UsageError(f"{file} must be an array of numbers as numpy.save writes it: {error}.") from error

    module.np = _NumPy("numpy")  # type: ignore[attr-defined]


# ---- cached data sets ----


def _tensor_storage(content: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


class CachedDataUnpickler(CheckpointUnpickler):
    """Rebuilds what RecBole caches of data: data sets, loaders and samplers, their arrays, tables and tensors."""

    called: ClassVar[dict[str, str]] = {
        **CheckpointUnpickler.called,
        "pandas.core.indexes.base": "_new_Index",
        "pandas.core.internals.managers": "BlockManager SingleBlockManager",
        "pandas._libs.internals": "_unpickle_block",
    }
    named: ClassVar[dict[str, str]] = {
        **CheckpointUnpickler.named,
        "pandas.core.frame": "DataFrame",
        "pandas.core.series": "Series",
        "pandas.core.indexes.base": "Index",
        "pandas.core.indexes.range": "RangeIndex",
    }
    replaced: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        **CheckpointUnpickler.replaced,
        ("torch.storage", "_load_from_bytes"): _tensor_storage,
    }


def _read(file: Any) -> Any:
    try:
        data = CachedDataUnpickler(file).load()
        files = Path(data.dataset_path).glob(f"{escape(data.dataset_name)}.*") if hasattr(data, "dataset_path") else ()
        newer = [path for path in files if path.stat().st_mtime_ns > os.fstat(file.fileno()).st_mtime_ns]
        if newer:
            raise pickle.UnpicklingError(f"{newer[0]} was changed since")
        return data
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a crafted file may fail anywhere
        raise pickle.UnpicklingError(f"the file can't be read: {error}") from error


def _of_this_run(dataset: Any, config: Any) -> Any:
    """Give a cached data set the configuration of this run, where RecBole (data/utils.py:70) leaves it its own."""
    if dataset.config is config:
        return dataset
    if dataset.dataset_path != config["data_path"] and Path(config["data_path"]).is_dir():
        raise pickle.UnpicklingError(f"it is that of {dataset.dataset_path}")
    vocabulary = dataset.config[VOCABULARY]
    if config[TRAINED_VOCABULARY] not in (None, vocabulary):
        raise pickle.UnpicklingError("it has other ids than the model was trained on")
    config[VOCABULARY] = vocabulary
    dataset.config = config
    return dataset


def cached_data_is_checked(module: ModuleType) -> None:
    """RecBole unpickles data sets beside checkpoints (data/utils.py:61, 122): read with no calls, or made again."""
    module.pickle = SimpleNamespace(load=_read, dump=pickle.dump)  # type: ignore[attr-defined]

    create_dataset, load_split_dataloaders = module.create_dataset, module.load_split_dataloaders

    # plain functions in the same places, which processes of Ray find by their names
    @functools.wraps(create_dataset)
    def create(config: Any) -> Any:
        try:
            return _of_this_run(create_dataset(config), config)
        except pickle.UnpicklingError as error:
            _logger.warning("The cached data set is not used, it is made again: %s", error)
            with _without_cache(config):
                return create_dataset(config)

    @functools.wraps(load_split_dataloaders)
    def loaders(config: Any) -> Any:
        try:
            return load_split_dataloaders(config)
        except pickle.UnpicklingError as error:
            _logger.warning("The cached data loaders are not used, they are made again: %s", error)
            return None

    module.create_dataset = create  # type: ignore[attr-defined]
    module.load_split_dataloaders = loaders  # type: ignore[attr-defined]


@contextlib.contextmanager
def _without_cache(config: Any) -> Iterator[None]:
    key = "dataset_save_path"
    before, config[key] = config[key], "/nonexistent"
    try:
        yield
    finally:
        config[key] = before

"""Which class serves a signed configuration where RecBole asks for one of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from recbole_signed.data.settings import SignedSettings
from recbole_signed.errors import UsageError


def is_signed(config: Any) -> bool:
    """Whether the configuration belongs to data with a sign; also for one made before the plugin was imported."""
    if "signed" not in config:
        config["signed"] = SignedSettings.from_config(config)
    return config["signed"] is not None


def class_for(stock: type, config: Any) -> type:
    """Return the data set class for ``config`` where RecBole instantiates ``stock``; refuse one blind to the sign."""
    from recbole_signed.data.dataset import SignedDataset
    from recbole_signed.data.sequential import SignedSequentialDataset

    if issubclass(stock, SignedDataset) or not is_signed(config):
        return stock
    if stock.__name__ == "Dataset":
        return SignedDataset
    if stock.__name__ == "SequentialDataset":
        return SignedSequentialDataset
    if stock.__name__ in ("GeneralGraphDataset", "DIENDataset"):
        return _signed_subclass(stock)  # type: ignore[arg-type]
    raise UsageError(
        f"{stock.__name__} ({config['model']}) would take the dislikes of '{config['dataset']}' for likes; use a "
        "general or sequential recommender, let the class inherit from recbole_signed.SignedDataset, or set "
        "'SIGN_FIELD: ~'."
    )


@cache
def _signed_subclass(stock: Any) -> Any:
    """RecBole-GNN's data set with its graph made of likes alone, and that of DIEN."""
    from recbole_signed.data.dataset import SignedDataset
    from recbole_signed.data.sequential import SignedSequentialDataset

    signed = SignedSequentialDataset if hasattr(stock, "data_augmentation") else SignedDataset

    def reduce(self: Any) -> tuple[Any, ...]:
        return _restore, (stock, self.__dict__)

    return type(f"Signed{stock.__name__}", (signed, stock), {"stock_name": stock.__name__, "__reduce__": reduce})


def _restore(stock: type, state: dict[str, Any]) -> Any:
    """Unpickle (and copy) an instance of a class that is made at run time."""
    instance: Any = object.__new__(_signed_subclass(stock))
    instance.__dict__.update(state)
    return instance


def loader_for(stock: type, config: Any, phase: str) -> type:
    """Return the data loader class for a phase where RecBole would use ``stock``."""
    from recbole.data.dataloader import FullSortEvalDataLoader, TrainDataLoader
    from recbole.utils import ModelType

    from recbole_signed.data import dataloader as ours

    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and is_signed(config):
        if stock is FullSortEvalDataLoader:
            return ours.SignedSequenceEvalDataLoader
        windows = stock is TrainDataLoader and getattr(config.model_class, "reads", None) == "windows"
        return ours.WindowLoader if windows else stock
    if stock is FullSortEvalDataLoader and is_signed(config):
        return ours.SignedFullSortEvalDataLoader
    batches = getattr(config.model_class, "batches", None)
    if stock is TrainDataLoader and (batches == "likes" or (batches and is_signed(config))):
        return ours.SignedTrainDataLoader
    return stock


def sampler_for(
    stock: Callable[..., Any],
    dataset: Any,
    built_datasets: Any,
    distribution: str,
    repeatable: bool,
    alpha: float = 1.0,
    base_sampler: Any = None,
) -> Any:
    """Return the negative sampler where RecBole would make one by ``stock``; it gives signed data the same draws."""
    from recbole_signed.data.dataset import SignedDataset

    if distribution == "none" or base_sampler is not None or not isinstance(dataset, SignedDataset):
        try:
            return stock(dataset, built_datasets, distribution, repeatable, alpha, base_sampler)
        except ValueError as error:
            raise UsageError(f"RecBole samples no items for '{dataset.dataset_name}': {error}") from error
    from recbole_signed.data.negative_sampling import SignedSampler

    return SignedSampler(built_datasets, distribution, alpha, repeatable)

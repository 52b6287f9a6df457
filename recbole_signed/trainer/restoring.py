"""A model as a checkpoint has it, on the data that it was trained on."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recbole.data import create_dataset, data_preparation
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import get_model, init_seed

from recbole_signed.compat.checkpoint import CHECKPOINT_PICKLE, check_archive
from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.files import require_file
from recbole_signed.model.verdicts import RateWeighted


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint that RecBole's trainers wrote; no code in it is run."""
    path = Path(path)
    require_file(path, "a checkpoint (.pth) in it")
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=CHECKPOINT_PICKLE)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, AttributeError, ImportError) as error:
        raise UsageError(f"{path} can't be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or "config" not in state or "state_dict" not in state:
        raise UsageError(f"{path} is not a checkpoint of RecBole: it holds no configuration and no parameters.")
    return state


@dataclass(frozen=True)
class Restored:
    """A trained model with its data, split as it was in training."""

    config: Any
    data: Any  # RecBole's data set before the split
    parts: tuple[Any, Any, Any]  # the loaders of the training, validation and test part
    model: Any


def restore_data(config: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Read the data set of a checkpoint's configuration and split it as in training."""
    if not Path(config["data_path"]).is_dir():
        raise UsageError(
            f"the model was trained on the data set '{config['dataset']}', which is not in "
            f"{Path(config['data_path']).parent}; give the folder of the data sets as data_path."
        )
    with own_arguments_hidden():
        init_seed(config["seed"], config["reproducibility"])
        data = create_dataset(config)
        return data, data_preparation(config, data)


def restore_model(state: dict[str, Any], config: Any, train_data: Any) -> Any:
    """Return the model of a checkpoint, in evaluation mode, on ``config['device']``."""
    init_seed(config["seed"], config["reproducibility"])
    model = _made(get_model(config["model"]), state, config, train_data._dataset).to(config["device"])
    model.load_state_dict(state["state_dict"])
    model.load_other_parameter(state.get("other_parameter"))
    return model.eval()


_FIT_WHEN_MADE = ("EASE", "ItemKNN", "SLIMElastic")
"""Models of RecBole whose constructor fits; a checkpoint holds what comes of it as ``other_parameter``."""


def _made(model_class: Any, state: dict[str, Any], config: Any, dataset: Any) -> Any:
    """Return a model that is to be filled from a checkpoint; one that fits when it is made does not fit again."""
    other = state.get("other_parameter")
    stock = model_class.__module__.startswith("recbole.model.") and model_class.__name__ in _FIT_WHEN_MADE
    if not (stock and other):
        return model_class(config, dataset)
    model = model_class.__new__(model_class, config)  # its weighed kind, where dislike_aversion is set
    GeneralRecommender.__init__(model, config, dataset)
    if isinstance(model, RateWeighted):
        model.weigh(config, dataset)
    for name, value in state["state_dict"].items():
        setattr(model, name, torch.nn.Parameter(value))
    model.other_parameter_name = list(other)
    return model


def restored(state: dict[str, Any]) -> Restored:
    """Return the model of a checkpoint that :func:`read_checkpoint` read."""
    config = state["config"]
    data, parts = restore_data(config)
    return Restored(config, data, parts, restore_model(state, config, parts[0]))

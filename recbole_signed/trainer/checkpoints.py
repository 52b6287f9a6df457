"""Checkpoints, with the states of all random generators and a hash of the vocabulary; and a model as one has it.

Without the hash, one loads on users and items in another order (RecBole issues #1702, #1692, #1854).
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data import create_dataset, data_preparation
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import get_model, init_seed

from recbole_signed.compat.checkpoint import (
    CHECKPOINT_PICKLE,
    TRAINED_VOCABULARY,
    VOCABULARY,
    UnknownNameError,
    check_archive,
)
from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.files import replacing, require_file
from recbole_signed.ids_and_times import hash_of
from recbole_signed.model.verdicts import RateWeighted


def rng_state(loader: Any = None) -> dict[str, Any]:
    """Return the states of the random generators, that of a training loader included, without pickled classes."""
    state: Any = np.random.get_state()  # noqa: NPY002 (RecBole and the models draw from it)
    name, keys, position, has_gauss, gauss = state
    generator = getattr(loader, "generator", None)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
        "loader": None if generator is None else generator.get_state(),
    }


def set_rng_state(state: dict[str, Any], loader: Any = None) -> None:
    """Put the random generators into the states of :func:`rng_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    if loader is not None:
        set_loader_state(state, loader)


def set_loader_state(state: dict[str, Any], loader: Any) -> None:
    """Let a training loader draw the order that the saved one would have drawn next."""
    generator = getattr(loader, "generator", None)
    if generator is None:
        return
    if state.get("loader") is not None:
        generator.set_state(state["loader"])
    elif not hasattr(loader, "set_epoch"):  # it is told the number of the pass
        raise UsageError(
            "the checkpoint holds no state of the generator that orders the training rows, so the training would not "
            "be the one that was interrupted; train the model again."
        )


CHANGED_IN_TRAINING = {
    "DiffRec": ("Lt_history", "Lt_count"),
    "LDiffRec": ("update_count", "update_count_vae"),  # and those of DiffRec, which it extends
    "LINE": ("random_list", "random_pr"),
    "MacridVAE": ("update",),
    "MultiVAE": ("update",),
}
"""Attributes of RecBole's models that their training changes, and that none of its checkpoints holds."""


def training_state(model: Any) -> dict[str, Any]:
    """Return what :data:`CHANGED_IN_TRAINING` names of a model."""
    names = (name for kind in type(model).__mro__ for name in CHANGED_IN_TRAINING.get(kind.__name__, ()))
    return {name: getattr(model, name) for name in names}


def set_training_state(state: dict[str, Any], model: Any) -> None:
    """Give a model its :func:`training_state`; what has another size, as the data has grown, keeps its start."""
    for name, value in state.items():
        if np.shape(value) == np.shape(getattr(model, name)):
            setattr(model, name, value.to(model.device) if isinstance(value, torch.Tensor) else value)


def without_layers(other_parameter: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a model names as ``other_parameter``, without layers: their parameters are in ``state_dict``."""
    return {name: value for name, value in (other_parameter or {}).items() if not isinstance(value, torch.nn.Module)}


# ---- RecBole's own trainer ----


def save_checkpoint(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
    """RecBole's ``Trainer._save_checkpoint`` (trainer.py:289), which adds what a resumption needs, and ``extra``."""
    if not self.config["single_spec"] and self.config["local_rank"] != 0:
        return
    path = kwargs.pop("saved_model_file", self.saved_model_file)
    state = {
        "config": self.config,
        "epoch": epoch,
        "cur_step": self.cur_step,
        "best_valid_score": self.best_valid_score,
        "state_dict": self.model.state_dict(),
        "other_parameter": without_layers(self.model.other_parameter()),
        "optimizer": self.optimizer.state_dict(),
        "rng": rng_state(getattr(self, "recbole_signed_loader", None)),
        "changed_in_training": training_state(self.model),
        **kwargs.pop("extra", {}),
    }
    with replacing(Path(path)) as temporary:  # a full disk leaves the older checkpoint, and no half of one
        torch.save(state, temporary, pickle_protocol=4)
    if verbose:
        self.logger.info(f"Saving current: {path}")


def states_in(checkpoint: dict[str, Any], path: Any) -> dict[str, Any]:
    """Return the random states of a checkpoint."""
    if "rng" not in checkpoint:
        raise UsageError(
            f"{path} holds no states of the random generators (a trainer without recbole_signed saved it), so the "
            "training would not be the one that was interrupted; train the model again."
        )
    return checkpoint["rng"]


def vocabulary_of(dataset: Any) -> dict[str, list[Any]]:
    """Return field -> [number of ids with padding, hash of their tokens in order] for users and items."""
    fields = (dataset.uid_field, dataset.iid_field)
    return {field: [len(dataset.field2id_token[field]), _hash(dataset, field)] for field in fields}


def remember_vocabulary(dataset: Any) -> None:
    """Keep :func:`vocabulary_of` in the configuration, and so in checkpoints; refuse ids other than in training."""
    config = dataset.config
    if any(field not in dataset.field2id_token for field in (dataset.uid_field, dataset.iid_field)):
        return
    config[VOCABULARY] = own = vocabulary_of(dataset)
    trained = config[TRAINED_VOCABULARY]
    if trained and trained != own:
        raise UsageError(
            f"the model was trained on other ids than '{dataset.dataset_name}' has now, so embeddings would be "
            "assigned to the wrong users and items; restore the files, or train the model again."
        )


def check_vocabulary(saved: Mapping[str, Any], dataset: Any, path: Any) -> None:
    """Refuse a checkpoint whose ids are not the first ids of ``dataset``."""
    for field, (n, digest) in saved.items():
        tokens = dataset.field2id_token.get(field, ())
        if len(tokens) < n or _hash(dataset, field, n) != digest:
            raise UsageError(
                f"{path} was made with other ids of '{field}' than '{dataset.dataset_name}' has now, so embeddings "
                "would be assigned to the wrong ones; keep the order of the rows, append new ones at the end, and "
                "switch filters off."
            )


def _hash(dataset: Any, field: str, n: int | None = None) -> str:
    return hash_of(str(token) for token in dataset.field2id_token[field][1:n])


def grown_parameters(saved: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the saved tensors, those that are too short with the last rows of the fresh ones."""
    return {name: _grown(value, fresh.get(name)) for name, value in saved.items()}


def grown_optimizer(saved: Mapping[str, Any], parameters: list[torch.Tensor]) -> dict[str, Any]:
    """Return an optimizer's state whose moments have a row of zeros for each row that the parameters have more."""
    state = {}
    for number, values in saved["state"].items():
        zeros = torch.zeros_like(parameters[int(number)], device="cpu")
        state[number] = {
            name: _grown(value, zeros) if isinstance(value, torch.Tensor) and value.dim() == zeros.dim() else value
            for name, value in values.items()
        }
    return {**saved, "state": state}


def _grown(value: torch.Tensor, fresh: torch.Tensor | None) -> torch.Tensor:
    if fresh is None or value.dim() == 0 or value.dim() != fresh.dim() or value.shape[1:] != fresh.shape[1:]:
        return value
    if len(value) >= len(fresh):
        return value
    # numbers of nodes, such as SIGformer's marks, are drawn for all: those of new nodes go on counting
    numbers = value.dim() == 1 and not value.is_floating_point()
    rest = torch.arange(len(value), len(fresh)) if numbers else fresh[len(value) :]
    return torch.cat([value, rest.to(value)])


# ---- a model as a checkpoint has it, on the data that it was trained on ----


def read_checkpoint(path: Path | str, shown: Path | str | None = None) -> dict[str, Any]:
    """Read a checkpoint that RecBole's trainers wrote, which messages call ``shown``; no code in it is run."""
    path, shown = Path(path), shown or path
    require_file(path, "a checkpoint (.pth) in it")
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=CHECKPOINT_PICKLE)
    except UnknownNameError as error:
        raise UsageError(f"{shown}: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, AttributeError, ImportError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"{shown} can't be read as a checkpoint ({why}); restore it from a copy, or train again."
        ) from error
    if not isinstance(state, dict) or "config" not in state or "state_dict" not in state:
        raise UsageError(f"{shown} is not a checkpoint of RecBole: it holds no configuration and no parameters.")
    return state


def restore_data(config: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return the data set of a checkpoint's configuration, and the loaders of its parts, split as in training."""
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


_FIT_WHEN_MADE = ("EASE", "ItemKNN", "SLIMElastic")  # their result lies in `other_parameter` of a checkpoint


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


def restored(state: dict[str, Any]) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    """Return the model of a checkpoint that :func:`read_checkpoint` read, and what :func:`restore_data` returns."""
    data, parts = restore_data(state["config"])
    return restore_model(state, state["config"], parts[0]), data, parts

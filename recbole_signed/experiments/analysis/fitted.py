"""A model that is fitted once and then looked at: what the commands ``tradeoff`` and ``segments`` start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole.data import data_preparation
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_signed.compat import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.experiments.runs import configured_data


@dataclass(frozen=True)
class Fitted:
    """A model after its fit, with all that it came from."""

    config: Any
    data: Any
    """RecBole's data set before the split: it holds the vocabularies."""
    model: Any
    trainer: Any
    test_data: Any
    valid: Mapping[str, Any]
    """Metrics on the validation part, as RecBole gives them; empty where there is none."""


def fit_once(
    model: str,
    dataset: str,
    attribute: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Fitted:
    """Fit a training-free model as ``run`` does, keeping no checkpoint.

    Args:
        model: class name of a model.
        dataset: name of a data set.
        attribute: what the model's class must have for the command that asks.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files.
        seed: RecBole's ``seed``, above all.

    Raises:
        UsageError: the model lacks ``attribute`` or is trained in epochs, or as :func:`configured_data`.
    """
    config, data = configured_data(model, dataset, config_files, overrides, seed)
    kind = get_model(config["model"])
    if not hasattr(kind, attribute) or config["MODEL_TYPE"] != ModelType.TRADITIONAL:
        raise UsageError(f"{model} has no '{attribute}' that works on a model fitted once; SSF has.")
    with own_arguments_hidden():
        train_data, valid_data, test_data = data_preparation(config, data)
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        made = kind(config, train_data._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, made)
        _, valid = trainer.fit(train_data, valid_data, saved=False, show_progress=config["show_progress"])
    return Fitted(config, data, made, trainer, test_data, valid or {})

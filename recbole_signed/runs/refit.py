"""What was held out to choose by is known when a closed form predicts the test: to its fit, or to histories alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from recbole.data import data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender

HISTORIES = "histories"


def refitted(config: Any, data: Any, model: Any) -> tuple[Any, Any]:
    """Fit a model without gradients to the training and validation part together, with the parameters that were chosen.

    A sequential model reads the validation like as the last event before the test's; without this, a model that is
    fitted to a graph would not know of it. With ``refit_for_test: histories`` nothing is fitted again: the model ranks
    by the users' histories with the validation like. Returns the trainer with the model, and the test loader.
    """
    if config["refit_for_test"] not in (True, HISTORIES):
        raise UsageError(f"refit_for_test is {config['refit_for_test']!r}; give true, false or {HISTORIES}.")
    if config["eval_args"]["split"] != {"LS": "valid_and_test"}:
        raise UsageError(
            f"refit_for_test needs the split {{LS: valid_and_test}}, but it is {config['eval_args']['split']}."
        )
    if config["dislike_split"] != "time":
        raise UsageError(
            "refit_for_test needs 'dislike_split: time' and the order TO; else models hide unequal items in the test."
        )
    again = copy.copy(config)
    again.final_config_dict = {
        **config.final_config_dict,
        "eval_args": {**config["eval_args"], "split": {"LS": "test_only"}},
        "epochs": 1,  # of a closed form that RecBole runs in epochs (NCEPLRec) the constructor is the fit
        **({"auto": False, **model.chosen} if hasattr(model, "chosen") else {}),
    }
    init_seed(again["seed"], again["reproducibility"])
    train_data, _, test_data = data_preparation(again, copy.deepcopy(data, {id(data.config): again}))
    if config["refit_for_test"] == HISTORIES:
        _read_histories(model, train_data._dataset)
        return get_trainer(again["MODEL_TYPE"], again["model"])(again, model), test_data
    init_seed(again["seed"], again["reproducibility"])
    fitted = get_model(again["model"])(again, train_data._dataset).to(again["device"])
    trainer = get_trainer(again["MODEL_TYPE"], again["model"])(again, fitted)
    trainer.fit(train_data, None, saved=False, show_progress=again["show_progress"])
    return trainer, test_data


def _read_histories(model: Any, dataset: Any) -> None:
    """Let a fitted model rank by the histories of users in another data set; Pop and Random read none."""
    name = type(model).__name__
    if isinstance(model, SignedRecommender):
        model.read_histories(dataset)
    elif name == "EASE":
        model.interaction_matrix = dataset.inter_matrix(form="csr").astype(np.float32)
    elif name not in ("Pop", "Random"):
        raise UsageError(f"refit_for_test: {HISTORIES} is not known for {name}; set it to true or leave it out.")

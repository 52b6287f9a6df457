"""A run before the run: a model at work on a tiny data set, so that what is measured next is the model's own.

What a process does for the first time brings in code of its libraries, some 30 MB of torch, MKL and SciPy: more than a
model of a small data set needs itself, and how much of it depends on the model.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.plugin import make_config

_NAME = "warm-up"
_USERS, _ITEMS = 120, 96
_OF_THE_DATA = (
    *("data_path", "benchmark_filename", "load_col", "unload_col", "val_interval", "threshold", "sign_rule"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "SIGN_FIELD"),
    *("user_inter_num_interval", "item_inter_num_interval"),
)


def run_warm_up(model: str, settings: Mapping[str, Any]) -> None:
    """Train a model for one epoch on a planted data set with validation, evaluate it there, and forget it.

    It leaves neither files nor handlers of loggers behind, but the random generators seeded.

    Args:
        model: class name.
        settings: RecBole keys of what is to be measured; those that say which data it reads are left out.

    Raises:
        UsageError: the model fails on that data.
    """
    given = {key: value for key, value in settings.items() if key not in _OF_THE_DATA}
    topk = settings.get("topk") or 1
    items = max(_ITEMS, 2 * max(topk if isinstance(topk, list) else [topk]))  # a list needs some to leave out
    try:
        with tempfile.TemporaryDirectory(prefix="recbole-signed-") as root:
            convert("toy", None, root, name=_NAME, users=_USERS, items=items)
            places = {"data_path": root, "checkpoint_dir": root, "epochs": 1, "eval_step": 1, "show_progress": False}
            _train_and_evaluate(make_config(model, _NAME, overrides={**given, **places}))
    except Exception as error:
        raise UsageError(
            f"{model} fails on the {_USERS} users and {items} items on which each model is tried before its costs are "
            f"measured ({type(error).__name__}: {error}); fix it, or measure without serving."
        ) from error


def _train_and_evaluate(config: Any) -> None:
    with own_arguments_hidden():
        init_seed(config["seed"], config["reproducibility"])
        train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
        recommender = get_model(config["model"])(config, train_data._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, recommender)
        try:
            trainer.fit(train_data, valid_data, saved=False, show_progress=False, verbose=False)
            trainer.evaluate(test_data, load_best_model=False)
        finally:
            trainer.tensorboard.close()
            shutil.rmtree(trainer.tensorboard.log_dir, ignore_errors=True)

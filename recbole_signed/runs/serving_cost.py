"""What a trained model costs when it is used: a fresh process loads its checkpoint and ranks 1,000 users.

Before, the model works on a tiny data set: what is done for the first time brings in 30 MB of torch, MKL and SciPy.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType, ModelType, get_model, get_trainer, init_logger, init_seed

from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.memory import memory_at_rest, memory_bytes, reset_peak_memory
from recbole_signed.model import SignedRecommender
from recbole_signed.plugin import make_config
from recbole_signed.plugin.run_config import given_settings, quiet_log
from recbole_signed.trainer.checkpoints import read_checkpoint, restore_data, restore_model

N_USERS = 1000
REPEATS = 5
_SEED = 2020


def serve_in_new_process(checkpoint: Path) -> dict[str, Any]:
    """Return what :func:`serve` measures of a checkpoint in a process that does nothing else."""
    out = checkpoint.with_suffix(f".{os.getpid()}.json")
    command = [sys.executable, "-m", "recbole_signed.runs.serving_cost", str(checkpoint), str(out)]
    try:
        # RecBole logs to standard output, which may be the place of somebody's result
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
        if status or not out.is_file():
            raise RuntimeError(f"loading {checkpoint} in a process of its own ended with status {status}")
        costs: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    finally:
        out.unlink(missing_ok=True)
    return costs


def serve(checkpoint: Path) -> dict[str, Any]:
    """Load a checkpoint, let it rank :data:`N_USERS` users of the test part as an evaluation does, and measure that."""
    with own_arguments_hidden():
        config = read_checkpoint(checkpoint)["config"]
        run_warm_up(config["model"], given_settings(config))
        init_logger(config)
        quiet_log()
        _, (train_data, _, loader) = restore_data(config)
        if config["eval_type"] != EvaluatorType.RANKING or not hasattr(loader, "user_df"):
            raise UsageError(f"{checkpoint} is of a run without full ranking, so there is nothing to serve.")
        batches = list(_batches(loader))
        at_rest = memory_at_rest()
        reset_peak_memory()
        model = restore_model(read_checkpoint(checkpoint), config, train_data)
    k = max(config["topk"])
    on_gpu = config["device"].type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        for users, history in batches:
            _rank(model, users.to(config["device"]), history, loader, k)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {
        "serve_seconds": round(statistics.median(seconds[1:]), 6),
        "serve_first_seconds": round(seconds[0], 6),
        "serve_memory_bytes": max(0, memory_bytes()[1] - at_rest),
        "serve_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "model_bytes": model_bytes(model),
    }


def _batches(loader: Any) -> Iterator[tuple[Any, Any]]:
    rows = np.resize(np.random.default_rng(_SEED).permutation(loader.sample_size), N_USERS)
    for start in range(0, N_USERS, loader.step):
        users, history, *_ = loader.collate_fn(rows[start : start + loader.step].tolist())
        yield users, history


@torch.no_grad()
def _rank(model: Any, users: Any, history: Any, loader: Any, k: int) -> torch.Tensor:
    """Return the first ``k`` items of each user, ``[n_users, k]``, as RecBole's evaluation finds them."""
    n_items = loader._dataset.item_num
    try:
        scores = model.full_sort_predict(users)
    except NotImplementedError:  # the model scores pairs alone
        pairs = users.repeat_interleave(n_items)
        items = torch.arange(n_items, device=pairs[loader.uid_field].device).repeat(len(users))
        pairs.update(Interaction({loader.iid_field: items}))
        scores = model.predict(pairs)
    scores = scores.view(-1, n_items)
    scores[:, 0] = -torch.inf
    if history is not None:
        scores[history] = -torch.inf
    return torch.topk(scores, k, dim=-1).indices


def model_bytes(model: Any) -> int:
    """Return the bytes that have to be kept, beside the training edges, to rank known users.

    These are ``state_dict``, and other arrays of RecBole's models that are fitted in one pass (EASE, ItemKNN, Pop).
    """
    kept = {id(array): array for array in model.state_dict().values()}
    if model.type == ModelType.TRADITIONAL and not isinstance(model, SignedRecommender):
        edges = (model.n_users, model.n_items)
        kept.update({id(array): array for array in vars(model).values() if getattr(array, "shape", None) != edges})
    return sum(map(_n_bytes, kept.values()))


def _n_bytes(value: Any) -> int:
    if sp.issparse(value):
        parts = value.tocsr()
        return int(parts.data.nbytes + parts.indices.nbytes + parts.indptr.nbytes)
    return int(value.nbytes) if isinstance(value, (torch.Tensor, np.ndarray)) else 0


def main() -> None:
    """Measure the checkpoint that the first argument names and write the result to the file that the second names."""
    checkpoint, out = map(Path, sys.argv[1:3])
    costs = serve(checkpoint)
    out.write_text(json.dumps(costs), encoding="utf-8")


_NAME = "warm-up"
_USERS, _ITEMS = 120, 96
_OF_THE_DATA = (
    *("data_path", "benchmark_filename", "load_col", "unload_col", "val_interval", "threshold", "sign_rule"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "SIGN_FIELD"),
    *("user_inter_num_interval", "item_inter_num_interval", "refit_for_test"),
)


def run_warm_up(model: str, settings: Mapping[str, Any]) -> None:
    """Train a model for one epoch on a planted data set with validation, evaluate it there, and forget it."""
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


if __name__ == "__main__":
    main()

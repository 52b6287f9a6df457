"""One run: train a model, choose its best epoch on validation, evaluate it on the test part, keep it as a row."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import EvaluatorType, ModelType, get_model, get_trainer, init_logger, init_seed

from recbole_signed.arguments import own_arguments_hidden
from recbole_signed.bench.configure import given_settings, make_config
from recbole_signed.bench.provenance import (
    config_hash,
    data_version,
    machine,
    memory_bytes,
    reset_peak_memory,
    versions,
)
from recbole_signed.bench.reading import DataCache
from recbole_signed.bench.rows import RunRow
from recbole_signed.errors import UsageError


def run(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    *,
    save: bool = True,
    test: bool = True,
    cache: DataCache | None = None,
    on_validation: Callable[[int, float], None] | None = None,
) -> RunRow:
    """Train and evaluate a model with RecBole's own parts, as ``run_recbole`` does.

    Differences to it: on signed data, unless ``metrics`` and ``topk`` are set, the metrics of dislikes are
    evaluated too, at 10 and 20; the checkpoint goes to ``runs/`` under a name of its own (RecBole's own name
    has the second in it, so that two runs started at once overwrite each other's); no FLOPs are counted.

    Args:
        model: class name of any model that RecBole finds.
        dataset: name of a data set.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files; ``eval_args.order`` sets one entry of ``eval_args``.
        seed: RecBole's ``seed``, above all; it decides the random split and the start of the training.
        save: keep the checkpoint.
        test: evaluate the test part; without, ``test`` of the row is empty and no checkpoint is needed.
        cache: what earlier runs of this process read, for runs that differ in other things than data.
        on_validation: called with the epoch (from 0) and the valid score after each validation of a model that is
            trained in epochs; what it raises ends the run and is raised here.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was trained then.
    """
    reset_peak_memory()
    base_memory, _ = memory_bytes()
    config, data = configured_data(model, dataset, config_files, overrides, seed, cache)
    with own_arguments_hidden():
        logger = getLogger()
        train_data, valid_data, test_data = data_preparation(config, data)
        data_hash = (cache or DataCache()).sha256(config)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])

        started, started_cpu = time.perf_counter(), time.process_time()
        recommender = get_model(config["model"])(config, train_data._dataset).to(config["device"])
        built, built_cpu = time.perf_counter(), time.process_time()
        logger.info(recommender)
        # not timed: the first optimizer of a process makes torch import its compiler
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, recommender)

        # traditional models are fitted in one pass: there is no better epoch to go back to
        in_epochs = config["MODEL_TYPE"] != ModelType.TRADITIONAL
        checkpointed = save or (test and in_epochs)
        progress: dict[str, Any] = {"show_progress": config["show_progress"]}
        watched = {"callback_fn": on_validation} if on_validation is not None and in_epochs else {}
        with _checkpoint(trainer, config, keep=save):
            before_fit, before_fit_cpu = time.perf_counter(), time.process_time()
            _, valid = trainer.fit(train_data, valid_data, saved=checkpointed, **progress, **watched)
            after_fit, after_fit_cpu = time.perf_counter(), time.process_time()
            trained = Path(trainer.saved_model_file).is_file()
            if checkpointed and not trained:
                logger.warning(
                    "No epoch was the best one on validation (is valid_metric defined?): the last one is tested."
                )
            before_test = time.perf_counter()
            tested = trainer.evaluate(test_data, load_best_model=trained, **progress) if test else {}
            after_test = time.perf_counter()
    if not tested and not valid:
        raise UsageError(f"the split leaves nothing of '{dataset}' for validation and test; look at eval_args.split.")
    peak_memory = max(base_memory, memory_bytes()[1])  # the kernel counts the two in different ways
    on_gpu = config["device"].type == "cuda"
    return RunRow(
        model=config["model"],
        dataset=config["dataset"],
        seed=int(config["seed"]),
        valid=plain_result(valid),
        test=plain_result(tested),
        valid_metric=config["valid_metric"].lower(),
        fit_seconds=round(built - started + after_fit - before_fit, 3),
        fit_cpu_seconds=round(built_cpu - started_cpu + after_fit_cpu - before_fit_cpu, 3),
        eval_seconds=round(after_test - before_test, 3) if test else None,
        peak_memory_bytes=peak_memory,
        base_memory_bytes=base_memory,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        epochs=len(getattr(trainer, "train_loss_dict", ())) or None,
        stopped_by=getattr(trainer, "stopped_by", None),
        curve=getattr(trainer, "curve", []),
        n_parameters=sum(each.numel() for each in recommender.parameters()),
        config_hash=config_hash(config.final_config_dict),
        data_sha256=data_hash,
        data_version=data_version(Path(config["data_path"]), config["dataset"]),
        settings=given_settings(config),
        split="predefined" if config["benchmark_filename"] else config["eval_args"],
        protocol=config["protocol"] or "recbole",
        versions=versions(),
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        machine=machine(),
        threads=torch.get_num_threads(),
        timestamp=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def configured_data(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    cache: DataCache | None = None,
) -> tuple[Any, Any]:
    """Return RecBole's configuration and data set for a run: the random generators seeded, the logger set up.

    Raises:
        UsageError: something asked for does not exist, or ``topk`` is not below the number of items.
    """
    config = make_config(model, dataset, config_files, overrides, seed)
    with own_arguments_hidden():
        init_seed(config["seed"], config["reproducibility"])
        init_logger(config)
        getLogger().info(config)
        data = create_dataset(config) if cache is None else cache.read(config)
        getLogger().info(data)
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) >= data.item_num:
        raise UsageError(
            f"topk is {max(config['topk'])}, but '{dataset}' has only {data.item_num - 1} items; "
            "set a smaller topk and valid_metric."
        )
    return config, data


@contextmanager
def _checkpoint(trainer: Any, config: Any, *, keep: bool) -> Iterator[None]:
    """Give the trainer's checkpoint a name that no other run has; afterwards remove it unless it is to be kept.

    The writer of training curves is closed too: each has a thread, and one process may make many runs.
    """
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{config['model']}-{config['dataset']}-{config['seed']}-{moment}-{os.getpid()}.pth"
    trainer.saved_model_file = os.path.join(config["checkpoint_dir"], name)
    try:
        yield
    finally:
        trainer.tensorboard.close()
        if not keep:
            Path(trainer.saved_model_file).unlink(missing_ok=True)


def plain_result(result: Mapping[str, Any] | None) -> dict[str, float | None]:
    """RecBole's result as floats of Python; None where a metric is not defined."""
    values = {key: float(value) for key, value in (result or {}).items()}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}

"""A model that is fitted once and then looked at: what the commands ``tradeoff`` and ``segments`` start from."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recbole.data import data_preparation
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_signed import __version__
from recbole_signed.compat.checkpoint import CHECKPOINT_PICKLE
from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.valid_metric import split_length
from recbole_signed.files import parse_json, replace_text
from recbole_signed.memory import keep_freed_memory
from recbole_signed.plugin.assignments import layered, merged
from recbole_signed.plugin.run_config import given_settings
from recbole_signed.runs.provenance import config_hash, data_folder, data_sha256, digest, versions
from recbole_signed.runs.runner import announce_run, configured_data, own_checkpoint, plain_result
from recbole_signed.runs.spec import default_settings
from recbole_signed.yaml_spec import read_yaml


@dataclass(frozen=True)
class Fitted:
    """A model after its fit, with all that it came from."""

    config: Any
    data: Any  # RecBole's data set before the split: it holds the vocabularies
    train_data: Any
    model: Any
    trainer: Any
    valid_data: Any
    test_data: Any
    valid: Mapping[str, Any]  # metrics on the validation part, as RecBole gives them; empty where there is none
    seconds: float  # what the fit took, validation included


def fit_once(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    *,
    attribute: str | None = None,
) -> Fitted:
    """Fit a model as ``run`` does, keeping no checkpoint; its class must have ``attribute`` if fitted in one pass."""
    config, data = configured_data(model, dataset, config_files, overrides, seed, quiet=True)
    announce_run(config, data, partial(print, file=sys.stderr))
    kind = get_model(config["model"])
    in_epochs = config["MODEL_TYPE"] != ModelType.TRADITIONAL
    if attribute is not None and (in_epochs or not hasattr(kind, attribute)):
        raise UsageError(f"{model} has no spectral {attribute}, which is needed here; give SSF, SSFL or SSFT.")
    with own_arguments_hidden():
        train_data, valid_data, test_data = data_preparation(config, data)
        if in_epochs:
            keep_freed_memory()
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        started = time.perf_counter()
        made = kind(config, train_data._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, made)
        with own_checkpoint(trainer, config, keep=False):
            _, valid = trainer.fit(train_data, valid_data, saved=in_epochs, show_progress=config["show_progress"])
            seconds = time.perf_counter() - started
            file = Path(trainer.saved_model_file)
            if file.is_file():
                saved = torch.load(file, config["device"], weights_only=False, pickle_module=CHECKPOINT_PICKLE)
                made.load_state_dict(saved["state_dict"])
                made.load_other_parameter(saved.get("other_parameter"))
    return Fitted(config, data, train_data, made, trainer, valid_data, test_data, valid or {}, seconds)


def _kept(file: Path) -> dict[str, Any]:
    """Return what a file keeps; nothing where it is some other file."""
    try:
        kept = parse_json(file.read_bytes()) if file.is_file() else {}
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


_MEASURED = ("metrics", "topk", "metric_decimal_place", "data_path")  # no settings of a model that was measured


def fit_to_measure(
    model: str,
    dataset: str,
    metrics: Sequence[str],
    k: int,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit a model as :func:`fit_once`, for evaluations by some metrics at length k.

    NDCG@k chooses the best epoch unless the keys say otherwise. ``values`` are keys below the files, ``overrides``
    those above them.
    """
    below = merged({"valid_metric": f"NDCG@{k}", "metric_decimal_place": 6}, values or {})
    chosen_by, length = split_length(str(layered(below, config_files, overrides)["valid_metric"]))
    known = [metric.lower() for metric in metrics]
    measured = {
        "metrics": [*metrics, *([chosen_by] if chosen_by.lower() not in known else [])],
        "topk": sorted({k, length or k}),
    }
    named = {key.partition(".")[0] for file in config_files for key in read_yaml(Path(file))}
    below = {key: value for key, value in below.items() if key.partition(".")[0] not in named}
    return fit_once(model, dataset, config_files, {**merged(below, overrides or {}), **measured}, seed)


def measured(fitted: Fitted, data: Any, metrics: Sequence[str], k: int) -> dict[str, float | None]:
    """Return some metrics of a model on a part of its data, at length k; nothing where the part is empty."""
    with own_arguments_hidden():
        scores = fitted.trainer.evaluate(data, load_best_model=False, show_progress=False)
    known = [metric.lower() for metric in metrics]
    lengths = {name: split_length(name) for name in scores or {}}
    asked = [name for name, (stem, at) in lengths.items() if stem.lower() in known and at in (None, k)]
    return plain_result({name: scores[name] for name in asked})


def origin_of(fitted: Fitted) -> dict[str, Any]:
    """Return what numbers of a model come from: all parameters in force, where it tells them, else those given."""
    config = fitted.config
    given = {key: value for key, value in given_settings(config).items() if key not in _MEASURED}
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": int(config["seed"]),
        "settings": dict(getattr(fitted.model, "chosen", None) or given),
        "fit_seconds": round(fitted.seconds, 2),
        "stopped_by": getattr(fitted.trainer, "stopped_by", None),
        "config_hash": config_hash(config.final_config_dict),
        "data_sha256": data_sha256(Path(config["data_path"]), config["dataset"]),
        "versions": versions(),
    }


def kept_or_made(
    models: Mapping[str, Mapping[str, Any]],
    dataset: str,
    folder: Path,
    question: Mapping[str, Any],
    make: Callable[..., dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return an analysis of each model, made by ``make`` where ``folder`` keeps none of the same question and data."""
    files = question.get("config_files", ())
    contents = [read_yaml(Path(file)) for file in files]  # what is asked is what they hold, not their names
    analyses = []
    for model, values in models.items():
        data = data_folder(dataset, layered(values, files, question.get("overrides")).get("data_path"))
        asked = {**question, "values": values, "config_files": contents}
        request = digest([model, dataset, asked, data_sha256(data, dataset), __version__])
        defaults = digest(default_settings(model, data / f"{dataset}.yaml"))
        file = folder / f"{model}-{dataset}.json"
        kept = _kept(file)
        if kept.get("request") != request or kept.get("defaults", defaults) != defaults:  # older ones do not say
            kept = {"request": request, "defaults": defaults, **make(model, dataset, **{**question, "values": values})}
            replace_text(file, json.dumps(kept, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        analyses.append(kept)
    return analyses

"""The configuration of one run: what the user gave, below it better defaults for judging a signed ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import WARNING, StreamHandler, getLogger
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.evaluator.register import metrics_dict
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_signed.compat.log import own_arguments_hidden
from recbole_signed.data.settings import ranks_all
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.sign_aware_metrics import SIGN_AWARE_METRICS
from recbole_signed.evaluation.valid_metric import IN_GROUPS, has_length, is_evaluated, split_length
from recbole_signed.files import path_of
from recbole_signed.plugin.assignments import (
    DEFAULT_TOPK,
    RECBOLE_METRICS,
    RECBOLE_TOPK,
    RUNS,
    SIGNED_METRICS,
    split_dotted,
    with_dotted,
)
from recbole_signed.plugin.configuration import check_dataset_name, check_valid_metric, refuse_unknown_keys
from recbole_signed.yaml_spec import read_yaml


def make_config(
    model: str,
    dataset: str,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Any:
    """Return RecBole's ``Config``; later wins: defaults, files in their order, overrides, seed."""
    if not isinstance(model, (str, type)):
        raise UsageError(f"the model is of type {type(model).__name__}; give a name, such as 'SSF', before the data.")
    if isinstance(model, type) and not issubclass(model, AbstractRecommender):
        raise UsageError(f"the class {model.__name__} is not a RecBole model; give one, or a name such as 'SSF'.")
    check_dataset_name(dataset)
    if not isinstance(config_files, Sequence) or isinstance(config_files, str):
        raise UsageError(
            f"config_files is {config_files!r}; give a list of yaml files, and settings as overrides={{'key': value}}."
        )
    if not isinstance(overrides or {}, Mapping):
        raise UsageError(f"overrides is {overrides!r}; give a mapping of keys to values, such as {{'epochs': 10}}.")
    read = {file: read_yaml(path_of(file, "config_files")) for file in config_files}
    config_files = [file for file, content in read.items() if content]  # RecBole fails on a file without a key
    in_files: dict[str, Any] = {}
    for content in read.values():
        in_files.update(content)
    plain, dotted = split_dotted(overrides or {})
    for name, own in (("model", model), ("dataset", dataset)):
        if plain.setdefault(name, own) != own:
            raise UsageError(f"the {name} is '{own}', but {name}={plain[name]} is set as well; give one of the two.")
    if seed is not None:
        plain["seed"] = seed
    config = _config(model, dataset, config_files, plain)
    if dotted:
        given = {**in_files, **plain}
        nested = with_dotted(dotted, given, config.internal_config_dict)
        config = _config(model, dataset, config_files, {**plain, **nested})
    if not config["allow_unknown_keys"]:
        refuse_unknown_keys(config.external_config_dict, config.internal_config_dict)
    if (config["nproc"] or 1) != 1:
        raise UsageError(
            f"nproc is {config['nproc']}, but a run is one process; leave it out, or call RecBole's run_recboles."
        )
    _add_defaults(config)
    check_valid_metric(config)
    return config


def _config(model: str, dataset: str, config_files: Sequence[str | Path], given: Mapping[str, Any]) -> Any:
    try:
        with own_arguments_hidden():
            return Config(
                model=model,
                dataset=dataset,
                config_file_list=[str(file) for file in config_files] or None,
                config_dict=dict(given),
            )
    except UsageError:
        raise
    except (
        ValueError,
        TypeError,
        RuntimeError,
        LookupError,
        AttributeError,
    ) as error:  # its checks, and what it forgets
        what = repr(error) if isinstance(error, LookupError) else error
        raise UsageError(f"RecBole refuses the configuration of {model} on {dataset}: {what}") from error


def given_settings(config: Any) -> dict[str, Any]:
    """Return the keys that files and overrides set."""
    return {key: value for key, value in config.external_config_dict.items() if key not in ("model", "dataset", "seed")}


PREDEFINED = "predefined"  # the split of files that are split already


def split_of(config: Any) -> dict[str, Any] | str:
    """Return how a run holds out, for its row: RecBole's ``eval_args``, or ``predefined`` where the files are split."""
    eval_args: dict[str, Any] = config["eval_args"]
    if not config["benchmark_filename"]:
        return eval_args
    return PREDEFINED if ranks_all(eval_args) else {"split": PREDEFINED, "mode": eval_args["mode"]}


def _add_defaults(config: Any) -> None:
    """Fill in what neither the user nor a model's, data set's or protocol's file has set."""
    given, below = config.external_config_dict, config.internal_config_dict
    if "checkpoint_dir" not in given:
        config["checkpoint_dir"] = RUNS
    if "show_progress" not in given:
        config["show_progress"] = False
    free_metrics = "metrics" not in given and tuple(below["metrics"]) == RECBOLE_METRICS
    full_sort = ranks_all(config["eval_args"])
    if free_metrics and config["signed"] is not None and full_sort:
        config["metrics"] = [*config["metrics"], *SIGNED_METRICS]
    chosen_by, _ = split_length(config["valid_metric"])
    sign_aware = {name.lower(): name for name in SIGN_AWARE_METRICS}
    if "metrics" not in given and chosen_by.lower() in sign_aware and full_sort:
        config["metrics"] = [*config["metrics"], sign_aware[chosen_by.lower()]]
    if "topk" not in given and below["topk"] == list(RECBOLE_TOPK):
        lengths = {*DEFAULT_TOPK, *filter(None, [split_length(config["valid_metric"])[1]])}
        config["topk"] = sorted(lengths)
    if "valid_metric" not in given and not is_evaluated(config, config["valid_metric"]):
        name, k = split_length(config["valid_metric"])
        names = [metric for metric in config["metrics"] if metric.lower() not in IN_GROUPS] or config["metrics"]
        name = name if name.lower() in [metric.lower() for metric in names] else names[0]
        k = k if k in config["topk"] else max(config["topk"])
        config["valid_metric"] = f"{name}@{k}" if has_length(name) else name
        config["valid_metric_bigger"] = not metrics_dict[name.lower()].smaller


def quiet_log() -> None:
    """Let RecBole's log show warnings alone on standard error; its file gets everything."""
    for handler in getLogger().handlers:
        if type(handler) is StreamHandler:  # no file
            handler.setLevel(WARNING)

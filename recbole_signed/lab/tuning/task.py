"""What is tuned, and the processes that try values: each reads the data once, then runs a trial after the other.

To a process: ``values`` of a trial, ``go`` after a score. From it: ``ready``, ``score``, then ``row``, ``pruned`` or
``failed``.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recbole.utils import argument_list

from recbole_signed.data.settings import SETTING_KEYS
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.sign_aware_metrics import gamma_of
from recbole_signed.graph.eigenvectors import kept_eigenvectors
from recbole_signed.memory import keep_freed_memory
from recbole_signed.plugin import make_config, registry, split_of
from recbole_signed.plugin.configuration import FREE_KEYS
from recbole_signed.plugin.ranges import Interval, Listed, Words, declared_for, ranges_of
from recbole_signed.plugin.run_config import given_settings
from recbole_signed.runs import RunRow, data_sha256, run
from recbole_signed.runs.provenance import config_hash, data_version
from recbole_signed.runs.runner import DataCache, Validated
from recbole_signed.yaml_spec import read_yaml

DECIMALS = 6  # default `metric_decimal_place` of trials: RecBole's 4 makes many of them look equal

_HOW_TO_TRAIN = (
    "dislike_aversion",
    "verdict_smoothing",
    "weight_decay",
    "n_negatives",
    "negative_exponent",
    "lr_milestones",
    "lr_gamma",
    "neutral_weight",
    "sift_positives",
)
"""Keys without a default that a model's training or its graph reads, so that they can be tuned."""


@dataclass(frozen=True)
class Task:
    """A model on a data set with all that is the same in each trial."""

    model: str
    dataset: str
    config_files: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None  # keys above the files
    seed: int | None = None

    def run(
        self, values: Mapping[str, Any], cache: DataCache, on_validation: Callable[[Validated], None] | None = None
    ) -> RunRow:
        """Run the task once with some values; the test part is not looked at."""
        settings = {"metric_decimal_place": DECIMALS, **(self.settings or {}), **values}
        asked = (self.model, self.dataset, self.config_files, settings, self.seed)
        return run(*asked, save=False, test=False, cache=cache, on_validation=on_validation)


@dataclass(frozen=True)
class Facts:
    """What a task comes to, once RecBole has read its configuration."""

    defaults: dict[str, Any]  # key -> value of every key that a run of the model has
    judging: frozenset[str]  # keys that decide what is read, how it is split and how trials are judged
    fixed: dict[str, Any]  # keys that the user gave, in files or by themselves
    model_keys: frozenset[str]  # keys of the model's own default yaml; in a search also those that its space varies
    ranges: Mapping[str, Interval | Words | Listed]  # key -> the values that it may have
    seed: int
    metric: str
    bigger: bool  # whether a larger value of the metric is the better one
    sign_aware: bool  # whether a held-out dislike in the list costs something by the metric
    split: Any  # see `recbole_signed.plugin.split_of`
    protocol: str
    config_hash: str
    data_sha256: str
    data_version: str | None


def facts_of(task: Task) -> Facts:
    """Read the configuration of a task, and no data but for its checksum."""
    config = make_config(task.model, task.dataset, task.config_files, task.settings, task.seed)
    if config["eval_step"] <= 0:
        raise UsageError(f"eval_step is {config['eval_step']}, so nothing is validated; tuning needs 1 or more.")
    registry.check_metrics(config["metrics"])
    keys = {*config.internal_config_dict, *_HOW_TO_TRAIN}
    folder = Path(config["data_path"])
    defaults = {key: config[key] for key in sorted(keys)}
    sign_aware = gamma_of(config["valid_metric"], config["signed_gamma"]) > 0
    if sign_aware and defaults["dislike_aversion"] is None:
        defaults["dislike_aversion"] = 0.0  # the same ranking, and a point of the space
    return Facts(
        defaults=defaults,
        judging=_judging_keys(),
        fixed=given_settings(config),
        model_keys=frozenset(_model_defaults(config.model_class)),
        ranges={
            key: declared_for(declared, defaults.get(key)) for key, declared in ranges_of(config.model_class).items()
        },
        seed=int(config["seed"]),
        metric=config["valid_metric"],
        bigger=bool(config["valid_metric_bigger"]),
        sign_aware=sign_aware,
        split=split_of(config),
        protocol=config["protocol"] or "recbole",
        config_hash=config_hash(config.final_config_dict),
        data_sha256=data_sha256(folder, config["dataset"]),
        data_version=data_version(folder, config["dataset"]),
    )


def _judging_keys() -> frozenset[str]:
    recboles = ("general_arguments", "evaluation_arguments", "dataset_arguments")
    keys = {key for name in recboles for key in getattr(argument_list, name)}
    keys |= {*SETTING_KEYS, *FREE_KEYS, "protocol", "signed"}
    return frozenset(keys - {*_HOW_TO_TRAIN})


def _model_defaults(model_class: type) -> dict[str, Any]:
    """Return what :func:`recbole_signed.plugin.configuration.load_defaults` takes for the model's own keys."""
    folder = registry.recbole_folder()
    stock = None if folder is None else folder / "properties" / "model" / f"{model_class.__name__}.yaml"
    path = registry.properties_of(model_class) or stock
    return read_yaml(path) if path is not None and path.is_file() else {}


class _PrunedError(Exception):
    """Ends a training that is not worth going on with."""


def answer(connection: Connection, task: Task) -> None:
    """Serve the process that started this one until it ends it."""
    keep_freed_memory()  # a trial measures no memory
    cache = DataCache()
    connection.send({"ready": True})
    # where processor time is a budget, each trial does all of its work
    with nullcontext() if (task.settings or {}).get("training_budget") else kept_eigenvectors():
        while True:
            values = connection.recv()["values"]
            connection.send(_trial(task, values, cache, connection))
            gc.collect()  # a model and its trainer refer to each other


def _trial(task: Task, values: Mapping[str, Any], cache: DataCache, connection: Connection) -> dict[str, Any]:
    def report(seen: Validated) -> None:
        score = {"score": (seen.epoch, seen.score), "steps": seen.steps, "cpu_seconds": round(seen.cpu_seconds, 3)}
        connection.send(score)
        if not connection.recv()["go"]:
            raise _PrunedError

    try:
        row = task.run(values, cache, report)
    except _PrunedError:
        return {"pruned": True}
    except Exception as error:  # one that fails says nothing of the others
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {"row": row}

"""What a RecBole ``Config`` learns from this package: defaults of models and data sets, protocols, helpful errors."""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from glob import escape
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_signed.atomic.signs import HOW_TO_SIGN
from recbole_signed.convert.dataset_versions import refuse_changed
from recbole_signed.convert.sources.movielens import ensure_ml100k
from recbole_signed.data.settings import SETTING_KEYS, SignedSettings, inter_columns, inter_files, ranks_all
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import is_plain_name
from recbole_signed.plugin import registry
from recbole_signed.plugin.ranges import check_entries, check_values, without_numpy, without_removed
from recbole_signed.yaml_spec import read_yaml

DATA_ROOT = "atomic_files"  # where converters write, and where a data set is looked for after `data_path`

PROTOCOLS: dict[str, dict[str, Any]] = {
    "recbole": {},
    # SIGformer (SIGIR 2024): training rows are hidden whatever becomes of them later, validation rows are not;
    # repeated rows count as often as they occur; the model is chosen by NDCG@20 on validation
    "published": {
        "mask_valid_at_test": False,
        "mask_repeats": True,
        "duplicate_pairs": "keep",
        "metrics": ["Recall", "NDCG", "Precision", "DislikeRecall", "DislikeNDCG", "DislikeShare", "SignAUC"],
        "topk": [5, 10, 15, 20],
        "valid_metric": "NDCG@20",
    },
}

ML_100K_SIGNED = "ml-100k-signed"  # the data set that makes itself, from the ratings inside RecBole's wheel
TOY_SIGNED = "toy-signed"  # the data set of the examples in the documentation, which `convert toy` makes
SMALL_BYTES = 20_000_000  # size of interaction files, about a million rows, below which one thread is enough
EVAL_CELLS = 4_000_000  # default `eval_batch_size` for signed data: scores per batch, or those of 64 or 256 users

# fmt: off
FREE_KEYS = frozenset((
    "model", "dataset", "config_files", "config_file_list", "nproc", "world_size", "ip", "port", "group_offset",
    "local_rank", "offset", "queue", "encoding", "wandb_project", "transform", "worker", "shuffle",
    "numerical_features", "discretization", "unused_col", "allow_unknown_keys", "neg_sampling",
    "training_neg_sample_num", "training_budget", "max_steps", "eval_every_steps", "lr_milestones", "lr_gamma",
    "resume", "trainer", "online_state", "online_settings", "online_limits", "n_negatives", "negative_exponent",
    "sift_positives", "user_groups", "item_groups", "threads", "signed_gamma", "dislike_aversion", "dislike_strength",
    "verdict_smoothing", "refit_for_test", "features", "enable_sparse",
))
# fmt: on
"""Keys that RecBole and RecBole-GNN list nowhere, and those of our trainer, our training batches and our metrics."""


def load_defaults(config: Any, model_class: type, dataset: str) -> None:
    """Add this package's defaults below everything that the user sets.

    Order, later wins: RecBole's own files, the yaml of the model or of the one that it extends, the yaml that lies in
    the data set's folder, the protocol; then the user's files, dictionaries and command line.
    """
    check_dataset_name(dataset)
    properties = registry.properties_of(model_class)
    if properties is not None:
        config._update_internal_config_dict(str(properties))
    folder = _find_folder(config, dataset)
    path = folder / f"{dataset}.yaml"
    values = read_yaml(path) if path.is_file() else {}
    defaults = config.internal_config_dict
    for given in (values, config.external_config_dict):
        without_removed(given, model_class.__name__, defaults)
    config._beside_data = _BesideData(path, values, {key: defaults[key] for key in values if key in defaults})
    defaults.update(values)
    loss = {**config.internal_config_dict, **config.external_config_dict}.get("loss_type")
    if is_sequential(model_class) and loss == "CE":
        config.internal_config_dict["train_neg_sample_args"] = None  # RecBole refuses its own default here
    name = config.external_config_dict.get("protocol", config.internal_config_dict.get("protocol", "recbole"))
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise UsageError(
            f"there is no protocol named '{name}'; use one of {', '.join(PROTOCOLS)}{ending(str(name), PROTOCOLS)}"
        )
    config.internal_config_dict.update(PROTOCOLS[name])


@dataclass(frozen=True)
class _BesideData:
    """What the yaml in a data set's folder says; a configuration has it while it is made."""

    path: Path
    values: dict[str, Any]
    replaced: dict[str, Any]  # what would hold of its keys without it

    def defaults(self, config: Any) -> dict[str, Any]:
        """Return what would hold without it and the user."""
        others = {key: value for key, value in config.internal_config_dict.items() if key not in self.values}
        return others | self.replaced

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say in which file a value is that is refused."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.path}: {error}") from error


def check_dataset_name(dataset: Any) -> None:
    """Refuse what is not the plain name of a folder."""
    if not is_plain_name(dataset):
        given = f"'{dataset}'" if isinstance(dataset, str) else f"what is given, of type {type(dataset).__name__},"
        raise UsageError(
            f"{given} is not the name of a data set; give the name of a folder, and its parent as data_path."
        )


def is_sequential(model_class: Any) -> bool:
    """Whether a model reads sequences: its batches of evaluation are rows, not scores."""
    return getattr(getattr(model_class, "type", None), "name", "") == "SEQUENTIAL"


def _find_folder(config: Any, dataset: str) -> Path:
    """Return the data set's folder, and keep where it is if nobody has said so."""
    chosen, default = config.external_config_dict.get("data_path"), Path(config.internal_config_dict["data_path"])
    root = data_root(dataset, chosen, default)
    if chosen is None and root != default:
        config.internal_config_dict["data_path"] = str(root)
    return root / dataset


def data_root(dataset: str, chosen: str | Path | None, default: str | Path) -> Path:
    """Return the folder of data sets that has one, and make ml-100k-signed, which needs no download, where missing."""
    root, ours = Path(chosen or default), Path(DATA_ROOT)
    missing = chosen is None and not (root / dataset).is_dir()
    if missing and ((ours / dataset).is_dir() or dataset == ML_100K_SIGNED):
        root = ours
    if dataset == ML_100K_SIGNED and not (root / dataset).is_dir():
        ensure_ml100k(root)
    return root


def check_given(config: Any) -> None:
    """Refuse values that make no sense, and unknown metrics with a hint."""
    from recbole.evaluator.register import metrics_dict

    from recbole_signed.evaluation.metrics import register_inherited_metrics

    register_inherited_metrics()
    given, final, beside = config.external_config_dict, config.final_config_dict, config._beside_data
    for key, value in given.items():
        given[key] = final[key] = without_numpy(value)
    defaults = beside.defaults(config)
    check_values(given, final, defaults, config.model_class)
    in_effect = {key: value for key, value in beside.values.items() if key not in given}
    with beside.named():
        check_values(in_effect, final, defaults, config.model_class)
    known = {name: cls.__name__ for name, cls in metrics_dict.items()}
    metrics = config.final_config_dict["metrics"]
    chosen = [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in (*chosen, config.final_config_dict["valid_metric"].split("@")[0]):
        if metric.lower() not in known:
            raise UsageError(f"there is no metric named '{metric}'{ending(metric, known.values())}")


def check_valid_metric(config: Any) -> None:
    """Refuse a ``valid_metric`` that no validation gives: RecBole would fail on it after the first epoch."""
    from recbole_signed.evaluation.valid_metric import IN_GROUPS, has_length, is_evaluated, split_length

    chosen, metrics, lengths = config["valid_metric"], list(config["metrics"]), list(config["topk"])
    name, _ = split_length(chosen)
    if name.lower() not in (metric.lower() for metric in metrics):
        raise UsageError(f"valid_metric is {chosen}, but metrics are {', '.join(metrics)}; add it to them.")
    if name.lower() in IN_GROUPS:
        raise UsageError(f"valid_metric is {chosen}, which has a value for each group; choose another one.")
    if not is_evaluated(config, chosen):
        if not has_length(name):
            raise UsageError(f"valid_metric is {chosen}, but {name} is of no length; set it to {name}.")
        raise UsageError(f"valid_metric is {chosen}, but topk is {lengths}; set it to {name}@{lengths[0]}, say.")


def add_signed_settings(config: Any) -> None:
    """Find out whether the data has a sign, and keep what that means under ``config['signed']``."""
    final = config.final_config_dict
    beside: _BesideData = config.__dict__.pop("_beside_data")  # a checkpoint holds the configuration without it
    _refuse_unknown_dataset(config)
    set_threads(final.get("threads"), Path(final["data_path"]))
    refuse_changed(Path(config["data_path"]), config["dataset"])
    settings = SignedSettings.from_config(config)
    final["signed"] = settings
    if settings is None:
        if getattr(config.model_class, "needs_sign", False) and Path(final["data_path"]).is_dir():
            likes_only = not getattr(config.model_class, "uses_dislikes", True)
            need = "reads data with a sign" if likes_only else "learns from dislikes"
            raise UsageError(f"{config.model} {need}, but the data set '{config.dataset}' has no sign; {HOW_TO_SIGN}")
        _warn_of_ratings(config)
        return
    from recbole.model.abstract_recommender import AbstractRecommender

    given, kind = {*config.external_config_dict, *beside.values}, config.model_class
    if settings.neutral_weight and not getattr(kind, "reads_neutrals", False):
        getLogger().warning("neutral_weight has no effect: %s reads no rows without a verdict.", config.model)
    by_scores = ranks_all(final["eval_args"]) and not is_sequential(kind)
    # RecBole asks those that score pairs alone for so many pairs at a time
    by_scores &= getattr(kind, "full_sort_predict", None) is not AbstractRecommender.full_sort_predict
    if "eval_batch_size" not in given and by_scores:
        final["eval_batch_size"] = EVAL_CELLS
    if not final.get("allow_unknown_keys"):
        defaults = beside.defaults(config)
        refuse_unknown_keys(config.external_config_dict, defaults)
        with beside.named():
            refuse_unknown_keys(beside.values, defaults)


def _warn_of_ratings(config: Any) -> None:
    """Say that ratings without a sign are all likes, unless the user has said what they are."""
    rating = config["RATING_FIELD"]
    chosen = config["threshold"] or rating in (config["val_interval"] or {}) or "SIGN_FIELD" in config
    if not chosen and rating in (inter_columns(config) or {}):
        getLogger().warning(
            "The data set '%s' has ratings and no sign: every rating, the lowest too, counts as a like. Say what a "
            "like is with sign_rule={like: '%s >= 4', dislike: '%s <= 2'}, or set SIGN_FIELD=null to keep it so.",
            *(config["dataset"], rating, rating),
        )


def set_threads(threads: Any, folder: Path) -> None:
    """Let torch compute with so many threads; None: one for files below :data:`SMALL_BYTES`, else torch's choice."""
    import torch

    at_first = _threads_at_first()
    if threads is None:
        if "OMP_NUM_THREADS" in os.environ:
            return
        size = sum(file.stat().st_size for file in folder.glob("*.inter")) if folder.is_dir() else SMALL_BYTES
        threads = 1 if size < SMALL_BYTES else at_first
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise UsageError(f"threads is {threads!r}; it must be a whole number of 1 or more.")
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@cache
def _threads_at_first() -> int:
    import torch

    return torch.get_num_threads()


def refuse_unknown_keys(given: Mapping[str, Any], defaults: Iterable[str]) -> None:
    """Refuse keys, and entries of RecBole's mappings, that nothing reads."""
    known = {*defaults, *SETTING_KEYS, *FREE_KEYS, *recbole_keys()}
    for key, value in given.items():
        if key not in known:
            escape = "allow_unknown_keys: True lets any key pass"
            raise UsageError(f"unknown configuration key '{key}' ({escape}){ending(key, known)}")
        if isinstance(value, Mapping):
            check_entries(key, value)


@cache
def recbole_keys() -> frozenset[str]:
    """All keys of RecBole's argument lists and default files, without importing it: one yaml may serve many models."""
    folder = registry.recbole_folder()
    assert folder is not None, "RecBole is a dependency"
    lists = runpy.run_path(str(folder / "utils" / "argument_list.py"))
    keys = {key for name, arguments in lists.items() if name.endswith("_arguments") for key in arguments}
    for path in (folder / "properties").rglob("*.yaml"):
        if path.stem != "url":
            keys.update(re.findall(r"^([A-Za-z_]\w*) *:", path.read_text(encoding="utf-8"), re.MULTILINE))
    return frozenset(keys)


def _refuse_unknown_dataset(config: Any) -> None:
    """Refuse a data set without files, that RecBole can't download, and of which it has saved no copy."""
    from recbole.utils import argument_list

    folder = Path(config["data_path"])
    if inter_files(config) or config["dataset_save_path"] or config["dataloaders_save_path"]:
        return
    if any(Path(config["checkpoint_dir"]).glob(f"{escape(config['dataset'])}-*.pth")):
        return
    if has_interactions(folder):
        there = ", ".join(sorted(path.name for path in folder.glob(f"{escape(folder.name)}*.inter")))
        raise UsageError(
            f"{folder} holds {there}, but benchmark_filename is {config['benchmark_filename']}; it must name parts "
            "that are there, such as [train, valid, test], and be null where there is one file."
        )
    urls = Path(argument_list.__file__).parent.parent / "properties" / "dataset" / "url.yaml"
    known = re.search(rf"^{re.escape(config['dataset'])} *:", urls.read_text(encoding="utf-8"), re.MULTILINE)
    if folder.is_dir() or not known:  # it downloads none into a folder that is there
        raise unknown_dataset_error(config)


def has_interactions(folder: Path) -> bool:
    """Tell whether a folder holds ``NAME.inter``, or ``NAME.train.inter`` and the like, where NAME is its own name."""
    return any(path.name.startswith(f"{folder.name}.") for path in folder.glob("*.inter"))


def unknown_dataset_error(config: Any) -> UsageError:
    """Say which data sets there are, where the one asked for is not among them."""
    folder = Path(config["data_path"])
    others = sorted(path.name for path in folder.glob("*.inter"))
    if others:
        return UsageError(
            f"{folder} holds {others[0]}, but RecBole looks for files that are named after their folder, such as "
            f"{folder.name}.inter; rename the files or the folder."
        )
    if folder.is_dir():
        return UsageError(f"{folder} holds no .inter file; 'recbole-signed convert' makes a data set that has one.")
    if not folder.parent.is_dir() and folder.parent not in (Path("dataset"), Path(DATA_ROOT)):  # not the defaults
        return UsageError(f"data_path is '{folder.parent}', but there is no such folder; give that of the data sets.")
    known = dataset_names(folder.parent, *([Path(DATA_ROOT)] if folder.parent == Path("dataset") else []))
    places = f"{folder.parent} or {DATA_ROOT}" if folder.parent == Path("dataset") else f"{folder.parent}"
    makes = "convert toy' makes it" if folder.name == TOY_SIGNED else "convert' makes one"
    return UsageError(
        f"there is no data set '{folder.name}' in {places} ('recbole-signed {makes}){ending(folder.name, known)}"
    )


def dataset_names(*roots: Path) -> list[str]:
    """Return the names of the data sets in folders, and of the one that makes itself."""
    present = [path.name for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()]
    return sorted({*present, ML_100K_SIGNED})

"""Ranges of configuration values, of runs and spaces of ``tune``: what makes no sense is refused at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from logging import getLogger
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError, ending

_INTERVAL = re.compile(r"(int )?([\[(])(\S+), (\S+)([\])])")


@dataclass(frozen=True)
class Words:
    """A parameter that is one of a few words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True)
class Interval:
    """The numbers of a ``kind`` (int or float) that a parameter may be."""

    kind: type
    low: float
    high: float
    above: bool  # whether `low` itself is left out
    below: bool  # the same of `high`

    @staticmethod
    def parse(text: str) -> Interval | Words:
        """Read a declaration: ``[0, inf)``, ``(0, 1]``, ``int [1, 16]``; or words, as in ``euler | rk4``."""
        match = _INTERVAL.fullmatch(text)
        if match is None:
            return Words(tuple(text.split(" | ")))
        whole, left, low, high, right = match.groups()
        return Interval(int if whole else float, float(low), float(high), left == "(", right == ")")

    def __str__(self) -> str:
        what = "a whole number" if self.kind is int else "a number"
        parts = []
        if self.low > -math.inf:
            parts.append(f"above {self.low:.10g}" if self.above else f"{self.low:.10g} or more")
        if self.high < math.inf:
            parts.append(f"below {self.high:.10g}" if self.below else f"at most {self.high:.10g}")
        return " ".join([what, " and ".join(parts)]).strip()

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        if isinstance(value, bool) or not _is_finite(value) or (self.kind is int and value != int(value)):
            return False
        at_an_end = (self.above and value == self.low) or (self.below and value == self.high)
        return self.low <= value <= self.high and not at_an_end


@dataclass(frozen=True)
class Listed:
    """A parameter that is a list of values, each of which has the same range: RecBole's HGN has two ``reg_weight``."""

    values: Interval | Words

    def __str__(self) -> str:
        return f"a list, each of its values {self.values}"

    def holds(self, value: Any) -> bool:
        """Whether a value is a list of them."""
        return isinstance(value, (list, tuple)) and all(self.values.holds(item) for item in value)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def without_numpy(value: Any) -> Any:
    """Return a value with numbers and lists of Python in place of NumPy's, within lists and mappings too."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {key: without_numpy(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(without_numpy(entry) for entry in value)
    return value


def declared_for(declared: Interval | Words, default: Any) -> Interval | Words | Listed:
    """Return a declaration as it counts for a model: where its default of the key is a list, for each value of one."""
    return Listed(declared) if isinstance(default, (list, tuple)) else declared


COUNT, FROM_ZERO, NUMBER, NOT_NEGATIVE = map(
    Interval.parse, ("int [1, inf)", "int [0, inf)", "(-inf, inf)", "[0, inf)")
)
POSITIVE = Interval.parse("(0, inf)")
RANGES: dict[str, Interval | Words] = {
    "dislike_aversion": Interval.parse("[0, 100]"),  # far beyond what is of use, and no power overflows
    "accuracy_price": Interval.parse("[0, 1)"),
    "dislike_strength": Interval.parse("[0, 1]"),
    "dropout_prob": Interval.parse("[0, 1)"),
    "embedding_size": COUNT,
    "epochs": FROM_ZERO,
    "eval_batch_size": COUNT,
    "eval_step": FROM_ZERO,
    "hidden_size": COUNT,
    "learning_rate": POSITIVE,
    "MAX_ITEM_LIST_LENGTH": COUNT,
    "lr_gamma": POSITIVE,
    "metric_decimal_place": Interval.parse("int [0, 15]"),
    "n_layers": FROM_ZERO,
    "n_negatives": FROM_ZERO,
    "negative_exponent": NUMBER,
    "nproc": COUNT,
    "rank": COUNT,
    "reg_weight": NOT_NEGATIVE,
    "seed": Interval.parse("int [0, 4294967295]"),
    "stopping_step": FROM_ZERO,
    "temperature": POSITIVE,
    "train_batch_size": FROM_ZERO,
    "training_budget": NOT_NEGATIVE,
    "verdict_smoothing": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "worker": FROM_ZERO,
}
"""The ranges of keys that mean the same everywhere."""
REMOVED = {
    "dislike_push": "dislike_strength, 0 to 1, has taken its place",
    "linear_weight": "the linear filter beside the spectral one made no ranking better",
}
"""Keys of earlier versions, which their files and states may name; 0 of them asked for nothing."""
REMOVED_OF = {
    "SSFT": (
        "transition_share transition_rank transition_ridge short_scale middle_scale long_scale half_life "
        "trend_exponent recent_popularity popularity_half_life trend_smoothing held",
        "SSF-T learns what order and trend weigh",
    )
}
"""The same of one model, and why."""
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")  # it takes Adam for every other name

ENTRIES = {
    "eval_args": ("split", "group_by", "order", "mode"),
    "eval_args.mode": ("valid", "test"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
}
"""The entries of RecBole's mappings; it passes over any other, and takes its default for what was meant."""
_RECBOLE_INTERVAL = re.compile(r"[\[(]([^,\[\]()]+),([^,\[\]()]+)[\])]")
_MODE = re.compile("full|labeled|(uni|pop)[1-9][0-9]*")


def ranges_of(model_class: type) -> dict[str, Interval | Words]:
    """Return key -> the values that it may have, for a model: those that all models share, and its own."""
    own: dict[str, str] = {}
    for base in reversed(model_class.__mro__):
        own |= vars(base).get("parameter_ranges", {})
    return declared_ranges(own)


def declared_ranges(own: Mapping[str, str]) -> dict[str, Interval | Words]:
    """Return key -> the values that it may have: those of keys that all models share, and of a model's declarations."""
    return RANGES | {key: Interval.parse(text) for key, text in own.items()}


def check_range(name: str, value: Any, declared: Interval | Words | Listed) -> None:
    """Refuse a value that a parameter may not have."""
    if not declared.holds(value):
        raise UsageError(f"{name} is {value!r}; it must be {declared}.")


def check_values(
    given: Mapping[str, Any], final: MutableMapping[str, Any], defaults: Mapping[str, Any], model_class: type
) -> None:
    """Refuse values in ``given`` that no model can mean; 1e4 and 64.0 become integers in ``final``."""
    ranges = ranges_of(model_class)
    for key in given:
        value = final.get(key)
        if value is None:
            continue
        _check_kind(key, value, defaults.get(key))
        declared = declared_for(ranges[key], defaults.get(key)) if key in ranges else None
        if declared is not None:
            check_range(key, value, declared)
        if isinstance(declared, Interval) and declared.kind is int:
            final[key] = int(value)
    by_recbole = not (getattr(model_class, "batches", None) or hasattr(model_class, "fit"))
    if by_recbole and "train_batch_size" in given and final["train_batch_size"] == 0:
        raise UsageError(
            f"train_batch_size is 0, but {model_class.__name__} gets RecBole's batches, which hold 1 row or more; give "
            "the number of rows."
        )
    if "topk" in given:
        lengths = final["topk"] if isinstance(final["topk"], Sequence) else [final["topk"]]
        if not lengths or not all(COUNT.holds(length) for length in lengths):
            raise UsageError(f"topk is {final['topk']!r}; it must be a list of whole numbers of 1 or more.")
        final["topk"] = [int(length) for length in lengths]
    milestones = final.get("lr_milestones")
    steps = isinstance(milestones, Sequence) and all(FROM_ZERO.holds(step) for step in milestones)
    if "lr_milestones" in given and milestones is not None and not steps:
        raise UsageError(f"lr_milestones is {milestones!r}; it must be a list of whole numbers, such as [8000].")
    clipped = final.get("clip_grad_norm")
    if "clip_grad_norm" in given and clipped and not (isinstance(clipped, Mapping) and "max_norm" in clipped):
        raise UsageError(f"clip_grad_norm is {clipped!r}; it must be a mapping, such as {{max_norm: 5.0}}.")
    files = final.get("benchmark_filename")
    if files is not None and not (isinstance(files, list) and files):
        raise UsageError(f"benchmark_filename is {files!r}; it must be a list, such as [train, valid, test].")
    for key in given:
        if key.endswith("_num_interval") and final[key] is not None and not _are_intervals(final[key]):
            raise UsageError(f"{key} is {final[key]!r}; it must be an interval, such as [5,inf).")
    if "val_interval" in given and final["val_interval"] is not None:
        _check_value_intervals(final["val_interval"])
    if "metrics" in given and not final["metrics"]:
        raise UsageError("metrics is empty; name at least one, such as Recall.")
    learner = final.get("learner")
    if "learner" in given and isinstance(learner, str) and learner.lower() not in LEARNERS:
        raise UsageError(f"learner is {learner!r}; it must be one of {', '.join(LEARNERS)}.")
    _check_split(final.get("eval_args"))
    _check_modes(final.get("eval_args"))
    _check_sampling(final.get("train_neg_sample_args"))
    _warn_of_missing_gpu(given, final)


def _check_kind(key: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default: RecBole would fail on it wherever it is first used."""
    if isinstance(default, bool):
        expected, fits = "True or False", isinstance(value, bool) or value in (0, 1)
    elif isinstance(default, (int, float)):
        expected = f"a number (the default is {default})"
        fits = _is_finite(value)
    else:
        return
    if not fits:
        raise UsageError(f"'{key}' is {value!r}; it must be {expected}.")


def check_entries(key: str, names: Iterable[str]) -> None:
    """Refuse names that are no entries of one of RecBole's mappings."""
    for name in names if key in ENTRIES else ():
        if name not in ENTRIES[key]:
            raise UsageError(f"'{key}' has no entry '{name}'{ending(str(name), ENTRIES[key])}")


def _check_modes(eval_args: Any) -> None:
    mode = eval_args.get("mode", "full") if isinstance(eval_args, Mapping) else "full"
    if isinstance(mode, Mapping):
        check_entries("eval_args.mode", mode)
    for kind in mode.values() if isinstance(mode, Mapping) else [mode]:
        if not (isinstance(kind, str) and _MODE.fullmatch(kind)):
            raise UsageError(
                f"eval_args.mode is {kind!r}; it must be full, labeled, or candidates to draw for each held-out like, "
                "such as uni100 or pop100."
            )


def _check_sampling(sampling: Any) -> None:
    """Refuse numbers of sampled items on which RecBole would fail in the first batch, and powers that are no number."""
    if not isinstance(sampling, Mapping):
        return
    candidates = COUNT if sampling.get("dynamic") else FROM_ZERO
    for name, limits in (("sample_num", COUNT), ("candidate_num", candidates), ("alpha", NUMBER)):
        value = sampling.get(name, 1)
        if value not in (None, "none"):
            check_range(f"train_neg_sample_args.{name}", value, limits)


def _are_intervals(value: Any) -> bool:
    """Whether RecBole reads all of the text as intervals; it passes over what it cannot read."""
    matches = [_RECBOLE_INTERVAL.fullmatch(part.strip()) for part in str(value).split(";")]
    try:
        return all(match is not None and float(match[1]) <= float(match[2]) for match in matches)
    except ValueError:
        return False


def _check_value_intervals(intervals: Any) -> None:
    if not isinstance(intervals, Mapping):
        raise UsageError(f"val_interval is {intervals!r}; it must be a mapping, such as {{rating: '[4,5]'}}.")
    for field, value in intervals.items():
        if not (isinstance(value, list) or _are_intervals(value)):
            raise UsageError(
                f"val_interval of '{field}' is {value!r}; it must be intervals, such as '[4,5]' or '(0,1];[3,4)', or a "
                "list of the words that stay."
            )


def _check_split(eval_args: Any) -> None:
    split = eval_args.get("split") if isinstance(eval_args, Mapping) else None
    ratios = split.get("RS") if isinstance(split, Mapping) else None
    if ratios is None:
        return
    fits = isinstance(ratios, Sequence) and all(NOT_NEGATIVE.holds(ratio) for ratio in ratios)
    if not fits or not sum(ratios) > 0:
        raise UsageError(f"the ratios of the split RS are {ratios!r}; they must be numbers of 0 or more, one above 0.")


def _warn_of_missing_gpu(given: Mapping[str, Any], final: Mapping[str, Any]) -> None:
    asked = ("gpu_id" in given and str(given["gpu_id"]) not in ("", "None")) or given.get("use_gpu") is True
    if asked and final.get("use_gpu") is not False:
        import torch

        if not torch.cuda.is_available():
            getLogger().warning("A GPU is asked for, but torch finds none here: the run is on the CPU.")


def without_removed(settings: dict[str, Any], model: str = "", known: Iterable[str] = ()) -> dict[str, Any]:
    """Take keys of earlier versions out of ``settings``, and return it; warn once of one that asked for something."""
    for key, reason in REMOVED.items():
        if key not in known and settings.pop(key, None):
            _warn_once(f"{key} has no effect any more: {reason}.")
    names, reason = REMOVED_OF.get(model, ("", ""))
    gone = [key for key in names.split() if key not in known and settings.pop(key, None) is not None]
    if gone:
        _warn_once(f"{', '.join(gone)}: of no effect any more, as {reason}.")
    return settings


@cache
def _warn_once(text: str) -> None:
    getLogger(__name__).warning(text)

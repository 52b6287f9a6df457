"""What a RecBole configuration says about signs, checked once and kept as one comparable, picklable object.

And about groups of users and of items, with names such as ``recall@20[users 1-5]`` for results within them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_signed.atomic.signs import ConfigLike, Sign, columns_of
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin.facts import why_unsigned

DUPLICATES = ("last", "first", "keep")
DISLIKE_SPLITS = ("rule", "time")
COLD = {"CI": "item", "CU": "user"}  # splits that hold out all edges of some items, or users, by the seed
USERS, ITEMS = "users", "items"
GROUP_KEYS = {USERS: "user_groups", ITEMS: "item_groups"}  # the configuration keys that hold the bounds
DEFAULT_BOUNDS = {USERS: (0, 5, 20, 50), ITEMS: (5, 20, 50)}  # most edges in each group but the last

_NAME = re.compile(r"(?P<result>[^\[\]]+)\[(?P<group>(?:users|items) \d+(?:-\d+|\+)?|gamma \d[\d.e+-]*)\]")


def ranks_all(eval_args: Mapping[str, Any]) -> bool:
    """Whether RecBole's ``eval_args`` rank all items, and no candidates that are drawn."""
    mode = eval_args.get("mode") or "full"
    return all(ranking == "full" for ranking in (mode.values() if isinstance(mode, Mapping) else [mode]))


@dataclass(frozen=True)
class SignedSettings:
    """The sign of a data set and how signed rows are treated: the key ``signed``, which checkpoints hold."""

    sign_field: str | None  # column that holds -1, 0 or 1; None where `sign_rule` makes the sign
    sign_rule: SignRule | None
    duplicate_pairs: str  # which row counts where a user-item pair repeats: `last`, `first` or `keep` (all of them)
    mask_dislikes: bool  # never recommend at evaluation what the user disliked in training
    mask_neutrals: bool  # never recommend at evaluation what the user saw in training without a verdict
    mask_valid_at_test: bool  # hide validation likes in the test phase; SIGformer's published protocol doesn't
    mask_repeats: bool  # also hide held-out likes that were already seen in training (then nobody can hit them)
    neutral_weight: float = 0.0  # of an exposure in the graph: above 0 a weak like, below 0 a weak dislike
    mask_seen: bool = True  # hide what the user liked before; False, as RecBole has it for sequential models
    dislike_split: str = "rule"  # how dislikes follow a split by time: by the `rule` too, or by `time` alone

    @property
    def sign(self) -> Sign:
        """Where the sign comes from."""
        return Sign(self.sign_field, self.sign_rule)

    @classmethod
    def from_config(cls, config: ConfigLike) -> SignedSettings | None:
        """Read the settings of ``config``, whose ``data_path`` is the data set's folder; None without a sign."""
        columns = inter_columns(config)
        sign = None if columns is None else Sign.find(config, columns, config["dataset"])
        if sign is None:
            return None
        _refuse_unsigned_models(config)
        _refuse_labels(config)
        _refuse_drawn_users(config)
        return cls(
            sign_field=sign.field,
            sign_rule=sign.rule,
            duplicate_pairs=_one_of("duplicate_pairs", config["duplicate_pairs"] or config["rm_dup_inter"], DUPLICATES),
            mask_dislikes=_flag(config, "mask_dislikes", True),
            mask_neutrals=_flag(config, "mask_neutrals", True),
            mask_valid_at_test=_flag(config, "mask_valid_at_test", True),
            mask_repeats=_flag(config, "mask_repeats", False),
            neutral_weight=_neutral_weight(config),
            mask_seen=_flag(config, "mask_seen", True),
            dislike_split=_one_of("dislike_split", config["dislike_split"], DISLIKE_SPLITS),
        )


SETTING_KEYS = (
    "SIGN_FIELD",
    "sign_rule",
    "duplicate_pairs",
    "mask_dislikes",
    "mask_neutrals",
    "mask_valid_at_test",
    "mask_repeats",
    "mask_seen",
    "dislike_split",
    "neutral_weight",
    "protocol",
    "eval_users",
)
"""The configuration keys that this package adds for data and evaluation."""


def inter_files(config: ConfigLike) -> list[str]:
    """Return the paths of the data set's ``.inter`` files that are there: one, or those of ``benchmark_filename``."""
    parts = config["benchmark_filename"]
    names = [f"{config['dataset']}{part}.inter" for part in ([f".{name}" for name in parts] if parts else [""])]
    return list(filter(os.path.isfile, (os.path.join(config["data_path"], name) for name in names)))


def inter_columns(config: ConfigLike) -> dict[str, str] | None:
    """Return column name -> type of the data set's ``.inter`` files together, or None where there is no such file."""
    columns: dict[str, str] = {}
    for path in inter_files(config):
        columns |= columns_of(path, config["field_separator"] or "\t", config["encoding"] or "utf-8")
    return columns or None


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    value = value or allowed[0]
    if value not in allowed:
        raise UsageError(f"{key} is '{value}'; it must be one of {', '.join(allowed)}{ending(value, allowed)}")
    return value


def _flag(config: ConfigLike, key: str, default: bool) -> bool:
    value = config[key] if key in config else default  # noqa: SIM401  (RecBole's Config has no get)
    if not isinstance(value, bool):
        raise UsageError(f"{key} is {value!r}; it must be True or False.")
    return value


def _neutral_weight(config: ConfigLike) -> float:
    value = config["neutral_weight"] or 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1.0 <= value <= 1.0:
        raise UsageError(
            f"neutral_weight is {value!r}; it must be a number from -1 (exposures count as dislikes) to 1 (as likes), "
            "and 0 leaves them out of the graph."
        )
    return float(value)


def _refuse_unsigned_models(config: ConfigLike) -> None:
    model = getattr(config, "model_class", None)
    family = model.__module__.rpartition("_recommender")[0].rpartition(".")[2] if model is not None else ""
    reason = why_unsigned(model.__name__, family) if model is not None else None
    if reason is not None:
        raise UsageError(
            f"{config['model']} does not run on '{config['dataset']}', which has a sign: {reason}; 'recbole-signed "
            "models' lists what runs."
        )


def _refuse_labels(config: ConfigLike) -> None:
    """RecBole's labels are a second opinion on what a like is: two of them can't both be right."""
    if config["threshold"]:
        raise UsageError(
            f"the data set '{config['dataset']}' has a sign and 'threshold' is set too; remove 'threshold' "
            "(the sign decides what a like is), or set 'SIGN_FIELD: ~' to use RecBole's labels."
        )
    modes = (config["eval_args"] or {}).get("mode")
    if "labeled" in (modes.values() if isinstance(modes, dict) else [modes]):
        raise UsageError(
            "eval_args.mode 'labeled' judges labels, but on signed data held-out likes are ranked; use 'full'."
        )


def _refuse_drawn_users(config: ConfigLike) -> None:
    """Where candidates are drawn, RecBole's loader evaluates all users, whatever ``eval_users`` says."""
    eval_args = config["eval_args"] or {}
    if config["eval_users"] is not None and not ranks_all(eval_args):
        raise UsageError(
            f"eval_users draws users where all items are ranked, but eval_args.mode is {eval_args['mode']!r}; leave "
            "eval_users out, or set the mode to full."
        )


# ---- groups of users and of items by their number of training edges ----


def bounds_of(side: str, value: Any) -> tuple[int, ...]:
    """Return the bounds that a configuration gives for a side; the default for None."""
    if value is None:
        return DEFAULT_BOUNDS[side]
    whole = isinstance(value, (list, tuple)) and all(type(bound) is int and bound >= 0 for bound in value)
    if not whole or not value or list(value) != sorted(set(value)):
        raise UsageError(
            f"{GROUP_KEYS[side]} is {value!r}; it must be ascending whole numbers, the largest number of training "
            "edges in each group but the last, such as [0, 5, 20, 50]."
        )
    return tuple(value)


def labels_of(side: str, bounds: Sequence[int]) -> list[str]:
    """Return the names of the groups: ``users 0``, ``users 1-5``, ..., ``users 51+``."""
    labels, first = [], 0
    for last in bounds:
        labels.append(f"{side} {first}-{last}" if last > first else f"{side} {last}")
        first = last + 1
    return [*labels, f"{side} {first}+"]


def in_group(result: str, label: str) -> str:
    """Return the name of a result within a group."""
    return f"{result}[{label}]"


def split_group(name: str) -> tuple[str, str]:
    """Return the name of a result and that of its group, which is empty where there is none."""
    match = _NAME.fullmatch(name)
    return (match["result"], match["group"]) if match else (name, "")

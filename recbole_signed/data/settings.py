"""What a RecBole configuration says about signs, checked once and kept as one comparable, picklable object."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from recbole_signed.convert import SignRule
from recbole_signed.errors import UsageError, nearest

DUPLICATES = ("last", "first", "keep")
HOW_TO_SIGN = (
    "give its .inter file a column 'sign:float' of -1, 0 and 1, or set a rule such as "
    "sign_rule={like: 'rating >= 4', dislike: 'rating <= 2'}."
)


class ConfigLike(Protocol):
    """The part of ``recbole.config.Config`` that is read here."""

    def __getitem__(self, key: str) -> Any: ...
    def __contains__(self, key: str) -> bool: ...


@dataclass(frozen=True)
class SignedSettings:
    """The sign of a data set and how signed rows are treated.

    It lies in the configuration under ``signed``. A checkpoint holds the configuration, so unpickling one imports
    this package, and a stock model that was trained on signed data can't be loaded with dislikes taken for likes.
    """

    sign_field: str | None
    """Column that holds -1, 0 or 1; None where ``sign_rule`` makes the sign."""
    sign_rule: SignRule | None
    duplicate_pairs: str
    """Which row counts where a user-item pair repeats: ``last``, ``first`` or ``keep`` (all of them)."""
    mask_dislikes: bool
    """Never recommend at evaluation what the user disliked in training."""
    mask_neutrals: bool
    """Never recommend at evaluation what the user saw in training without a verdict."""
    mask_valid_at_test: bool
    """Hide validation likes in the test phase (RecBole does, SIGformer's published protocol does not)."""
    mask_repeats: bool
    """Also hide held-out likes that were already seen in training (then nobody can hit them)."""
    neutral_weight: float = 0.0
    """Weight in the signed graph of an exposure without a verdict: above 0 a weak like, below 0 a weak dislike."""

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns of the ``.inter`` file from which the sign comes."""
        if self.sign_rule is not None:
            return self.sign_rule.columns
        return () if self.sign_field is None else (self.sign_field,)

    @classmethod
    def from_config(cls, config: ConfigLike) -> SignedSettings | None:
        """Read the settings of ``config``, whose ``data_path`` is the folder of the data set.

        Returns:
            None where the data set has no sign, or where ``SIGN_FIELD: ~`` says to ignore it.

        Raises:
            UsageError: a named column is missing, a value is not among the allowed ones, or both a rule and
                RecBole's ``threshold`` are given.
        """
        if "SIGN_FIELD" in config and config["SIGN_FIELD"] in (None, "None") and not config["sign_rule"]:
            return None
        columns = inter_columns(config)
        if columns is None:
            return None
        rule = _rule(config["sign_rule"], columns)
        field = None if rule else (config["SIGN_FIELD"] or "sign")
        if field is not None and field not in columns:
            if config["SIGN_FIELD"]:
                raise UsageError(
                    f"SIGN_FIELD is '{field}', but the data set '{config['dataset']}' has the columns "
                    f"{', '.join(columns)}{nearest(field, columns)}"
                )
            return None
        if field is not None and columns[field] != "float":
            raise UsageError(
                f"the sign column '{field}' of '{config['dataset']}' has the type '{columns[field]}'; "
                f"write it as '{field}:float'."
            )
        _refuse_labels(config)
        return cls(
            sign_field=field,
            sign_rule=rule,
            duplicate_pairs=_duplicates(config),
            mask_dislikes=_flag(config, "mask_dislikes", True),
            mask_neutrals=_flag(config, "mask_neutrals", True),
            mask_valid_at_test=_flag(config, "mask_valid_at_test", True),
            mask_repeats=_flag(config, "mask_repeats", False),
            neutral_weight=_neutral_weight(config),
        )


SETTING_KEYS = (
    "SIGN_FIELD",
    "sign_rule",
    "duplicate_pairs",
    "mask_dislikes",
    "mask_neutrals",
    "mask_valid_at_test",
    "mask_repeats",
    "neutral_weight",
    "protocol",
)
"""The configuration keys that this package adds for data and evaluation."""


def inter_columns(config: ConfigLike) -> dict[str, str] | None:
    """Return column name -> type of the data set's first ``.inter`` file, or None where there is no such file.

    Raises:
        UsageError: the header is not made of ``name:type`` fields, or names a column twice.
    """
    folder, name = config["data_path"], config["dataset"]
    parts = config["benchmark_filename"]
    path = os.path.join(folder, f"{name}.{parts[0]}.inter" if parts else f"{name}.inter")
    if not os.path.isfile(path):
        return None
    with open(path, encoding=config["encoding"] or "utf-8") as file:
        fields = file.readline().removeprefix("\ufeff").rstrip("\r\n").split(config["field_separator"] or "\t")
    columns: dict[str, str] = {}
    for field in fields:
        column, colon, kind = field.partition(":")
        if not colon:
            raise UsageError(f"the first line of {path} must name columns as 'name:type', but has '{field}'.")
        if column in columns:
            raise UsageError(f"the first line of {path} names the column '{column}' twice.")
        columns[column] = kind
    return columns


def _rule(spec: Any, columns: dict[str, str]) -> SignRule | None:
    if not spec:
        return None
    if not isinstance(spec, dict):
        raise UsageError(f"sign_rule is {spec!r}; write it as {{like: 'rating >= 4', dislike: 'rating <= 2'}}.")
    rule = SignRule.parse(spec)
    for column in rule.columns:
        if column not in columns:
            raise UsageError(
                f"sign_rule uses the column '{column}', but the data set has {', '.join(columns)}"
                f"{nearest(column, columns)}"
            )
        if columns[column] != "float":
            raise UsageError(
                f"sign_rule compares the column '{column}' with a number, but its type is '{columns[column]}'."
            )
    return rule


def _duplicates(config: ConfigLike) -> str:
    """``duplicate_pairs``, or what RecBole's own key for the same thing says."""
    chosen = config["duplicate_pairs"] or config["rm_dup_inter"] or "last"
    if chosen not in DUPLICATES:
        raise UsageError(
            f"duplicate_pairs is '{chosen}'; it must be one of {', '.join(DUPLICATES)}{nearest(chosen, DUPLICATES)}"
        )
    return chosen


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

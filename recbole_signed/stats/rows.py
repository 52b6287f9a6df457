"""The rows of a data set as arrays, read from its atomic files as RecBole would read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from recbole_signed.convert import SignRule
from recbole_signed.errors import UsageError, nearest

_USUAL_PARTS = ("train", "valid", "test")
_HOW_TO_SIGN = (
    "write a column 'sign:float' of -1, 0 and 1, or put a rule into {yaml}, such as "
    "sign_rule: {{like: 'rating >= 4', dislike: 'rating <= 2'}}."
)


@dataclass(frozen=True)
class RawRows:
    """Interactions of one data set, in the order of its files."""

    users: np.ndarray
    """int32 ``[n]``, from 0."""
    items: np.ndarray
    """int32 ``[n]``, from 0."""
    signs: np.ndarray
    """int8 ``[n]``: 1 like, -1 dislike, 0 neutral."""
    times: np.ndarray | None
    """``[n]``, of any number type; None where there are none."""
    n_users: int
    n_items: int
    parts: Mapping[str, slice]
    """Where each part of a ready split lies; empty where there is one file."""

    def __len__(self) -> int:
        return len(self.users)


def read_rows(folder: Path) -> RawRows:
    """Read the data set ``folder/NAME.inter``, or ``NAME.train.inter`` and so on, where NAME is the folder's.

    ``NAME.yaml`` beside it may name the columns (``USER_ID_FIELD``, ``ITEM_ID_FIELD``, ``TIME_FIELD``,
    ``SIGN_FIELD``), the parts (``benchmark_filename``), the separator, and a ``sign_rule``.

    Raises:
        UsageError: no such data set, no sign, a missing column, or a cell that does not fit (with file and row).
    """
    if not folder.is_dir():
        near = nearest(folder.name, [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise UsageError(f"there is no data set folder {folder}{near or '; give its parent as --data-path.'}")
    settings = _settings(folder / f"{folder.name}.yaml")
    files = _files(folder, settings)
    frames = [_read(path, settings, folder) for path in files.values()]
    timed = [frame for frame in frames if "time" in frame.columns]
    if timed and len(timed) < len(frames):
        raise UsageError(f"only some of {', '.join(path.name for path in files.values())} have a time; give all one.")
    frame = pl.concat(frames)
    users, n_users = _codes(frame["user"])
    items, n_items = _codes(frame["item"])
    ends = np.cumsum([0, *(each.height for each in frames)])
    parts = (
        {}
        if None in files
        else {str(part): slice(int(a), int(b)) for part, a, b in zip(files, ends, ends[1:], strict=False)}
    )
    times = frame["time"].to_numpy() if timed else None
    return RawRows(users, items, frame["sign"].to_numpy(), times, n_users, n_items, parts)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no yaml: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{path} must hold keys and values, such as 'SIGN_FIELD: sign'.")
    return settings


def _files(folder: Path, settings: Mapping[str, Any]) -> dict[str | None, Path]:
    """The ``.inter`` files by part, None for a single one."""
    name = folder.name
    parts = settings.get("benchmark_filename")
    single = folder / f"{name}.inter"
    if not parts and single.is_file():
        return {None: single}
    if not parts:
        parts = [part for part in _USUAL_PARTS if (folder / f"{name}.{part}.inter").is_file()]
    files: dict[str | None, Path] = {part: folder / f"{name}.{part}.inter" for part in parts}
    missing = [path.name for path in files.values() if not path.is_file()]
    if not files or missing:
        raise UsageError(
            f"{folder} holds no {missing[0] if missing else single.name}; 'recbole-signed convert' makes it."
        )
    return files


def _read(path: Path, settings: Mapping[str, Any], folder: Path) -> pl.DataFrame:
    """Columns ``user``, ``item`` (text), ``sign`` (int8) and, where there is one, ``time``."""
    separator = settings.get("field_separator") or "\t"
    types = _columns(path, separator)
    user, item = (
        settings.get(key) or default for key, default in (("USER_ID_FIELD", "user_id"), ("ITEM_ID_FIELD", "item_id"))
    )
    rule = SignRule.parse(settings["sign_rule"]) if settings.get("sign_rule") else None
    signals = rule.columns if rule else (settings.get("SIGN_FIELD") or "sign",)
    time = settings.get("TIME_FIELD") or "timestamp"
    for column in (user, item, *signals):
        if column not in types:
            how = "." if column in (user, item) else "; " + _HOW_TO_SIGN.format(yaml=folder / f"{folder.name}.yaml")
            raise UsageError(f"{path} has no column '{column}'{nearest(column, types).rstrip('.')}{how}")
    wanted = [user, item, *signals, *([time] if time in types else [])]
    full = {name: f"{name}:{types[name]}" if types[name] else name for name in dict.fromkeys(wanted)}
    text = {full[user], full[item]}
    try:
        frame = pl.read_csv(
            path,
            separator=separator,
            columns=list(full.values()),
            schema_overrides={each: pl.String if each in text else pl.Float64 for each in full.values()},
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {' '.join(str(error).split())[:300]}.") from None
    if not frame.height:
        raise UsageError(f"{path} holds no rows.")
    _refuse_blanks(
        path,
        frame,
        [full[user], full[item], *([full[time]] if time in types else []), *([] if rule else [full[signals[0]]])],
    )
    if rule:
        sign = pl.Series(
            rule.apply({name: frame[full[name]].fill_null(float("nan")).to_numpy() for name in rule.columns})
        )
    else:
        sign = frame[full[signals[0]]]
        wrong = (~sign.is_in([-1.0, 0.0, 1.0])).arg_true()
        if len(wrong):
            raise UsageError(f"{path}, row {wrong[0] + 2}: the sign is {sign[wrong[0]]:g}; it must be -1, 0 or 1.")
    columns = {"user": frame[full[user]], "item": frame[full[item]], "sign": sign.cast(pl.Int8)}
    return pl.DataFrame(columns | ({"time": frame[full[time]]} if time in types else {}))


def _columns(path: Path, separator: str) -> dict[str, str]:
    """The columns that the first line names, and their types."""
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline().rstrip("\r\n").split(separator)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: {error}.") from None
    types = dict(field.partition(":")[::2] for field in header)
    if len(types) < len(header):
        raise UsageError(f"the first line of {path} names a column twice.")
    return types


def _refuse_blanks(path: Path, frame: pl.DataFrame, columns: list[str]) -> None:
    for column in columns:
        blank = (
            frame[column].is_null() if frame[column].dtype == pl.String else ~frame[column].is_finite().fill_null(False)
        )
        if blank.any():
            raise UsageError(f"{path}, row {blank.arg_true()[0] + 2}: no value in the column '{column}'; drop the row.")


def _codes(ids: pl.Series) -> tuple[np.ndarray, int]:
    """Number the distinct ids from 0; int32 ``[n]``."""
    distinct = ids.unique()
    return ids.cast(pl.Enum(distinct)).to_physical().cast(pl.Int32).to_numpy(), distinct.len()

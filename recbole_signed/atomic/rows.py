"""The rows of a data set as arrays, read from its ``.inter`` files by the settings of its yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.atomic.inter_file import read_columns, refuse_blank
from recbole_signed.atomic.signs import Settings, Sign, columns_of
from recbole_signed.convert.raw_files import existing_file
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.errors import UsageError, ending, nearest
from recbole_signed.files import names_beside

_USUAL_PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class RawRows:
    """Interactions of one data set, in the order of its files."""

    users: np.ndarray
    """int32 ``[n]``, from 0 in the order of first appearance."""
    items: np.ndarray
    """int32 ``[n]``, from 0 in the order of first appearance."""
    signs: np.ndarray
    """int8 ``[n]``: 1 like, -1 dislike, 0 neutral."""
    times: np.ndarray | None
    """``[n]``, int64 where all are integers, else float64; None where there are none."""
    n_users: int
    n_items: int
    parts: Mapping[str, slice]
    """Where each part of a ready split lies; empty where there is one file."""
    tokens: tuple[pl.Series, pl.Series] | None = None
    """The texts of the users and of the items by number; None for rows that were not read from a file."""

    def __len__(self) -> int:
        return len(self.users)


def read_rows(path: Path, sign_rule: Mapping[str, str] | None = None) -> RawRows:
    """Read a data set: a folder with ``NAME.inter``, or ``NAME.train.inter`` and so on; or one such file.

    ``NAME.yaml`` beside it may name the columns (``USER_ID_FIELD``, ``ITEM_ID_FIELD``, ``TIME_FIELD``,
    ``SIGN_FIELD``), the parts (``benchmark_filename``), the separator, the encoding, and a ``sign_rule``: what holds
    in ``run`` holds here.

    Args:
        path: the folder or the file.
        sign_rule: in place of the sign that the files or the yaml give.

    Raises:
        UsageError: no such data set, no sign, a missing column, or a cell that does not fit (with file and line).
    """
    folder = path if path.suffix != ".inter" or path.is_dir() else path.parent
    name = folder.name if folder == path or path.name.startswith(f"{folder.name}.") else path.stem
    if not folder.is_dir():
        near = nearest(name, names_beside(folder))
        made = "; 'recbole-signed convert' makes one."
        raise UsageError(f"there is no data set folder {folder}{near or made}")
    beside = folder / f"{name}.yaml"
    settings = Settings.read(beside)
    if sign_rule is not None:
        settings["sign_rule"] = dict(sign_rule)
    files = _files(folder, name, settings["benchmark_filename"]) if folder == path else {None: existing_file(path)}
    vocabularies: dict[str, TokenCodes] = {}
    columns = [_read(file, settings, beside, vocabularies) for file in files.values()]
    timed = [each for each in columns if "time" in each]
    if timed and len(timed) < len(columns):
        raise UsageError(f"only some of {', '.join(file.name for file in files.values())} have a time; give all one.")
    ends = np.cumsum([0, *(len(each["sign"]) for each in columns)]).tolist()
    spans = zip(files, ends, ends[1:], strict=False)
    users, items, signs, *times = (_joined([each.pop(key) for each in columns]) for key in list(columns[0]))
    tokens = tuple(vocabularies[field].series() for field in _ids(settings))
    return RawRows(
        users,
        items,
        signs,
        times[0] if times else None,
        len(tokens[0]),
        len(tokens[1]),
        {part: slice(first, last) for part, first, last in spans if part is not None},
        (tokens[0], tokens[1]),
    )


def _files(folder: Path, name: str, parts: Any) -> dict[str | None, Path]:
    """The ``.inter`` files by part, None for a single one."""
    if parts is not None and not (isinstance(parts, list) and parts):
        raise UsageError(f"benchmark_filename is {parts!r}; it must be a list, such as [train, valid, test].")
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


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _ids(settings: Settings) -> tuple[str, str]:
    return settings["USER_ID_FIELD"] or "user_id", settings["ITEM_ID_FIELD"] or "item_id"


def _read(path: Path, settings: Settings, beside: Path, vocabularies: dict[str, TokenCodes]) -> dict[str, np.ndarray]:
    """Columns ``user``, ``item``, ``sign`` and, where there is one, ``time``, in this order."""
    separator, encoding = settings["field_separator"] or "\t", settings["encoding"] or "utf-8"
    types = columns_of(path, separator, encoding)
    ids = _ids(settings)
    for field in ids:
        if types.get(field) != "token":
            raise UsageError(
                f"{path} has no column '{field}:token'; set USER_ID_FIELD and ITEM_ID_FIELD to its id columns in "
                f"{beside}{ending(field, types)}"
            )
    sign = Sign.find(settings, types, path.name)
    if sign is None:
        raise UsageError(
            f"{path} has no column 'sign'; write a column 'sign:float' of -1, 0 and 1, or put a rule into {beside}, "
            "such as sign_rule: {like: 'rating >= 4', dislike: 'rating <= 2'}."
        )
    sign.refuse_truth_values(path, separator, encoding)
    time = settings["TIME_FIELD"] or "timestamp"
    wanted = {*ids, *sign.columns, *([time] if types.get(time) == "float" else [])}
    columns, _ = read_columns(
        path,
        separator=separator,
        encoding=encoding,
        exact_integers=time,
        wanted=wanted.__contains__,
        vocabularies=vocabularies,
    )
    assert columns is not None, "sequences are not asked for"
    for field in ids:
        refuse_blank(path, field, columns[field] < 0)
    found = {"user": columns[ids[0]], "item": columns[ids[1]], "sign": sign.of(columns, str(path))}
    if time in wanted:
        refuse_blank(path, time, ~np.isfinite(columns[time]))
        found["time"] = columns[time]
    return found

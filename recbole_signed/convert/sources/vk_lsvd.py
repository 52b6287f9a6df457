"""The source ``vk-lsvd``: VK's short videos (arXiv 2602.04567), one parquet file of exposures for each of 27 weeks.

Rows are in order of time, without times: ``timestamp`` spreads the rows of a week over its 604,800 seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from recbole_signed.convert.base import Converter, Features, Part, find_files
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.columns import number, require_value
from recbole_signed.convert.options import option
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import names_beside

WEEK = 604_800
_FOLDERS = ("train", "validation", "test")
_REACTIONS = ("like", "dislike")
_COLUMNS = ("user_id", "item_id", *_REACTIONS, "timespent")
_NAME = re.compile(r"week_(\d+)\.parquet")


@dataclass(frozen=True)
class Options:
    """What makes a verdict, and which rows are read."""

    subsample: str | None = option(None, "name of a folder of subsamples, such as ur0.01; default: all interactions")
    exposures: Literal["neutral", "none"] = option("neutral", "videos without a verdict are neutral rows, or left out")
    watched: int | None = option(None, "seconds from which a video without like or dislike is a like")
    skipped: int | None = option(None, "seconds below which a video without like or dislike is a dislike")
    first_week: int = option(0, "the first week that is read")
    last_week: int = option(26, "the last week that is read")
    split: Literal["none", "weeks"] = option(
        "none", "one file; or the last week is the test part, the week before the validation part, as published"
    )


class VkLsvd(Converter):
    """Reads the folder of the data set, or one with its parts; a dislike counts more than a like of the same row."""

    name = "vk-lsvd"
    summary = "VK-LSVD: folder of interactions/, subsamples/ and metadata/, or one of train/, validation/ and test/"
    licence = "Apache-2.0 (VK-LSVD, arXiv 2602.04567, 2026)"
    options_class = Options
    unix_time = False

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        skipped, watched = options.skipped, options.watched
        if skipped is not None and watched is not None and skipped > watched:
            raise UsageError(f"skipped={skipped} is above watched={watched}; 0 <= skipped <= watched was expected.")

    @cached_property
    def _weeks(self) -> dict[int, Path]:
        """The files by week, in order."""
        if self.input.is_file():
            raise UsageError(f"{self.input} is a file; give the folder that holds train/, validation/ and test/.")
        base = self.input / ("interactions" if self.options.subsample is None else "subsamples")
        base = base / (self.options.subsample or "")
        if self.options.subsample is not None and not base.is_dir():
            raise UsageError(f"There is no folder {base}{ending(base.name, names_beside(base))}")
        base = base if base.is_dir() else self.input
        folders = [base / name for name in _FOLDERS if (base / name).is_dir()] or [base]
        files = [path for folder in folders for path in find_files(folder, ["week_*.parquet"])]
        weeks: dict[int, Path] = {}
        for path in files:
            match = _NAME.fullmatch(path.name)
            if match is None:
                raise UsageError(f"{path} has no number of a week; a name like week_07.parquet was expected.")
            if int(match[1]) in weeks:
                raise UsageError(f"{weeks[int(match[1])]} and {path} are the same week; keep one of them.")
            weeks[int(match[1])] = path
        first, last = self.options.first_week, self.options.last_week
        chosen = {week: weeks[week] for week in sorted(weeks) if first <= week <= last}
        needed = 3 if self.options.split == "weeks" else 1
        if len(chosen) < needed:
            raise UsageError(
                f"{self.input} holds {len(chosen)} of the weeks {first} to {last}; {needed} or more week_NN.parquet "
                "were expected in train/, validation/ and test/."
            )
        return chosen

    @cached_property
    def _metadata(self) -> dict[str, Path]:
        """The files of users and items, where they are there."""
        files = {kind: self.input / "metadata" / f"{kind}_metadata.parquet" for kind in ("users", "items")}
        return {kind: path for kind, path in files.items() if path.is_file()}

    def inputs(self) -> list[Path]:
        """The weeks, and the features of users and items where they are there."""
        return [*self._weeks.values(), *self._metadata.values()]

    def parts(self) -> Iterable[Part]:
        """One part, or three: the weeks before the last two, the week before the last, the last."""
        weeks = list(self._weeks)
        if self.options.split == "none":
            return [Part(None, self._rows(weeks))]
        parts = {"train": weeks[:-2], "valid": weeks[-2:-1], "test": weeks[-1:]}
        return [Part(part, self._rows(those)) for part, those in parts.items()]

    def _rows(self, weeks: list[int]) -> Iterator[Batch]:
        for week in weeks:
            path = self._weeks[week]
            table = open_table(path)
            n_rows = max(1, pl.scan_parquet(path).select(pl.len()).collect().item())
            for batch in table.batches(_COLUMNS):
                place = (np.asarray(batch.rows, dtype=np.float64) - 1) / n_rows
                time = pl.Series("timestamp", np.floor((week - self.options.first_week + place) * WEEK))
                signed = self._signed(_checked(batch.with_columns(time)))
                if self.options.exposures == "none":
                    signed = signed.keep(signed.frame["sign"] != 0)
                yield signed.select("user_id", "item_id", "sign", "timestamp", "timespent")

    def _signed(self, batch: Batch) -> Batch:
        time, verdict = pl.col("timespent"), pl.lit(0)
        if self.options.watched is not None:
            verdict = pl.when(time >= self.options.watched).then(1).otherwise(verdict)
        if self.options.skipped is not None:
            verdict = pl.when(time < self.options.skipped).then(-1).otherwise(verdict)
        sign = pl.when(pl.col("dislike")).then(-1).when(pl.col("like")).then(1).otherwise(verdict)
        return batch.with_columns(sign.cast(pl.Int8).alias("sign"))

    def user_features(self) -> Features | None:
        """Age, gender and region of users."""
        return self._features("users", ("user_id", "age", "gender", "geo"), {"gender": "token", "geo": "token"})

    def item_features(self) -> Features | None:
        """Author and duration of videos."""
        return self._features("items", ("item_id", "author_id", "duration"), {"author_id": "token"})

    def _features(self, kind: str, columns: tuple[str, ...], types: dict[str, str]) -> Features | None:
        path = self._metadata.get(kind)
        if path is None:
            return None
        tokens = [pl.col(column).cast(pl.String) for column in types]
        return Features((batch.with_columns(*tokens) for batch in open_table(path).batches(columns)), types)


def _checked(batch: Batch) -> Batch:
    """Refuse reactions that are not truth values, and rows without an id; without a reaction there is none."""
    for column in _REACTIONS:
        dtype = batch.frame.schema[column]
        if dtype != pl.Boolean and not dtype.is_integer():
            raise UsageError(f"{batch.origin}: column {column!r} holds {dtype}, true and false were expected.")
    batch = batch.with_columns(*(pl.col(column).cast(pl.Boolean).fill_null(False) for column in _REACTIONS))
    batch = number(batch, "timespent", purpose="the sign")
    return require_value(batch, "user_id", "item_id")

"""Sources of logs whose sign comes from what was watched, played or clicked: ``kuairec``, ``zvuk`` and ``tenrec``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from recbole_signed.convert.base import Converter, Features
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import MISSING_TOKENS, filled, number, sign_by_rule
from recbole_signed.convert.options import option
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import RawTable, open_table
from recbole_signed.errors import UsageError


class _Watched(Converter):
    """Each row says how long it was: a like above one threshold, a dislike below the other, both of them options."""

    measure: ClassVar[str]  # the column of how long it was
    expected: ClassVar[str]  # what a message says where that is negative
    thresholds: ClassVar[tuple[str, str]]  # names of the options below which a row is a dislike, and above which a like
    item: ClassVar[str]  # the column of the item
    time: str | None  # that of the time, if it is read
    raw: ClassVar[tuple[str, ...]]  # columns to carry over

    def __init__(self, input: Path | None, options: Any) -> None:
        super().__init__(input, options)
        low, high = (f"{getattr(options, name):g}" for name in self.thresholds)
        dislike, like = self.thresholds
        if not 0 < getattr(options, dislike) <= getattr(options, like):
            raise UsageError(f"{dislike}={low} and {like}={high}: 0 < {dislike} <= {like} was expected.")

    @property
    def rule(self) -> SignRule:
        """The rule the thresholds make."""
        low, high = (f"{getattr(self.options, name):.12g}" for name in self.thresholds)
        return SignRule.parse({"like": f"{self.measure} > {high}", "dislike": f"{self.measure} < {low}"})

    def raw_batches(self, columns: list[str]) -> Iterator[Batch]:
        """Rows of the file."""
        return open_table(self.file, separator=",").batches(columns)

    def batches(self) -> Iterator[Batch]:
        """Give the rows with their sign."""
        clock, time = Clock("s"), self.time
        named = {"user_id": "user_id", self.item: "item_id"} | ({} if time is None else {time: "timestamp"})
        for batch in self.raw_batches([*named, *self.raw]):
            batch = number(batch, self.measure, purpose="the sign rule")
            problem = f"{self.measure} {{value:g}}, {self.expected} expected"
            batch = batch.require(batch.frame[self.measure] >= 0, problem, self.measure)
            if time is not None:
                batch = clock.seconds(batch, time)
            batch = sign_by_rule(batch, self.rule)
            if self.options.between == "drop":
                batch = batch.keep(batch.frame["sign"] != 0)
            yield batch.select(*(pl.col(name).alias(role) for name, role in named.items()), "sign", *self.raw)


@dataclass(frozen=True)
class KuaiRecOptions:
    """Which matrix is read, and from which watch ratios on a row is a like or a dislike."""

    matrix: Literal["small", "big"] = option(
        "small", "of a folder: small_matrix (nearly every pair of 1,411 users) or big_matrix"
    )
    pos_ratio: float = option(2.0, "watched for more than this multiple of the video: a like (2 in KuaiRec's README)")
    neg_ratio: float = option(0.3, "watched for less than this share: a dislike; what lies between is neutral")
    between: Literal["neutral", "drop"] = option("neutral", "rows between the ratios are neutral, or left out")
    undated: Literal["drop", "keep"] = option(
        "drop", "rows without a time, which small_matrix has, are left out; or all rows are kept, and none has a time"
    )


class KuaiRec(_Watched):
    """Reads a folder (``KuaiRec`` or its ``data``), with tags of videos, or one matrix; the time is ``timestamp``."""

    name = "kuairec"
    summary = "KuaiRec's small_matrix.csv or big_matrix.csv, folder or file, also compressed"
    licence = "CC BY-SA 4.0 (Gao et al., KuaiRec, CIKM 2022)"
    options_class = KuaiRecOptions
    what, below = "matrix of KuaiRec", "data"
    feature_files: ClassVar = {"item": ("item_categories.csv",)}
    measure, expected, thresholds = "watch_ratio", "0 or more was", ("neg_ratio", "pos_ratio")
    item, raw = "video_id", ("play_duration", "video_duration", "watch_ratio")
    types: Mapping[str, str] = dict.fromkeys(raw, "float")

    def __init__(self, input: Path | None, options: KuaiRecOptions) -> None:
        super().__init__(input, options)
        self.files = (f"{options.matrix}_matrix.csv",)
        self.time = "timestamp" if options.undated == "drop" else None

    def default_name(self) -> str:
        """``kuairec-small`` or ``kuairec-big``."""
        matrix = self.file.name.partition("_")[0]
        return f"{self.name}-{matrix}" if self.file.name.startswith(("small", "big")) else super().default_name()

    def raw_batches(self, columns: list[str]) -> Iterator[Batch]:
        """Rows of the matrix; where the time is read in seconds, and without those that have none."""
        clock = Clock("s")
        for batch in super().raw_batches(columns):
            if self.time is not None:
                time = batch.frame[self.time].cast(pl.String).str.strip_chars()
                batch = clock.seconds(batch.keep(~time.is_in(["", *MISSING_TOKENS])), self.time)
            yield batch

    def item_features(self) -> Features | None:
        """The tags of videos, from ``item_categories.csv`` (``video_id``, ``feat`` such as ``[27, 9]``)."""
        path = self.feature_file("item")
        if path is None:
            return None
        batches = open_table(path, separator=",").batches(["video_id", "feat"])
        tag = pl.col("feat").str.strip_chars(" []").str.replace_all(r"[,\s]+", " ").alias("tag")
        rows = (filled(batch.select(pl.col("video_id").alias("item_id"), tag), "tag") for batch in batches)
        return Features(rows, {"tag": "token_seq"})


@dataclass(frozen=True)
class ZvukOptions:
    """The two thresholds; 60 s is the usual one for likes, 15 s one that code in the field uses."""

    like_s: float = option(60.0, "played for more than this many seconds: a like")
    dislike_s: float = option(15.0, "played for less than this many seconds: a dislike")
    between: Literal["neutral", "drop"] = option("neutral", "plays between the thresholds are neutral, or left out")


class Zvuk(_Watched):
    """Reads ``zvuk-interactions.parquet`` (245 million rows), batch by batch; it has no verdicts."""

    name = data_name = "zvuk"
    summary = "SberZvuk's zvuk-interactions.parquet, folder or file: short plays are dislikes, long ones likes"
    licence = "not stated by its authors where it was read; see its page on Kaggle (alexxl/zvuk-dataset)"
    options_class = ZvukOptions
    files, what = ("zvuk-interactions.parquet",), "interactions of Zvuk"
    measure, expected, thresholds = "play_duration", "seconds were", ("dislike_s", "like_s")
    item, time, raw = "track_id", "datetime", ("play_duration", "session_id")
    types: Mapping[str, str] = {"session_id": "token"}


@dataclass(frozen=True)
class TenrecOptions:
    """What makes the sign; Tenrec has no dislikes of its own."""

    signal: Literal["click", "like"] = option(
        "click",
        "click: click 1 like, 0 dislike; like: like 1 like, neither click nor like dislike, a mere click neutral",
    )


class Tenrec(Converter):
    """Reads one file, ``QK-video.csv`` and the like; rows stay in its order, as nothing says when they happened."""

    name = "tenrec"
    summary = "Tenrec's QK-video.csv, QB-video.csv, QK-article.csv, QB-article.csv or ctr_data_1M.csv, also compressed"
    licence = (
        "CC BY-NC 4.0 by an earlier README of its repository; the download asks for agreement to Tenrec's own licence "
        "(Yuan et al., NeurIPS 2022)"
    )
    options_class = TenrecOptions
    files = ("QK-video.csv", "QB-video.csv", "QK-article.csv", "QB-article.csv", "ctr_data_1M.csv")
    what = "file of Tenrec"
    types: Mapping[str, str] = {
        **dict.fromkeys(("click", "follow", "like", "share", "watching_times"), "float"),
        "video_category": "token",
    }

    @property
    def rule(self) -> SignRule:
        """The rule of the signal."""
        if self.options.signal == "click":
            return SignRule.parse({"like": "click == 1", "dislike": "click == 0"})
        return SignRule.parse({"like": "like == 1", "dislike": "click == 0 and like == 0"})

    @cached_property
    def _table(self) -> RawTable:
        return open_table(self.file, separator=",")

    def batches(self) -> Iterator[Batch]:
        """Give the exposures."""
        raw = [name for name in self.types if name in self._table.columns]
        for batch in self._table.batches(list(dict.fromkeys(("user_id", "item_id", *self.rule.columns, *raw)))):
            for flag in self.rule.columns:
                batch = number(batch, flag, purpose="the sign rule")
                good = batch.frame[flag].is_in([0.0, 1.0])
                batch = batch.require(good, "{column} is {value:g}, 0 or 1 was expected", flag)
            yield sign_by_rule(batch, self.rule).select("user_id", "item_id", "sign", *raw)

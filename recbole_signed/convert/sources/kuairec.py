"""The source ``kuairec``: the watch ratios of KuaiRec (Gao et al., CIKM 2022), the nearly full or the big matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from recbole_signed.convert import Batch, Converter, number, open_table, option
from recbole_signed.convert.base import Features, Part
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import MISSING_TOKENS, filled, sign_by_rule
from recbole_signed.convert.find import find_files
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError

_RAW = ("play_duration", "video_duration", "watch_ratio")


@dataclass(frozen=True)
class Options:
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


class KuaiRec(Converter):
    """Reads a folder (``KuaiRec`` or its ``data``), with the tags of videos, or one matrix without.

    The time is ``timestamp`` (unix seconds); ``time`` and ``date`` say the same in Beijing's time.
    """

    name = "kuairec"
    summary = "KuaiRec's small_matrix.csv or big_matrix.csv, folder or file, also compressed"
    licence = "CC BY-SA 4.0 (Gao et al., KuaiRec, CIKM 2022)"
    options_class = Options
    options: Options

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        if not 0 < options.neg_ratio <= options.pos_ratio:
            raise UsageError(
                f"neg_ratio={options.neg_ratio:g} and pos_ratio={options.pos_ratio:g}: "
                "0 < neg_ratio <= pos_ratio was expected."
            )

    @property
    def rule(self) -> SignRule:
        """The rule the ratios make."""
        return SignRule.parse(
            {
                "like": f"watch_ratio > {self.options.pos_ratio:.12g}",
                "dislike": f"watch_ratio < {self.options.neg_ratio:.12g}",
            }
        )

    @cached_property
    def _matrix(self) -> Path:
        return self.the_file([f"{self.options.matrix}_matrix.csv"], "matrix of KuaiRec", below="data")

    @cached_property
    def _tags(self) -> Path | None:
        assert self.input is not None
        if self.input.is_file():
            return None
        return next(iter(find_files(self._matrix.parent, ["item_categories.csv"])), None)

    def default_name(self) -> str:
        """``kuairec-small`` or ``kuairec-big``."""
        for matrix in ("small", "big"):
            if self._matrix.name.startswith(matrix):
                return f"{self.name}-{matrix}"
        return super().default_name()

    def inputs(self) -> list[Path]:
        """The matrix, and the tags of videos where they are there."""
        return [self._matrix, *([self._tags] if self._tags else [])]

    def parts(self) -> Iterable[Part]:
        """One part: the rows of the matrix."""
        yield Part(None, self._batches(), dict.fromkeys(_RAW, "float"))

    def _batches(self) -> Iterator[Batch]:
        clock, timed = Clock("s"), self.options.undated == "drop"
        read = ["user_id", "video_id", *_RAW, *(["timestamp"] if timed else [])]
        for batch in open_table(self._matrix, separator=",").batches(read):
            if timed:
                time = batch.frame["timestamp"].cast(pl.String).str.strip_chars()
                batch = batch.keep(~time.is_in(["", *MISSING_TOKENS]))
                batch = clock.seconds(batch, "timestamp")
            batch = number(batch, "watch_ratio", purpose="the sign rule")
            ratio = batch.frame["watch_ratio"]
            batch = batch.require(
                ratio >= 0,
                lambda i, ratio=ratio: f"watch_ratio {ratio[i]:g}, 0 or more was expected",  # type: ignore[misc]
                "watch_ratio",
            )
            batch = sign_by_rule(batch, self.rule)
            if self.options.between == "drop":
                batch = batch.keep(batch.frame["sign"] != 0)
            time_column = ["timestamp"] if timed else []
            yield batch.select("user_id", pl.col("video_id").alias("item_id"), "sign", *time_column, *_RAW)

    def item_features(self) -> Features | None:
        """The tags of videos, from ``item_categories.csv`` (``video_id``, ``feat`` such as ``[27, 9]``)."""
        if self._tags is None:
            return None
        batches = open_table(self._tags, separator=",").batches(["video_id", "feat"])
        return Features(map(_tag_batch, batches), {"tag": "token_seq"})


def _tag_batch(batch: Batch) -> Batch:
    feat = pl.col("feat").str.strip_chars(" []").str.replace_all(r"[,\s]+", " ")
    return filled(batch.select(pl.col("video_id").alias("item_id"), feat.alias("tag")), "tag")

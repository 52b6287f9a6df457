"""The source ``zvuk``: SberZvuk's listening log. It has no verdicts, so the sign comes from how long was played."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from recbole_signed.convert import Batch, Converter, number, open_table, option
from recbole_signed.convert.base import Part
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import sign_by_rule
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.errors import UsageError


@dataclass(frozen=True)
class Options:
    """The two thresholds; 60 s is the usual one for likes, 15 s one that code in the field uses."""

    like_s: float = option(60.0, "played for more than this many seconds: a like")
    dislike_s: float = option(15.0, "played for less than this many seconds: a dislike")
    between: Literal["neutral", "drop"] = option("neutral", "plays between the thresholds are neutral, or left out")


class Zvuk(Converter):
    """Reads ``zvuk-interactions.parquet`` (245 million rows), batch by batch."""

    name = "zvuk"
    summary = "SberZvuk's zvuk-interactions.parquet, folder or file: short plays are dislikes, long ones likes"
    licence = "not stated by its authors where it was read; see its page on Kaggle (alexxl/zvuk-dataset)"
    options_class = Options
    options: Options

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        if not 0 < options.dislike_s <= options.like_s:
            raise UsageError(
                f"dislike_s={options.dislike_s:g} and like_s={options.like_s:g}: 0 < dislike_s <= like_s was expected."
            )

    @property
    def rule(self) -> SignRule:
        """The rule the thresholds make."""
        return SignRule.parse(
            {
                "like": f"play_duration > {self.options.like_s:.12g}",
                "dislike": f"play_duration < {self.options.dislike_s:.12g}",
            }
        )

    @cached_property
    def _file(self) -> Path:
        return self.the_file(["zvuk-interactions.parquet"], "interactions of Zvuk")

    def default_name(self) -> str:
        """``zvuk``."""
        return self.name

    def inputs(self) -> list[Path]:
        """The interactions."""
        return [self._file]

    def parts(self) -> Iterable[Part]:
        """One part: the plays."""
        yield Part(None, self._batches(), {"session_id": "token"})

    def _batches(self) -> Iterator[Batch]:
        clock = Clock("s")
        for batch in open_table(self._file).batches(["user_id", "track_id", "datetime", "play_duration", "session_id"]):
            batch = number(batch, "play_duration", purpose="the sign rule")
            played = batch.frame["play_duration"]
            batch = batch.require(
                played >= 0,
                lambda i, played=played: f"play_duration {played[i]:g}, seconds were expected",  # type: ignore[misc]
                "play_duration",
            )
            batch = sign_by_rule(clock.seconds(batch, "datetime"), self.rule)
            if self.options.between == "drop":
                batch = batch.keep(batch.frame["sign"] != 0)
            yield batch.select(
                "user_id",
                pl.col("track_id").alias("item_id"),
                "sign",
                pl.col("datetime").alias("timestamp"),
                "play_duration",
                "session_id",
            )

"""The source ``tenrec``: exposures and clicks of Tenrec (Yuan et al., NeurIPS 2022). They have no times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from recbole_signed.convert import Batch, Converter, number, open_table, option
from recbole_signed.convert.base import Part
from recbole_signed.convert.columns import sign_by_rule
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import RawTable

_FILES = ("QK-video.csv", "QB-video.csv", "QK-article.csv", "QB-article.csv", "ctr_data_1M.csv")
_FLAGS = ("click", "follow", "like", "share")
_RAW = {**dict.fromkeys((*_FLAGS, "watching_times"), "float"), "video_category": "token"}


@dataclass(frozen=True)
class Options:
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
    options_class = Options
    options: Options

    @property
    def rule(self) -> SignRule:
        """The rule of the signal."""
        if self.options.signal == "click":
            return SignRule.parse({"like": "click == 1", "dislike": "click == 0"})
        return SignRule.parse({"like": "like == 1", "dislike": "click == 0 and like == 0"})

    @cached_property
    def _table(self) -> RawTable:
        path = self.the_file(_FILES, "file of Tenrec")
        return open_table(path, separator=",")

    def inputs(self) -> list[Path]:
        """The file that is read."""
        return [self._table.path]

    def parts(self) -> Iterable[Part]:
        """One part: the exposures."""
        yield Part(None, self._batches(), _RAW)

    def _batches(self) -> Iterator[Batch]:
        raw = [name for name in _RAW if name in self._table.columns]
        for batch in self._table.batches(list(dict.fromkeys(("user_id", "item_id", *self.rule.columns, *raw)))):
            for flag in self.rule.columns:
                batch = number(batch, flag, purpose="the sign rule")
                values = batch.frame[flag]
                batch = batch.require(
                    values.is_in([0.0, 1.0]),
                    lambda i, flag=flag, values=values: f"{flag} is {values[i]:g}, 0 or 1 was expected",  # type: ignore[misc]
                    flag,
                )
            batch = sign_by_rule(batch, self.rule)
            yield batch.select("user_id", "item_id", "sign", *raw)

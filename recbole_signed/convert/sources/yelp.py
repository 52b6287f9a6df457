"""The source ``yelp``: the reviews of Yelp's open data set, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from recbole_signed.convert import Batch, Rated, open_table, option

_FILE = "yelp_academic_dataset_review.json"
_RAW = {"user_id": "user_id", "business_id": "item_id", "stars": "rating", "date": "timestamp"}


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is; 3 stars are neutral by default."""

    like: str = option("rating >= 4", "rule for likes; SiReN's > 3.5 is the same for whole stars")
    dislike: str = option("rating <= 2", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class Yelp(Rated):
    """Reads ``yelp_academic_dataset_review.json`` block by block; its dates have no zone and are taken as UTC."""

    name = "yelp"
    summary = "Yelp's yelp_academic_dataset_review.json, folder or file, also compressed"
    licence = "Yelp Dataset Terms of Use: academic use, no redistribution"
    options_class = Options
    scale = (1.0, 5.0)
    options: Options

    @cached_property
    def _file(self) -> Path:
        return self.the_file([_FILE], "reviews of Yelp")

    def default_name(self) -> str:
        """``yelp``."""
        return self.name

    def inputs(self) -> list[Path]:
        """The reviews."""
        return [self._file]

    def raw_batches(self) -> Iterator[Batch]:
        """One row a review."""
        for batch in open_table(self._file).batches(list(_RAW)):
            yield batch.select(*(pl.col(name).alias(role) for name, role in _RAW.items()))

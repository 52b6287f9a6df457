"""The source ``amazon``: the ratings of Amazon reviews as published in 2014, 2018 and 2023 (McAuley et al.)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from recbole_signed.convert import Batch, Rated, number, open_table, option, rejects
from recbole_signed.convert.clock import Clock, TimeUnit
from recbole_signed.convert.raw_files import blocks, plain_suffix
from recbole_signed.convert.tables import RawTable
from recbole_signed.errors import UsageError

_NO_HEADER = {
    "2014": ("user_id", "item_id", "rating", "timestamp"),
    "2018": ("item_id", "user_id", "rating", "timestamp"),
}
_NAMED = (  # columns of tables that name them, in the order of user, item, rating, time; the last is in ms
    ("reviewerID", "asin", "overall", "unixReviewTime"),
    ("user_id", "parent_asin", "rating", "timestamp"),
)
_ASIN = re.compile(r"[0-9B][0-9A-Z]{9}")  # ten characters: an ISBN, or B and nine more
_REVIEWER = re.compile(r"A[0-9A-Z]{9,}")


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is, and which edition the file is of."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option("rating <= 2", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")
    edition: Literal["auto", "2014", "2018", "2023"] = option(
        "auto", "of a table without header, 2014 is user,item,rating,time and 2018 item,user,rating,time"
    )


class Amazon(Rated):
    """Reads one category: ratings (CSV) or reviews (one JSON object a line), plain or compressed.

    2014: ``ratings_X.csv`` without header, or ``reviews_X_5.json``; 2018: ``X.csv`` without header (item first), or
    ``X_5.json``; 2023: ``X.csv`` with ``user_id,parent_asin,rating,timestamp`` (ms), or ``X.jsonl``.
    """

    name = "amazon"
    summary = "Amazon reviews 2014, 2018, 2023: ratings (CSV) or reviews (JSON lines) of one category, also compressed"
    licence = "not stated by its authors (McAuley et al., UCSD); research use"
    options_class = Options
    scale = (1.0, 5.0)
    options: Options

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        assert input is not None
        if input.is_dir():
            raise UsageError(f"{input} is a folder; give the file of one category, for example ratings_Beauty.csv.")

    def clock(self) -> Clock:
        """2023 counts in ms."""
        unit: TimeUnit = "ms" if self._opened[1] == _NAMED[1] else "s"
        return Clock(unit)

    @cached_property
    def _opened(self) -> tuple[RawTable, tuple[str, ...]]:
        """The table, and its columns of user, item, rating, time."""
        assert self.input is not None
        edition, path = self.options.edition, self.input
        if plain_suffix(path) in (".csv", ".txt", ".data"):
            first = _first_fields(path)
            named = any(set(names) <= set(first) for names in _NAMED)
            if not named and edition == "2023":
                raise UsageError(f"{path.name} has no header {','.join(_NAMED[1])}, which the edition 2023 has.")
            if not named:
                columns = _NO_HEADER[_edition(first, path.name) if edition == "auto" else edition]
                return open_table(path, columns=columns, separator=","), _NO_HEADER["2014"]
        table = open_table(path, separator="," if plain_suffix(path) == ".csv" else None)
        for names in _NAMED:
            if set(names) <= set(table.columns):
                return table, names
        raise UsageError(
            f"{path.name} has the columns {', '.join(table.columns)}; "
            f"{' or '.join(', '.join(names) for names in _NAMED)} were expected."
        )

    def raw_batches(self) -> Iterator[Batch]:
        """Rows of the table."""
        table, names = self._opened
        for batch in table.batches(names):
            roles = zip(names, ("user_id", "item_id", "rating", "timestamp"), strict=True)
            batch = batch.select(*(pl.col(name).alias(role) for name, role in roles))
            yield number(batch, "timestamp", purpose="the time")


def _first_fields(path: Path) -> list[str]:
    with rejects.unrecorded():
        for block, _ in blocks(path, size=1 << 16):
            for line in block.decode().split("\n"):
                if line.strip():
                    return [field.strip().strip('"') for field in line.split(",")]
    raise UsageError(f"{path.name} is empty.")


def _edition(first: list[str], origin: str) -> str:
    """Tell by the first row whether the user or the item comes first."""
    if len(first) == 4:
        user_first = bool(_REVIEWER.fullmatch(first[0]) and _ASIN.fullmatch(first[1]))
        item_first = bool(_ASIN.fullmatch(first[0]) and _REVIEWER.fullmatch(first[1]))
        if user_first != item_first:
            return "2014" if user_first else "2018"
    raise UsageError(
        f"{origin}, line 1: {','.join(first)} is neither a header nor user,item,rating,time (2014) nor "
        "item,user,rating,time (2018); give edition= if you know it."
    )

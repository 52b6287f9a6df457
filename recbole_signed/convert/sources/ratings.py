"""Sources of ratings: ``yelp``, ``amazon``, ``epinions`` and ``ciao``, and what those of MovieLens share with them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from recbole_signed.convert.base import Converter
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import number, rule_from, sign_by_rule, token
from recbole_signed.convert.options import option
from recbole_signed.convert.raw_files import check_expanded, existing_file, most_expanded, open_bytes, plain_suffix
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import RawTable, first_lines, open_table
from recbole_signed.errors import UsageError

_ROLES = ("user_id", "item_id", "rating", "timestamp")
_NO_HEADER = {"2014": _ROLES, "2018": ("item_id", "user_id", "rating", "timestamp")}
_NAMED = (  # columns of tables that name them, in the order of user, item, rating, time; the last is in ms
    ("reviewerID", "asin", "overall", "unixReviewTime"),
    ("user_id", "parent_asin", "rating", "timestamp"),
)
_ASIN = re.compile(r"[0-9B][0-9A-Z]{9}")  # ten characters: an ISBN, or B and nine more
_REVIEWER = re.compile(r"A[0-9A-Z]{9,}")
_KEYS = ("rating", "rating_with_timestamp")
_COLUMNS = ("user_id", "item_id", "category", "rating", "helpfulness", "timestamp")


@dataclass(frozen=True)
class RatingOptions:
    """What a like and what a dislike is; what lies between is neutral by default."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option("rating <= 2", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class Rated(Converter):
    """A source of ratings; its options have ``like`` and ``dislike``.

    A subclass declares its ``scale``, and its ``columns`` or :meth:`raw_batches`; the rest of a rating source is here.
    """

    options_class = RatingOptions
    scale: ClassVar[tuple[float, float]]
    """Lowest and highest rating; others are refused, so that swapped columns do not pass."""
    columns: ClassVar[Mapping[str, str]] = dict(zip(_ROLES, _ROLES, strict=True))
    """What the columns of the table are: user_id, item_id, rating and, where there is one, timestamp."""

    @property
    def rule(self) -> SignRule:
        """The rule of the options; ``dislike=none`` makes no dislikes."""
        rule = rule_from(self.options.like, self.options.dislike)
        assert rule is not None
        return rule

    def clock(self) -> Clock:
        """Give the clock of the source."""
        return Clock("s")

    def table(self) -> RawTable:
        """Give the table of the ratings."""
        return open_table(self.file)

    def raw_batches(self) -> Iterator[Batch]:
        """Give ``user_id``, ``item_id``, ``rating`` and, where there is one, ``timestamp``, as they are in the file."""
        for batch in self.table().batches(list(self.columns)):
            yield batch.select(*(pl.col(name).alias(role) for name, role in self.columns.items()))

    def batches(self) -> Iterable[Batch]:
        """Give the ratings with their sign."""
        clock = self.clock()
        low, high = self.scale
        for batch in self.raw_batches():
            batch = token(token(batch, "user_id"), "item_id")
            batch = number(batch, "rating", purpose="the rating")
            on_scale = batch.frame["rating"].is_between(low, high)
            batch = batch.require(on_scale, f"rating {{value:g}}, ratings here go from {low:g} to {high:g}", "rating")
            if "timestamp" in batch.frame.columns:
                batch = clock.seconds(batch, "timestamp")
            yield sign_by_rule(batch, self.rule)


@dataclass(frozen=True)
class _YelpOptions(RatingOptions):
    like: str = option("rating >= 4", "rule for likes; SiReN's > 3.5 is the same for whole stars")


class Yelp(Rated):
    """Reads ``yelp_academic_dataset_review.json`` block by block; its dates have no zone and are taken as UTC."""

    name = data_name = "yelp"
    summary = "Yelp's yelp_academic_dataset_review.json, folder or file, also compressed"
    licence = "Yelp Dataset Terms of Use: academic use, no redistribution"
    options_class = _YelpOptions
    scale = (1.0, 5.0)
    files, what = ("yelp_academic_dataset_review.json",), "reviews of Yelp"
    columns: ClassVar = {"user_id": "user_id", "business_id": "item_id", "stars": "rating", "date": "timestamp"}


@dataclass(frozen=True)
class _AmazonOptions(RatingOptions):
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
    options_class = _AmazonOptions
    scale = (1.0, 5.0)

    def __init__(self, input: Path | None, options: _AmazonOptions) -> None:
        super().__init__(input, options)
        if self.file.is_dir():
            raise UsageError(f"{input} is a folder; give the file of one category, for example ratings_Beauty.csv.")

    def clock(self) -> Clock:
        """2023 counts in ms."""
        return Clock("ms" if self._opened[1] == _NAMED[1] else "s")

    @cached_property
    def _opened(self) -> tuple[RawTable, tuple[str, ...]]:
        """The table, and its columns of user, item, rating, time."""
        edition, path = self.options.edition, self.file
        if plain_suffix(path) in (".csv", ".txt", ".data"):
            first = [field.strip().strip('"') for field in first_lines(path)[0].split(",")]
            named = any(set(names) <= set(first) for names in _NAMED)
            if not named and edition == "2023":
                raise UsageError(f"{path.name} has no header {','.join(_NAMED[1])}, which the edition 2023 has.")
            if not named:
                columns = _NO_HEADER[_edition(first, path.name) if edition == "auto" else edition]
                return open_table(path, columns=columns, separator=","), _ROLES
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
            batch = batch.select(*(pl.col(name).alias(role) for name, role in zip(names, _ROLES, strict=True)))
            yield number(batch, "timestamp", purpose="the time")


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


class Epinions(Rated):
    """Reads ``rating_with_timestamp.mat`` or ``rating.mat``; its time is one of 11 periods, without a date."""

    name = data_name = "epinions"
    summary = "Epinions' rating_with_timestamp.mat or rating.mat (Tang et al.), folder or file"
    licence = "not stated by its authors (Tang et al., mTrust, WSDM 2012; eTrust, KDD 2012); research use"
    scale = (1.0, 5.0)
    files, what = ("rating_with_timestamp.mat", "rating.mat"), "ratings of epinions"
    unix_time = False

    def raw_batches(self) -> Iterator[Batch]:
        """One row a rating."""
        matrix = _matrix(self.file)
        columns = dict(zip(_COLUMNS, matrix.T, strict=False))
        batch = Batch(pl.DataFrame(columns), self.file.name, np.arange(1, len(matrix) + 1))
        yield batch.select(*(role for role in _ROLES if role in columns))


class Ciao(Epinions):
    """Reads ``rating_with_timestamp.mat`` or ``rating.mat``; 34 rows of rating 0 are left out. Times are days."""

    name = data_name = "ciao"
    summary = "Ciao's rating_with_timestamp.mat or rating.mat (Tang et al.), folder or file"
    what = "ratings of ciao"
    unix_time = True

    def raw_batches(self) -> Iterator[Batch]:
        """One row a rating."""
        return (batch.keep(batch.frame["rating"] != 0) for batch in super().raw_batches())


def _matrix(path: Path) -> np.ndarray:
    """Return the matrix of a MATLAB file, ``[n, 5 or 6]``: user, product, category, rating, helpfulness, time."""
    from scipy.io import loadmat  # takes long to import

    try:
        with open_bytes(existing_file(path)) as file:
            data = file.read(most_expanded(path) + 1)
        check_expanded(path, len(data))
        content = loadmat(io.BytesIO(data))
    except UsageError:
        raise
    except Exception as error:  # of broken bytes scipy raises whatever they lead it to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path.name} is not a MATLAB file that can be read ({reason}).") from error
    names = [name for name in content if not name.startswith("__")]
    matrix = next((np.asarray(content[key]) for key in _KEYS if key in content), None)
    if matrix is None:
        raise UsageError(
            f"{path.name} has the variables {', '.join(names) or '(none)'}; {' or '.join(_KEYS)} was expected."
        )
    if matrix.ndim != 2 or matrix.shape[1] not in (5, 6) or matrix.dtype.kind not in "iuf":
        raise UsageError(
            f"{path.name} holds {matrix.dtype} of shape {list(matrix.shape)}; numbers in 5 or 6 columns "
            f"({', '.join(_COLUMNS)}) were expected."
        )
    return matrix.astype(matrix.dtype.newbyteorder("="))

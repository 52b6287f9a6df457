"""The source ``movielens``: GroupLens' ratings from 1M to 32M, in every layout they came in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from recbole_signed.convert import Batch, Rated, open_table, option, rejects
from recbole_signed.convert.base import Features
from recbole_signed.convert.columns import filled
from recbole_signed.convert.find import find_files
from recbole_signed.convert.raw_files import blocks, plain_suffix
from recbole_signed.convert.tables import RawTable
from recbole_signed.errors import UsageError

_RATINGS = ("ratings.dat", "ratings.csv", "ratings.parquet")
_MOVIES = ("movies.dat", "movies.csv", "movies.parquet")
_RAW = ("userId", "movieId", "rating", "timestamp")
_MOVIE_RAW = ("movieId", "title", "genres")
_USERS_DAT = ("user_id", "gender", "age", "occupation", "zip_code")
_TITLE = r"^(.*?)\s*(?:\((\d{4})(?:[-–]\d{0,4})?\))?\s*$"
_FIELD = {"userId": "user_id", "movieId": "item_id"}


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is; by default what lies between (2.5, 3, 3.5) is neutral."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option(
        "rating <= 2",
        "rule for dislikes, 'else' for every rating that is not a like, or 'none'; half stars: 2.5 is neutral unless "
        "you say 'rating <= 2.5'",
    )


class MovieLens(Rated):
    """Reads a folder as GroupLens packs it, or its ratings file alone.

    ``ratings.dat`` (1M, 10M: ``::`` between the columns, no header) and ``ratings.csv`` or ``.parquet`` (20M, 25M,
    32M, latest, latest-small) are told apart by the name.
    """

    name = "movielens"
    summary = "MovieLens 1M, 10M (ratings.dat), 20M, 25M, 32M, latest (ratings.csv): folder or ratings file"
    licence = (
        "GroupLens terms (README of the data set): research use, no commercial use without permission; 1M, 10M: no "
        "redistribution; 20M and later: only under the same terms; cite Harper and Konstan, ACM TiiS 2015"
    )
    options_class = Options
    scale = (0.5, 5.0)
    options: Options

    @cached_property
    def _ratings(self) -> Path:
        if self._beside("u.data", "ml-100k.inter") and not self._beside(*_RATINGS):
            raise UsageError(f"{self.input} holds MovieLens 100K, which is the source 'movielens-100k'.")
        return self.the_file(_RATINGS, "ratings of MovieLens")

    def _beside(self, *names: str) -> Path | None:
        assert self.input is not None
        return next(iter(find_files(self.input, names)), None) if self.input.is_dir() else None

    def default_name(self) -> str:
        """As the folder, which GroupLens calls ``ml-1m`` and the like."""
        assert self.input is not None
        if self.input.is_file() and self._ratings.resolve().parent.name.startswith("ml-"):
            return self._ratings.resolve().parent.name
        return super().default_name()

    def inputs(self) -> list[Path]:
        """The ratings, and movies and users where they are there."""
        beside = [self._beside(*_MOVIES), self._beside("users.dat")]
        return [self._ratings, *(path for path in beside if path is not None)]

    def raw_batches(self) -> Iterator[Batch]:
        """Rows of the ratings file."""
        for batch in _open(self._ratings, _RAW).batches(_RAW):
            yield batch.select(*(pl.col(name).alias(_FIELD.get(name, name)) for name in _RAW))

    def user_features(self) -> Features | None:
        """Gender, age group, occupation and zip code: 1M alone has them."""
        path = self._beside("users.dat")
        if path is None:
            return None
        batches = _open(path, _USERS_DAT).batches(_USERS_DAT)
        return Features(filled(batch, *_USERS_DAT[1:]) for batch in batches)

    def item_features(self) -> Features | None:
        """Title, year and genres."""
        path = self._beside(*_MOVIES)
        if path is None:
            return None
        types = {"movie_title": "token_seq", "genre": "token_seq"}
        return Features((movie_features(batch) for batch in _open(path, _MOVIE_RAW).batches(_MOVIE_RAW)), types)


def movie_features(batch: Batch) -> Batch:
    """Turn ``movieId``, ``title`` ("Heat (1995)") and ``genres`` ("Crime|Drama") into columns of an ``.item``."""
    genres = pl.col("genres").str.replace(r"^\(no genres listed\)$", "").str.replace_all(" ", "-")
    batch = batch.select(
        pl.col("movieId").alias("item_id"),
        *title_and_year(pl.col("title")),
        genres.str.replace_all("|", " ", literal=True).alias("genre"),
    )
    return filled(batch, "movie_title", "release_year", "genre")


def title_and_year(title: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Give ``movie_title`` and ``release_year`` of titles such as "Heat (1995)"."""
    parts = title.str.extract_groups(_TITLE)
    return parts.struct.field("1").alias("movie_title"), parts.struct.field("2").alias("release_year")


def _open(path: Path, columns: tuple[str, ...]) -> RawTable:
    if plain_suffix(path) == ".dat":
        return open_table(path, columns=columns, separator="::", encoding=encoding_of(path))
    return open_table(path, separator=",")


def encoding_of(path: Path) -> str:
    """Tell utf-8 from latin-1 for a small file: those of 1M are latin-1, later ones utf-8."""
    try:
        with rejects.using(None):
            for _ in blocks(path):
                pass
    except UsageError:  # whatever else is wrong with it, the reader of the rows says so again
        return "latin-1"
    return "utf-8"

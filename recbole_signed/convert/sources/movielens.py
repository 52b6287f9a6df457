"""Sources of ratings of films: ``movielens`` (GroupLens, 1M to 32M), ``movielens-100k`` and ``movietweetings``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import polars as pl

from recbole_signed.convert.base import Features, find_files
from recbole_signed.convert.batch import Batch, using
from recbole_signed.convert.build import AlreadyThere, convert
from recbole_signed.convert.columns import filled, require_flag
from recbole_signed.convert.options import option
from recbole_signed.convert.raw_files import blocks, open_bytes, plain_name, plain_suffix
from recbole_signed.convert.sources.ratings import Rated, RatingOptions
from recbole_signed.convert.tables import RawTable, open_table
from recbole_signed.errors import UsageError, argument

ML100K_SIGNED = "ml-100k-signed"
_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_MOVIES = ("movieId", "title", "genres")
_USERS_DAT = ("user_id", "gender", "age", "occupation", "zip_code")
_TITLE = r"^(.*?)\s*(?:\((\d{4})(?:[-–]\d{0,4})?\))?\s*$"
_IN_RECBOLE = ("dataset_example", "ml-100k")
_ATOMIC, _RAW = "ml-100k.inter", "u.data"
_USER_100K = ("user_id", "age", "gender", "occupation", "zip_code")
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_ITEM_100K = ("item_id", "title", "release_date", "video_release_date", "imdb_url", *_GENRES)


class _Films(Rated):
    """Ratings of films, with the table of films beside them in a folder."""

    feature_files: ClassVar = {"item": ("movies.dat",)}

    def item_features(self) -> Features | None:
        """Title ("Heat (1995)"), year and genres ("Crime|Drama")."""
        path = self.feature_file("item")
        if path is None:
            return None
        types = {"movie_title": "token_seq", "genre": "token_seq"}
        return Features(map(_movies, _open(path, _MOVIES).batches(_MOVIES)), types)


@dataclass(frozen=True)
class _Options(RatingOptions):
    dislike: str = option(
        "rating <= 2",
        "rule for dislikes, 'else' for every rating that is not a like, or 'none'; half stars: 2.5 is neutral unless "
        "you say 'rating <= 2.5'",
    )


class MovieLens(_Films):
    """Reads a folder as GroupLens packs it, or its ``ratings.dat`` (1M, 10M), ``.csv`` or ``.parquet`` (later)."""

    name = "movielens"
    summary = "MovieLens 1M, 10M (ratings.dat), 20M, 25M, 32M, latest (ratings.csv): folder or ratings file"
    licence = (
        "GroupLens terms (README of the data set): research use, no commercial use without permission; 1M, 10M: no "
        "redistribution; 20M and later: only under the same terms; cite Harper and Konstan, ACM TiiS 2015"
    )
    options_class = _Options
    scale = (0.5, 5.0)
    files, what = ("ratings.dat", "ratings.csv", "ratings.parquet"), "ratings of MovieLens"
    columns: ClassVar = {"userId": "user_id", "movieId": "item_id", "rating": "rating", "timestamp": "timestamp"}
    feature_files: ClassVar = {"item": ("movies.dat", "movies.csv", "movies.parquet"), "user": ("users.dat",)}

    @cached_property
    def file(self) -> Path:
        """The file of the ratings."""
        if self.beside(_RAW, _ATOMIC, folder=self.input) and not self.beside(*self.files, folder=self.input):
            raise UsageError(f"{self.input} holds MovieLens 100K, which is the source 'movielens-100k'.")
        return super().file

    def default_name(self) -> str:
        """As the folder, which GroupLens calls ``ml-1m`` and the like."""
        folder = self.file.resolve().parent.name
        return folder if self.file == self.input and folder.startswith("ml-") else super().default_name()

    def table(self) -> RawTable:
        """Give the table of the ratings."""
        return _open(self.file, tuple(self.columns))

    def user_features(self) -> Features | None:
        """Gender, age group, occupation and zip code: 1M alone has them."""
        path = self.feature_file("user")
        if path is None:
            return None
        return Features(filled(batch, *_USERS_DAT[1:]) for batch in _open(path, _USERS_DAT).batches(_USERS_DAT))


@dataclass(frozen=True)
class _TweetOptions(RatingOptions):
    """No threshold is standard; 7 and more of 10 makes 72% of the ratings likes, and 6 is neutral by default."""

    like: str = option("rating >= 7", "rule for likes")
    dislike: str = option("rating <= 5", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class MovieTweetings(_Films):
    """Reads ``ratings.dat`` and ``movies.dat`` beside it; films keep the leading zeros of their IMDb number."""

    name = "movietweetings"
    summary = "MovieTweetings' ratings.dat (0 to 10), folder or file, also compressed"
    licence = "MIT (Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec at RecSys 2013)"
    options_class = _TweetOptions
    scale = (0.0, 10.0)
    files, what, below = ("ratings.dat",), "ratings of MovieTweetings", "latest"

    def default_name(self) -> str:
        """As the folder, ``movietweetings`` for a file."""
        return self.name if self.file == self.input else super().default_name()

    def table(self) -> RawTable:
        """Give the table of the ratings."""
        return open_table(self.file, columns=_RATINGS, separator="::")


def _movies(batch: Batch) -> Batch:
    genres = pl.col("genres").str.replace(r"^\(no genres listed\)$", "").str.replace_all(" ", "-")
    batch = batch.select(
        pl.col("movieId").alias("item_id"),
        *_title_and_year(),
        genres.str.replace_all("|", " ", literal=True).alias("genre"),
    )
    return filled(batch, "movie_title", "release_year", "genre")


def _title_and_year() -> tuple[pl.Expr, pl.Expr]:
    parts = pl.col("title").str.extract_groups(_TITLE)
    return parts.struct.field("1").alias("movie_title"), parts.struct.field("2").alias("release_year")


def _open(path: Path, columns: tuple[str, ...]) -> RawTable:
    if plain_suffix(path) == ".dat":
        return open_table(path, columns=columns, separator="::", encoding=_encoding_of(path))
    return open_table(path, separator=",")


def _encoding_of(path: Path) -> str:
    """Tell utf-8 from latin-1: files of 1M are latin-1, later ones utf-8."""
    with using(None), suppress(UsageError):  # whatever else is wrong, the reader of the rows says so again
        for _ in blocks(path):
            pass
        return "utf-8"
    return "latin-1"


class MovieLens100K(Rated):
    """Reads ``ml-100k.inter`` as RecBole's wheel ships it (the default), or GroupLens' raw ``u.data``."""

    name = "movielens-100k"
    summary = "MovieLens 100K, from RecBole's wheel (no input needed) or from u.data, with u.user and u.item beside it"
    licence = (
        "GroupLens terms (files.grouplens.org/datasets/movielens/ml-100k-README.txt): research use, no "
        "redistribution and no commercial use without permission; cite Harper and Konstan, ACM TiiS 2015"
    )
    input_needed = False
    scale = (1.0, 5.0)
    files = (_ATOMIC, _RAW)
    feature_files: ClassVar = {"user": (), "item": ()}
    data_name = ML100K_SIGNED  # RecBole's own ``ml-100k`` stays what it is

    @cached_property
    def file(self) -> Path:
        """The file of the ratings."""
        folder = self.given or _recbole_folder()
        if folder.is_file():
            return folder
        for name in self.files:
            for path in find_files(folder, [name]):
                return path
        raise UsageError(f"{folder} holds neither {_ATOMIC} nor {_RAW}; give the folder or file of MovieLens 100K.")

    @property
    def _is_atomic(self) -> bool:
        return plain_suffix(self.file) == ".inter"

    def table(self) -> RawTable:
        """Give the table of the ratings."""
        return open_table(self.file, columns=None if self._is_atomic else _RATINGS, separator="tab", quote=None)

    def user_features(self) -> Features | None:
        """Age, gender, occupation and zip code, from ``u.user`` or ``ml-100k.user``."""
        return self._features("user", _USER_100K, lambda batch: filled(batch, *_USER_100K[1:]))

    def item_features(self) -> Features | None:
        """Title, year and genres, from ``u.item`` or ``ml-100k.item``."""
        return self._features("item", _ITEM_100K, _item_of_100k)

    def feature_file(self, kind: str) -> Path | None:
        """Return the file that is called as that of the ratings, also beside a single one."""
        name = Path(plain_name(self.file)).with_suffix(f".{kind}").name
        return next(iter(find_files(self.file.parent, [name])), None)

    def _features(self, kind: str, raw: tuple[str, ...], made: Callable[[Batch], Batch]) -> Features | None:
        path = self.feature_file(kind)
        if path is None:
            return None
        if not self._is_atomic:
            table = open_table(path, columns=raw, separator="pipe", quote=None, encoding="latin-1")
            types = dict.fromkeys(_USER_100K, "token") | {"movie_title": "token_seq", "class": "token_seq"}
            return Features(map(made, table.batches(raw)), types)
        table = open_table(path, separator="tab", quote=None)
        with open_bytes(path) as file:
            header = file.readline().decode("utf-8").rstrip("\r\n").split("\t")
        return Features(table.batches(table.columns), dict(field.split(":", 1) for field in header if ":" in field))


def _item_of_100k(batch: Batch) -> Batch:
    """``u.item``: id, title with the year, dates, address, and a column of 0 and 1 for each genre."""
    for genre in _GENRES:
        batch = require_flag(batch, genre, f"genre {genre}")
    genres = [pl.when(pl.col(genre).is_in(["1", "1.0"])).then(pl.lit(genre)) for genre in _GENRES]
    named = pl.concat_str(genres, separator=" ", ignore_nulls=True).alias("class")
    return filled(batch.select("item_id", *_title_and_year(), named), "movie_title", "release_year", "class")


def _recbole_folder() -> Path:
    """RecBole's folder of example data, found without importing RecBole."""
    spec = find_spec("recbole")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place).joinpath(*_IN_RECBOLE)
        if folder.is_dir():
            return folder
    raise UsageError(
        f"RecBole's example data ({'/'.join(_IN_RECBOLE)}) was not found; install recbole with pip, or give "
        f"{argument('input')}."
    )


def ensure_ml100k(output: Path | str) -> Path:
    """Make ``ml-100k-signed`` in ``output`` if it is not there, and return its folder; processes may ask at once."""
    folder = Path(output) / ML100K_SIGNED
    if not (folder / f"{ML100K_SIGNED}.inter").is_file():
        try:
            return convert(MovieLens100K.name, None, output)
        except AlreadyThere:
            if not (folder / f"{ML100K_SIGNED}.inter").is_file():
                raise
    return folder

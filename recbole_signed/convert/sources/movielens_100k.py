"""The source ``movielens-100k``: 100,000 ratings that ship inside RecBole's wheel, so no download is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from recbole_signed.convert import Batch, Rated, convert, open_table, option
from recbole_signed.convert.base import Features
from recbole_signed.convert.build import AlreadyThere
from recbole_signed.convert.columns import filled
from recbole_signed.convert.find import find_files, plain_name
from recbole_signed.convert.raw_files import open_bytes, plain_suffix
from recbole_signed.convert.sources.movielens import title_and_year
from recbole_signed.errors import UsageError, argument

ML100K_SIGNED = "ml-100k-signed"
_IN_RECBOLE = ("dataset_example", "ml-100k")
_ATOMIC, _RAW = "ml-100k.inter", "u.data"
_FIELDS = ("user_id", "item_id", "rating", "timestamp")
_USER = ("user_id", "age", "gender", "occupation", "zip_code")
# fmt: off
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_ITEM = ("item_id", "title", "release_date", "video_release_date", "imdb_url", *_GENRES)


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is; a rating of 3 is neutral by default."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option("rating <= 2", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class MovieLens100K(Rated):
    """Reads ``ml-100k.inter`` as RecBole ships it (the default), or GroupLens' raw ``u.data``."""

    name = "movielens-100k"
    summary = "MovieLens 100K, from RecBole's wheel (no input needed) or from u.data, with u.user and u.item beside it"
    licence = (
        "GroupLens terms (files.grouplens.org/datasets/movielens/ml-100k-README.txt): research use, no "
        "redistribution and no commercial use without permission; cite Harper and Konstan, ACM TiiS 2015"
    )
    options_class = Options
    input_needed = False
    scale = (1.0, 5.0)
    options: Options

    def default_name(self) -> str:
        """``ml-100k-signed``, so that RecBole's own ``ml-100k`` stays what it is."""
        return ML100K_SIGNED

    def inputs(self) -> list[Path]:
        """The ratings, and the features beside them."""
        return [self._ratings, *(path for path in map(self._beside, ("user", "item")) if path is not None)]

    def user_features(self) -> Features | None:
        """Age, gender, occupation and zip code, from ``u.user`` or ``ml-100k.user``."""
        return self._features("user")

    def item_features(self) -> Features | None:
        """Title, year and genres, from ``u.item`` or ``ml-100k.item``."""
        return self._features("item")

    @cached_property
    def _ratings(self) -> Path:
        folder = _recbole_folder() if self.input is None else self.input
        if folder.is_file():
            return folder
        for name in (_ATOMIC, _RAW):
            for path in find_files(folder, [name]):
                return path
        raise UsageError(f"{folder} holds neither {_ATOMIC} nor {_RAW}; give the folder or file of MovieLens 100K.")

    @property
    def _is_atomic(self) -> bool:
        return plain_suffix(self._ratings) == ".inter"

    def raw_batches(self) -> Iterator[Batch]:
        """Rows of the ratings file."""
        columns = None if self._is_atomic else _FIELDS
        yield from open_table(self._ratings, columns=columns, separator="tab", quote=None).batches(_FIELDS)

    def _beside(self, kind: str) -> Path | None:
        name = Path(plain_name(self._ratings)).with_suffix(f".{kind}").name
        return next(iter(find_files(self._ratings.parent, [name])), None)

    def _features(self, kind: str) -> Features | None:
        path = self._beside(kind)
        if path is None:
            return None
        if not self._is_atomic:
            return _raw_users(path) if kind == "user" else _raw_items(path)
        table = open_table(path, separator="tab", quote=None)
        with open_bytes(path) as file:
            header = file.readline().decode("utf-8").rstrip("\r\n").split("\t")
        types = dict(field.split(":", 1) for field in header if ":" in field)
        batches = list(table.batches(table.columns))
        if len(batches) != 1:
            raise UsageError(f"{path.name} is too large for features of MovieLens 100K; give the file RecBole ships.")
        return Features(batches[0], types)


def _raw_users(path: Path) -> Features:
    """``u.user``: id, age, gender, occupation and zip code, as ``ml-100k.user`` has them."""
    table = open_table(path, columns=_USER, separator="pipe", quote=None, encoding="latin-1")
    return Features((filled(batch, *_USER[1:]) for batch in table.batches(_USER)), dict.fromkeys(_USER, "token"))


def _raw_items(path: Path) -> Features:
    """``u.item``: id, title with the year, dates, address, and a column of 0 and 1 for each genre."""
    table = open_table(path, columns=_ITEM, separator="pipe", quote=None, encoding="latin-1")
    return Features(map(_item_batch, table.batches(_ITEM)), {"movie_title": "token_seq", "class": "token_seq"})


def _item_batch(batch: Batch) -> Batch:
    for genre in _GENRES:
        flag = batch.frame[genre]
        batch = batch.require(
            flag.is_in(["0", "1"]),
            lambda i, genre=genre, flag=flag: f"genre {genre} is {flag[i]!r}, 0 or 1 was expected",  # type: ignore[misc]
            genre,
        )
    genres = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in _GENRES]
    title = title_and_year(pl.col("title"))
    batch = batch.select("item_id", *title, pl.concat_str(genres, separator=" ", ignore_nulls=True).alias("class"))
    return filled(batch, "movie_title", "release_year", "class")


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
    """Make ``ml-100k-signed`` in ``output`` if it is not there yet, and give its folder.

    Several processes may ask at once: each builds under a name of its own, the first to finish renames its
    folder into place, and the others take that one.
    """
    folder = Path(output) / ML100K_SIGNED
    if not (folder / f"{ML100K_SIGNED}.inter").is_file():
        try:
            return convert(MovieLens100K.name, None, output)
        except AlreadyThere:
            if not (folder / f"{ML100K_SIGNED}.inter").is_file():
                raise
    return folder

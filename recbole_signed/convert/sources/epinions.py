"""The sources ``epinions`` and ``ciao``: product ratings as Tang et al. publish them, MATLAB files with one matrix."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import scipy.io

from recbole_signed.convert import Batch, Rated, option
from recbole_signed.convert.raw_files import existing_file, open_bytes
from recbole_signed.errors import UsageError

_KEYS = ("rating", "rating_with_timestamp")
_COLUMNS = ("user_id", "item_id", "category", "rating", "helpfulness", "timestamp")


@dataclass(frozen=True)
class Options:
    """What a like and what a dislike is; a rating of 3 is neutral by default."""

    like: str = option("rating >= 4", "rule for likes")
    dislike: str = option("rating <= 2", "rule for dislikes, 'else' for every rating that is not a like, or 'none'")


class Tang(Rated):
    """A matrix of user, product, category, rating, helpfulness and, in both files in use, time."""

    files: ClassVar[tuple[str, ...]]
    zero_is_none: ClassVar[bool] = False
    """Whether rows with rating 0, which is not on the scale, are left out instead of refused."""
    licence = "not stated by its authors (Tang et al., mTrust, WSDM 2012; eTrust, KDD 2012); research use"
    options_class = Options
    scale = (1.0, 5.0)
    options: Options

    @cached_property
    def _file(self) -> Path:
        return self.the_file(self.files, f"ratings of {self.name}")

    def default_name(self) -> str:
        """As the source."""
        return self.name

    def inputs(self) -> list[Path]:
        """The file of the ratings."""
        return [self._file]

    def raw_batches(self) -> Iterator[Batch]:
        """One row a rating."""
        matrix, origin = _matrix(self._file), self._file.name
        batch = Batch(
            pl.DataFrame({name: matrix[:, i] for i, name in enumerate(_COLUMNS[: matrix.shape[1]])}),
            origin,
            np.arange(1, len(matrix) + 1),
        )
        if self.zero_is_none:
            batch = batch.keep(batch.frame["rating"] != 0)
        time = ["timestamp"] if matrix.shape[1] == len(_COLUMNS) else []
        yield batch.select("user_id", "item_id", "rating", *time)


class Epinions(Tang):
    """Reads ``rating_with_timestamp.mat`` or ``rating.mat``; its time is one of 11 periods, without a date."""

    name = "epinions"
    summary = "Epinions' rating_with_timestamp.mat or rating.mat (Tang et al.), folder or file"
    unix_time = False
    files = ("rating_with_timestamp.mat", "rating.mat")


class Ciao(Tang):
    """Reads ``rating_with_timestamp.mat`` or ``rating.mat``; its time is unix seconds, of whole days.

    34 of its 284,086 rows have rating 0.
    """

    name = "ciao"
    zero_is_none = True
    summary = "Ciao's rating_with_timestamp.mat or rating.mat (Tang et al.), folder or file"
    files = ("rating_with_timestamp.mat", "rating.mat")


def _matrix(path: Path) -> np.ndarray:
    """``[n, 5 or 6]`` of whole numbers or float64.

    Raises:
        UsageError: no MATLAB file, or none with such a matrix.
    """
    try:
        with open_bytes(existing_file(path)) as file:
            content = scipy.io.loadmat(io.BytesIO(file.read()))
    except UsageError:
        raise
    except Exception as error:  # of broken bytes scipy raises whatever they lead it to
        raise UsageError(f"{path.name} is not a MATLAB file that can be read ({_first_line(error)}).") from error
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

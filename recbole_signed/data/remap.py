"""RecBole's ids for tokens, by numbers alone: the order of first appearance over several tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_signed.arrays import first_rows

IntArray = npt.NDArray[np.int64]
PAD = "[PAD]"
PADDED_BYTES = 1 << 30
"""What tokens may take up as an array of str, in which each has the room of the longest."""


def codes_of(column: pd.Series) -> npt.NDArray[Any]:
    """Return a number for each token of a column, ``[n_rows]``, -1 where there is none."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()
    return pd.factorize(column)[0]


def renumber(columns: Sequence[pd.Series]) -> tuple[list[IntArray], npt.NDArray[Any]]:
    """Number the tokens of all columns, one after the other, in the order of first appearance, from 1 on.

    Returns:
        The ids of each column, ``[n_rows]``, 0 where there is no token; and the tokens by id, an array that begins with
        RecBole's padding token: of str, as RecBole's, or of objects where one would take more than ``PADDED_BYTES``.
    """
    codes, tokens = _in_one_vocabulary(columns)
    joined = np.concatenate(codes) if len(codes) > 1 else codes[0]
    first = first_rows(joined, len(tokens) + 1)[:-1]  # code -1 falls into the last place
    appeared = np.flatnonzero(first < len(joined))
    order = appeared[np.argsort(first[appeared])]
    ids = np.zeros(len(tokens) + 1, dtype=np.int64)
    ids[order] = np.arange(1, len(order) + 1)
    names = [PAD, *tokens[order].tolist()]
    padded = len(names) * max(map(len, names)) * np.dtype("U1").itemsize
    return [ids[each] for each in codes], np.array(names, dtype=object if padded > PADDED_BYTES else str)


def _in_one_vocabulary(columns: Sequence[pd.Series]) -> tuple[list[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Return the codes of each column in a vocabulary of them all, and that vocabulary."""
    known = pd.Index([], dtype=object)
    seen: list[tuple[pd.Index, npt.NDArray[Any] | None]] = []  # vocabularies and their places in the one of all
    codes = []
    for column in columns:
        if isinstance(column.dtype, pd.CategoricalDtype):
            own, tokens = column.cat.codes.to_numpy(), column.cat.categories
        else:
            own, found = pd.factorize(column)
            tokens = pd.Index(found, dtype=object)
        places = next((places for other, places in seen if other is tokens), None)
        if not seen:
            known = tokens
        elif places is None and not any(other is tokens for other, _ in seen):
            places = known.get_indexer(tokens)
            new = np.flatnonzero(places < 0)
            places[new] = len(known) + np.arange(len(new))
            known = known.append(tokens[new])
        seen.append((tokens, places))
        codes.append(own if places is None else np.where(own < 0, -1, places[own]))
    return codes, known.to_numpy()

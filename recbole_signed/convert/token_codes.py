"""Numbers for the tokens of a column that is read block by block, without one Python object per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from recbole_signed.arrays import first_rows

CodeArray = npt.NDArray[np.int32]
_SEEDS = 4  # how many hash functions are tried before two tokens that share a hash are taken for a fault


class TokenCodes:
    """Gives each distinct token the next number, in order of first appearance; a collision of hashes starts it over."""

    def __init__(self) -> None:
        self._seed = 0
        self._tokens = pl.Series("token", [], dtype=pl.String)
        self._index = pd.Index(np.zeros(0, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self._tokens)

    def codes(self, tokens: pl.Series) -> CodeArray:
        """Return the number of each of ``tokens [n_rows]``, -1 where there is none; unknown ones are added."""
        present = tokens.is_not_null()
        if present.all():
            return self._codes(tokens)
        codes = np.full(len(tokens), -1, dtype=np.int32)
        codes[present.to_numpy()] = self._codes(tokens.filter(present))
        return codes

    def _codes(self, tokens: pl.Series) -> CodeArray:
        for _ in range(_SEEDS):
            hashes = tokens.hash(self._seed).to_numpy()
            local, distinct = pd.factorize(hashes)
            known = self._index.get_indexer(pd.Index(distinct))
            new = np.flatnonzero(known < 0)
            known[new] = len(self) + np.arange(len(new))
            all_tokens = pl.concat([self._tokens, tokens.gather(first_rows(local, len(distinct))[new])])
            codes = known.astype(np.int32)[local]
            if all_tokens.gather(codes).equals(tokens):
                if len(new):
                    self._tokens = all_tokens
                    self._index = pd.Index(np.concatenate([self._index.to_numpy(), distinct[new]]))
                return codes
            self._seed += 1
            self._index = pd.Index(self._tokens.hash(self._seed).to_numpy())
        raise RuntimeError(f"{_SEEDS} hash functions in a row gave two tokens the same 64-bit hash.")

    def tokens(self) -> npt.NDArray[Any]:
        """Return the tokens by their numbers, ``[n_tokens]`` of str."""
        texts = np.empty(len(self), dtype=object)
        texts[:] = self._tokens.to_list()
        return texts

    def series(self) -> pl.Series:
        """Return the tokens by their numbers as a column, without a Python object for each."""
        return self._tokens

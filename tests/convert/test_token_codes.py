"""Numbers for tokens that come block by block."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.convert.token_codes import TokenCodes


@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=20), max_size=4))
def test_a_vocabulary_counts_by_first_appearance(blocks: list[list[str | None]]) -> None:
    vocabulary = TokenCodes()
    codes = [vocabulary.codes(pl.Series(block, dtype=pl.String)).tolist() for block in blocks]
    tokens = [token for block in blocks for token in block]
    known = list(dict.fromkeys(token for token in tokens if token is not None))
    assert vocabulary.tokens().tolist() == vocabulary.series().to_list() == known
    assert [code for block in codes for code in block] == [-1 if each is None else known.index(each) for each in tokens]


def test_a_vocabulary_notices_colliding_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pl.Series.hash

    def poor(self: pl.Series, seed: int = 0) -> pl.Series:
        return real(self, seed) if seed == 2 else pl.Series(np.full(len(self), seed, dtype=np.uint64))

    monkeypatch.setattr(pl.Series, "hash", poor)
    vocabulary = TokenCodes()
    assert vocabulary.codes(pl.Series(["a", "b", "a"])).tolist() == [0, 1, 0]
    assert vocabulary.codes(pl.Series(["c", "b"])).tolist() == [2, 1]
    monkeypatch.setattr(pl.Series, "hash", lambda self, seed=0: pl.Series(np.zeros(len(self), dtype=np.uint64)))
    with pytest.raises(RuntimeError, match="same 64-bit hash"):
        TokenCodes().codes(pl.Series(["a", "b"]))

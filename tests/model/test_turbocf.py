"""Turbo-CF against its formula in dense float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised

from recbole_signed.errors import UsageError
from recbole_signed.model import turbocf


@pytest.mark.parametrize("order", [1, 2, 3])
def test_scores_are_the_formula(
    write_inter: Callable[..., Path],
    signed_rows: list,
    tmp_path: Path,
    order: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turbocf, "CELLS", 400)  # several blocks
    model = build("TurboCF", write_inter, signed_rows, tmp_path, alpha=0.3, power=0.8, filter_order=order)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    P, _ = dense(model)
    R = normalised(P, 0.3, 0.7)
    B = (R.T @ R) ** 0.8
    B2 = B @ B
    wanted = P @ {1: B, 2: 2 * B - B2, 3: B + 0.01 * (-B2 @ B + 10 * B2 - 29 * B)}[order]
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert model.item_filter.dtype == torch.float32


def test_a_filter_that_does_not_fit_into_memory_is_refused(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path
) -> None:
    model = build("TurboCF", write_inter, signed_rows, tmp_path, filter_order=3)
    model.n_items = 10_000_000
    with pytest.raises(UsageError, match=r"1200000\.0 GB of memory are needed for 3 item-item matrices of 10,000,000"):
        model.fit()

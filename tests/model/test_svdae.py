"""SVD-AE against the truncated pseudo-inverse in dense float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised


@pytest.mark.parametrize("rank", [3, 9])
def test_scores_are_the_truncated_least_squares_fit(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, rank: int
) -> None:
    model = build("SVDAE", write_inter, signed_rows, tmp_path, rank=rank)
    model.fit()
    P, _ = dense(model)
    R = normalised(P)
    values = np.linalg.svd(R, compute_uv=False)
    cut = (values[rank - 1] + values[rank]) / 2 / values[0]
    wanted = R @ np.linalg.pinv(R, rcond=cut) @ P
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)

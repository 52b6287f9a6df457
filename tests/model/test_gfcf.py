"""GF-CF against its formula in dense float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.quick_start import run_recbole
from small_signed import build, dense, normalised


@pytest.mark.parametrize("rank", [5, 400])
def test_scores_are_the_formula(write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, rank: int) -> None:
    model = build("GFCF", write_inter, signed_rows, tmp_path, rank=rank, alpha=0.7)
    model.fit()
    P, _ = dense(model)
    R = normalised(P)
    _, _, Vt = np.linalg.svd(R, full_matrices=False)
    kept = min(rank, np.linalg.matrix_rank(R))
    V = Vt[:kept].T
    degrees = P.sum(0)
    root = np.sqrt(degrees)
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    wanted = P @ (R.T @ R + 0.7 * (inverse[:, None] * V) @ (V.T * root))
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-4)
    assert model.item_factors.shape == (model.n_items, kept)


def test_another_trainer_fits_it_in_its_first_batch(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path
) -> None:
    model = build("GFCF", write_inter, signed_rows, tmp_path, rank=6)
    assert model.calculate_loss(None).item() == 0.0
    factors = model.item_factors
    assert factors.shape == (model.n_items, 6)
    model.calculate_loss(None)
    assert model.item_factors is factors


@pytest.mark.parametrize("name", ["GFCF", "SGFCF", "TurboCF", "BSPM", "ChebyCF", "SVDAE", "EDLAE", "DEQL"])
def test_the_models_of_likes_run_on_data_without_a_sign(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, quick: dict, name: str
) -> None:
    write_inter("unsigned", ["user_id:token", "item_id:token"], [row[:2] for row in signed_rows])
    settings = {**quick, "data_path": str(tmp_path / "dataset"), "load_col": {"inter": ["user_id", "item_id"]}}
    result = run_recbole(model=name, dataset="unsigned", config_dict=settings, saved=False)
    assert 0.0 < result["test_result"]["recall@20"] <= 1.0

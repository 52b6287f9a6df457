"""Orthonormal blocks of any condition, and their rotation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.graph import subspace
from recbole_signed.graph.subspace import orthonormalise, random_panels, rotated, split


def joined(panels: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(panels, axis=1).astype(float)


@given(st.integers(0, 99), st.floats(0, 12), st.sampled_from([3, 48, 100]))
def test_blocks_of_any_condition_become_orthonormal(seed: int, decades: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    mixed = np.linalg.qr(rng.standard_normal((width, width)))[0] * 10.0 ** -np.linspace(0, decades, width)
    panels = split((rng.standard_normal((300, width)) @ mixed @ np.linalg.qr(mixed)[0].T).astype(np.float32))
    before = joined(panels)
    orthonormalise(panels)
    orthonormalise(panels, (torch.float64,))
    found = joined(panels)
    np.testing.assert_allclose(found.T @ found, np.eye(width), atol=2e-5)
    # what the block spans well is still there
    left, sizes, _ = np.linalg.svd(before, full_matrices=False)
    strong = left[:, sizes > 1e-3 * sizes[0]]
    assert np.linalg.norm(strong - found @ (found.T @ strong)) < 1e-2 * np.sqrt(strong.shape[1])


def test_dependent_columns_are_replaced() -> None:
    block = np.zeros((50, 4), dtype=np.float32)
    block[:, 0] = block[:, 2] = np.arange(50)
    panels = split(block)
    orthonormalise(panels)
    found = joined(panels)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)
    assert abs(found[:, 0] @ np.arange(50)) == pytest.approx(np.linalg.norm(np.arange(50.0)), rel=1e-5)


def test_the_rotation_of_panels_has_positive_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subspace, "CHUNK", 7)
    panels = random_panels(60, 100, seed=3)
    assert [panel.shape for panel in panels] == [(60, 33), (60, 34), (60, 33)]
    rotation = torch.from_numpy(np.random.default_rng(0).standard_normal((100, 5)))
    found = rotated(panels, rotation).numpy()
    wanted = joined(panels) @ rotation.numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-4, atol=1e-4)
    assert (found[np.abs(found).argmax(axis=0), range(5)] > 0).all()
    assert rotated(panels, rotation[:, :0]).shape == (60, 0)


def test_random_blocks_are_standard_normal_and_repeat() -> None:
    first, second = joined(random_panels(4000, 50, seed=1)), joined(random_panels(4000, 50, seed=1))
    np.testing.assert_array_equal(first, second)
    assert abs(first.mean()) < 0.01
    assert abs(first.std() - 1) < 0.01
    assert np.abs(np.corrcoef(first.T) - np.eye(50)).max() < 0.1

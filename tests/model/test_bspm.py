"""BSPM against its differential equations, integrated densely step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense, normalised


def euler(field: Callable[[np.ndarray], np.ndarray], y: np.ndarray, h: float) -> np.ndarray:
    return y + h * field(y)


def runge_kutta(field: Callable[[np.ndarray], np.ndarray], y: np.ndarray, h: float) -> np.ndarray:
    """The 3/8 rule, which the authors' solver uses."""
    a = field(y)
    b = field(y + h * a / 3)
    c = field(y + h * (b - a / 3))
    d = field(y + h * (a - b + c))
    return y + h * (a + 3 * b + 3 * c + d) / 8


@pytest.mark.parametrize(("solver", "step"), [("euler", euler), ("rk4", runge_kutta)])
@pytest.mark.parametrize("final", [True, False])
def test_scores_are_the_process(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, solver: str, step: Callable, final: bool
) -> None:
    times = {"idl": (0.8, 2), "b": (1.2, 3), "s": (0.9, 2)}
    config = {f"{key}_{name}": value for name, pair in times.items() for key, value in zip("TK", pair, strict=True)}
    config |= {f"solver_{name}": solver for name in times}
    model = build("BSPM", write_inter, signed_rows, tmp_path, rank=5, idl_beta=0.6, final_sharpening=final, **config)
    model.fit()
    P, _ = dense(model)
    R = normalised(P)
    F = R.T @ R
    V = np.linalg.svd(R)[2][:5].T
    root = np.sqrt(P.sum(0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    Q = (inverse[:, None] * V) @ (V.T * root)

    def solve(name: str, field: Callable[[np.ndarray], np.ndarray], y: np.ndarray) -> np.ndarray:
        time, steps = times[name]
        for _ in range(steps):
            y = step(field, y, time / steps)
        return y

    ideal = 0.6 * solve("idl", lambda y: y @ Q - y, P)
    blurred = solve("b", lambda y: y @ F - y, P)
    wanted = solve("s", lambda y: -y @ F, blurred + ideal if final else blurred) + (0.0 if final else ideal)
    found = model.score(torch.arange(model.n_users)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-4)

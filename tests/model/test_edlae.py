"""EDLAE and DEQL against the expected loss, whose Hessian is written out column by column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_signed import build, dense

from recbole_signed.errors import UsageError


def minimiser(P: np.ndarray, p: float, b: float, ridge: float) -> np.ndarray:
    r"""Return the W that minimises the expected loss plus ``ridge`` times the squared norm of W.

    Entry i of the target weighs 1 where it was dropped and b where it was kept, so :math:`E[A_i^2 \Delta_j \Delta_k]`
    is a sum over the two cases.
    """
    q, G = 1.0 - p, P.T @ P
    n = len(G)
    found = np.zeros((n, n))
    for i in range(n):
        moments = np.full((n, n), q * q)
        np.fill_diagonal(moments, q)
        dropped, kept = moments.copy(), moments.copy()
        dropped[i], dropped[:, i] = 0.0, 0.0  # of the dropped target, nothing is in the input
        kept[i], kept[:, i] = q, q
        kept[i, i] = 1.0
        hessian = (p * dropped + q * b * b * kept) * G
        first = np.full(n, q)
        of_dropped, of_kept = first.copy(), first.copy()
        of_dropped[i], of_kept[i] = 0.0, 1.0
        gradient = (p * of_dropped + q * b * b * of_kept) * G[:, i]
        found[:, i] = np.linalg.solve(hessian + ridge * np.eye(n), gradient)
    return found


@pytest.mark.parametrize(("dropout", "ridge"), [(0.0, 20.0), (0.4, 2.0), (0.8, 30.0)])
def test_edlae_is_the_minimiser_where_kept_entries_do_not_count(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, dropout: float, ridge: float
) -> None:
    model = build("EDLAE", write_inter, signed_rows, tmp_path, dropout_prob=dropout, reg_weight=ridge)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    P, _ = dense(model)
    if dropout:
        q = 1.0 - dropout
        W = q * minimiser(P, dropout, 0.0, dropout * q * q * ridge)
    else:
        G = np.linalg.inv(P.T @ P + ridge * np.eye(P.shape[1]))
        W = -G / np.diag(G)
        np.fill_diagonal(W, 0.0)
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)).numpy(), P @ W, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("emphasis", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(("dropout", "ridge"), [(0.4, 2.0), (0.8, 30.0)])
def test_deql_is_the_minimiser(
    write_inter: Callable[..., Path],
    signed_rows: list,
    tmp_path: Path,
    emphasis: float,
    dropout: float,
    ridge: float,
) -> None:
    settings = {"dropout_prob": dropout, "reg_weight": ridge, "emphasis": emphasis}
    model = build("DEQL", write_inter, signed_rows, tmp_path, **settings)
    model.fit()
    P, _ = dense(model)
    q = 1.0 - dropout
    W = minimiser(P, dropout, emphasis, (q * emphasis**2 + dropout) * q * q * ridge)
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)).numpy(), P @ W, rtol=1e-3, atol=5e-4)


def test_deql_without_dropout_and_emphasis_is_ease(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path
) -> None:
    settings = {"dropout_prob": 0.0, "reg_weight": 20.0}
    first = build("DEQL", write_inter, signed_rows, tmp_path, emphasis=0.0, **settings)
    second = build("EDLAE", write_inter, signed_rows, tmp_path, **settings)
    for model in (first, second):
        model.fit()
    users = torch.arange(first.n_users)
    torch.testing.assert_close(first.score(users), second.score(users))


@pytest.mark.parametrize(
    ("settings", "message"), [({"reg_weight": 0}, "reg_weight is 0"), ({"emphasis": -1}, "emphasis is -1")]
)
def test_wrong_values_are_refused(
    write_inter: Callable[..., Path], signed_rows: list, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build("DEQL", write_inter, signed_rows, tmp_path, **settings)

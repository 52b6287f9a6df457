"""Updates of the inverse Gram matrix against inversions from scratch, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from recbole_signed.graph import inverse
from recbole_signed.graph.inverse import gram_inverse, replace_rows

RIDGE = 3.0


def matrix(seed: int, n_rows: int = 30, n_columns: int = 17) -> np.ndarray:
    """Values 1 and -0.5 in a third of the cells."""
    rng = np.random.default_rng(seed)
    return rng.choice([0.0, 1.0, -0.5], (n_rows, n_columns), p=[0.65, 0.2, 0.15])


def refit(X: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(X.T @ X + RIDGE * np.eye(X.shape[1])))


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


def test_the_inverse() -> None:
    X = matrix(0)
    close(gram_inverse(sp.csr_matrix(X), RIDGE, torch.float64), refit(X))
    single = gram_inverse(sp.csr_matrix(X, dtype=np.float32), RIDGE)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, refit(X).float(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="must be positive"):
        gram_inverse(sp.csr_matrix(X), 0.0)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), rows=st.lists(st.integers(0, 29), min_size=1, max_size=4, unique=True))
def test_changed_rows_and_their_undoing(seed: int, rows: list[int]) -> None:
    X, other = matrix(seed), matrix(seed + 1)
    changed = X.copy()
    changed[rows] = other[rows]
    inverse = refit(X)
    old, new = sp.csr_matrix(X[rows]), sp.csr_matrix(changed[rows])
    assert replace_rows(inverse, old, new) is inverse
    close(inverse, refit(changed))
    close(replace_rows(inverse, new, old), refit(X))


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_user_comes_or_goes(forgotten: bool) -> None:
    X = matrix(4)
    row, nothing = sp.csr_matrix(X[:1]), sp.csr_matrix((1, X.shape[1]))
    if forgotten:
        close(replace_rows(refit(X), row, nothing), refit(X[1:]))
    else:
        close(replace_rows(refit(X[1:]), nothing, row), refit(X))


def test_a_row_that_does_not_change_changes_nothing() -> None:
    X = matrix(4)
    row = sp.csr_matrix(X[:1])
    close(replace_rows(refit(X), row, row), refit(X))
    nothing = sp.csr_matrix((1, X.shape[1]))
    close(replace_rows(refit(X), nothing, nothing), refit(X))


def test_errors_do_not_build_up() -> None:
    X = matrix(2)
    inverse, rng = refit(X), np.random.default_rng(3)
    for user in rng.integers(0, 30, 300):
        row = matrix(int(rng.integers(1 << 30)), 1)
        replace_rows(inverse, sp.csr_matrix(X[[user]]), sp.csr_matrix(row))
        X[user] = row
    close(inverse, refit(X))


@pytest.mark.parametrize("small", [True, False])
def test_a_small_inversion_gets_one_thread(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    def watched(*args: object) -> list[object]:
        def call(function: object, *a: object, **k: object) -> object:
            seen.append(threads())
            return function(*a, **k)  # type: ignore[operator]

        return [lambda *a, of=each, **k: call(of, *a, **k) for each in lapack(*args)]

    seen: list[list[int]] = []
    lapack = inverse.get_lapack_funcs
    monkeypatch.setattr(inverse, "ONE_THREAD", 17 if small else 16)
    monkeypatch.setattr(inverse, "get_lapack_funcs", watched)
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        close(gram_inverse(sp.csr_matrix(matrix(0)), RIDGE, torch.float64), refit(matrix(0)))
        assert threads() == before
    assert seen == [[1] * len(before) if small else before] * 2

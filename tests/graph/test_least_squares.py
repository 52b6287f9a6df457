"""Least squares over likes and dislikes, and ridge regression from features, against dense solutions."""

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from recbole_signed.graph import inverse, least_squares
from recbole_signed.graph.inverse import gram_inverse, replace_rows
from recbole_signed.graph.least_squares import RidgeSums, SignedLeastSquares


def edges(seed: int, n_rows: int = 23, n_columns: int = 31) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Rows of very different lengths; the first three have none, and a pair may carry both signs."""
    rng = np.random.default_rng(seed)
    dense = rng.random((2, n_rows, n_columns)) < np.linspace(0, 0.9, n_rows)[:, None] * rng.random((2, 1, 1))
    dense[:, :3] = False
    return sp.csr_matrix(dense[0], dtype=np.float32), sp.csr_matrix(dense[1], dtype=np.float32)


def reference(likes: np.ndarray, dislikes: np.ndarray, H: np.ndarray, c: SignedLeastSquares) -> np.ndarray:
    """The least squares problem of each row with all its pairs as rows of a matrix."""
    found = np.zeros((len(likes), H.shape[1]))
    for row, (p, n) in enumerate(zip(likes, dislikes, strict=True)):
        penalty = c.regularisation * (p.sum() + n.sum() + c.unobserved_weight * len(H)) ** c.regularisation_exponent
        parts = [
            (c.unobserved_weight * np.ones(len(H)), 0.0),
            (c.like_weight * p, 1.0),
            (c.dislike_weight * n, c.dislike_target),
        ]
        A = np.vstack([*(np.sqrt(w)[:, None] * H for w, _ in parts), np.sqrt(penalty) * np.eye(H.shape[1])])
        b = np.concatenate([*(np.sqrt(w) * y for w, y in parts), np.zeros(H.shape[1])])
        found[row] = np.linalg.lstsq(A, b, rcond=None)[0]
    return found


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    dislike_weight=st.floats(0.0, 3.0),
    dislike_target=st.floats(-2.0, 2.0),
    unobserved_weight=st.floats(0.0, 2.0),
    exponent=st.floats(0.0, 1.0),
)
def test_a_half_step_is_the_minimiser(
    seed: int, dislike_weight: float, dislike_target: float, unobserved_weight: float, exponent: float
) -> None:
    problem = SignedLeastSquares(1.3, dislike_weight, dislike_target, unobserved_weight, 0.2, exponent)
    likes, dislikes = edges(seed)
    fixed = torch.from_numpy(np.random.default_rng(seed).standard_normal((31, 5)))
    found = problem.half_step(likes, dislikes, fixed)
    wanted = reference(likes.toarray().astype(float), dislikes.toarray().astype(float), fixed.numpy(), problem)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-8, atol=1e-8)
    assert torch.equal(found[:3], torch.zeros(3, 5, dtype=torch.float64))


def test_some_rows_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    likes, dislikes = edges(3)
    fixed = torch.randn(31, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = SignedLeastSquares(dislike_target=-1.0)
    whole = problem.half_step(likes, dislikes, fixed)
    some = [20, 4, 11, 0]
    part = problem.half_step(likes[some], dislikes[some], fixed, gram=fixed.T @ fixed)
    torch.testing.assert_close(part, whole[some], rtol=1e-10, atol=1e-12)
    monkeypatch.setattr(least_squares, "CELLS", 1)  # each row is a chunk
    torch.testing.assert_close(problem.half_step(likes, dislikes, fixed), whole, rtol=1e-10, atol=1e-12)


def test_short_rows_of_many_are_the_minimisers_in_fewer_unknowns(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((2, 300, 40)) < np.linspace(0, 0.4, 300)[:, None] * [[[0.6]], [[0.4]]]
    likes, dislikes = (sp.csr_matrix(each, dtype=np.float32) for each in dense)
    fixed = torch.from_numpy(rng.standard_normal((40, 24)) * np.linspace(0, 1, 24))  # of one column nothing is known
    sizes: list[int] = []
    monkeypatch.setattr(
        torch.linalg, "cholesky", lambda each, do=torch.linalg.cholesky: sizes.append(len(each.mT[0])) or do(each)
    )
    for problem in (SignedLeastSquares(1.3, 0.4, -1.0, 0.2, 0.1), SignedLeastSquares(1.0, 0.0, 0.0, 0.0, 0.1, 0.0)):
        found = problem.half_step(likes, dislikes, fixed)
        assert min(sizes) < 12 < max(sizes) == 24
        wanted = reference(*dense.astype(float), fixed.numpy(), problem)
        have = dense.any(axis=(0, 2))
        np.testing.assert_allclose(found.numpy()[have], wanted[have], rtol=1e-8, atol=1e-8)
        assert not found[~have].any()
        few = problem.half_step(likes[:9], dislikes[:9], fixed, gram=fixed.T @ fixed)
        torch.testing.assert_close(few, found[:9], rtol=1e-10, atol=1e-12)


def test_the_other_side_may_be_given_in_part() -> None:
    """The rows that are needed, with the Gram matrix and the number of all."""
    likes, dislikes = edges(3)
    fixed = torch.randn(31, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = SignedLeastSquares(dislike_target=-1.0, unobserved_weight=0.7, regularisation=0.3)
    row = 8
    needed = np.union1d(likes[row].indices, dislikes[row].indices)
    assert 0 < len(needed) < 31
    part = problem.half_step(
        likes[[row]][:, needed], dislikes[[row]][:, needed], fixed[needed], gram=fixed.T @ fixed, n_fixed=31
    )
    torch.testing.assert_close(part, problem.half_step(likes, dislikes, fixed)[[row]], rtol=1e-10, atol=1e-12)


def test_the_item_side_and_empty_matrices() -> None:
    likes, dislikes = edges(5)
    users = torch.randn(23, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    problem = SignedLeastSquares()
    found = problem.half_step(likes.T.tocsr(), dislikes.T.tocsr(), users)
    wanted = reference(likes.toarray().T.astype(float), dislikes.toarray().T.astype(float), users.numpy(), problem)
    have = (likes + dislikes).getnnz(axis=0) > 0
    np.testing.assert_allclose(found.numpy()[have], wanted[have], rtol=1e-8, atol=1e-8)
    nothing = sp.csr_matrix((0, 6), dtype=np.float32)
    assert SignedLeastSquares().half_step(nothing, nothing, torch.randn(6, 3)).shape == (0, 3)
    empty = sp.csr_matrix((4, 6), dtype=np.float32)
    assert torch.equal(SignedLeastSquares().half_step(empty, empty, torch.randn(6, 3)), torch.zeros(4, 3))


FloatArray = npt.NDArray[np.float64]


def rows(n: int, seed: int = 0) -> tuple[sp.csr_matrix, FloatArray]:
    """Features with a bias, and targets."""
    rng = np.random.default_rng(seed)
    features = np.hstack([np.ones((n, 1)), np.round(rng.random((n, 4)) * (rng.random((n, 4)) < 0.6), 2)])
    return sp.csr_matrix(features), rng.normal(size=(n, 2))


def solved(features: sp.csr_matrix, targets: FloatArray, penalty: list[float]) -> FloatArray:
    return np.linalg.solve((features.T @ features).toarray() + np.diag(penalty), features.T @ targets)


@pytest.mark.parametrize(("strength", "of_bias"), [(2.0, 1e-3), (1e-3, 1e-3), (1e-5, 1e-5)])
def test_the_bias_is_penalised_least_of_all(strength: float, of_bias: float) -> None:
    features, targets = rows(5)  # as many as features: the penalty decides
    found = RidgeSums.from_rows(features, targets).solve(strength)
    np.testing.assert_allclose(found, solved(features, targets, [of_bias, *[strength] * 4]), rtol=1e-4, atol=1e-5)


def test_a_solution_is_that_of_the_sums_as_they_are() -> None:
    features, targets = rows(30)
    sums = RidgeSums.from_rows(features[:20], targets[:20])
    before = sums.solve(0.5)
    assert sums.solve(0.5) is before, "the same sums are solved once"
    sums.add(features[20:], targets[20:])
    np.testing.assert_allclose(sums.solve(0.5), solved(features, targets, [1e-3, *[0.5] * 4]), rtol=1e-4, atol=1e-6)
    sums.add(features[20:], targets[20:], times=-1.0)
    np.testing.assert_allclose(sums.solve(0.5), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("piece", [1, 7, 29, 30, 31])
def test_pieces_of_any_size_give_the_same_sums(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = rows(30)
    whole = RidgeSums.from_rows(features, targets)
    monkeypatch.setattr(least_squares, "PIECE", piece)
    pieces = RidgeSums.from_rows(features, targets)
    np.testing.assert_allclose(pieces.gram, whole.gram, atol=1e-12)
    np.testing.assert_allclose(pieces.cross, whole.cross, atol=1e-12)


# ---- updates of the inverse Gram matrix against inversions from scratch, in float64 ----


RIDGE = 3.0


def matrix(seed: int, n_rows: int = 30, n_columns: int = 17) -> np.ndarray:
    """Values 1 and -0.5 in a third of the cells."""
    return np.random.default_rng(seed).choice([0.0, 1.0, -0.5], (n_rows, n_columns), p=[0.65, 0.2, 0.15])


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


def test_rows_that_do_not_change_and_errors_that_do_not_build_up() -> None:
    X = matrix(4)
    row = sp.csr_matrix(X[:1])
    close(replace_rows(refit(X), row, row), refit(X))
    nothing = sp.csr_matrix((1, X.shape[1]))
    close(replace_rows(refit(X), nothing, nothing), refit(X))
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

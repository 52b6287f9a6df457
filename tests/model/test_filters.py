"""The graph filters against their formulas in dense float64: of the likes, and of the weighted matrix P + wN."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from recbole.quick_start import run_recbole
from refusals import check_refused
from small_signed import Small, dense, normalised, scores

from recbole_signed.model import turbocf
from recbole_signed.model.chebycf import interpolation


def weighted(model: Any) -> np.ndarray:
    P, N = dense(model)
    return P + model.dislike_weight * N


def normalised_by_size(X: np.ndarray, user: float = 0.5, item: float = 0.5, smoothing: float = 0.0) -> np.ndarray:
    """Normalise X by powers of the sums of its absolute values."""
    return normalised(abs(X), user, item, smoothing) * np.sign(X)


def signed_too(name: str) -> pytest.MarkDecorator:
    """Cases of the filter of the likes, and of its signed form with weights of both signs."""
    signed = [(f"Signed{name}", {"dislike_weight": weight}) for weight in (-0.4, 0.6)]
    return pytest.mark.parametrize(("name", "weight"), [(name, {}), *signed], ids=str)


@signed_too("GFCF")
@pytest.mark.parametrize("rank", [5, 400])
def test_scores_of_gfcf_are_the_formula(small: Small, name: str, weight: dict, rank: int) -> None:
    model = small(name, rank=rank, alpha=0.7, **weight)
    X = weighted(model)
    R = normalised_by_size(X)
    _, _, Vt = np.linalg.svd(R, full_matrices=False)
    kept = min(rank, np.linalg.matrix_rank(R))
    V, root = Vt[:kept].T, np.sqrt(abs(X).sum(0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    wanted = X @ (R.T @ R + 0.7 * (inverse[:, None] * V) @ (V.T * root))
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=2e-4)
    assert model.item_factors.shape == (model.n_items, kept)


def test_another_trainer_fits_it_in_its_first_batch(small: Small) -> None:
    model = small("GFCF", fit=False, rank=6)
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


def ratios(P: np.ndarray) -> np.ndarray:
    """The share of ordered pairs of a row's columns that another row has too."""
    found = np.zeros(len(P))
    for row, values in enumerate(P):
        pairs = list(permutations(np.flatnonzero(values), 2))
        others = np.delete(P, row, axis=0)
        found[row] = np.mean([(others[:, i] * others[:, j]).any() for i, j in pairs]) if pairs else 0.0
    return found


def exponents(P: np.ndarray, low: float, high: float) -> np.ndarray:
    found = ratios(P)
    known = found[1:]
    return low + (high - low) * np.clip((found - known.min()) / (known.max() - known.min()), 0, 1)


@pytest.mark.parametrize(
    ("name", "individual", "weight"),
    [
        ("SGFCF", True, {}),
        ("SGFCF", False, {}),
        ("SignedSGFCF", False, {"dislike_weight": -0.4}),
        ("SignedSGFCF", False, {"dislike_weight": 0.6}),
    ],
)
@pytest.mark.parametrize("gamma", [0.0, 0.4])
def test_scores_of_sgfcf_are_the_formula(
    small: Small, signed_rows: list, name: str, individual: bool, weight: dict, gamma: float
) -> None:
    rows = signed_rows[:400]  # sparse, so that ratios differ
    config = {"beta_1": 0.6, "beta_2": 1.4, "alpha": 2.0, "eps": 0.4, "rank": 6, "gamma": gamma}
    model = small(name, rows=rows, individual_filter=individual, **config, **weight)
    P = weighted(model)
    if individual:
        beta_u, beta_i = exponents(P, 0.6, 1.4), exponents(P.T, 0.6, 1.4)
        assert np.ptp(beta_u) > 0.5
        np.testing.assert_allclose(model.user_exponents.numpy(), beta_u, rtol=1e-5)
    else:
        beta_u, beta_i = np.full(len(P), 0.6), np.full(P.shape[1], 0.6)
    R = normalised_by_size(P, 0.4, 0.4, 2.0)
    U, S, Vt = np.linalg.svd(R, full_matrices=False)
    x = S[:6] / S[0]
    A = (U[:, :6] * x ** beta_u[:, None]) @ (Vt[:6].T * x ** beta_i[:, None]).T
    B = R @ R.T @ R

    def shares(scores: np.ndarray) -> np.ndarray:
        return scores / np.maximum(np.maximum(scores.sum(1), 0.01 * abs(scores).sum(1)), 1e-30)[:, None]

    wanted = shares(A) + gamma * shares(B)
    have = abs(P).sum(1) > 0
    found = scores(model)
    slack = 10.0 if weight else 1.0  # shares of a sum of both signs
    np.testing.assert_allclose(found[have], wanted[have], rtol=slack * 2e-3, atol=slack * 2e-4)
    assert np.isfinite(found).all()


def test_equal_ratios_give_the_first_exponent(small: Small) -> None:
    pairs = ((user, item) for user in range(6, 20) for item in range(5, 12) if user % 7 != item - 5)
    rows = [(user, item, 1, 0) for user, item in pairs]  # each lacks one item, and pairs of all kinds are shared
    model = small("SGFCF", rows=rows, beta_1=0.7, beta_2=2.0)
    assert torch.equal(model.user_exponents, torch.full((model.n_users,), 0.7))


@signed_too("TurboCF")
@pytest.mark.parametrize("order", [1, 2, 3])
def test_scores_of_turbocf_are_the_formula(
    small: Small, name: str, weight: dict, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turbocf, "CELLS", 400)  # several blocks
    model = small(name, fit=False, alpha=0.3, power=0.8, filter_order=order, **weight)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    X = weighted(model)
    R = normalised_by_size(X, 0.3, 0.7)
    G = R.T @ R
    assert (G.min() < 0) == (model.dislike_weight < 0)
    B = np.sign(G) * abs(G) ** 0.8
    B2 = B @ B
    wanted = X @ {1: B, 2: 2 * B - B2, 3: B + 0.01 * (-B2 @ B + 10 * B2 - 29 * B)}[order]
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-4, atol=1e-5)
    assert model.item_filter.dtype == torch.float32


def test_a_filter_that_does_not_fit_into_memory_is_refused(small: Small) -> None:
    model = small("TurboCF", fit=False, filter_order=3)
    model.n_items = 10_000_000
    check_refused(r"1200000\.0 GB of memory are needed for 3 item-item matrices of 10,000,000", model.fit)


@pytest.mark.parametrize("order", [0, 1, 2, 5, 8])
def test_the_polynomial_takes_the_values_of_the_plateau_at_the_nodes(order: int) -> None:
    flatness = 3.0
    nodes = np.cos(np.pi * (order + 0.5 - np.arange(order + 1)) / (order + 1))
    extrema = np.cos(np.pi * (order - np.arange(order + 1)) / order) if order else np.array([-1.0])
    plateau = 0.5 - 0.5 * np.sign(extrema) * abs(extrema) ** flatness
    found = chebyshev.chebval(nodes, interpolation(order, flatness))
    np.testing.assert_allclose(found, plateau, atol=2e-3)  # three decimals, as in the authors' code
    assert found[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("order", "beta"), [(0, 0.0), (1, 0.3), (6, 0.3), (8, 0.0)])
def test_scores_of_chebycf_are_the_formula(small: Small, order: int, beta: float) -> None:
    model = small("ChebyCF", filter_order=order, flatness=4.0, rank=5, alpha=0.7, beta=beta)
    P, _ = dense(model)
    R = normalised(P)
    V = np.linalg.svd(R, full_matrices=False)[2][:5].T
    energy, vectors = np.linalg.eigh(R.T @ R)
    response = chebyshev.chebval(1.0 - 2.0 * energy, interpolation(order, 4.0))
    degrees = P.sum(0)
    scale = np.where(degrees > 0, np.maximum(degrees, 1.0) ** beta, 0.0)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    wanted = ((P * inverse) @ ((vectors * response) @ vectors.T + 0.7 * V @ V.T)) * scale
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("gamma", "kappa"), [(-0.5, 0.1), (0.4, 0.0), (0.0, 1.0)])
def test_scores_of_dualspectralcf_are_the_formula(small: Small, gamma: float, kappa: float) -> None:
    settings = {"rank": 5, "alpha": 0.7, "beta": 0.3, "filter_order": 4, "flatness": 3.0}
    model = small("DualSpectralCF", gamma=gamma, kappa=kappa, **settings)
    likes, dislikes = dense(model)
    operator = sum(weight * normalised(X).T @ normalised(X) for weight, X in ((1.0, likes), (kappa, dislikes)))
    values, vectors = np.linalg.eigh(operator)
    shifted = 1.0 - 2.0 * values  # of 2 L - I, below -1 where an eigenvalue is above 1
    response = np.polynomial.chebyshev.chebval(shifted, interpolation(4, 3.0))
    response[-5:] += 0.7
    degrees = likes.sum(0)
    scale = np.where(degrees > 0, degrees, 1.0) ** 0.3
    rows = (likes - gamma * dislikes) * (degrees > 0) / scale
    wanted = (rows @ (vectors * response) @ vectors.T) * scale * (degrees > 0)
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=1e-4)


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
def test_scores_of_bspm_are_the_process(small: Small, solver: str, step: Callable, final: bool) -> None:
    times = {"idl": (0.8, 2), "b": (1.2, 3), "s": (0.9, 2)}
    config = {f"{key}_{name}": value for name, pair in times.items() for key, value in zip("TK", pair, strict=True)}
    config |= {f"solver_{name}": solver for name in times}
    model = small("BSPM", rank=5, idl_beta=0.6, final_sharpening=final, **config)
    P, _ = dense(model)
    R = normalised(P)
    F, V = R.T @ R, np.linalg.svd(R)[2][:5].T
    root = np.sqrt(P.sum(0))
    Q = (np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)[:, None] * V) @ (V.T * root)

    def solve(name: str, field: Callable[[np.ndarray], np.ndarray], y: np.ndarray) -> np.ndarray:
        time, steps = times[name]
        for _ in range(steps):
            y = step(field, y, time / steps)
        return y

    ideal = 0.6 * solve("idl", lambda y: y @ Q - y, P)
    blurred = solve("b", lambda y: y @ F - y, P)
    wanted = solve("s", lambda y: -y @ F, blurred + ideal if final else blurred) + (0.0 if final else ideal)
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["GFCF", "SGFCF", "TurboCF"])
def test_with_weight_zero_it_is_the_filter_of_the_likes(small: Small, name: str) -> None:
    likes, both = (small(e, fit=False, **more) for e, more in ((name, {}), (f"Signed{name}", {"dislike_weight": 0.0})))
    for model in (likes, both):
        model.fit()
    users = torch.arange(likes.n_users)
    torch.testing.assert_close(both.score(users), likes.score(users))


def test_exponents_of_sgfcf_are_those_of_pairs_of_any_verdict(small: Small, signed_rows: list) -> None:
    settings = {"beta_1": 0.6, "beta_2": 1.4, "rank": 4, "dislike_weight": -0.4, "individual_filter": True}
    model = small("SignedSGFCF", rows=signed_rows[:400], **settings)
    P, N = dense(model)
    rated = P + N > 0
    found = []
    for own in (rated, rated.T):
        shared = (own.T.astype(int) @ own.astype(int)) > 1  # pairs of columns that two rows have
        ratio = np.zeros(len(own))
        for row, columns in enumerate(np.flatnonzero(each) for each in own):
            pairs = shared[np.ix_(columns, columns)][~np.eye(len(columns), dtype=bool)]
            ratio[row] = pairs.mean() if len(pairs) else 0.0
        known = ratio[1:]
        assert np.ptp(known) > 0.3
        found.append(0.6 + 0.8 * np.clip((ratio - known.min()) / np.ptp(known), 0, 1))
    np.testing.assert_allclose(model.user_exponents, found[0], rtol=1e-5)
    response = (model.singular_values / model.singular_values[0]).numpy() ** found[1][:, None]
    np.testing.assert_allclose(model.item_response, model.item_factors.numpy() * response, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [3, 9])
def test_scores_are_the_truncated_least_squares_fit(small: Small, rank: int) -> None:
    model = small("SVDAE", rank=rank)
    P, _ = dense(model)
    R = normalised(P)
    values = np.linalg.svd(R, compute_uv=False)
    wanted = R @ np.linalg.pinv(R, rcond=(values[rank - 1] + values[rank]) / 2 / values[0]) @ P
    np.testing.assert_allclose(scores(model), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [-0.4, 0.7])
def test_it_minimises_the_squared_error_with_a_zero_diagonal(small: Small, weight: float) -> None:
    model = small("SignedEASE", fit=False, dislike_weight=weight, reg_weight=20.0)
    assert torch.equal(model.score(torch.arange(3)), torch.zeros(3, model.n_items))
    model.fit()
    P, N = dense(model)
    X, B = P + weight * N, np.zeros((model.n_items, model.n_items))
    for item in range(model.n_items):  # ridge regression on all other items
        rest = np.arange(model.n_items) != item
        A = X[:, rest]
        B[rest, item] = np.linalg.solve(A.T @ A + 20.0 * np.eye(rest.sum()), A.T @ X[:, item])
    weights = torch.stack([model.weights_of(item) for item in range(model.n_items)])
    np.testing.assert_allclose(weights, B, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scores(model), X @ B, rtol=1e-3, atol=1e-4)
    assert model.inverse.dtype == torch.float32


def test_it_needs_a_ridge(small: Small) -> None:
    check_refused("reg_weight is 0", small, "SignedEASE", reg_weight=0)


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
        hessian, first = (p * dropped + q * b * b * kept) * G, np.full(n, q)
        of_dropped, of_kept = first.copy(), first.copy()
        of_dropped[i], of_kept[i] = 0.0, 1.0
        gradient = (p * of_dropped + q * b * b * of_kept) * G[:, i]
        found[:, i] = np.linalg.solve(hessian + ridge * np.eye(n), gradient)
    return found


@pytest.mark.parametrize(("dropout", "ridge"), [(0.0, 20.0), (0.4, 2.0), (0.8, 30.0)])
def test_edlae_is_the_minimiser_where_kept_entries_do_not_count(small: Small, dropout: float, ridge: float) -> None:
    model = small("EDLAE", fit=False, dropout_prob=dropout, reg_weight=ridge)
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
    np.testing.assert_allclose(scores(model), P @ W, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("emphasis", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(("dropout", "ridge"), [(0.4, 2.0), (0.8, 30.0)])
def test_deql_is_the_minimiser(small: Small, emphasis: float, dropout: float, ridge: float) -> None:
    model = small("DEQL", dropout_prob=dropout, reg_weight=ridge, emphasis=emphasis)
    P, _ = dense(model)
    q = 1.0 - dropout
    W = minimiser(P, dropout, emphasis, (q * emphasis**2 + dropout) * q * q * ridge)
    np.testing.assert_allclose(scores(model), P @ W, rtol=1e-3, atol=5e-4)


def test_deql_without_dropout_and_emphasis_is_ease(small: Small) -> None:
    settings = {"dropout_prob": 0.0, "reg_weight": 20.0}
    first = small("DEQL", fit=False, emphasis=0.0, **settings)
    second = small("EDLAE", fit=False, **settings)
    for model in (first, second):
        model.fit()
    users = torch.arange(first.n_users)
    torch.testing.assert_close(first.score(users), second.score(users))


@pytest.mark.parametrize(
    ("settings", "message"), [({"reg_weight": 0}, "reg_weight is 0"), ({"emphasis": -1}, "emphasis is -1")]
)
def test_wrong_values_are_refused(small: Small, settings: dict, message: str) -> None:
    check_refused(message, small, "DEQL", **settings)


# ---- signediALS: a stationary point of its dense objective, and iALS where there is no dislike ----


CONFIG = {
    "embedding_size": 4, "like_weight": 1.4, "dislike_weight": 0.6, "dislike_target": -0.3,
    "unobserved_weight": 0.2, "reg_weight": 0.05, "reg_exponent": 0.7,
}  # fmt: skip


def objective(P: torch.Tensor, N: torch.Tensor, W: torch.Tensor, H: torch.Tensor, c: dict[str, Any]) -> torch.Tensor:
    """The objective over all pairs, one by one."""
    scores, edges = W @ H.T, P + N
    fit = (P * (1 - scores) ** 2).sum() * c["like_weight"]
    fit = fit + (N * (c["dislike_target"] - scores) ** 2).sum() * c["dislike_weight"]
    fit = fit + c["unobserved_weight"] * (scores**2).sum()
    for factors, axis in ((W, 1), (H, 0)):
        counts = edges.sum(axis) + c["unobserved_weight"] * edges.shape[axis]
        fit = fit + c["reg_weight"] * (counts ** c["reg_exponent"] * (factors**2).sum(1)).sum()
    return fit


def gradients(model: Any) -> tuple[float, float]:
    P, N = (torch.from_numpy(each) for each in dense(model))
    W, H = (each.double().clone().requires_grad_() for each in model.encode())
    objective(P, N, W, H, CONFIG).backward()
    return float(W.grad.abs().max()), float(H.grad.abs().max())


def test_the_fit_ends_where_the_objective_is_flat(small: Small) -> None:
    model = small("SignediALS", n_iterations=400, **CONFIG)
    of_users, of_items = gradients(model)
    assert of_users < 1e-3  # the last half-step is theirs: only rounding is left
    assert of_items < 1e-2
    assert float(model.item_factors.abs().max()) > 0.1
    assert gradients(small("SignediALS", n_iterations=1, **CONFIG))[1] > 10 * of_items


def test_ials_without_dislikes_depends_on_no_seed(small: Small, signed_rows: list) -> None:
    likes = [row for row in signed_rows if row[2] > 0]
    plain = {"like_weight": 1.0, "reg_exponent": 0.0}
    model = small("SignediALS", rows=likes, n_iterations=3, **{**CONFIG, **plain})
    P, _ = dense(model)
    W, H = (each.double().numpy() for each in model.encode())
    C = 0.2 + P  # the confidence of each pair (Hu et al., eq. 3): a zero has the weight 0.2, a like 1 more
    for user in range(model.n_users):  # their eq. 4; the target of a like weighs 1 and is averaged with the zero's
        A = H.T @ (C[user][:, None] * H) + 0.05 * np.eye(4)
        np.testing.assert_allclose(W[user], np.linalg.solve(A, H.T @ P[user]), rtol=1e-3, atol=1e-5)
    found = []
    for seed in (1, 2):
        model = small("SignediALS", fit=False, n_iterations=2, **CONFIG)
        torch.manual_seed(seed)
        model.fit()
        found.append(model.score(torch.arange(5)))
    assert torch.equal(found[0], found[1])
    assert found[0].abs().max() > 0

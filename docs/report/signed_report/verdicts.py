"""How much better a verdict is predicted for a user and an item than for the item alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds
from scipy.special import expit, logit

from recbole_signed.atomic import RawRows
from recbole_signed.errors import UsageError

SMOOTHING = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Edges of the mean like rate that are added to those of an item, or of a user."""
SHRINKAGE = (1.0, 5.0, 20.0, 100.0)
"""Added to the number of users that two items share."""
RANKS = (8, 32, 128, 512)
DEGREES = (1.0, 5.0, 25.0, 125.0)
"""Added to the degrees that the filter normalises by."""
WEIGHTS = (0.0, *(2.0**power for power in range(-2, 8)))
"""Of the personal part against the logit of the item's like rate."""

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]


def personal_verdicts(rows: RawRows) -> dict[str, Any]:
    r"""Compare estimates of :math:`\Pr(\mathrm{like} | \mathrm{exp}, u, i)` by the order of a user's held-out verdicts.

    The residual of a training edge is its verdict (1 or 0) minus the like rate that its user and its item have.
    ``item`` is the logit of the item's like rate alone. To it ``neighbours`` adds the residuals of the user's edges,
    each times the shrunk mean product of the two items' residuals over the users of both, and ``filter`` the user's
    row of the degree-normalised residuals behind a low-rank projection. Smoothing, shrinkage, rank and the weight of
    the personal part, 0 among its values, are those that are best on the validation part.

    Returns:
        For each of the three ``valid`` and ``test``, the mean over users of the share of pairs of a held-out like and
        a held-out dislike that are in the right order, and its ``settings``; ``users``: how many of the test part have
        both.

    Raises:
        UsageError: the data set has no parts for training, validation and test.
    """
    if not {"train", "valid", "test"} <= set(rows.parts):
        raise UsageError("verdicts are compared on a data set with the files train, valid and test.")
    train = rows.parts["train"]
    users, items, signs = rows.users[train], rows.items[train], rows.signs[train]
    users, items, liked = users[signs != 0], items[signs != 0], (signs[signs != 0] > 0).astype(float)
    shape = rows.n_users, rows.n_items

    def measured(estimates: Iterator[tuple[dict[str, float], Estimate]]) -> tuple[dict[str, Any], Estimate, int]:
        # one estimate at a time: some hold a number for each user and item
        found = ((_order_of_verdicts(rows, "valid", each[1])[0], *each) for each in estimates)
        valid, settings, estimate = max(found, key=lambda each: each[0])
        test, count = _order_of_verdicts(rows, "test", estimate)
        return {"valid": valid, "test": test, "settings": settings}, estimate, count

    def of_items() -> Iterator[tuple[dict[str, float], Estimate]]:
        for smoothing in SMOOTHING:
            rates = logit(_rates(items, liked, shape[1], smoothing))
            yield {"smoothing": smoothing}, _of_items(rates)

    item, by_item, count = measured(of_items())
    of_item = by_item(users, np.arange(shape[1]))
    of_user = logit(_rates(users, liked, shape[0], item["settings"]["smoothing"])) - logit(liked.mean())
    residuals = sp.csr_array((liked - expit(of_user[users] + of_item[items]), (users, items)), shape)

    def weighted(parts: Iterator[tuple[dict[str, float], Estimate]]) -> Iterator[tuple[dict[str, float], Estimate]]:
        for settings, personal in parts:
            for weight in WEIGHTS:
                yield {**settings, "weight": weight}, _sum(by_item, personal, weight)

    neighbours, *_ = measured(weighted(_of_neighbours(residuals)))
    filtered, *_ = measured(weighted(_of_filter(residuals)))
    return {"users": count, "item": item, "neighbours": neighbours, "filter": filtered}


def _of_items(values: np.ndarray) -> Estimate:
    return lambda _, items: values[items]


def _of_pairs(values: np.ndarray) -> Estimate:
    return lambda users, items: values[users, items]


def _of_products(left: np.ndarray, right: np.ndarray) -> Estimate:
    return lambda users, items: np.einsum("ij,ij->i", left[users], right[items])


def _sum(first: Estimate, second: Estimate, weight: float) -> Estimate:
    return lambda users, items: first(users, items) + weight * second(users, items)


def _rates(nodes: np.ndarray, liked: np.ndarray, n_nodes: int, smoothing: float) -> np.ndarray:
    likes, edges = np.bincount(nodes, liked, n_nodes), np.bincount(nodes, minlength=n_nodes)
    return (likes + smoothing * liked.mean()) / (edges + smoothing)


def _of_neighbours(residuals: sp.csr_array) -> Iterator[tuple[dict[str, float], Estimate]]:
    met = sp.csr_array((np.ones_like(residuals.data), residuals.indices, residuals.indptr), residuals.shape)
    products, shared = (residuals.T @ residuals).tocoo(), (met.T @ met).tocoo()
    other = products.row != products.col
    for shrinkage in SHRINKAGE:
        values = products.data[other] / (shared.data[other] + shrinkage)
        similar = sp.csr_array((values, (products.row[other], products.col[other])), products.shape)
        personal = (residuals @ similar).toarray().astype(np.float32)
        yield {"shrinkage": shrinkage}, _of_pairs(personal)


def _of_filter(residuals: sp.csr_array) -> Iterator[tuple[dict[str, float], Estimate]]:
    degrees = [np.bincount(ends, minlength=n) for ends, n in zip(residuals.nonzero(), residuals.shape, strict=True)]
    for smoothing in DEGREES:
        left, right = ((each + smoothing) ** -0.5 for each in degrees)
        normalised = sp.csr_array(residuals * left[:, None] * right)
        most = min(max(RANKS), min(residuals.shape) - 1)
        vectors = svds(normalised, most, random_state=0, return_singular_vectors="vh")[2][::-1]
        rows, columns = normalised @ vectors.T / left[:, None], vectors.T / right[:, None]  # in units of the residuals
        for rank in RANKS:
            yield {"degree_smoothing": smoothing, "rank": rank}, _of_products(rows[:, :rank], columns[:, :rank])


def _order_of_verdicts(rows: RawRows, part: str, estimate: Estimate) -> tuple[float, int]:
    """Mean over users of the share of (like, dislike) pairs in the right order, ties one half; and their number."""
    from recbole_signed.evaluation import pairwise_auc  # imports RecBole

    users, items, signs = (each[rows.parts[part]] for each in (rows.users, rows.items, rows.signs))
    rated = signs != 0
    score = estimate(users, items)[rated].astype(np.float64)
    auc = pairwise_auc(users[rated].astype(np.int64), score, signs[rated] > 0, rows.n_users)
    count = int(np.isfinite(auc).sum())
    if not count:
        raise UsageError(f"no user of the part '{part}' has both a like and a dislike.")
    return float(np.nanmean(auc)), count

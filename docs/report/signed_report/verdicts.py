"""How much better a verdict is predicted for a user and an item than for the item alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds
from scipy.special import expit, logit

from recbole_signed.arrays import distinct
from recbole_signed.atomic.inter_file import RawRows
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
ITEMS = 256
"""Items whose neighbours are held at a time: those of all of them take gigabytes."""
HELD_OUT = ("valid", "test")

Estimate = Callable[[str], np.ndarray]
"""Gives an estimate for each row of a held-out part, ``[n_rows]``."""


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
        scored = ((_order_of_verdicts(rows, "valid", option[1])[0], *option) for option in estimates)
        valid, settings, estimate = max(scored, key=lambda option: option[0])
        test, count = _order_of_verdicts(rows, "test", estimate)
        return {"valid": valid, "test": test, "settings": settings}, estimate, count

    def of_items() -> Iterator[tuple[dict[str, float], Estimate]]:
        for smoothing in SMOOTHING:
            yield {"smoothing": smoothing}, _of_items(rows, logit(_rates(items, liked, shape[1], smoothing)))

    item, by_item, count = measured(of_items())
    smoothing = item["settings"]["smoothing"]
    of_item = logit(_rates(items, liked, shape[1], smoothing))
    of_user = logit(_rates(users, liked, shape[0], smoothing)) - logit(liked.mean())
    residuals = sp.csr_array((liked - expit(of_user[users] + of_item[items]), (users, items)), shape)

    def weighted(parts: Iterator[tuple[dict[str, float], Estimate]]) -> Iterator[tuple[dict[str, float], Estimate]]:
        for settings, personal in parts:
            for weight in WEIGHTS:
                yield {**settings, "weight": weight}, _sum(by_item, personal, weight)

    neighbours, *_ = measured(weighted(_of_neighbours(rows, residuals)))
    filtered, *_ = measured(weighted(_of_filter(rows, residuals)))
    return {"users": count, "item": item, "neighbours": neighbours, "filter": filtered}


def _of_items(rows: RawRows, values: np.ndarray) -> Estimate:
    return lambda part: values[rows.items[rows.parts[part]]]


def _of_products(rows: RawRows, left: np.ndarray, right: np.ndarray) -> Estimate:
    users, items = rows.users, rows.items
    return cache(lambda part: np.einsum("ij,ij->i", left[users[rows.parts[part]]], right[items[rows.parts[part]]]))


def _sum(first: Estimate, second: Estimate, weight: float) -> Estimate:
    return lambda part: first(part) + weight * second(part)


def _rates(nodes: np.ndarray, liked: np.ndarray, n_nodes: int, smoothing: float) -> np.ndarray:
    likes, edges = np.bincount(nodes, liked, n_nodes), np.bincount(nodes, minlength=n_nodes)
    return (likes + smoothing * liked.mean()) / (edges + smoothing)


def _of_neighbours(rows: RawRows, residuals: sp.csr_array) -> Iterator[tuple[dict[str, float], Estimate]]:
    n_users, n_items = residuals.shape
    keys = {part: _keys(rows, part) for part in HELD_OUT}
    pairs = distinct(np.concatenate(list(keys.values())))
    by_item = residuals.T.tocsr()
    met, users_of = (
        sp.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)
        for matrix in (residuals, by_item)
    )
    estimates = np.zeros((len(SHRINKAGE), len(pairs)))
    for first in range(0, n_items, ITEMS):
        block = slice(first, first + ITEMS)
        here = slice(*np.searchsorted(pairs, np.array([block.start, block.stop]) * n_users))
        products, shared = by_item[block] @ residuals, users_of[block] @ met
        item = first + np.repeat(np.arange(products.shape[0]), np.diff(products.indptr))
        products.data[item == products.indices] = 0.0  # an item is no neighbour of its own
        for values, shrinkage in zip(estimates, SHRINKAGE, strict=True):
            similar = sp.csr_array(
                (products.data / (shared.data + shrinkage), products.indices, products.indptr), products.shape
            )
            values[here] = (similar @ by_item).toarray().ravel()[pairs[here] - first * n_users]
    for values, shrinkage in zip(estimates, SHRINKAGE, strict=True):
        yield {"shrinkage": shrinkage}, _of_pairs(keys, pairs, values)


def _keys(rows: RawRows, part: str) -> np.ndarray:
    """Return ``item * n_users + user`` of each row of a part."""
    users, items = (column[rows.parts[part]].astype(np.int64) for column in (rows.users, rows.items))
    return np.asarray(items * rows.n_users + users)


def _of_pairs(keys: dict[str, np.ndarray], pairs: np.ndarray, values: np.ndarray) -> Estimate:
    return lambda part: values[np.searchsorted(pairs, keys[part])]


def _of_filter(rows: RawRows, residuals: sp.csr_array) -> Iterator[tuple[dict[str, float], Estimate]]:
    degrees = [np.bincount(ends, minlength=n) for ends, n in zip(residuals.nonzero(), residuals.shape, strict=True)]
    for smoothing in DEGREES:
        left, right = ((degree + smoothing) ** -0.5 for degree in degrees)
        normalised = sp.csr_array(residuals * left[:, None] * right)
        most = min(max(RANKS), min(residuals.shape) - 1)
        vectors = svds(normalised, most, random_state=0, return_singular_vectors="vh")[2][::-1]
        of_users, of_items = normalised @ vectors.T / left[:, None], vectors.T / right[:, None]  # as the residuals
        for rank in RANKS:
            yield (
                {"degree_smoothing": smoothing, "rank": rank},
                _of_products(rows, of_users[:, :rank], of_items[:, :rank]),
            )


def _order_of_verdicts(rows: RawRows, part: str, estimate: Estimate) -> tuple[float, int]:
    """Mean over users of the share of (like, dislike) pairs in the right order, ties one half; and their number."""
    from recbole_signed.evaluation.collector import pairwise_auc  # imports RecBole

    users, signs = (column[rows.parts[part]] for column in (rows.users, rows.signs))
    rated = signs != 0
    score = estimate(part)[rated].astype(np.float64)
    auc = pairwise_auc(users[rated].astype(np.int64), score, signs[rated] > 0, rows.n_users)
    count = int(np.isfinite(auc).sum())
    if not count:
        raise UsageError(f"no user of the part '{part}' has both a like and a dislike.")
    return float(np.nanmean(auc)), count

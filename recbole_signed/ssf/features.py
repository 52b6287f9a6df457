r"""What features say of items and users that have few edges or none.

Items: :math:`V'_i = (d_i V_i + c\, F_i W) / (d_i + c)` with :math:`W = (F^T F + \lambda I)^{-1} F^T V` over the items
with edges. Likes and dislikes are predicted in the same way, by their logarithms, and count as
:math:`c / (d_i + c)` of themselves in popularity and like rate. Users: the fold-in :math:`R_u V` of a user without
edges is predicted by the same sums over users. Sums are counted in parts and taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.least_squares import RidgeSums
from recbole_signed.ids_and_times import order_of_hashes
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ExpectedCounts, ItemCounters
from recbole_signed.ssf.settings import NumberSettings, finite_not_negative, positive
from recbole_signed.ssf.user_edges import UserPrior

SMALLEST_GAIN = 0.01
"""Singular values, over the largest, below which the gain of a prediction grows no more."""
MOST_LOG = 30.0
"""Largest predicted log count: features far from all others would predict infinitely many likes."""
MAP_USERS = 5_000
"""Users that the prediction of users is learned from at most: there are fewer features than that."""


@dataclass(frozen=True)
class FeatureSettings(NumberSettings):
    """The parameters of predictions from features, by their letters; a value out of its range is refused."""

    predict_items: int = 1
    """1: items without an edge get what their features predict; 0: features of items are not used."""
    feature_weight: float = 0.0
    """[c] Edges that the prediction counts as, for items with edges."""
    feature_ridge: float = 10.0
    """[lambda] Regularisation of the prediction of items."""
    feature_gain: float = 1.0
    """[q] Predicted factors are multiplied by the singular values to the power -q."""
    feature_popularity: float = 0.0
    """[zeta] Share of predicted popularity in the score, for as much of an item as is predicted."""
    predict_users: int = 1
    """1: users without an edge get what their features predict; 0: features of users are not used."""
    user_feature_weight: float = 0.0
    """[c'] Edges that the prediction counts as, for users with edges."""
    user_feature_ridge: float = 100.0
    """[lambda'] Regularisation of the prediction of users."""
    feature_lift: float = 1.0
    """[ell] What the score of an item is multiplied by, to the power of how much of it is predicted."""

    def __post_init__(self) -> None:
        self._refuse_unless(finite_not_negative, "a finite number of 0 or more")
        self._refuse_unless(positive, "above 0", "feature_ridge", "user_feature_ridge", "feature_lift")


def item_sums(fitted: SpectralFilter, features: sp.csr_matrix) -> RidgeSums:
    """Return the sums over the items that have edges and features: of factors, and of log(1 + likes and dislikes)."""
    likes, dislikes = (tensor.cpu().numpy() for tensor in (fitted.counters.likes, fitted.counters.dislikes))
    chosen = np.flatnonzero((likes + dislikes > 0) & (np.diff(features.indptr) > 0))
    counts = np.log1p(np.stack([likes, dislikes], axis=1)[chosen])
    vectors = fitted.vectors[:, : fitted.k].cpu().numpy()[chosen]
    return RidgeSums.from_rows(features[chosen], np.concatenate([vectors, counts], axis=1))


def user_sums(
    fitted: SpectralFilter, graph: SignedGraph, features: sp.csr_matrix, left_out: npt.NDArray[np.integer] | None = None
) -> RidgeSums:
    """Return the sums over users with edges and features, but for ``left_out``: of the fold-in before the response."""
    chosen = np.diff(features.indptr) > 0
    chosen &= (np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)) > 0
    if left_out is not None:
        chosen[left_out] = False
    users = np.flatnonzero(chosen)
    if len(users) > MAP_USERS:
        users = np.sort(drawn_by(graph.user_keys, users, MAP_USERS))
    return RidgeSums.from_rows(features[users], fitted.project(graph.rows(users)).cpu().numpy())


def drawn_by(
    keys: npt.NDArray[np.int64] | None, chosen: npt.NDArray[np.integer], at_most: int
) -> npt.NDArray[np.integer]:
    """Return some users or items in random order: by their keys, which know nothing of the order of rows, if known."""
    if keys is None:
        return np.random.default_rng(0).permutation(chosen)[:at_most]
    return chosen[order_of_hashes(keys[chosen])][:at_most]


def gains(fitted: SpectralFilter, exponent: float) -> torch.Tensor:
    """Return what predicted factors are multiplied by, ``[k]``; scores are as large as with ones."""
    values = fitted.values[: fitted.k] / fitted.values[:1]
    gain = values.clamp(min=SMALLEST_GAIN) ** -exponent
    median = torch.tensor([fitted.median_degree], device=values.device)
    energy = (values * fitted.response(median)[0]) ** 2
    return gain * (energy.sum() / (energy * gain**2).sum().clamp(min=1e-30)).sqrt()


@dataclass(frozen=True)
class ItemPrediction:
    """What features say of items, worked out for all of them that it changes."""

    items: npt.NDArray[np.int64]
    """Items with features, ascending; without ``feature_weight`` those without an edge alone."""
    factors: torch.Tensor
    """float32 ``[len(items), k]``."""
    expected: ExpectedCounts

    @classmethod
    def from_features(
        cls, fitted: SpectralFilter, features: sp.csr_matrix, learned: npt.NDArray[np.float32], s: FeatureSettings
    ) -> ItemPrediction:
        """Predict by the map that :func:`item_sums` lead to, ``[n_features, k + 2]``."""
        chosen = np.diff(features.indptr) > 0
        if not s.feature_weight:
            chosen &= ~fitted.known().cpu().numpy()
        items = np.flatnonzero(chosen)
        predicted = torch.from_numpy(np.asarray(features[items] @ learned)).to(fitted.vectors.device)
        counts = torch.zeros(2, features.shape[0], device=predicted.device)
        counts[:, items] = predicted[:, -2:].T.clamp(max=MOST_LOG).expm1().clamp(min=0.0)
        given = torch.zeros(features.shape[0], dtype=torch.bool, device=predicted.device)
        given[items] = True
        expected = ExpectedCounts(counts[0], counts[1], given, s.feature_weight, s.feature_popularity, s.feature_lift)
        return cls(items, predicted[:, :-2] * gains(fitted, s.feature_gain), expected)

    def applied(self, fitted: SpectralFilter) -> SpectralFilter:
        """Return the filter with item factors and counters that follow the prediction."""
        counters = fitted.counters
        counters = ItemCounters.from_counts(counters.likes, counters.dislikes, self.expected)
        rows = torch.from_numpy(self.items)
        share = counters.share()[rows, None]
        vectors = fitted.vectors[:, : fitted.k].clone()
        vectors[rows] = (1 - share) * vectors[rows] + share * self.factors
        return replace(fitted, vectors=vectors, counters=counters)


def user_prior(features: sp.csr_matrix, learned: npt.NDArray[np.float32], s: FeatureSettings) -> UserPrior:
    """Return what the features of users ``[n, n_features]`` predict of them by the map ``[n_features, k]``."""
    predicted = torch.from_numpy(np.asarray(features @ learned))
    return UserPrior(predicted, torch.from_numpy(np.diff(features.indptr) > 0), s.user_feature_weight)

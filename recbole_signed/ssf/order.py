r"""SSF-T's score: a log-linear sum of taste, order and trend.

:math:`s_{ui} = \sum_f w_f x_f(u, i)`; the next like of u is i with the probability of the softmax over the items. The
features x, each a logarithm, are counters or fold-ins of the user's own verdicts:

* ``taste``: :math:`\log(1 + 5\, e_{ui})`, with SSF's exposure score e over its root mean square over the items;
* ``transition``: :math:`\log(1 + t_{ui})`, the same of what the low-rank transition (``transition.py``) gives;
* ``next``, ``before``, ``around``: :math:`\log(1 + 10\, q_{ui} / \sqrt{p_i})`, where q sums
  :math:`C_{ji} / \sum_k C_{jk}` over the user's verdicts j, each weighted by its age, with the counts C of
  ``counts.py``, their transpose, and the square of both together (what users of similar items met);
* ``next_sharp``, ``around_sharp``: :math:`\log(1 + q_{ui} / \sqrt{p_i})` of the same q, which tells large q apart;
* ``last``: the sum of :math:`\log(1 + 10\, q_{ji} / \sqrt{p_i})` over the last verdicts j, each by itself;
* ``popularity`` and the trends: logarithms of the likes of i, and of its exposures or likes that forget at several
  half-lives.

The weights are fitted in ``order_weights.py``. Decayed, smoothed, pooled counts are those of PCTM (arXiv 2608.19833),
which multiplies one such term by popularity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.counts import PairCounts, RecentCounts
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.top_scores import largest
from recbole_signed.sequences import IntArray, Sequences
from recbole_signed.sparse_rows import add_products, add_rows
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.filter import FEW_USERS, SpectralFilter, products_of
from recbole_signed.ssf.item_counters import UNKNOWN
from recbole_signed.ssf.transition import Transition
from recbole_signed.ssf.user_edges import UserEdges

TRENDS = ((0.25, False), (3.0, False), (30.0, False), (300.0, False), (30.0, True), (300.0, True))
"""Half-lives of the trends, in days, and whether they are of likes alone, and not of all exposures."""
ITEM = ("popularity", *(f"{'liked' if likes else 'trend'}_{life:g}d" for life, likes in TRENDS))
DENSE = ("taste", "transition")
SHARP = ("next_sharp", "around_sharp")
PAIRED = ("next", "before", "around", "last", *SHARP)
FEATURES = (*ITEM, *DENSE, *PAIRED)
WEIGHTS = (*FEATURES, *(f"{name}_alone" for name in ITEM))
"""The last ones are those of users without a verdict, of whom nothing but :data:`ITEM` is known."""
AROUND = [place for place, name in enumerate(FEATURES) if name.startswith("around")]
"""Places of the features of two steps."""

TASTE_SCALE, TRANSITION_SCALE = 5.0, 1.0
LIFT, SHARPER = 10.0, 0.1
"""What counts of pairs are multiplied by inside of the logarithm, and how much less in the features that are sharp."""
SMOOTHING = 5.0
"""Pairs of no item that are added to those of each item."""
RECENT, LONG, LAST = (0.8, 20), (0.9, 50), (0.5, 8)
"""Weight of a verdict against one a moment later, and how many count: in next and before, in around, in last."""
STEPS = 128
"""Items that ``around`` goes on from at most: those with most of the first step."""
COUNT, PRESENT_COUNT = 0.5, 0.05
"""Likes, and present exposures, that are added to those of each item."""

FloatArray = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]

PRESET = (
    *(0.0, 0.0, 0.1, 0.4, -0.4, 0.0, 0.0),
    *(1.0, 0.5, 0.4, 0.2, 0.1, 0.2, 0.0, 0.0),
    *(0.4, 0.1, 0.1, 0.3, 0.0, 0.2, 0.6),
)
"""Weights without a fit: of items, of the other features, and of items for users without a verdict."""


def weights_of(given: Any) -> Weights:
    """Return weights that are given as a list, :data:`PRESET` for None; raise UsageError for a wrong list."""
    try:
        weights = with_sharp(np.asarray(PRESET if given is None else given, dtype=np.float64))
    except (TypeError, ValueError):
        weights = np.zeros(0)
    if weights.shape != (len(WEIGHTS),) or not np.isfinite(weights).all():
        raise UsageError(f"order_weights is {given!r}; give {len(WEIGHTS)} numbers: {', '.join(WEIGHTS)}.")
    return weights


def with_sharp(weights: Weights) -> Weights:
    """Return weights, or what is known of them ``[n_weights, n_weights]``, with 0 for :data:`SHARP` if these lack."""
    for axis in range(weights.ndim):  # in states and checkpoints that are older
        if weights.shape[axis] == len(WEIGHTS) - len(SHARP):
            weights = np.insert(weights, [len(FEATURES) - len(SHARP)] * len(SHARP), 0.0, axis=axis)
    return weights


def recent_of(
    item: npt.NDArray[np.integer],
    time: npt.NDArray[np.generic],
    like: npt.NDArray[np.bool_],
    n_items: int,
    since: float = 0.0,
) -> torch.Tensor:
    """Return what is left of exposures since ``since`` (ms, as ``time``) by :data:`TRENDS`, ``[n_trends, n_items]``."""
    kinds = {True: (item[like], time[like]), False: (item, time)}
    counts = [RecentCounts.from_events(*kinds[likes], life, n_items, since or -np.inf).counts for life, likes in TRENDS]
    return torch.from_numpy(np.stack(counts).astype(np.float32))


@dataclass(frozen=True)
class Order:
    """What is counted of order and time, and the weights."""

    weights: Weights
    """w by :data:`WEIGHTS`, float64 ``[n_weights]``."""
    pairs: PairCounts
    recent: torch.Tensor
    """Exposures of items that forget, by :data:`TRENDS`, float32 ``[n_trends, n_items]``."""
    transition: Transition | None
    """None where there is nothing to learn from."""

    def weight(self, feature: str) -> float:
        """Return the weight of a feature."""
        return float(self.weights[WEIGHTS.index(feature)])

    @property
    def goes_around(self) -> bool:
        """Whether the features of two steps, which take most time, have a weight."""
        return bool(self.weights[AROUND].any())


@dataclass(frozen=True)
class OrderFilter:
    """A spectral filter with order and trend: scores of any users by their edges and the order of these."""

    taste: SpectralFilter
    """Gives the exposure scores, the likes of items and their like rates."""
    order: Order
    settled: bool = False
    """Whether many users are scored by the vectors as they are, which pays for their products with each other."""

    # ---- features ----

    @cached_property
    def _shares(self) -> torch.Tensor:
        """Shares of items in the likes, with those that features let expect, and in the trends, smoothed."""
        counters = self.taste.counters
        likes = counters.believed_likes()
        shares = torch.cat([likes[None], self.order.recent.to(likes)])  # float32 `[1 + n_trends, n_items]`
        if counters.expected is not None:  # what is expected of an item has the trends of an average one
            part = shares[1:].sum(dim=1, keepdim=True) / max(counters.n_likes, 1)
            shares[1:] += part * (likes - counters.likes)
        shares[:1] += COUNT
        shares[1:] += PRESENT_COUNT
        return shares.div_(shares.sum(dim=1, keepdim=True))

    @cached_property
    def _per_item(self) -> FloatArray:
        """What counts of pairs are multiplied by for each item, float32 ``[n_items]``."""
        return (LIFT / self._shares[0].sqrt()).cpu().numpy()

    @cached_property
    def item_features(self) -> torch.Tensor:
        """The features that are the same for all users, float32 ``[n, n_items]``."""
        return self._shares.log()

    @cached_property
    def items(self) -> torch.Tensor:
        """What items have for all users: their features, weighted, and the aversion, float32 ``[n_items]``."""
        return self._weighted(self.order.weights[: len(ITEM)])

    @cached_property
    def _items_alone(self) -> torch.Tensor:
        """The same for users without a verdict."""
        return self._weighted(self.order.weights[len(FEATURES) :])

    def items_for(self, users: UserEdges, items: torch.Tensor | None = None) -> torch.Tensor:
        """Return what all items, or ``items [n_users, m]``, have for users whatever their taste."""
        alone = torch.from_numpy(users.degrees == 0).to(self.items.device)
        if users.prior is not None:
            alone &= ~users.prior.given.to(alone.device)
        every = slice(None) if items is None else items
        scores = self.items[None] if items is None else self.items[items]
        return torch.where(alone[:, None], self._items_alone[every], scores) if alone.any() else scores

    def _weighted(self, weights: Weights) -> torch.Tensor:
        scores = torch.from_numpy(weights).float().to(self.item_features.device) @ self.item_features
        counters = self.taste.counters
        if self.taste.aversion is not None:
            scores = scores + self.taste.aversion.clamp(min=1e-30).log()
        if counters.expected is not None and counters.expected.lift != 1:
            scores = scores + math.log(counters.expected.lift) * counters.share()
        scores[counters.unknown] = UNKNOWN
        return scores

    def dense_scores(self, users: UserEdges, items: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return e and t over their root mean squares, of all items or of ``items [n_users, m]``; 0 without edges."""
        factors, moved = self.taste.fold_in(users), self._moved(users)
        n_users, n_items = users.n_users, self.taste.counters.n_items
        if n_users <= FEW_USERS and moved is not None:  # in one product, as most of its time goes into reading vectors
            both = factors.new_zeros(2 * n_users, max(factors.shape[1], moved.shape[1]))
            both[:n_users, : factors.shape[1]], both[n_users:, : moved.shape[1]] = factors, moved
            taste, transition = self.taste.exposure_of(both).split(n_users)
        elif items is None or not self.settled:
            taste = self.taste.exposure_of(factors)
            transition = torch.zeros_like(taste) if moved is None else self.taste.exposure_of(moved)
        else:
            squares = ((factors @ self._gram) * factors).sum(dim=1, keepdim=True)
            size = squares.clamp_(min=0.0).div_(n_items).sqrt_().clamp_(min=1e-30)
            taste = products_of(self.taste.vectors, factors, items).div_(size)
            if moved is None:
                return taste, torch.zeros_like(taste)
            return taste, products_of(self.taste.vectors, moved, items)
        size = taste.norm(dim=1, keepdim=True) / n_items**0.5
        taste, transition = (scores if items is None else scores.gather(1, items) for scores in (taste, transition))
        return taste.div_(size.clamp_(min=1e-30)), transition

    @cached_property
    def _gram(self) -> torch.Tensor:
        """The products of the vectors, ``[k, k]``: nearly 1, but for items that came or moved after the fit."""
        vectors = self.taste.vectors[:, : self.taste.k]
        return vectors.T @ vectors

    def _moved(self, users: UserEdges) -> torch.Tensor | None:
        """Return the factors of t over its root mean square, ``[n_users, k']``; None where there is no order."""
        if self.order.transition is None or users.sequences is None or not len(users.sequences.item):
            return None
        factors = self.order.transition.moved(users.sequences, self.taste.vectors)
        # the vectors are orthonormal, so the mean square of the scores is that of the factors
        scale = factors.norm(dim=1, keepdim=True) / self.taste.counters.n_items**0.5
        return factors.div_(scale.clamp_(min=1e-30))

    def paired(self, sequences: Sequences, items: IntArray | None = None) -> Iterator[tuple[str, FloatArray]]:
        """Give the features that are made of pairs, and their names, ``[n_users, n_items]`` each; others are 0."""
        # items: of each user alone, [n_users, m]
        ages = ages_of(sequences)
        long = self._history(sequences, ages, *LONG) if self.order.goes_around else None
        per_item = torch.from_numpy(self._per_item if items is None else self._per_item[items])
        sharp = []
        sums = self._sums(self._history(sequences, ages, *RECENT), long, items=items)
        for name, values in zip(PAIRED, sums, strict=False):
            scaled = torch.from_numpy(values).mul_(per_item)
            if f"{name}_sharp" in SHARP:
                sharp.append((f"{name}_sharp", (SHARPER * scaled).log1p_().numpy()))
            yield name, scaled.log1p_().numpy()  # at an eighth of the time of NumPy
        last = self._history(sequences, ages, *LAST)
        after, place = np.unique(last.indices, return_inverse=True)
        weights = sp.csr_matrix((last.data, place, last.indptr), shape=(sequences.n_users, len(after)))
        table = np.zeros((sequences.n_users, self._n_items) if items is None else items.shape, dtype=np.float32)
        if items is None:
            add_rows(table, weights, self._after(after))
        else:
            add_products(table, weights, self._after(after).T.tocsr(), items)
        yield "last", table
        yield from sharp

    @property
    def _n_items(self) -> int:
        return self.order.pairs.n_items

    def _history(self, sequences: Sequences, ages: IntArray, ratio: float, moments: int) -> sp.csr_matrix:
        return _rows(sequences.item, sequences.indptr, self._n_items, faded(ages, ratio, moments))

    def _sums(
        self,
        recent: sp.csr_matrix,
        long: sp.csr_matrix | None,
        through: npt.NDArray[np.bool_] | None = None,
        items: IntArray | None = None,
    ) -> Iterator[FloatArray]:
        """Give q of ``next`` and ``before``, of ``recent``, and of ``around``, of ``long``, ``[n, n_items or m]``."""
        # around goes on from the items `through`, [n_items], or from those with most of each row
        counts = self.order.pairs
        yield counts.follow(recent, SMOOTHING, items)
        yield counts.follow(recent, SMOOTHING, items, before=True)
        if long is None:
            return
        step = counts.around(long, SMOOTHING)
        kept = np.flatnonzero((_largest(step) if through is None else through) & (step > 0))
        bounds = np.searchsorted(kept, np.arange(len(step) + 1) * self._n_items)
        row = sp.csr_matrix((step.ravel()[kept], kept % self._n_items, bounds), shape=step.shape)
        yield counts.around(row, SMOOTHING, items)

    def _after(self, items: npt.NDArray[np.integer]) -> sp.csr_matrix:
        """Return the logarithms of ``last`` for some items, CSR ``[len(items), n_items]``."""
        rows = self.order.pairs.after(items, SMOOTHING)
        rows.data = np.log1p(rows.data * self._per_item[rows.indices])
        return rows

    def own_features(self, users: UserEdges, items: IntArray) -> torch.Tensor:
        """Return the features after :data:`ITEM` of some users and items, float32 ``[n_users, n, len(items)]``."""
        assert users.sequences is not None
        features = torch.zeros(users.n_users, len(FEATURES) - len(ITEM), len(items))
        taste, transition = self.dense_scores(users)
        features[:, 0] = _log(taste[:, items], TASTE_SCALE)
        features[:, 1] = _log(transition[:, items], TRANSITION_SCALE)
        for name, values in self.paired(users.sequences):
            features[:, FEATURES.index(name) - len(ITEM)] = torch.from_numpy(values[:, items])
        return features

    # ---- scores ----

    def edges(self, users: SignedGraph | UserEdges) -> UserEdges:
        """Return users as the filter reads them."""
        return self.taste.edges(users)

    def scores(self, users: SignedGraph | UserEdges) -> torch.Tensor:
        """Return the scores of all items for any users, given by their edges in their order, ``[n_users, n_items]``."""
        users = self.edges(users)
        return self.of_users(users).add_(self.items_for(users))

    def of_users(self, users: UserEdges, items: torch.Tensor | None = None) -> torch.Tensor:
        """Return the part of the scores that depends on the users, of all items or of ``items [n_users, m]``."""
        taste, transition = self.dense_scores(users, items)
        scores = _log(taste, TASTE_SCALE).mul_(self.order.weight("taste"))
        if users.sequences is not None:
            scores.add_(_log(transition, TRANSITION_SCALE), alpha=self.order.weight("transition"))
            some = None if items is None else items.cpu().numpy()
            for name, values in self.paired(users.sequences, some):
                scores.add_(torch.from_numpy(values).to(scores), alpha=self.order.weight(name))
        return scores

    def pair_scores(self, users: SignedGraph | UserEdges, items: torch.Tensor) -> torch.Tensor:
        """Return the scores of some items for each user, ``[n_users, m]``."""
        users = self.edges(users)
        return self.of_users(users, items).add_(self.items_for(users, items))

    def without_taste(self, items: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Return what items, of all ``[n_items]``, have for a user without a taste: their popularity and trends."""
        return self.items[items]

    def explain(self, user: SignedGraph, items: IntArray, edges: UserEdges | None = None) -> list[Explanation]:
        """Return what each edge of a user adds to scores of items; ``edges``: the user as the filter reads it."""
        # a logarithm is divided among the edges by their parts of what it is taken of
        edges = self.edges(user) if edges is None else edges
        by_taste = self.taste.explain(user, items, edges)
        exposed, moved = (rows[0, items] for rows in self.dense_scores(edges))
        values = _log(exposed, TASTE_SCALE).double().cpu().numpy() * self.order.weight("taste")
        n_edges = len(by_taste[0].items) if by_taste else 0
        order = np.zeros((len(items), n_edges))
        sequences = edges.sequences
        if sequences is not None and len(sequences.item):
            by_transition = _log(moved, TRANSITION_SCALE).double().cpu().numpy() * self.order.weight("transition")
            parts = self._order_parts(sequences, items, by_transition)
            np.add.at(order.T, self._places(user, sequences), parts.T)
        scores, prior = self.scores(edges)[0, items].tolist(), self.items_for(edges)[0, items].tolist()
        trends = self._trends(items, self.order.weights[0 if n_edges else len(FEATURES) :]).tolist()
        explanations = []
        for place, explanation in enumerate(by_taste):
            taste = _divided(explanation.contributions, explanation.contributions.sum() + explanation.from_features)
            explanations.append(
                replace(
                    explanation,
                    contributions=taste * values[place] + order[place],
                    recency=order[place],
                    from_features=float(values[place] * (1.0 - taste.sum())) if explanation.from_features else 0.0,
                    prior=prior[place],
                    factor=1.0,
                    trend=trends[place],
                    score=scores[place],
                )
            )
        return explanations

    def _trends(self, items: IntArray, weights: Weights) -> Weights:
        """Return what the shares of recent exposures, against that of likes, add to the scores of items."""
        features = self.item_features[:, items].double().cpu().numpy()
        return weights[1 : len(ITEM)] @ (features[1:] - features[0])

    def _places(self, user: SignedGraph, sequences: Sequences) -> npt.NDArray[np.int64]:
        likes, dislikes = (np.searchsorted(side.indices, sequences.item) for side in (user.likes, user.dislikes))
        return np.where(sequences.like, likes, user.likes.nnz + dislikes)

    def _order_parts(self, sequences: Sequences, items: IntArray, by_transition: Weights) -> Weights:
        """Return what each event of one user adds to the scores by way of the order, ``[n_items, n_events]``."""
        n_events, weight = len(sequences.item), self.order.weight
        contributions = np.zeros((len(items), n_events))
        if self.order.transition is not None:
            parts = self.order.transition.contributions(sequences, self.taste.vectors, items)
            contributions += _divided(parts) * by_transition[:, None]
        adds = {name: values[0, items].astype(np.float64) * weight(name) for name, values in self.paired(sequences)}
        bounds, ages, long, through = np.arange(n_events + 1), ages_of(sequences), None, None
        if self.order.goes_around:
            long = _rows(sequences.item, bounds, self._n_items, faded(ages, *LONG))
            through = _largest(self.order.pairs.around(self._history(sequences, ages, *LONG), SMOOTHING))[0]
        sums = self._sums(_rows(sequences.item, bounds, self._n_items, faded(ages, *RECENT)), long, through)
        for name, values in zip(PAIRED, sums, strict=False):
            contributions += _divided(values[:, items].T) * (adds[name] + adds.get(f"{name}_sharp", 0.0))[:, None]
        alone = self._after(sequences.item)[:, items].toarray().T
        return contributions + weight("last") * faded(ages, *LAST) * alone


def ages_of(sequences: Sequences) -> IntArray:
    """Return how many moments of its user are later than each verdict, int64 ``[n_events]``."""
    moment, length = sequences.moment, np.diff(sequences.indptr)
    return np.repeat(moment[sequences.indptr[1:][length > 0] - 1], length[length > 0]) - moment


def faded(ages: IntArray, ratio: float, moments: int) -> Weights:
    """Return ``ratio`` to the age of each verdict, 0 from an age of ``moments`` on, float64 ``[n_events]``."""
    return np.where(ages < moments, ratio**ages, 0.0)


def _rows(
    items: npt.NDArray[np.integer], indptr: npt.NDArray[np.int64], n_items: int, weight: Weights
) -> sp.csr_matrix:
    kept = np.flatnonzero(weight)
    data, bounds = weight[kept].astype(np.float32), np.searchsorted(kept, indptr)
    return sp.csr_matrix((data, items[kept], bounds), shape=(len(indptr) - 1, n_items))


def _log(scores: torch.Tensor, scale: float) -> torch.Tensor:
    """Return log(1 + scale * x), with 0 for x below 0, in place."""
    return scores.clamp_(min=0.0).mul_(scale).log1p_()


def _divided(parts: npt.NDArray[np.floating], total: npt.NDArray[np.floating] | None = None) -> Weights:
    """Return the parts ``[..., n]`` of totals, by default their sums; 0 where these are not above 0."""
    whole = (parts.sum(axis=-1) if total is None else np.asarray(total))[..., None]
    return np.divide(parts, whole, out=np.zeros(parts.shape), where=whole > 0)


def _largest(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which entries of each row are among its :data:`STEPS` largest, or equal the smallest of them."""
    if rows.shape[1] <= STEPS:
        return np.ones(rows.shape, dtype=bool)
    return rows >= largest(torch.from_numpy(rows), STEPS)[0][:, -1:].numpy()

"""The weights of SSF-T's score: of maximum likelihood of held-out likes, then of those among each user's best items.

Both negative log-likelihoods are convex in them, so each has one minimum for each data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
import torch

from recbole_signed.evaluation.metrics import ndcg_at
from recbole_signed.ssf.order import AROUND, FEATURES, ITEM, OrderFilter, Weights, weights_of
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation

CELLS = 8_000_000
"""Scores of validation users that the weights are fitted to, about."""
MOST_ITEMS = 50_000
"""Items that a likelihood is of at most: of a larger catalogue, the half with most exposures, and others by chance."""
ENOUGH = 30
"""Users that weights are fitted to at least: without a verdict, and with one in the second fit."""
RIDGE = 1e-3
"""Of the weights of features with a standard deviation of 1, against those that they are held near to."""
GAIN = 0.003
"""How much more likely, in the logarithm, the features of two steps have to make a like."""
SMALLEST = 1e-6
"""Standard deviation of a feature below which it says nothing, and keeps the weight it had."""
FACTORS = (0.5, 0.7, 1.4, 2.0)
"""What the weights of trends are multiplied by for users without a verdict."""
BEST = 200
"""Candidates of a user that weights are fitted to again, in :func:`sharpened`: those with the highest scores."""
BLOCK = 100_000
"""Scores of users whose features are worked on at a time, about."""


@dataclass(frozen=True)
class Likes:
    """Held-out likes of some users: the features of items, and which of these were liked."""

    shared: torch.Tensor
    """The first features, which are the same for all users, float32 ``[n_shared, n_candidates]``."""
    own: torch.Tensor
    """The other features, float32 ``[n, n_own, n_candidates]``."""
    offset: torch.Tensor
    """``[n, n_candidates]``: -inf for what is hidden, else the log of how many items one stands for."""
    user: torch.Tensor
    """int64 ``[n_likes]``."""
    place: torch.Tensor
    """int64 ``[n_likes]``: which candidate."""
    alone: torch.Tensor
    """Which users have no verdict, bool ``[n_users]``."""
    rows: torch.Tensor
    """int64 ``[n_users]``: where a user's features and offset are; these are large, and never copied as a whole."""

    @classmethod
    def from_validation(cls, made: OrderFilter, users: Callable[[slice], UserEdges], validation: Validation) -> Likes:
        """Work out the features for the first users of a validation; the weights of ``made`` are not used."""
        n_items = validation.users.n_items
        items, offset = candidates(made)
        n_users = min(validation.n_users, max(CELLS // max(len(items), 1), 1))
        own = torch.empty(n_users, len(FEATURES) - len(ITEM), len(items))
        alone = torch.zeros(n_users, dtype=torch.bool)
        step = max(BLOCK // n_items, 1)
        for first in range(0, n_users, step):
            rows = slice(first, min(first + step, n_users))
            some = users(rows)
            own[rows] = made.own_features(some, items)
            alone[rows] = torch.from_numpy(some.degrees == 0)
        place = np.full(n_items, -1)
        place[items] = np.arange(len(items))
        offsets = offset.repeat(n_users, 1)
        row, item = (tensor.numpy() for tensor in validation.hidden)
        hidden = (row < n_users) & (place[item] >= 0)
        offsets[row[hidden], place[item[hidden]]] = -torch.inf
        user, item = np.divmod(validation.like_keys, n_items)
        open_ = (user < n_users) & (place[item] >= 0)
        like_user, like_place = torch.from_numpy(user[open_]), torch.from_numpy(place[item[open_]])
        shown = ~offsets[like_user, like_place].isneginf()
        shared, every = made.item_features.cpu()[:, items], torch.arange(n_users)
        return cls(shared, own, offsets, like_user[shown], like_place[shown], alone, every)

    def only(self, users: torch.Tensor) -> Likes:
        """Return those of some users, by a mask ``[n_users]``."""
        number = users.cumsum(0) - 1
        theirs = users[self.user]
        user, place = number[self.user[theirs]], self.place[theirs]
        return replace(self, user=user, place=place, alone=self.alone[users], rows=self.rows[users])

    def first(self, n: int) -> Likes:
        """Return the same with the first ``n`` features alone."""
        return replace(self, shared=self.shared[:n], own=self.own[:, : max(n - len(self.shared), 0)])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.shared) + self.own.shape[1]

    def blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Give features ``[n, n_features, n_candidates]`` and offsets of a few users at a time, in their order."""
        for rows in self.rows.split(max(BLOCK // max(self.offset.shape[1], 1), 1)):
            yield torch.cat([self.shared.expand(len(rows), -1, -1), self.own[rows]], dim=1), self.offset[rows]

    def liked(self) -> torch.Tensor:
        """Return the features of the likes, ``[n_likes, n_features]``."""
        return torch.cat([self.shared.T[self.place], self.own[self.rows[self.user], :, self.place]], dim=1)

    def sums(self, weights: Weights) -> torch.Tensor:
        """Return the weighted sums of the first features, ``[n_users, n_candidates]``."""
        w = torch.from_numpy(weights).float()
        none = self.offset[:0]
        return torch.cat([none, *(w @ features for features, _ in self.first(len(weights)).blocks())])

    def best(self, weights: Weights) -> Likes:
        """Return the candidates of the highest scores by weights of the first features, for users who like any."""
        first = self.first(len(weights))
        scores = first.sums(weights).add_(self.offset[self.rows])
        best = scores.topk(min(BEST, scores.shape[1]), dim=1).indices
        place = torch.full(scores.shape, -1, dtype=torch.int16)
        place.scatter_(1, best, torch.arange(best.shape[1], dtype=torch.int16).expand_as(best))
        place = place[self.user, self.place].long()
        there = place >= 0
        row = self.rows[:, None]
        own = torch.cat([first.shared.T[best], first.own[row, :, best]], dim=2).transpose(1, 2)
        user, rows = self.user[there], torch.arange(len(self.rows))
        shared = self.shared[:0, : best.shape[1]]
        likes = Likes(shared, own, self.offset[row, best], user, place[there], self.alone, rows)
        return likes.only(torch.bincount(user, minlength=len(rows)) > 0)


def candidates(made: OrderFilter) -> tuple[npt.NDArray[np.int64], torch.Tensor]:
    """Return the items that a likelihood is of, ascending, and the logarithm of how many each stands for."""
    # in a large catalogue half of MOST_ITEMS are those with most exposures, and the others every so many-th
    exposures = (made.taste.counters.likes + made.taste.counters.dislikes).cpu().numpy()
    known = np.flatnonzero(exposures > 0)
    if len(known) <= MOST_ITEMS:
        return known, torch.zeros(len(known))
    order = known[np.argsort(-exposures[known], kind="stable")]
    rest = order[MOST_ITEMS // 2 :]
    step = -(-len(rest) // (MOST_ITEMS // 2))
    items = np.concatenate([order[: MOST_ITEMS // 2], rest[::step]])
    stands_for = np.where(np.arange(len(items)) < MOST_ITEMS // 2, 1.0, step)
    place = np.argsort(items)
    return items[place], torch.from_numpy(np.log(stands_for[place])).float()


@dataclass(frozen=True)
class Fit:
    """Weights, and how certain they are."""

    weights: Weights
    """By :data:`WEIGHTS`, float64 ``[n_weights]``."""
    information: npt.NDArray[np.float64] | None = None
    """Second derivative of the loss, ``[n_weights, n_weights]``: 0 for an unknown weight; None: for all."""

    def part(self, place: slice) -> Fit:
        """Return some of the weights."""
        return Fit(self.weights[place], None if self.information is None else self.information[place, place])


def fitted_weights(likes: Likes, before: Fit | None = None, worth: float = 0.0, *, among_best: bool = False) -> Fit:
    """Return the weights of maximum likelihood of ``likes`` and, by Laplace's approximation, of those before."""
    # among_best: of the likes among the BEST candidates of each user by the weights before, and against those alone
    # those without a verdict: of such users, or of all where these are few; what is slow is 0 if not worth it
    # worth: as how many users with a curvature of 1 a weight counts whose certainty is unknown
    split = len(FEATURES)
    start = Fit(weights_of(None)) if before is None else before
    first, last = start.part(slice(split)), start.part(slice(split, None))
    likes = likes.only(torch.bincount(likes.user, minlength=len(likes.alone)) > 0)
    with_verdicts = likes.only(~likes.alone) if bool((~likes.alone).any()) else likes
    without_it = replace(first, weights=np.where(np.isin(np.arange(split), AROUND), 0.0, first.weights))
    few = int(likes.alone.sum()) < ENOUGH and start.information is None
    alone = likes if few else likes.only(likes.alone)
    of_items = alone.first(len(ITEM))
    spread, spread_alone = (spread_of(part) if len(part.rows) else None for part in (with_verdicts, of_items))
    if among_best:
        with_verdicts, of_items = with_verdicts.best(first.weights), of_items.best(last.weights)
    weights, known, loss = _most_likely(with_verdicts, without_it, worth, AROUND, spread)
    if first.weights[AROUND].any():
        *with_it, less = _most_likely(with_verdicts, first, worth, spread=spread)
        weights, known = with_it if less < loss - GAIN or not len(with_verdicts.alone) else (weights, known)
    other, known_alone, _ = _most_likely(of_items, last, worth, spread=spread_alone)
    return Fit(np.concatenate([weights, other]), scipy.linalg.block_diag(known, known_alone))


def spread_of(likes: Likes) -> Weights:
    """Return the standard deviation of each feature, float64 ``[n_features]``."""
    moments = [torch.var_mean(features, dim=2, correction=0) for features, _ in likes.blocks()]
    spread, mean_of = (torch.cat(part).double() for part in zip(*moments, strict=True))
    return np.asarray((spread.mean(dim=0) + mean_of.var(dim=0, correction=0)).sqrt())


def _most_likely(
    likes: Likes, before: Fit, worth: float, left_out: Sequence[int] = (), spread: Weights | None = None
) -> tuple[Weights, npt.NDArray[np.float64], float]:
    """Return the weights of the features, their information, and the loss, by Newton's method; all users have likes."""
    n = len(likes.rows)
    known = np.zeros((likes.n_features,) * 2) if before.information is None else before.information
    if not n:
        return before.weights, known, 0.0
    scale = spread_of(likes) if spread is None else spread
    scale = np.where((scale > SMALLEST) & ~np.isin(np.arange(len(scale)), left_out), scale, np.inf)
    share = 1.0 / torch.bincount(likes.user)[likes.user].double()
    liked = (share @ likes.liked().double()).numpy() / scale / n
    middle = before.weights * np.where(np.isfinite(scale), scale, 0.0)
    unknown = np.where(known.diagonal() == 0, 2 * worth / n, 0.0)
    hold = known / np.outer(scale, scale) / n + np.diag(2 * RIDGE + unknown)

    def at(weights: Weights) -> tuple[float, Weights, npt.NDArray[np.float64]]:
        """Return value, gradient and Hessian."""
        value, mean, square = 0.0, np.zeros(len(scale)), np.zeros((len(scale), len(scale)))
        w = torch.from_numpy(weights / scale).float()
        for x, offset in likes.blocks():
            scores = (w @ x) + offset
            value += float(scores.logsumexp(dim=1).double().sum())
            weighted = x * scores.softmax(dim=1)[:, None]
            own = weighted.sum(dim=2)
            mean += own.double().sum(dim=0).numpy()
            square += ((weighted @ x.transpose(1, 2)).double().sum(dim=0) - own.double().T @ own.double()).numpy()
        far = weights - middle
        gradient = mean / scale / n - liked + hold @ far
        hessian = square / np.outer(scale, scale) / n + hold
        return value / n - float(liked @ weights) + 0.5 * float(far @ hold @ far), gradient, hessian

    last: dict[bytes, tuple[float, Weights, npt.NDArray[np.float64]]] = {}

    def part(number: int) -> Callable[[Weights], Any]:
        def part_at(weights: Weights) -> Any:
            if (key := weights.tobytes()) not in last:
                last.clear()
                last[key] = at(weights)
            return last[key][number]

        return part_at

    result = scipy.optimize.minimize(
        part(0), middle, jac=part(1), hess=part(2), method="trust-exact", options={"gtol": 1e-5, "maxiter": 50}
    )
    # what says nothing here keeps its weight, and what is known of it
    speaks = np.isfinite(scale)
    finite = np.where(speaks, scale, 0.0)
    information = np.where(np.outer(speaks, speaks), n * part(2)(result.x) * np.outer(finite, finite), known)
    return np.where(speaks, result.x / scale, before.weights), information, float(result.fun)


def sharpened(likes: Likes, weights: Weights) -> tuple[Weights, int]:
    """Return the weights that make likes most likely among the :data:`BEST` candidates of each user by ``weights``."""
    # and how many factors were tried; the trends of users without a verdict, who all get one list, are only multiplied
    sharp, split, tried = weights.copy(), len(FEATURES), 0
    own = likes.only(~likes.alone)
    best = own.best(weights[:split])
    if len(best.alone) >= ENOUGH:
        left_out = [] if weights[AROUND].any() else AROUND
        spread = spread_of(own)  # of the best some features hardly differ
        sharp[:split], *_ = _most_likely(best, Fit(weights[:split]), 0.0, left_out, spread)
    if int(likes.alone.sum()) >= ENOUGH:
        tried = len(FACTORS)
        sharp[split + 1 :] *= _factor_of_trends(likes.only(likes.alone), weights[split:])
    return sharp, tried


def _factor_of_trends(likes: Likes, weights: Weights) -> float:
    """Return what the weights of trends are multiplied by: by NDCG@20, if its gain is above its standard error."""
    popularity, trends = likes.sums(weights[:1]), likes.sums(np.append(0.0, weights[1 : len(ITEM)]))
    popularity += likes.offset[likes.rows]
    best, chosen = _ndcg(likes, popularity + trends), 1.0
    for factor in FACTORS:
        now = _ndcg(likes, popularity + factor * trends)
        gain = now - best
        if gain.mean() > gain.std() / max(len(gain), 1) ** 0.5:
            best, chosen = now, factor
    return chosen


def _ndcg(likes: Likes, scores: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return the NDCG@20 of each user with a like, ``[n]``."""
    liked = torch.zeros(scores.shape, dtype=torch.bool)
    liked[likes.user, likes.place] = True
    count = liked.sum(dim=1)
    some = count > 0
    best = scores[some].topk(min(20, scores.shape[1]), dim=1).indices
    shown = liked[some].gather(1, best).numpy()
    return np.asarray(ndcg_at(shown, count[some].numpy())[:, -1], dtype=np.float64)

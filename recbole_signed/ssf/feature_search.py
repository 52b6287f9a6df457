"""How the family chooses what it makes of features, on items and users that are made cold by a seeded hold-out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.evaluation import ndcg_at
from recbole_signed.graph import RidgeSums, SignedGraph
from recbole_signed.ssf.features import FeatureSettings, ItemPrediction, item_sums, user_prior, user_sums
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.user_edges import UserEdges, UserPrior
from recbole_signed.ssf.validation import Candidate, Validation

SHARE = 0.2
"""Of the items with features, and of the validation users, that are made cold."""
USERS = 1_000
"""Users that cold items are ranked for, and cold users, at most."""
FEWEST = 20
"""Cold items, or users, that something can be chosen on."""
TELLING = 0.02
"""Part of the variance of held-out factors that features must explain to be used at all."""
DEPTH = 20
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
GAINS = (0.0, 0.5, 1.0, 1.5)
POPULARITIES = (0.0, 0.03, 0.1, 0.3)
USER_RIDGES = (10.0, 100.0, 1000.0, 10000.0)
WEIGHTS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Edges that a prediction counts as; 0 is tried first, and holds unless another is better by a standard error."""
LIFTS = (0.3, 0.6, 1.5, 2.0, 3.0, 5.0)
"""What scores of predicted items are multiplied by among all; 1 holds unless another is better by a standard error.
Those below 1 are for predictions whose scale was chosen among new items, where it is of no account."""


@dataclass(frozen=True)
class FeatureSearchResult:
    """What was chosen."""

    settings: FeatureSettings
    said: str
    """The same in words."""


def tune_features(
    graph: SignedGraph,
    validation: Validation,
    settings: FilterSettings,
    items: sp.csr_matrix | None,
    users: sp.csr_matrix | None,
    start: FeatureSettings,
    iterations: int,
    fixed: Collection[str] = (),
) -> FeatureSearchResult:
    """Choose the settings of predictions; a tie leaves features out of what has edges.

    Items: a fifth of those with features lose their edges, the filter is fitted to the rest, and ridge, gain and
    popularity are those that rank the cold ones best for the users who like some of them. Where features explain next
    to nothing of the factors of these items, nothing is predicted. Users: the validation users are predicted from the
    others. The weights of predictions beside edges are chosen on the validation likes, and so is what the scores of new
    items are multiplied by: where new items are among those likes as they are, else with the items that were made cold.

    Args:
        graph: the training graph.
        validation: users and held-out likes.
        settings: of the filter, chosen before.
        items: features ``[n_items, n_features]``; None for none.
        users: the same of users.
        start: values of what is not tried.
        iterations: of a decomposition.
        fixed: names of settings that stay as they are in ``start``.
    """
    search = _FeatureSearch(graph, validation, settings, start, iterations, frozenset(fixed))
    if items is not None:
        search.items(items)
    if users is not None:
        search.users(users)
    return FeatureSearchResult(search.best, "; ".join(search.said) or "no features are used")


class _FeatureSearch:
    def __init__(
        self,
        graph: SignedGraph,
        validation: Validation,
        settings: FilterSettings,
        start: FeatureSettings,
        iterations: int,
        fixed: frozenset[str],
    ) -> None:
        self.graph, self.validation, self.settings, self.iterations = graph, validation, settings, iterations
        self.best, self.fixed, self.said = start, fixed, list[str]()
        self.fitted: SpectralFilter | None = None

    def _fit(self) -> SpectralFilter:
        if self.fitted is None:
            self.fitted, _ = SpectralFilter.fit(self.graph, self.settings, iterations=self.iterations)
        return self.fitted

    def _try(self, name: str, values: Iterable[float], measure: Callable[[FeatureSettings], float]) -> float:
        """Keep the value of a setting that is measured best; return what it is measured."""
        tried = (getattr(self.best, name),) if name in self.fixed else tuple(values)
        found = {value: measure(_changed(self.best, name, value)) for value in tried}
        chosen = max(found, key=found.__getitem__)
        self.best = _changed(self.best, name, chosen)
        return found[chosen]

    # ---- items

    def items(self, features: sp.csr_matrix) -> None:
        degrees = np.asarray(self.graph.likes.sum(axis=0) + self.graph.dislikes.sum(axis=0)).ravel()
        able = np.flatnonzero((degrees > 0) & (np.diff(features.indptr) > 0))
        cold = np.sort(np.random.default_rng(0).permutation(able)[: int(SHARE * len(able))])
        if len(cold) < FEWEST:
            self.said.append("too few items with features to choose on")
            return
        trial = _ColdItems.of(self.graph, self.settings, features, cold, self.iterations)
        if "predict_items" not in self.fixed:
            told = self._explained(trial)
            if told < TELLING:
                self.best = replace(self.best, predict_items=0)
                self.said.append(f"features of items explain {told:.1%} of the factors of other items: not used")
                return
        measure = trial.ndcg
        self._try("feature_gain", GAINS, measure)
        value = self._try("feature_ridge", RIDGES, measure)
        if trial.n_users:
            self._try("feature_gain", GAINS, measure)
            value = self._try("feature_popularity", POPULARITIES, measure)
        self._lift(features, trial)
        self._weigh("feature_weight", self._item_candidate(features), self.validation, (0.0, *WEIGHTS))
        self.said.append(f"items from features: NDCG@{DEPTH} {value:.4f} among {len(cold)} cold ones")

    def _explained(self, trial: _ColdItems) -> float:
        """Return the part of the variance of cold items' factors that the best ridge explains, and keep that ridge."""
        return self._try("feature_ridge", RIDGES, trial.explained)

    def _item_candidate(self, features: sp.csr_matrix) -> Callable[[FeatureSettings], Candidate]:
        fitted = self._fit()
        learned = item_sums(fitted, features).solve(self.best.feature_ridge)

        def candidate(s: FeatureSettings) -> Candidate:
            made = ItemPrediction.of(fitted, features, learned, s).applied(fitted)
            users = self.validation.users
            return lambda pieces: made.scores(users.rows(pieces.rows))

        return candidate

    def _lift(self, features: sp.csr_matrix, trial: _ColdItems) -> None:
        """Choose how far the scores of predicted items are lifted in the ranking of all."""
        items = self.validation.like_keys % self.graph.n_items
        new = np.diff(features.indptr) > 0
        new &= ~self._fit().known().numpy()
        if new[items].sum() >= FEWEST:
            self._weigh("feature_lift", self._item_candidate(features), self.validation, (1.0, *LIFTS))
        else:
            users = replace(self.validation, users=trial.without(self.validation.users))
            self._weigh("feature_lift", trial.candidate(users), users, (1.0, *LIFTS))

    def _weigh(
        self,
        name: str,
        candidate: Callable[[FeatureSettings], Candidate],
        validation: Validation,
        values: Iterable[float],
    ) -> None:
        """Choose how much a prediction counts: as the first of the values says, unless another is clearly better."""
        if name in self.fixed:
            return
        tried = [_changed(self.best, name, value) for value in values]
        standings = validation.contest([candidate(each) for each in tried])
        leader = max(range(len(tried)), key=lambda each: (standings[each].per_user is not None, standings[each].value))
        none, best = standings[0].per_user, standings[leader].per_user
        assert best is not None
        # none: what came first was given up, as clearly worse, before all users were ranked for
        if none is None or (best - none).mean() > (best - none).std() / len(best) ** 0.5:
            self.best = tried[leader]

    # ---- users

    def users(self, features: sp.csr_matrix) -> None:
        numbers = self.validation.numbers
        assert numbers is not None
        fitted = self._fit()
        able = int((np.diff(features.indptr) > 0).sum())
        rows = np.flatnonzero(np.diff(features.indptr)[numbers] > 0)[: min(USERS, int(SHARE * able))]
        if len(rows) < FEWEST:
            self.said.append("too few users with features to choose on")
            return
        cold = numbers[rows]
        sums = user_sums(fitted, self.graph, features, left_out=cold)
        likes = self.graph.likes[cold]

        def measure(s: FeatureSettings | None) -> npt.NDArray[np.float64]:
            prior = None if s is None else user_prior(features[cold], sums.solve(s.user_feature_ridge), s)
            return _ndcg(fitted.scores(_without_edges(len(cold), prior)), likes)

        if not sums.gram.any():
            return
        value = self._try("user_feature_ridge", USER_RIDGES, lambda s: float(measure(s).mean()))
        difference = measure(self.best) - measure(None)
        if "predict_users" not in self.fixed and difference.mean() <= difference.std() / len(difference) ** 0.5:
            self.best = replace(self.best, predict_users=0)
            self.said.append(f"features of users rank no better than popularity (NDCG@{DEPTH} {value:.4f}): not used")
            return
        learned = sums.solve(self.best.user_feature_ridge)

        def candidate(s: FeatureSettings) -> Candidate:
            def score(pieces: Any) -> torch.Tensor:
                own = numbers[pieces.rows]
                edges = UserEdges.of(self.graph.rows(own), self.settings.dislike_weight)
                return fitted.scores(replace(edges, prior=user_prior(features[own], learned, s)))

            return score

        self._weigh("user_feature_weight", candidate, self.validation, (0.0, *WEIGHTS))
        self.said.append(f"users from features: NDCG@{DEPTH} {value:.4f} for {len(cold)} cold ones")


@dataclass(frozen=True)
class _ColdItems:
    """A filter that was fitted without the edges of some items, and users who like some of them."""

    fitted: SpectralFilter
    features: sp.csr_matrix
    cold: npt.NDArray[np.int64]
    factors: torch.Tensor
    """Of the users, ``[n_users, k]``."""
    likes: sp.csr_matrix
    """``[n_users, len(cold)]``."""
    own: npt.NDArray[np.float32]
    """The cold items' fold-in of their edges, as much as scores see of it, ``[len(cold), k]``."""
    seen: npt.NDArray[np.float32]
    """What factors are multiplied by for that, ``[k]``."""
    sums: RidgeSums

    @classmethod
    def of(
        cls,
        graph: SignedGraph,
        settings: FilterSettings,
        features: sp.csr_matrix,
        cold: npt.NDArray[np.int64],
        iterations: int,
    ) -> _ColdItems:
        rest = _without_items(graph, cold)
        fitted, _ = SpectralFilter.fit(rest, settings, iterations=iterations)
        liked = np.flatnonzero(np.diff(graph.likes.indptr) > np.diff(rest.likes.indptr))
        users = np.sort(np.random.default_rng(0).permutation(liked)[:USERS])
        # what the edges of the cold items make of them, V' = S^-2 R' (R V), times S f(S): as much as scores see of it
        projected = fitted.project(rest).numpy()
        scale = (np.diff(rest.likes.indptr) + np.diff(rest.dislikes.indptr) + settings.degree_smoothing) ** -0.5
        edges = (graph.likes[:, cold] + settings.dislike_weight * graph.dislikes[:, cold]).T
        values = np.maximum(fitted.values[: fitted.k].numpy(), 1e-9)
        seen = fitted.response(torch.tensor([fitted.median_degree]))[0].numpy() * values
        degrees = np.asarray(graph.likes[:, cold].sum(axis=0) + graph.dislikes[:, cold].sum(axis=0)).ravel()
        own = np.asarray(edges @ (projected * scale[:, None])) * (seen / values**2)
        own /= np.sqrt(degrees + settings.degree_smoothing)[:, None]
        return cls(
            fitted,
            features,
            cold,
            fitted.fold_in(rest.rows(users)),
            graph.likes[users][:, cold],
            own.astype(np.float32),
            seen,
            item_sums(fitted, features),
        )

    @property
    def n_users(self) -> int:
        return len(self.factors)

    def explained(self, s: FeatureSettings) -> float:
        """Return the part of the cold items' variance that the prediction explains, the best scale given."""
        predicted = np.asarray(self.features[self.cold] @ self.sums.solve(s.feature_ridge))[:, :-2] * self.seen
        own, predicted = self.own - self.own.mean(axis=0), predicted - predicted.mean(axis=0)
        product, energy = float((own * predicted).sum()), float((predicted**2).sum())
        return max(product, 0.0) ** 2 / max(energy * float((own**2).sum()), 1e-30)

    def predicted(self, s: FeatureSettings) -> SpectralFilter:
        """Return the filter with what features say."""
        learned = self.sums.solve(s.feature_ridge)
        return ItemPrediction.of(self.fitted, self.features, learned, s).applied(self.fitted)

    def without(self, users: SignedGraph) -> SignedGraph:
        """Return users without their edges to the cold items."""
        return _without_items(users, self.cold)

    def candidate(self, validation: Validation) -> Callable[[FeatureSettings], Candidate]:
        """Return how to rank all items, the cold ones among them, for users without edges to those."""

        def of(s: FeatureSettings) -> Candidate:
            made = self.predicted(s)
            return lambda pieces: made.scores(validation.users.rows(pieces.rows))

        return of

    def ndcg(self, s: FeatureSettings) -> float:
        """Return the mean NDCG of the cold items among themselves."""
        made = self.predicted(s)
        items = torch.from_numpy(self.cold)
        exposure = self.factors @ made.vectors[items].T
        scores = made.finished(exposure, items, strangers=made.strangers(self.factors))
        return float(_ndcg(scores, self.likes).mean()) if self.n_users else 0.0


def _changed(settings: FeatureSettings, name: str, value: float) -> FeatureSettings:
    changes: dict[str, Any] = {name: value}
    return replace(settings, **changes)


def _without_items(graph: SignedGraph, items: npt.NDArray[np.int64]) -> SignedGraph:
    """Return the likes and dislikes of a graph but for those of some items."""
    kept = np.ones(graph.n_items, dtype=bool)
    kept[items] = False
    return SignedGraph(_columns(graph.likes, kept), _columns(graph.dislikes, kept))


def _columns(matrix: sp.csr_matrix, kept: npt.NDArray[np.bool_]) -> sp.csr_matrix:
    """Return the matrix with the entries of some columns alone."""
    stays = kept[matrix.indices]
    indptr = np.concatenate([[0], np.cumsum(stays)])[matrix.indptr]
    return sp.csr_matrix((matrix.data[stays], matrix.indices[stays], indptr), shape=matrix.shape)


def _ndcg(scores: torch.Tensor, likes: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Return NDCG of each user's likes in the ranking by scores, ``[n_users]``."""
    top = scores.topk(min(DEPTH, scores.shape[1]), dim=1).indices.numpy()
    rows = np.repeat(np.arange(len(top)), top.shape[1])
    hits = np.asarray(likes[rows, top.ravel()]).reshape(top.shape) > 0
    return ndcg_at(hits, np.diff(likes.indptr))[:, -1]


def _without_edges(n_users: int, prior: UserPrior | None) -> UserEdges:
    none = np.zeros(0, dtype=np.int32)
    return UserEdges(
        np.zeros(n_users + 1, dtype=np.int32), none, none.astype(np.float32), np.zeros(n_users), None, prior
    )

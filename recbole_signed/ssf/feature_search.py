"""How the family chooses what it makes of features, on items and users that are made cold by a seeded hold-out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.evaluation.metrics import ndcg_at
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.least_squares import RidgeSums
from recbole_signed.graph.spectral import inverse_power, user_degrees
from recbole_signed.ssf.features import FeatureSettings, ItemPrediction, drawn_by, item_sums, user_prior, user_sums
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.search import HOPE, candidate
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.shortlist import Candidate, Pieces
from recbole_signed.ssf.user_edges import UserEdges, UserPrior
from recbole_signed.ssf.validation import Validation

SHARE = 0.2
"""Of the items with features, and of the validation users, that are made cold."""
USERS = 1_000
"""Users that cold items are ranked for, and cold users, at most."""
FEWEST = 20
"""Cold items, or users, that something can be chosen on."""
LEAST_EXPLAINED = 0.02
"""Part of the variance of held-out factors that features must explain to be used at all."""
DEPTH = 20
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
GAINS = (0.0, 0.5, 1.0, 1.5)
POPULARITIES = (0.0, 0.03, 0.1, 0.3)
USER_RIDGES = (10.0, 100.0, 1000.0, 10000.0)
WEIGHTS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Edges that a prediction counts as; 0 is tried first, and holds unless another is better by a standard error."""
LIFTS = (0.3, 0.6, 1.5, 2.0, 3.0, 5.0)
"""Factors of predicted items' scores among all; 1 holds unless another is better by a standard error."""
# those below 1 are for predictions whose scale was chosen among new items alone


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
    fitted: SpectralFilter | None = None,
) -> FeatureSearchResult:
    """Choose the settings of predictions, but for ``fixed``; a tie leaves features out of what has edges."""
    # items: a fifth of those with features lose their edges, and ridge, gain and popularity are what ranks these best;
    # users: the validation users are predicted from the others; then weights and lift are chosen on validation likes
    search = _FeatureSearch(graph, validation, settings, start, iterations, frozenset(fixed), fitted)
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
        fitted: SpectralFilter | None,
    ) -> None:
        self.graph, self.validation, self.settings, self.iterations = graph, validation, settings, iterations
        self.best, self.fixed, self.said = start, fixed, list[str]()
        self.fitted = fitted or SpectralFilter.fit(graph, settings, iterations=iterations)[0]

    def _try(
        self, name: str, values: Iterable[float], measure: Callable[[list[FeatureSettings]], Sequence[float]]
    ) -> float:
        """Keep the value of a setting that is measured best; return what it is measured."""
        tried = (getattr(self.best, name),) if name in self.fixed else tuple(values)
        settings = [_changed(self.best, name, value) for value in tried]
        measured, self.best = max(zip(measure(settings), settings, strict=True), key=lambda pair: pair[0])
        return measured

    # ---- items

    def items(self, features: sp.csr_matrix) -> None:
        degrees = np.asarray(self.graph.likes.sum(axis=0) + self.graph.dislikes.sum(axis=0)).ravel()
        able = np.flatnonzero((degrees > 0) & (np.diff(features.indptr) > 0))
        cold = np.sort(drawn_by(self.graph.item_keys, able, int(SHARE * len(able))))
        if len(cold) < FEWEST:
            self.said.append("too few items with features to choose on")
            return
        trial = _ColdItems.without(self.graph, self.fitted, features, cold, self.iterations)
        if "predict_items" not in self.fixed:
            explained = self._explained(trial)
            if explained < LEAST_EXPLAINED:
                self.best = replace(self.best, predict_items=0)
                self.said.append(f"features of items explain {explained:.1%} of the factors of other items: not used")
                return
        value = 0.0
        if trial.validation.n_users:
            self._try("feature_gain", GAINS, trial.ndcg)
            ridge = self.best.feature_ridge
            self._try("feature_ridge", RIDGES, trial.ndcg)
            if self.best.feature_ridge != ridge:
                self._try("feature_gain", GAINS, trial.ndcg)
            value = self._try("feature_popularity", POPULARITIES, trial.ndcg)
        self._lift(features, trial)
        self._weigh(
            "feature_weight", self._predicted(features), self.validation, 0.0, [(weight,) for weight in WEIGHTS]
        )
        self.said.append(f"items from features: NDCG@{DEPTH} {value:.4f} among {len(cold)} cold ones")

    def _explained(self, trial: _ColdItems) -> float:
        """Return the part of the variance of cold items' factors that the best ridge explains, and keep that ridge."""
        return self._try("feature_ridge", RIDGES, lambda tried: [trial.explained(settings) for settings in tried])

    def _predicted(self, features: sp.csr_matrix) -> Callable[[FeatureSettings], SpectralFilter]:
        """Return what makes the filter with what features say."""
        learned = item_sums(self.fitted, features).solve(self.best.feature_ridge)
        return lambda s: ItemPrediction.from_features(self.fitted, features, learned, s).applied(self.fitted)

    def _lift(self, features: sp.csr_matrix, trial: _ColdItems) -> None:
        """Choose how far the scores of predicted items are lifted in the ranking of all."""
        items = self.validation.like_keys % self.graph.n_items
        new = np.diff(features.indptr) > 0
        new &= ~self.fitted.known().numpy()
        if new[items].sum() >= FEWEST:
            predicted, validation = self._predicted(features), self.validation
        else:
            predicted = trial.predicted
            validation = replace(self.validation, users=_without_items(self.validation.users, trial.cold))
        self._weigh("feature_lift", predicted, validation, 1.0, (LIFTS,))

    def _weigh(
        self,
        name: str,
        predicted: Callable[[FeatureSettings], SpectralFilter],
        validation: Validation,
        first: float,
        steps: Iterable[Sequence[float]],
    ) -> None:
        """Choose how much a prediction of items counts, see :meth:`_choose`."""
        projected: torch.Tensor | None = None

        def candidate_with(s: FeatureSettings) -> Candidate:
            nonlocal projected
            made = predicted(s)
            if name != "feature_lift" or projected is None:  # which leaves the factors as they are
                projected = made.project(validation.users)
            return candidate(made, projected, validation)

        self._choose(name, candidate_with, validation, first, steps)

    def _choose(
        self,
        name: str,
        candidate_with: Callable[[FeatureSettings], Candidate],
        validation: Validation,
        first: float,
        steps: Iterable[Sequence[float]],
    ) -> None:
        """Choose a setting: it is ``first`` unless one of ``steps``, tried while there is hope, is clearly better."""
        if name in self.fixed:
            return
        leading = _changed(self.best, name, first)
        none = validation.values([candidate_with(leading)])[0]
        best = none
        for values in steps:
            tried = [_changed(self.best, name, value) for value in values]
            standings = validation.contest([candidate_with(settings) for settings in tried], best)
            for settings, standing in zip(tried, standings, strict=True):
                if standing.per_user is not None and standing.value > best.mean():
                    leading, best = settings, standing.per_user
            if max(standing.value for standing in standings) < HOPE * best.mean():
                break
        if (best - none).mean() > (best - none).std() / len(best) ** 0.5:
            self.best = leading

    # ---- users

    def users(self, features: sp.csr_matrix) -> None:
        numbers = self.validation.numbers
        assert numbers is not None
        fitted = self.fitted
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
        value = self._try("user_feature_ridge", USER_RIDGES, lambda tried: [measure(s).mean() for s in tried])
        difference = measure(self.best) - measure(None)
        if "predict_users" not in self.fixed and difference.mean() <= difference.std() / len(difference) ** 0.5:
            self.best = replace(self.best, predict_users=0)
            self.said.append(f"features of users rank no better than popularity (NDCG@{DEPTH} {value:.4f}): not used")
            return
        learned = sums.solve(self.best.user_feature_ridge)

        def candidate_with(s: FeatureSettings) -> Candidate:
            def score(pieces: Any) -> torch.Tensor:
                own = numbers[pieces.rows]
                edges = UserEdges.from_graph(self.graph.rows(own), self.settings.dislike_weight)
                return fitted.scores(replace(edges, prior=user_prior(features[own], learned, s)))

            return score

        self._choose("user_feature_weight", candidate_with, self.validation, 0.0, [(weight,) for weight in WEIGHTS])
        self.said.append(f"users from features: NDCG@{DEPTH} {value:.4f} for {len(cold)} cold ones")


@dataclass(frozen=True)
class _ColdItems:
    """A filter that was fitted without the edges of some items, and users who like some of them."""

    fitted: SpectralFilter
    features: sp.csr_matrix
    cold: npt.NDArray[np.int64]
    factors: torch.Tensor
    """Of the users, ``[n_users, k]``."""
    validation: Validation
    """The users and their likes, of items by their place in ``cold``."""
    own: npt.NDArray[np.float32]
    """The cold items' fold-in of their edges, as much as scores see of it, ``[len(cold), k]``."""
    seen: npt.NDArray[np.float32]
    """What factors are multiplied by for that, ``[k]``."""
    sums: RidgeSums

    @classmethod
    def without(
        cls,
        graph: SignedGraph,
        whole: SpectralFilter,
        features: sp.csr_matrix,
        cold: npt.NDArray[np.int64],
        iterations: int,
    ) -> _ColdItems:
        """Fit to a graph without its edges to the items ``cold``, from the filter of the whole graph."""
        rest, settings = _without_items(graph, cold), whole.settings
        fitted, _ = SpectralFilter.fit(rest, settings, iterations=max(1, iterations // 2), start=whole.vectors)
        liked = np.flatnonzero(np.diff(graph.likes.indptr) > np.diff(rest.likes.indptr))
        users = drawn_by(graph.user_keys, liked, USERS)
        likes = graph.likes[users][:, cold].sorted_indices()
        none = sp.csr_matrix(likes.shape, dtype=np.float32)
        nobody = torch.zeros(0, dtype=torch.int64)
        validation = Validation(
            users=SignedGraph(none, none),
            like_keys=np.repeat(np.arange(len(users)), np.diff(likes.indptr)) * len(cold) + likes.indices,
            like_count=np.diff(likes.indptr),
            hidden=(nobody, nobody),
            metric=f"NDCG@{DEPTH}",
        )
        # what the edges of the cold items make of them, V' = S^-2 R' (R V), times S f(S): as much as scores see of it
        projected = fitted.project(rest).numpy()
        smoothing, exponent, weight = settings.degree_smoothing, settings.degree_exponent, settings.dislike_weight
        scale = inverse_power(user_degrees(rest, weight), smoothing, exponent)
        edges = (graph.likes[:, cold] + weight * graph.dislikes[:, cold]).T
        values = np.maximum(fitted.values[: fitted.k].numpy(), 1e-9)
        seen = fitted.response(torch.tensor([fitted.median_degree]))[0].numpy() * values
        own = np.asarray(edges @ (projected * scale[:, None])) * (seen / values**2)
        degrees = np.asarray(graph.likes[:, cold].sum(axis=0) + abs(weight) * graph.dislikes[:, cold].sum(axis=0))
        own *= inverse_power(degrees.ravel(), smoothing, exponent)[:, None]
        return cls(
            fitted,
            features,
            cold,
            fitted.fold_in(rest.rows(users)),
            validation,
            own.astype(np.float32),
            seen,
            item_sums(fitted, features),
        )

    def explained(self, s: FeatureSettings) -> float:
        """Return the part of the cold items' variance that the prediction explains, the best scale given."""
        predicted = np.asarray(self.features[self.cold] @ self.sums.solve(s.feature_ridge))[:, :-2] * self.seen
        own, predicted = self.own - self.own.mean(axis=0), predicted - predicted.mean(axis=0)
        product, energy = float((own * predicted).sum()), float((predicted**2).sum())
        return max(product, 0.0) ** 2 / max(energy * float((own**2).sum()), 1e-30)

    def predicted(self, s: FeatureSettings) -> SpectralFilter:
        """Return the filter with what features say."""
        learned = self.sums.solve(s.feature_ridge)
        return ItemPrediction.from_features(self.fitted, self.features, learned, s).applied(self.fitted)

    def ndcg(self, tried: list[FeatureSettings]) -> list[float]:
        """Return the mean NDCG of the cold items among themselves, with each of some settings."""
        return [standing.value for standing in self.validation.contest([self._candidate(s) for s in tried])]

    def _candidate(self, s: FeatureSettings) -> Candidate:
        made, items = self.predicted(s), torch.from_numpy(self.cold)
        vectors, strangers = made.vectors[items].T, made.strangers(self.factors)

        def score(pieces: Pieces) -> torch.Tensor:
            rows = pieces.rows
            return made.finished(
                self.factors[rows] @ vectors, items, strangers=None if strangers is None else strangers[rows]
            )

        return score


def _changed(settings: FeatureSettings, name: str, value: float) -> FeatureSettings:
    changes: dict[str, Any] = {name: value}
    return replace(settings, **changes)


def _without_items(graph: SignedGraph, items: npt.NDArray[np.int64]) -> SignedGraph:
    """Return the likes and dislikes of a graph but for those of some items."""
    kept = np.ones(graph.n_items, dtype=bool)
    kept[items] = False
    return replace(graph, likes=_columns(graph.likes, kept), dislikes=_columns(graph.dislikes, kept), neutrals=None)


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

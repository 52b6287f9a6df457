"""SSF under a stream.

T0: degrees and like rates are those of the edges, always. T1: a user is the fold-in of its own edges, exact given the
item side; an item that has grown by a quarter since the last refresh is folded in from its users,
:math:`v_i = S^{-2} V_0^T R^T r_i`, with :math:`V_0` and degrees of that refresh (``growing_items.py``). T2: a step of
warm-started subspace iteration. T3: the full fit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.arrays import grown
from recbole_signed.atomic.feature_space import Features
from recbole_signed.errors import UsageError, ending
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import inverse_power, refreshed_factors
from recbole_signed.live import LIKE
from recbole_signed.live.events import AnnouncedFeatures
from recbole_signed.live.learners.base import (
    IntArray,
    Learner,
    Neighbours,
    Refreshed,
    csr,
    graph_of,
    rows_of,
    user_rows,
)
from recbole_signed.live.learners.growing_items import GrowingItems
from recbole_signed.live.learners.ssf.live_features import LiveFeatures
from recbole_signed.live.learners.ssf.live_items import LiveCounters, TopItems
from recbole_signed.live.store.edge_views import Rows
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState
from recbole_signed.plugin.ranges import without_removed
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.features import FeatureSettings
from recbole_signed.ssf.filter import Exposure, SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.settings import FilterSettings, number_of
from recbole_signed.ssf.user_edges import UserEdges


class SpectralLearner(Learner):
    """A :class:`SpectralFilter` whose counters, users and growing items follow the edges."""

    name = "SSF"

    def __init__(self, settings: FilterSettings, iterations: int = 20, passes: int = 1) -> None:
        if iterations < 1 or passes < 1:
            raise UsageError(f"iterations is {iterations}, passes {passes}; both must be 1 or more.")
        self.settings = settings
        self.iterations = iterations
        self.passes = passes
        self.counters = LiveCounters()
        self.feature_settings = FeatureSettings()
        self.features: LiveFeatures | None = None
        none = torch.zeros(1, 0)
        self._take(
            SpectralFilter(none, none[0], ItemCounters.from_counts(*torch.zeros(2, 1)), 0.0, 1.0, settings), none
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SpectralLearner:
        """Return a copy that shares what is never written to."""
        memo.update({id(shared): shared for shared in (self.block, self.fitted, self.settings)})
        made = type(self).__new__(type(self))
        for name, value in vars(self).items():
            setattr(made, name, None if name == "_filter" else copy.deepcopy(value, memo))
        return made

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> SpectralLearner:
        """Make a learner by names of SSF's yaml, ``iterations`` and ``passes``; UsageError for a wrong one."""
        return cls._of(settings)

    @classmethod
    def _of(cls, settings: Mapping[str, Any], **more: Any) -> Any:
        own, rest = FilterSettings.split(settings)
        of_features, rest = FeatureSettings.split(rest)
        passes = {name: number_of(name, int, rest.pop(name)) for name in ("iterations", "passes") if name in rest}
        for name in without_removed(rest, cls.name):
            known = [*asdict(own), "iterations", "passes"]
            raise UsageError(f"SSF has no parameter '{name}' under a stream{ending(name, known)}")
        made = cls(own, **passes, **more)
        made.feature_settings = of_features
        return made

    def take_features(self, items: Features | None, users: Features | None) -> None:
        """Take the features of the data set that a state begins with, by its ids, for the next fit."""
        self.features = LiveFeatures(items, users, self.feature_settings)

    def take_features_of(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any], forgotten: IntArray) -> None:
        """Take the features that :meth:`state` gave, less those of forgotten users, for the next fit."""
        self.features = None
        if "feature_settings" in meta:
            self.feature_settings = FeatureSettings(**meta["feature_settings"])
            self.features = LiveFeatures.load(tensors, meta, self.feature_settings)
            self.features.forget(forgotten)

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Fit to all edges from a random start."""
        self._fit(graph_of(edges, n_users, n_items))

    def _fit(self, graph: SignedGraph) -> None:
        fitted, block = SpectralFilter.fit(graph, self.settings, iterations=self.iterations)
        self._take(fitted, block, graph)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Take ``passes`` steps of subspace iteration; fit, with staleness 1, where there is room for more vectors."""
        return self._refresh(graph_of(edges, n_users, n_items))

    def _refresh(self, graph: SignedGraph) -> Refreshed:
        exposure = Exposure.from_graph(graph, self.settings)
        start = torch.zeros(graph.n_items, self.block.shape[1])
        start[: len(self.block)] = self.block
        moved = self.items.moved
        start[moved, : self.items.vectors.shape[1]] = torch.from_numpy(self.items.vectors[moved])
        if start.shape[1] < min(self.settings.rank, *exposure.matrix.shape):  # the last graph had no room for more
            self._take(*SpectralFilter.fit(graph, self.settings, iterations=self.iterations, start=start), graph)
            return Refreshed(1.0, self.iterations + 1)
        factors, staleness = refreshed_factors(exposure.matrix, self.settings.rank, start, self.passes)
        self._take(exposure.filter(factors, self.settings), factors.block, graph)
        return Refreshed(staleness, self.passes + 1)

    def _take(self, fitted: SpectralFilter, block: torch.Tensor, graph: SignedGraph | None = None) -> None:
        self.fitted, self.block = fitted, block
        self.counters.start(fitted.counters.likes.numpy(), fitted.counters.dislikes.numpy())
        degree = self.counters.now.degrees(self.settings).numpy()
        self.items = GrowingItems(fitted.vectors.numpy(), degree, self.settings.dislike_weight)
        if self.features is not None and graph is not None:
            self.features.learn(fitted, graph)
        self._near = Neighbours(self.items.base, fitted.values.numpy())
        self._predict()

    def _predict(self) -> None:
        """Work out again what features say of all items."""
        self.shown: np.ndarray | None = None
        if self.features is not None and self.features.tells_of_items:
            self.counters.expect(self.features.expected(self.items.n_items))
            self.shown = self.items.table.copy()
            self._blend(np.arange(self.items.n_items))
        self.best = TopItems(self.items.table if self.shown is None else self.shown)
        self._filter: Any = None

    def _blend(self, items: IntArray) -> None:
        """Put what is shown of items in the place of what their edges alone make of them."""
        assert self.features is not None
        assert self.shown is not None
        self.shown = grown(self.shown, len(self.items.table))
        share = self.counters.now.share(torch.from_numpy(items)).numpy()
        self.shown[items] = self.features.blended(self.items.vectors[items], items, share)

    def keep_without_forgotten(self, of: Any) -> bool:
        """Take over what another learner of the state has left of users, who may have been forgotten meanwhile."""
        return self.features is None or self.features.take_users(getattr(of, "features", None))

    def forget(self, users: IntArray) -> None:
        """Drop the features of users by their ids; what was learned from them goes with the next fit."""
        if self.features is not None:
            self.features.forget(users)

    def announce(self, announced: AnnouncedFeatures) -> None:
        """Take features by side and id, in place of earlier ones; the ids may have no edge yet."""
        if self.features is None:
            return
        self.features.announce("user", announced.get("user", {}))  # they count when the user is ranked for
        items = announced.get("item", {})
        if len(self.features.announce("item", items)):
            self.items.grow(max(items) + 1)
            self.counters.grow(self.items.n_items)
            self._predict()

    def unfit(self, side: str, features: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Return which features of items or users can't be announced, by their place, and why."""
        return {} if self.features is None else self.features.unfit(side, features)

    def columns(self) -> dict[str, dict[str, str]]:
        """Return how each column of features is read, by side."""
        return {} if self.features is None else self.features.columns

    def knows(self, user: int) -> bool:
        """Return whether features say something of a user."""
        return self.features is not None and self.features.knows(user)

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and fold in what has grown."""
        self.forget(changes.forgotten.astype(np.int64))
        self.counters.update(edges, changes.items)
        moved = self.items.update(edges, changes.users, changes.items, self)
        self._moved(moved if self.shown is None else np.union1d(moved, changes.items))

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and fold in what has grown since the refresh."""
        self.counters.start(edges.item_likes, edges.item_dislikes)
        moved = self.items.attach(edges, self)
        if self.features is None:
            self._moved(moved)
        else:
            self._predict()

    def _moved(self, items: np.ndarray) -> None:
        if self.shown is not None:
            self._blend(items.astype(np.int64))
        self.best.update(self.items.table if self.shown is None else self.shown, items)
        self._filter = None

    def make_users(self, rows: Rows) -> np.ndarray:
        r"""Return :math:`D_u^{-e} R_u V_0`, with the degrees that the last refresh knew of items."""
        old = rows.ids < len(self.items.degree)  # the others have no vector in V_0
        known = rows.where(old)
        users, base = self._edges(rows), self.items.base
        data = users.weights[old] * np.repeat(self._scale(users.degrees) ** 2, np.diff(known.indptr))
        data *= self._scale(self.items.degree[known.ids])
        return np.asarray(csr(data.astype(np.float32), known.ids, known.indptr, len(base)) @ base)

    def make_items(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
        r"""Return :math:`S^{-2} V_0^T R^T r_i` of items."""
        w = self.settings.dislike_weight
        degree = np.diff(likes.indptr) + abs(w) * np.diff(dislikes.indptr)
        total = (likes @ users + w * (dislikes @ users)).astype(np.float64) * self._scale(degree)[:, None]
        values = self.fitted.values.double().numpy()
        energy = np.where(values > 0, values**2, np.inf)
        return (total / energy).astype(np.float32)

    # ---- scores

    def _scale(self, degrees: np.ndarray) -> np.ndarray:
        return inverse_power(degrees, self.settings.degree_smoothing, self.settings.degree_exponent)

    def _edges(self, rows: Rows) -> UserEdges:
        """Read the edges of users as the filter does."""
        w = self.settings.dislike_weight
        like = rows.kind == LIKE
        size = np.append(0.0, np.cumsum(np.where(like, 1.0, abs(w))))
        return UserEdges(rows.indptr, rows.ids, np.where(like, 1.0, w), np.diff(size[rows.indptr]))

    @property
    def filter(self) -> Any:
        """The filter in force, which shares this learner's arrays; it holds until the next update."""
        if self._filter is None:
            self._filter = self._made_filter()
        return self._filter

    @property
    def taste(self) -> SpectralFilter:
        """The filter that gives the exposure scores."""
        made: SpectralFilter = self.filter
        return made

    def _made_filter(self) -> Any:
        vectors = self.items.vectors if self.shown is None else self.shown[: self.items.n_items]
        return self.fitted.following(torch.from_numpy(vectors), self.counters.now)

    def with_aversion(self, value: float) -> SpectralLearner:
        """Return a learner for rankings alone that shares everything with this one but ``dislike_aversion``."""
        other = copy.copy(self)
        other.settings = replace(self.settings, dislike_aversion=value)
        other.fitted, other._filter = self.fitted.changed(dislike_aversion=value), None
        return other

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        return self.filter.scores(self._users(edges, users))

    def _users(self, edges: EdgeState, users: IntArray) -> UserEdges:
        """Return users with the edges they have now."""
        return self._with_prior(self._edges(user_rows(edges, users)), users)

    def _with_prior(self, own: UserEdges, users: IntArray) -> UserEdges:
        prior = None if self.features is None else self.features.prior(np.asarray(users, dtype=np.int64))
        return own if prior is None else replace(own, prior=prior)

    def explain(self, edges: EdgeState, user: int, items: IntArray) -> list[Explanation]:
        """Return what each of a user's edges, and its features and the items', add to the filter's scores."""
        own = rows_of(edges, np.array([user]), edges.n_items)
        users = self._users(edges, np.array([user]))
        explanations: list[Explanation] = self.filter.explain(own, items, users)
        if self.features is None:
            return explanations
        return self.features.explained(explanations, self.taste, users, user, items)

    def top(self, edges: EdgeState, user: int, k: int, hidden: IntArray) -> tuple[IntArray, np.ndarray] | None:
        """Return the ``k`` best items that are not hidden and their scores, best first; None where it is no faster."""
        if not self.best.worth_it(self.items.n_items, k):
            return None
        factors = self.filter.fold_in(self._users(edges, np.array([user])))[0]
        return self.best.best(self.filter, factors, k, hidden, self.counters.ceiling(self.settings))

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        return self.filter.pair_scores(self._users(edges, users), torch.from_numpy(items)).numpy()

    def without_taste(self, items: IntArray) -> np.ndarray:
        """Return where the scores of items tell nothing of a user's taste, ``[n]``."""
        return self.filter.without_taste(torch.from_numpy(items)).numpy()

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        of_features = {} if self.features is None else asdict(self.feature_settings)
        own = {name: value for name, value in asdict(self.settings).items() if name != "dislike_strength"}
        return {**own, **of_features, "iterations": self.iterations, "passes": self.passes}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters and fold-ins, which are those of the edges."""
        fitted = self.fitted
        tensors = {
            "base": self.items.base,
            "values": fitted.values.numpy(),
            "block": self.block.numpy(),
            "fitted_degree": self.items.degree,
        }
        own: dict[str, Any] = {}
        if self.features is not None:
            of_features, own = self.features.state()
            tensors |= of_features
            own["feature_settings"] = asdict(self.feature_settings)
        return tensors, own | {
            "settings": asdict(self.settings),
            "iterations": self.iterations,
            "passes": self.passes,
            "n_users": fitted.n_users,
            "median_degree": fitted.median_degree,
        }

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings counters and fold-ins."""
        self.settings = FilterSettings(**without_removed(dict(meta["settings"])))
        self.iterations, self.passes = int(meta["iterations"]), int(meta["passes"])
        # shared with what was read, since nothing writes to them: they are most of the memory of a model
        base, values, block = (torch.from_numpy(tensors[name]) for name in ("base", "values", "block"))
        counters = ItemCounters.from_counts(*torch.zeros(2, len(base)))
        sizes = float(meta["n_users"]), float(meta["median_degree"])
        self.take_features_of(tensors, meta, np.zeros(0, dtype=np.int64))
        self._take(SpectralFilter(base, values, counters, *sizes, self.settings), block)
        self.items.degree = np.array(tensors["fitted_degree"], dtype=np.float32)

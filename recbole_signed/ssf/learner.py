r"""SSF under a stream.

T0: degrees and like rates are those of the edges, always. T1: a user is the fold-in of its own edges, so its new
ranking is exact given the item side; an item that has grown by a quarter since the last refresh is folded in from
its users, :math:`v_i = S^{-2} V_0^T R^T r_i` with the item side :math:`V_0` and, for the items of those users, the
degrees of that refresh (``fold_in.py``). T2: a step of warm-started subspace iteration over all edges. T3: the full
fit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.errors import UsageError, nearest
from recbole_signed.graph import SignedGraph, inverse_power, refreshed_factors
from recbole_signed.online import LIKE
from recbole_signed.online.learners import (
    GrowingItems,
    IntArray,
    LearnerDefaults,
    Neighbours,
    Refreshed,
    csr,
    graph_of,
    user_rows,
)
from recbole_signed.online.store import EdgeState, Rows
from recbole_signed.online.store.edges import Changes, EdgeArrays
from recbole_signed.ssf.filter import Exposure, FilterSettings, SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.top_items import FIRST, SMALL, TopItems, candidates


class SpectralLearner(LearnerDefaults):
    """A :class:`SpectralFilter` whose counters, users and growing items follow the edges.

    Args:
        settings: parameters of the filter; they stay as they are.
        iterations: subspace iterations of a full fit.
        passes: those of a refresh.
    """

    name = "SSF"

    def __init__(self, settings: FilterSettings, iterations: int = 4, passes: int = 1) -> None:
        self.settings = settings
        self.iterations = iterations
        self.passes = passes
        self.block = torch.zeros(1, 0)
        self.values = np.zeros(0, dtype=np.float32)
        self.items = GrowingItems(np.zeros((1, 0), dtype=np.float32), np.zeros(1), settings.dislike_weight)
        self.counters = ItemCounters()
        self.best, self._near = TopItems(self.items.table), Neighbours(self.items.base)
        self.n_users = 0.0
        self.median_degree = 1.0
        self._energy: float | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SpectralLearner:
        """Return a copy that shares what is never written to."""
        memo.update({id(each): each for each in (self.block, self.values, self.settings)})
        made = type(self).__new__(type(self))
        for name, value in vars(self).items():
            setattr(made, name, copy.deepcopy(value, memo))
        return made

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> SpectralLearner:
        """Make a learner of parameters by the names in SSF's yaml, and ``iterations`` and ``passes``.

        Raises:
            UsageError: there is no such parameter, or a value is out of its range.
        """
        known: dict[str, Any] = {each.name: type(each.default) for each in fields(FilterSettings)}
        own = {key: int(settings[key]) for key in ("iterations", "passes") if key in settings}
        for key in settings:
            if key not in known and key not in own:
                raise UsageError(f"SSF has no parameter '{key}' under a stream{nearest(key, [*known, *own])}")
        return cls(FilterSettings(**{key: known[key](settings[key]) for key in settings if key in known}), **own)

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Fit to all edges from a random start."""
        self._fit(graph_of(edges, n_users, n_items))

    def _fit(self, graph: SignedGraph) -> None:
        fitted, block = SpectralFilter.fit(graph, self.settings, iterations=self.iterations)
        self._take(fitted, block)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Take ``passes`` steps of subspace iteration over all edges, from the vectors as they are."""
        return self._refresh(graph_of(edges, n_users, n_items))

    def _refresh(self, graph: SignedGraph) -> Refreshed:
        exposure = Exposure.of(graph, self.settings)
        start = torch.zeros(graph.n_items, self.block.shape[1])
        start[: len(self.block)] = self.block
        moved = self.items.moved
        start[moved, : self.items.vectors.shape[1]] = torch.from_numpy(self.items.vectors[moved])
        found, staleness = refreshed_factors(exposure.matrix, self.settings.rank, start, self.passes)
        self._take(exposure.filter(found, self.settings), found.block)
        return Refreshed(staleness, self.passes + 1)

    def _take(self, fitted: SpectralFilter, block: torch.Tensor) -> None:
        likes, dislikes = (each.double().numpy() for each in (fitted.likes, fitted.dislikes))
        self.counters.start(likes, dislikes)
        degree = likes + abs(self.settings.dislike_weight) * dislikes
        self.block, self.values = block, fitted.values.numpy()
        self.items = GrowingItems(fitted.vectors.numpy(), degree, self.settings.dislike_weight)
        self.best, self._near = TopItems(self.items.table), Neighbours(self.items.base, self.values)
        self.n_users, self.median_degree, self._energy = fitted.n_users, fitted.median_degree, None

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and fold in what has grown."""
        self.counters.update(edges, changes.items)
        written = self.items.update(edges, changes.users, changes.items, self)
        self.best.update(self.items.table, written)

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and fold in what has grown since the refresh."""
        self.counters.start(edges.item_likes, edges.item_dislikes)
        written = self.items.attach(edges, self)
        self.best.update(self.items.table, written)

    def make_users(self, rows: Rows) -> np.ndarray:
        r"""Return :math:`D_u^{-e} R_u V_0`, with the degrees that the last refresh knew of items."""
        old = rows.ids < len(self.items.degree)  # the others have no vector in V_0
        known = Rows.where(old, rows.indptr, rows.ids, rows.kind)
        weights, scale, _ = self._weights(rows)
        data = weights[old] * (scale**2)[_places(known)] * self._scale(self.items.degree[known.ids])
        base = self.items.base
        return np.asarray(csr(data.astype(np.float32), known.ids, known.indptr, len(base)) @ base)

    def make_items(self, likes: sp.csr_matrix, dislikes: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
        r"""Return :math:`S^{-2} V_0^T R^T r_i` of items."""
        w = self.settings.dislike_weight
        degree = np.diff(likes.indptr) + abs(w) * np.diff(dislikes.indptr)
        total = (likes @ users + w * (dislikes @ users)).astype(np.float64) * self._scale(degree)[:, None]
        energy = np.where(self.values > 0, self.values.astype(np.float64) ** 2, np.inf)
        return (total / energy).astype(np.float32)

    # ---- scores

    def _scale(self, degrees: np.ndarray) -> np.ndarray:
        return inverse_power(degrees, self.settings.degree_smoothing, self.settings.degree_exponent)

    def _weights(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the weight of each edge, and the scale and the degree of each user."""
        w = self.settings.dislike_weight
        like = rows.kind == LIKE
        size = np.zeros(len(like) + 1)
        np.cumsum(np.where(like, 1.0, abs(w)), out=size[1:])
        degrees = np.diff(size[rows.indptr])
        return np.where(like, 1.0, w), self._scale(degrees), degrees

    @property
    def filter(self) -> SpectralFilter:
        """The filter in force, which shares this learner's arrays."""
        return SpectralFilter(
            vectors=torch.from_numpy(self.items.vectors),
            values=torch.from_numpy(self.values),
            likes=torch.from_numpy(self.counters.likes),
            dislikes=torch.from_numpy(self.counters.dislikes),
            n_users=self.n_users,
            median_degree=self.median_degree,
            settings=self.settings,
        )

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``.

        Those of :meth:`SpectralFilter.scores`, with all that depends on items alone kept by the counters.
        """
        counters = self.counters
        scores = self._exposure(edges, users)
        factor = counters.factor(self.settings)
        if factor is not None:
            scores *= factor
        if len(counters.unknown):
            scores[:, counters.unknown] = scores.amin(dim=1, keepdim=True) - 1.0
        return scores

    def _exposure(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores before the factors of items, popularity's share with them, ``[len(users), n_items]``."""
        popularity = torch.from_numpy(self.counters.popularity)
        vectors = torch.from_numpy(self.items.vectors)
        return torch.addmm(popularity, self._factors(edges, users), vectors.T, beta=self._popularity_scale())

    def top(self, edges: EdgeState, user: int, k: int, hidden: IntArray) -> tuple[IntArray, np.ndarray] | None:
        """Return the ``k`` items with the best scores, best first, and the scores, without working all scores out.

        Args:
            edges: as they are now.
            user: whom to rank for.
            k: how many.
            hidden: items that are left out.

        Returns:
            None where there are too few items for that to be faster, or where it can't be told so.
        """
        counters, n_items = self.counters, self.items.n_items
        if n_items < SMALL or k > FIRST // 2:
            return None
        factors = self._factors(edges, np.array([user]))[0].numpy()
        scale = np.float32(self._popularity_scale())
        bounds = self.best.bounds(factors, n_items)
        bounds += scale * counters.popularity
        ceiling = counters.ceiling(self.settings)
        if ceiling is not None:
            np.maximum(bounds, 0.0, out=bounds)
            bounds *= ceiling
        bounds[counters.unknown.numpy()] = -np.inf
        bounds[hidden] = -np.inf

        def exact(items: IntArray) -> np.ndarray:
            found = self.items.vectors[items] @ factors + scale * counters.popularity[items]
            factor = counters.factor(self.settings, items)
            return np.asarray(found if factor is None else found * factor.numpy())

        first = np.argpartition(bounds, n_items - FIRST)[n_items - FIRST :]
        first = first[np.isfinite(bounds[first])]
        if len(first) < k:
            return None
        left = candidates(bounds, float(np.partition(exact(first), len(first) - k)[len(first) - k]))
        if left is None:
            return None
        values = exact(left)
        best = np.argpartition(values, len(values) - k)[len(values) - k :]
        best = best[np.argsort(-values[best], kind="stable")]
        return left[best], values[best]

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        found = self._pair_exposure(edges, users, items)
        factor = self.counters.factor(self.settings, items.ravel())
        return found if factor is None else found * factor.numpy().reshape(items.shape)

    def _pair_exposure(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return :meth:`_exposure` of some items for each user, ``[len(users), m]``."""
        found: np.ndarray = np.einsum("nk,nmk->nm", self._factors(edges, users).numpy(), self.items.vectors[items])
        found += np.float32(self._popularity_scale()) * self.counters.popularity[items]
        return found

    def neighbours(self, items: IntArray) -> tuple[IntArray, np.ndarray]:
        """Return the nearest neighbours of items as they were at the last refresh."""
        return self._near.of(items)

    def _factors(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the users' factors after the response, float32 ``[len(users), k]``."""
        rows = user_rows(edges, users)
        weights, scale, degrees = self._weights(rows)
        item_degrees = self.counters.degrees(rows.ids, self.settings.dislike_weight)
        data = weights * scale[_places(rows)] * self._scale(item_degrees)
        values, vectors = data.astype(np.float32), self.items.vectors
        if len(users) == 1:
            projected = (values @ vectors[rows.ids])[None]
        else:
            projected = np.asarray(csr(values, rows.ids, rows.indptr, len(vectors)) @ vectors)
        return torch.from_numpy(projected) * self.filter.response(torch.from_numpy(degrees).float())

    def _popularity_scale(self) -> float:
        """Return what log popularity is multiplied by, see :meth:`SpectralFilter.prior`."""
        largest = max(float(self.counters.popularity.max()), 1e-9)
        k = len(self.values)
        if not k or not self.n_users or not self.counters.n_known:
            return self.settings.popularity_floor / largest
        if self._energy is None:
            band = self.filter.response(torch.tensor([self.median_degree]))[0].double().numpy() * self.values
            self._energy = float((band**2).sum())
        typical = np.sqrt(self._energy / self.n_users * k / self.counters.n_known)
        return float(self.settings.popularity_floor * typical / largest)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {**asdict(self.settings), "iterations": self.iterations, "passes": self.passes}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters and fold-ins, which are those of the edges."""
        tensors = {
            "base": self.items.base,
            "values": self.values,
            "block": self.block.numpy(),
            "fitted_degree": self.items.degree,
        }
        return tensors, {
            "settings": asdict(self.settings),
            "iterations": self.iterations,
            "passes": self.passes,
            "n_users": self.n_users,
            "median_degree": self.median_degree,
        }

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings counters and fold-ins."""
        self.settings = FilterSettings(**meta["settings"])
        self.iterations, self.passes = int(meta["iterations"]), int(meta["passes"])
        base, degree, self.values, block = (
            np.array(tensors[name]) for name in ("base", "fitted_degree", "values", "block")
        )
        self.block = torch.from_numpy(block)
        self.items = GrowingItems(base, degree, self.settings.dislike_weight)
        self.best, self._near = TopItems(self.items.table), Neighbours(self.items.base, self.values)
        self.n_users, self.median_degree, self._energy = float(meta["n_users"]), float(meta["median_degree"]), None


def _places(rows: Rows) -> np.ndarray:
    """Return the row of each edge."""
    return np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))

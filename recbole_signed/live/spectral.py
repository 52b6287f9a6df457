r"""SSF under a stream.

T0: degrees and like rates are those of the edges, always. T1: a user is the fold-in of its own edges, so its new
ranking is exact given the item side; an item that has grown by a quarter since the last refresh is folded in from
its users, :math:`v_i = S^{-2} V_0^T R^T r_i` with the item side :math:`V_0` of that refresh. T2: a step of
warm-started subspace iteration over all edges. T3: the full fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from recbole_signed.errors import UsageError, nearest
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import exposure_rows, inverse_power
from recbole_signed.graph.spectral_filter import FilterSettings, SpectralFilter
from recbole_signed.graph.warm_start import refreshed_factors
from recbole_signed.live.learner import IntArray, Refreshed, graph_of, grown, rows_of
from recbole_signed.online.edges import Changes, EdgeArrays, EdgeState

GROWTH = 1.25
"""An item is folded in again once its degree is this many times what the last refresh knew of it."""
MAX_USERS = 200
"""An item with more users than these waits for the refresh: a fold-in reads the edges of all of them."""


class SpectralLearner:
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
        self.base = np.zeros((1, 0), dtype=np.float32)  # V of the last refresh
        self.vectors = np.zeros((1, 0), dtype=np.float32)  # the same, with the fold-ins since
        self.fitted_degree = np.zeros(1, dtype=np.float32)
        self.likes = np.zeros(1, dtype=np.float32)
        self.dislikes = np.zeros(1, dtype=np.float32)
        self.n_items = 1
        self.n_users = 0.0
        self.median_degree = 1.0
        self.moved: set[int] = set()

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
        fitted, block = SpectralFilter.fit(graph_of(edges, n_users, n_items), self.settings, iterations=self.iterations)
        self._take(fitted.vectors, fitted.values, block, fitted)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Take ``passes`` steps of subspace iteration over all edges, from the vectors as they are."""
        graph = graph_of(edges, n_users, n_items)
        s = self.settings
        likes, dislikes = (np.bincount(each.indices, minlength=n_items) for each in (graph.likes, graph.dislikes))
        scale = inverse_power(likes + abs(s.dislike_weight) * dislikes, s.degree_smoothing, s.degree_exponent)
        matrix = exposure_rows(graph, scale, s.dislike_weight, s.degree_smoothing, s.degree_exponent)
        start = torch.zeros(n_items, self.block.shape[1])
        start[: len(self.block)] = self.block
        for item in self.moved:
            start[item, : self.vectors.shape[1]] = torch.from_numpy(self.vectors[item])
        found, staleness = refreshed_factors(matrix, s.rank, start, self.passes)
        degrees = np.diff(graph.likes.indptr) + abs(s.dislike_weight) * np.diff(graph.dislikes.indptr)
        active = degrees[degrees > 0]
        filter_ = SpectralFilter(
            found.vectors,
            found.values,
            torch.from_numpy(likes).float(),
            torch.from_numpy(dislikes).float(),
            float(len(active)),
            float(np.median(active)) if len(active) else 1.0,
            s,
        )
        found.vectors[(filter_.likes + filter_.dislikes) == 0] = 0.0
        self._take(found.vectors, found.values, found.block, filter_)
        return Refreshed(staleness, self.passes + 1)

    def _take(self, vectors: torch.Tensor, values: torch.Tensor, block: torch.Tensor, of: SpectralFilter) -> None:
        self.block, self.values = block, values.numpy()
        self.base = vectors.numpy()
        self.vectors = self.base.copy()
        self.likes, self.dislikes = of.likes.numpy().copy(), of.dislikes.numpy().copy()
        self.fitted_degree = self._degree(slice(None))
        self.n_items = len(self.base)
        self.n_users, self.median_degree = of.n_users, of.median_degree
        self.moved = set()

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and fold in those of them that have grown."""
        self._grow(edges.n_items)
        items = changes.items
        self.likes[items], self.dislikes[items] = edges.item_likes[items], edges.item_dislikes[items]
        self._fold_in(edges, items)

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and fold in what has grown since the refresh."""
        self._grow(edges.n_items)
        self.likes[: self.n_items], self.dislikes[: self.n_items] = edges.item_likes, edges.item_dislikes
        self._fold_in(edges, np.flatnonzero(self._grown(slice(self.n_items))))

    def _grow(self, n_items: int) -> None:
        for name in ("base", "vectors", "fitted_degree", "likes", "dislikes"):
            setattr(self, name, grown(getattr(self, name), n_items))
        self.n_items = max(self.n_items, n_items)

    def _degree(self, items: Any) -> np.ndarray:
        return self.likes[items] + abs(self.settings.dislike_weight) * self.dislikes[items]

    def _grown(self, items: Any) -> np.ndarray:
        degree = self._degree(items)
        return (degree > GROWTH * self.fitted_degree[items]) & (self.likes[items] + self.dislikes[items] <= MAX_USERS)

    def _fold_in(self, edges: EdgeState, items: np.ndarray) -> None:
        if not len(items):
            return
        fold = self._grown(items)
        back = [item for item in items[~fold].tolist() if item in self.moved]
        self.vectors[back] = self.base[back]
        self.moved.difference_update(back)
        items = items[fold]
        if not len(items):
            return
        rows, s = [edges.of_item(int(item)) for item in items], self.settings
        verdicts = [row.ids[row.sign != 0] for row in rows]
        users, place = np.unique(np.concatenate(verdicts), return_inverse=True)
        scaled = self._scaled_rows(rows_of(edges, users, self.n_items))
        own = np.repeat(np.arange(len(items)), [len(each) for each in verdicts])
        sign = np.concatenate([row.sign[row.sign != 0] for row in rows])
        weight = np.where(sign > 0, 1.0, s.dislike_weight)
        degrees = np.asarray([self._user_degree(edges, user) for user in users])
        weight = weight * inverse_power(degrees, s.degree_smoothing, s.degree_exponent)[place]
        weight *= inverse_power(self._degree(items), s.degree_smoothing, s.degree_exponent)[own]
        image = scaled @ self.base[: self.n_items]
        total = np.zeros((len(items), image.shape[1]), dtype=np.float64)
        np.add.at(total, own, weight[:, None] * image[place])
        energy = np.where(self.values > 0, self.values.astype(np.float64) ** 2, np.inf)
        self.vectors[items] = (total / energy[: total.shape[1]]).astype(np.float32)
        self.moved.update(items.tolist())

    def _user_degree(self, edges: EdgeState, user: int) -> float:
        return float(edges.user_likes[user] + abs(self.settings.dislike_weight) * edges.user_dislikes[user])

    # ---- scores

    def _scaled_rows(self, users: SignedGraph) -> Any:
        s = self.settings
        scale = np.zeros(self.n_items)  # only what the users touch is read
        touched = np.unique(np.concatenate([users.likes.indices, users.dislikes.indices]))
        scale[touched] = inverse_power(self._degree(touched), s.degree_smoothing, s.degree_exponent)
        return exposure_rows(users, scale, s.dislike_weight, s.degree_smoothing, s.degree_exponent)

    @property
    def filter(self) -> SpectralFilter:
        """The filter in force, which shares this learner's arrays."""
        n = self.n_items
        return SpectralFilter(
            vectors=torch.from_numpy(self.vectors[:n]),
            values=torch.from_numpy(self.values),
            likes=torch.from_numpy(self.likes[:n]),
            dislikes=torch.from_numpy(self.dislikes[:n]),
            n_users=self.n_users,
            median_degree=self.median_degree,
            settings=self.settings,
        )

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        rows, filter_ = rows_of(edges, users, self.n_items), self.filter
        projected = torch.from_numpy(np.asarray(self._scaled_rows(rows) @ self.vectors[: self.n_items]))
        return filter_.scores_of(projected[:, : filter_.k] * filter_.response(filter_.degrees(rows)))

    # ---- keeping

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters, which are those of the edges."""
        n = self.n_items
        tensors = {
            "base": self.base[:n],
            "values": self.values,
            "block": self.block.numpy(),
            "fitted_degree": self.fitted_degree[:n],
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
        self.n_users, self.median_degree = float(meta["n_users"]), float(meta["median_degree"])
        self.base, self.values = np.array(tensors["base"]), np.array(tensors["values"])
        self.vectors, self.block = self.base.copy(), torch.from_numpy(np.array(tensors["block"]))
        self.fitted_degree = np.array(tensors["fitted_degree"])
        self.n_items = len(self.base)
        self.likes, self.dislikes = np.zeros(self.n_items, np.float32), np.zeros(self.n_items, np.float32)
        self.moved = set()

"""SSF-L under a stream: SSF's tiers, and for the learned items those of least squares.

T0 and T1: both parts fold in a user's own edges, exactly, and make again items that have grown. T2: a step of subspace
iteration, and from its vectors the passes of a fit. T3: the full fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.live.learners.base import IntArray, Refreshed, rows_of
from recbole_signed.live.learners.signed_ials import LeastSquaresLearner
from recbole_signed.live.learners.ssf.learner import SpectralLearner
from recbole_signed.live.store.edges import Changes, EdgeState
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings, start_of, unit_of
from recbole_signed.ssf.settings import FilterSettings


class LearnedSpectralLearner(SpectralLearner):
    """A :class:`SpectralLearner` that adds the scores of learned items (``ssf/learned_items.py``) to its own."""

    name = "SSFL"

    def __init__(
        self, settings: FilterSettings, learned_settings: LearnedSettings, iterations: int = 20, passes: int = 1
    ) -> None:
        super().__init__(settings, iterations, passes)
        self.learned_settings = learned_settings
        self.learned = _least_squares(learned_settings, settings.dislike_weight)
        self.unit = 0.0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LearnedSpectralLearner:
        """Make a learner by names of SSF-L's yaml, ``iterations`` and ``passes``; UsageError for a wrong one."""
        own, rest = LearnedSettings.split(settings)
        return cls._of(rest, learned_settings=own)

    # ---- T3 and T2

    def _fit(self, graph: SignedGraph) -> None:
        super()._fit(graph)
        self._learn(graph)

    def _refresh(self, graph: SignedGraph) -> Refreshed:
        refreshed = super()._refresh(graph)
        self._learn(graph)
        return Refreshed(refreshed.staleness, refreshed.passes + self.learned_settings.learned_passes)

    def _learn(self, graph: SignedGraph) -> None:
        filter_, learned = self.fitted, self.learned
        start = start_of(filter_, self.learned_settings.learned_rank)
        learned.alternate(graph.likes, graph.dislikes, start, self.learned_settings.learned_passes)
        items = torch.from_numpy(learned.items.base)
        self.unit = unit_of(filter_, learned.user_gram, items.T @ items)

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counters of the touched items, and make again what has grown in both parts."""
        super().update(edges, changes)
        self.learned.update(edges, changes)

    def attach(self, edges: EdgeState) -> None:
        """Take over all counters, and make again what has grown since the refresh in both parts."""
        super().attach(edges)
        self.learned.attach(edges)

    # ---- scores

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        added = self.learned.scores(edges, users).mul_(self.learned_settings.learned_share * self.unit)
        return self.filter.scores(self._users(edges, users), added)

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        added = torch.from_numpy(self.learned.pair_scores(edges, users, items))
        added *= self.learned_settings.learned_share * self.unit
        own = self._users(edges, users)
        return self.filter.pair_scores(own, torch.from_numpy(items), added).numpy()

    def explain(self, edges: EdgeState, user: int, items: IntArray) -> list[Explanation]:
        """Return what each of a user's edges, and its features and the items', add to the scores of both parts."""
        explanations, one = super().explain(edges, user, items), np.array([user])
        vectors = torch.from_numpy(self.learned.items.vectors)
        learned = LearnedItems(vectors, self.learned.gram, self.unit, self.learned.problem)
        user_edges, scores = rows_of(edges, one, edges.n_items), self.pair_scores(edges, one, items[None])[0]
        return learned.explained(explanations, user_edges, items, self.learned_settings.learned_share, scores)

    def top(self, edges: EdgeState, user: int, k: int, hidden: IntArray) -> None:
        """Find nothing: all scores have to be worked out, since the filter's bounds say nothing of the sum."""

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {**super().parameters(), **asdict(self.learned_settings)}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything but the counters and what is made of the edges."""
        tensors, meta = super().state()
        learned, learned_meta = self.learned.state()
        tensors |= {f"learned_{name}": tensor for name, tensor in learned.items()}
        return tensors, meta | {
            "learned_settings": asdict(self.learned_settings),
            "learned": learned_meta,
            "unit": self.unit,
        }

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings what is made of the edges."""
        super().load(tensors, meta)
        self.learned_settings = LearnedSettings(**meta["learned_settings"])
        self.learned = _least_squares(self.learned_settings, self.settings.dislike_weight)
        own = {name.removeprefix("learned_"): tensors[name] for name in tensors if name.startswith("learned_")}
        self.learned.load(own, meta["learned"])
        self.unit = float(meta["unit"])


def _least_squares(settings: LearnedSettings, dislike_weight: float) -> LeastSquaresLearner:
    made = LeastSquaresLearner(settings.learned_rank, settings.learned_passes)
    made.problem = settings.problem(dislike_weight)
    return made

"""Popularity under a stream: exact counters, of which some forget, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from recbole_signed.counts import RecentCounts
from recbole_signed.live.learners.base import IntArray, Learner, Refreshed
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState


class PopularLearner(Learner):
    """Ranks by the number of likes an item has now."""

    name = "Pop"

    def __init__(self) -> None:
        self.likes = np.zeros(1, dtype=np.float32)

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Count."""
        self.likes = np.bincount(edges.likes[1], minlength=n_items).astype(np.float32)

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take over the counts of the edges."""
        self.attach(edges)

    def attach(self, edges: EdgeState) -> None:
        """Take over the counts of the edges."""
        self.likes = edges.item_likes.astype(np.float32)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Do nothing: counters are exact."""
        return Refreshed(0.0, 0)

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the number of likes of each item, the same for all users."""
        return torch.from_numpy(self.likes).expand(len(users), -1).clone()

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the number of likes of items, ``[len(users), m]``."""
        return self.likes[np.broadcast_to(items, (len(users), items.shape[1]))]

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return nothing: to popularity no item is near another."""
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)

    def parameters(self) -> dict[str, Any]:
        """Return nothing: there are none."""
        return {}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the counts."""
        return {"likes": self.likes}, {}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over the counts."""
        self.likes = np.array(tensors["likes"])


class DecayPopularLearner(PopularLearner):
    """Ranks by the likes of an item, each of which counts half after each half-life."""

    name = "DecayPop"
    needs_times = True

    def __init__(self, half_life: float = 7.0) -> None:
        super().__init__()
        self.half_life = float(half_life)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {"half_life": self.half_life}

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Count."""
        _, item, like, time = edges.verdicts
        self.likes = RecentCounts.from_events(item[like], time[like], self.half_life, n_items).counts.astype(np.float32)

    def attach(self, edges: EdgeState) -> None:
        """Take over what the edges have counted."""
        self.likes = edges.recent(self.half_life, likes=True).counts.astype(np.float32)

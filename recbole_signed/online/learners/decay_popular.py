"""DecayPop under a stream: exact counters that forget, nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.online.learners.popular import PopularLearner
from recbole_signed.online.store import EdgeState, RecentCounts
from recbole_signed.online.store.edges import EdgeArrays


class DecayPopularLearner(PopularLearner):
    """Ranks by the likes of an item, each of which counts half after each half-life.

    Args:
        half_life: in days.
    """

    name = "DecayPop"

    def __init__(self, half_life: float = 7.0) -> None:
        super().__init__()
        self.half_life = float(half_life)
        if not self.half_life > 0:
            raise UsageError(f"half_life is {half_life}; it must be above 0, in days.")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters, by the names in the model's yaml."""
        return {"half_life": self.half_life}

    @property
    def needs_times(self) -> bool:
        """Whether a fit looks at the times of edges: yes."""
        return True

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Count."""
        _, item, like, time = edges.verdicts
        self.likes = RecentCounts.of(item[like], time[like], self.half_life, n_items).counts.astype(np.float32)

    def attach(self, edges: EdgeState) -> None:
        """Take over what the edges have counted."""
        self.likes = edges.recent(self.half_life, likes=True).counts.astype(np.float32)

r"""DecayPop
################################################
Reference:
    A. Ploshkin et al. "Yambda-5B: A Large-Scale Multi-modal Dataset for Ranking And Retrieval." arXiv:2505.22238.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_signed.counts import RecentCounts
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.model.training_free import TrainingFreeRecommender


class DecayPop(TrainingFreeRecommender):
    r"""Popularity that forgets: :math:`\sum_e 2^{-\text{age}_e/h}` over the likes e of an item, for all users alike.

    Ages count from the end of the training part; that moment changes no ranking. Without timestamps it is Pop.
    """

    fitted = ("recent_likes",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.half_life = float(config["half_life"])
        time = dataset.times("inter_feat") if hasattr(dataset, "times") else None
        if time is None:
            getLogger().warning("DecayPop is Pop here: the data set has no timestamps, so all likes count alike.")
            time = np.zeros(len(dataset.inter_feat))
        time = milliseconds(np.asarray(time), f"the time of '{dataset.dataset_name}'")
        self._likes = dataset.inter_feat[dataset.iid_field].numpy(), time
        self.register_buffer("recent_likes", torch.zeros(0, dtype=torch.float64))

    def fit(self) -> None:
        """Count; the same likes give the same model."""
        counts = RecentCounts.from_events(*self._likes, self.half_life, self.n_items).counts
        self.recent_likes = torch.from_numpy(counts).to(self.device)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return what is left of the likes of each item, the same for all users, ``[batch, n_items]``."""
        counts = self.recent_likes if self.recent_likes.numel() else torch.zeros(self.n_items, device=self.device)
        return counts.float().expand(len(users), -1).clone()

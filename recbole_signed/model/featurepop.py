r"""FeaturePop
################################################
Popularity that is predicted from features where nothing is known of an item: a baseline for new items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.least_squares import RidgeSums
from recbole_signed.model.training_free import TrainingFreeRecommender


class FeaturePop(TrainingFreeRecommender):
    r"""The logarithm of an item's likes; of an item without an edge, its ridge regression on the features of items.

    The regression :math:`(F^T F + \lambda I)^{-1} F^T \log(1 + p)` is over the items that have edges; the first
    feature is an intercept and has a :math:`\lambda` of .001 at most. The key ``features`` says what F is, see SSF.
    """

    fitted = ("log_likes",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.ridge = float(config["feature_ridge"])
        self._features = dataset.features_of("item") if hasattr(dataset, "features_of") else None
        self.register_buffer("log_likes", torch.zeros(0))

    def fit(self) -> None:
        """Count, and predict what can't be counted."""
        counts = [np.bincount(side.indices, minlength=self.n_items) for side in (self.graph.likes, self.graph.dislikes)]
        logs = np.log1p(counts[0]).astype(np.float32)
        if self._features is not None:
            matrix, known = self._features.matrix, sum(counts) > 0
            described = np.diff(matrix.indptr) > 0
            learned = RidgeSums.from_rows(matrix[known & described], logs[known & described, None]).solve(self.ridge)
            logs[~known & described] = np.asarray(matrix[~known & described] @ learned)[:, 0]
        self.log_likes = torch.from_numpy(logs).to(self.device)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, the same for all users, ``[batch, n_items]``."""
        scores = self.log_likes if self.log_likes.numel() else torch.zeros(self.n_items, device=self.device)
        return scores.expand(len(users), -1).clone()

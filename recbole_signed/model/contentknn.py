r"""ContentKNN
################################################
Items whose features are near those of the items that a user likes: a content-based baseline for new items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.model.training_free import TrainingFreeRecommender


class ContentKNN(TrainingFreeRecommender):
    r"""Sum of the cosines of an item's features with those of the items that a user likes.

    Score :math:`\sum_{j \in P_u} \cos(f_i, f_j)`, with features weighted by :math:`\log(n / n_f)^{\text{idf}}`, for
    the :math:`n_f` of n items that have one. The key ``features`` says what they are, see SSF; an item without any is
    near to itself alone.
    """

    fitted = ("item_norms",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        features = dataset.features_of("item") if hasattr(dataset, "features_of") else None
        if features is None:
            self._matrix = sp.identity(self.n_items, dtype=np.float32, format="csr")
        else:
            self._matrix = self._normalised(features.matrix[:, 1:], bool(config["idf"]))  # all items have the first
        self.register_buffer("item_norms", torch.zeros(0))

    @staticmethod
    def _normalised(matrix: sp.csr_matrix, idf: bool) -> sp.csr_matrix:
        if idf:
            counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
            weights = np.log(np.maximum(matrix.shape[0], 1) / np.maximum(counts, 1)).astype(np.float32)
            matrix = matrix @ sp.diags(weights)
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return (sp.diags((1 / np.maximum(norms, 1e-12)).astype(np.float32)) @ matrix).tocsr()

    def fit(self) -> None:
        """Note which items have features; there is nothing to learn."""
        self.item_norms = torch.from_numpy(np.sqrt(np.asarray(self._matrix.power(2).sum(axis=1)).ravel())).to(
            self.device
        )

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, ``[batch, n_items]``."""
        profile = self.graph.likes[users.cpu().numpy()] @ self._matrix
        return torch.from_numpy(np.asarray((profile @ self._matrix.T).todense(), dtype=np.float32)).to(self.device)

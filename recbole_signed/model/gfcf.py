r"""GFCF
################################################
Reference:
    Yifei Shen et al. "How Powerful is Graph Convolution for Recommendation?" in CIKM 2021.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.gram_filter import GramFilter
from recbole_signed.graph.lanczos import gram_eigenvectors
from recbole_signed.graph.propagation import symmetric
from recbole_signed.model.training_free import TrainingFreeRecommender


class GFCF(TrainingFreeRecommender):
    r"""A linear and an ideal low-pass filter of the likes, in closed form (eq. 8 and 9).

    :math:`s_u = p_u (\tilde R^T \tilde R + \alpha D_i^{-1/2} V V^T D_i^{1/2})` with
    :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2}` and V its ``rank`` leading right singular vectors.

    Singular vectors by Lanczos, as in the authors' code: the filter cuts off sharply, so an approximate subspace costs
    quality.
    Memory: V, 4 k bytes per item, and the normalised graph, 16 bytes per like; neither users x items nor items x items.
    """

    family = "graph filter, training-free"
    source = "GF-CF, CIKM 2021"
    uses_dislikes = False
    needs_sign = False
    fitted = ("item_factors",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.rank = int(config["rank"])
        self.ideal_weight = float(config["alpha"])
        self.linear = GramFilter(symmetric(self.graph.likes))
        degrees = np.bincount(self.graph.likes.indices, minlength=self.n_items)
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("item_likes", torch.from_numpy(degrees).float())

    def fit(self) -> None:
        """Find the singular vectors of the normalised likes."""
        _, vectors = gram_eigenvectors(self.linear.matrix.astype(np.float64), self.rank)
        self.item_factors = torch.from_numpy(vectors).float().to(self.device)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        likes = self.graph.likes[users.cpu().numpy()]
        linear = torch.from_numpy(self.linear.rows(likes)).to(self.device)
        with torch.no_grad():
            scale = self.item_likes.sqrt().unsqueeze(1)
            inverse = torch.where(scale > 0, 1.0 / scale.clamp(min=1.0), 0.0)
            narrow = torch.from_numpy(likes @ (inverse * self.item_factors).cpu().numpy()).to(self.device)
            return linear + self.ideal_weight * (narrow @ (scale * self.item_factors).T)

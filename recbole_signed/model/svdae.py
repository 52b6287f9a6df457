r"""SVDAE
################################################
Reference:
    Seoyoung Hong et al. "SVD-AE: Simple Autoencoders for Collaborative Filtering." in IJCAI 2024.
Reference code:
    https://github.com/seoyoungh/svd-ae
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.eigenvectors import gram_eigenvectors
from recbole_signed.model.training_free import IdealFilterRecommender


class SVDAE(IdealFilterRecommender):
    r"""A linear autoencoder of the likes whose least squares problem is solved by a truncated pseudo-inverse.

    :math:`\min_B \|P - \tilde R B\|_F` over :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2} \approx U S V^T` of rank k gives
    :math:`B = V S^{-1} U^T P`; the scores are :math:`\tilde R B`. The rank is the only regularisation; the paper uses
    some 4 % of the smaller side of the matrix. :math:`U^T P` is :math:`S^{-1} V^T \tilde R^T P`.

    Departure: singular vectors to full precision, where the authors' code has two randomised iterations.
    """

    fitted = ("item_factors", "item_targets")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.register_buffer("item_targets", torch.zeros(self.n_items, 0))

    def fit(self) -> None:
        """Find the singular vectors, and what they make of the likes."""
        matrix = self.linear.matrix.astype(np.float64)
        energy, vectors = gram_eigenvectors(matrix, self.rank)
        targets = self.signal().T @ (matrix @ vectors)
        self.item_factors = torch.from_numpy(vectors / energy).float().to(self.device)
        self.item_targets = torch.from_numpy(targets).float().to(self.device)

    def similarity_vectors(self) -> torch.Tensor:
        """Return the vectors that an item is predicted by, ``[n_items, k]``; its own like is read by others."""
        return self.item_targets

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        rows = self.linear.matrix[users.cpu().numpy()]
        return torch.from_numpy(rows @ self.item_factors.cpu().numpy()).to(self.device) @ self.item_targets.T

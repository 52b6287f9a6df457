"""What the graph filters that end in an ideal low-pass filter share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.eigenvectors import gram_eigenvectors
from recbole_signed.graph.propagation import GramFilter, symmetric
from recbole_signed.model.filter_recommender import FilterRecommender


class IdealFilterRecommender(FilterRecommender):
    r"""Holds the linear filter :math:`\tilde R^T \tilde R` and the ideal one :math:`D_i^{-1/2} V V^T D_i^{1/2}`.

    :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2}`; V: its ``rank`` leading right singular vectors, by Lanczos: the filter
    cuts off sharply, so an approximate subspace costs quality.
    """

    fitted: tuple[str, ...] = ("item_factors",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.rank = int(config["rank"])
        signal = self.signal()
        self.linear = GramFilter(symmetric(signal))
        degrees = np.asarray(abs(signal).sum(axis=0)).ravel()
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("item_degrees", torch.from_numpy(degrees).float())

    def fit(self) -> None:
        """Find the singular vectors of the normalised matrix."""
        _, vectors = gram_eigenvectors(self.linear.matrix.astype(np.float64), self.rank)
        self.item_factors = torch.from_numpy(vectors).float().to(self.device)

    def similarity_vectors(self) -> torch.Tensor:
        """Return item vectors, ``[n_items, k]``, whose product is what the linear filter adds from one item to another.

        That of the singular vectors alone tells no two items apart where there are as many of them as items.
        """
        lengths = np.linalg.norm(self.linear.matrix @ self.item_factors.cpu().numpy(), axis=0)
        return self.item_factors * torch.from_numpy(lengths).to(self.device)

    def ideal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two sides of the ideal filter, ``[n_items, k]`` and ``[k, n_items]``."""
        scale = self.item_degrees.sqrt().unsqueeze(1)
        inverse = torch.where(scale > 0, 1.0 / scale.clamp(min=1e-12), 0.0)
        return inverse * self.item_factors, (scale * self.item_factors).T

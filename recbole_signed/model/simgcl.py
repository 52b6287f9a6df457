r"""SimGCL: contrastive learning of graph embeddings with noise instead of graph augmentations.

Junliang Yu, Hongzhi Yin, Xin Xia, Tong Chen, Lizhen Cui, Quoc Viet Hung Nguyen. "Are Graph Augmentations Necessary?
Simple Graph Contrastive Learning for Recommendation." SIGIR 2022. https://arxiv.org/abs/2112.08679
"""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.model.noisy_graph import NoisyGraphRecommender
from recbole_signed.model.pairwise import columns, mean_bpr


class SimGCL(NoisyGraphRecommender):
    r"""LightGCN without its layer 0, and InfoNCE between two noisy passes (eq. 7, 8).

    .. math:: E^{l} = \hat A^{+} E^{l-1} \; (+ \Delta^{l}), \quad \bar E = \tfrac1L \sum_{l=1}^{L} E^l, \quad
              \mathcal L = \mathcal L_{BPR} + \lambda \, (\mathcal L_{cl}^{U} + \mathcal L_{cl}^{I}) + reg

    with noise :math:`\Delta` of length ``eps`` in the orthant of each row, in the two contrasted passes only. A user or
    an item without likes has the embedding 0. Mini-batches of likes; each step propagates over the whole graph. The
    contrast is over the distinct users and items of a batch.

    BPR and the contrast are means, as in the authors' later code (SELFRec); RecBole-GNN's sums the contrast. The weight
    decay is LightGCN's: half the squared norms of the table rows in a batch, per edge.
    """

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        ranking = mean_bpr(*self.encode(), users, items, sampled)
        contrast = self.contrast(users.unique(), items.unique()) if self.cl_rate else 0.0
        return ranking + self.reg_weight * self.decay(users, items, sampled) + self.cl_rate * contrast

    def contrast(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return InfoNCE between two noisy passes, over distinct ``users`` and ``items`` (eq. 3)."""
        return self.contrast_of(self.encode(self.eps), self.encode(self.eps), users, items)

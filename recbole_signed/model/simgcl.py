r"""SimGCL: contrastive learning of graph embeddings with noise instead of graph augmentations.

Junliang Yu, Hongzhi Yin, Xin Xia, Tong Chen, Lizhen Cui, Quoc Viet Hung Nguyen. "Are Graph Augmentations Necessary?
Simple Graph Contrastive Learning for Recommendation." SIGIR 2022. https://arxiv.org/abs/2112.08679
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import tables
from recbole_signed.model.losses import batch_norm_penalty, columns, info_nce, mean_bpr, perturbed


class NoisyGraphRecommender(SignedRecommender):
    """LightGCN on the likes without its layer 0, with noise, and a contrast: what SimGCL and XSimGCL share."""

    family = "graph, contrastive"
    uses_dislikes = False
    needs_sign = False
    batches = "likes"
    parameter_ranges: ClassVar[Mapping[str, str]] = {
        "n_negatives": "int [1, inf)",
        "n_layers": "int [1, inf)",
        "lambda": "[0, inf)",
        "eps": "[0, inf)",
    }

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        self.reg_weight, self.cl_rate = float(config["reg_weight"]), float(config["lambda"])
        self.eps, self.temperature = float(config["eps"]), float(config["temperature"])
        size = int(config["embedding_size"])
        self.user_embedding, self.item_embedding = tables(self.n_users, self.n_items, size, nn.init.xavier_uniform_)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)

    def layers(self, noise: float = 0.0) -> list[Pair]:
        """Return the layers from 1 on, ``[n_users, d]`` and ``[n_items, d]`` each."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        layers = []
        for _ in range(self.n_layers):
            users, items = self.likes(users, items)
            if noise:
                users, items = perturbed(users, noise), perturbed(items, noise)
            layers.append((users, items))
        return layers

    def encode(self, noise: float = 0.0) -> Pair:
        """Return the mean of the layers from 1 on, ``[n_users, d]`` and ``[n_items, d]``."""
        return mean(self.layers(noise))

    def contrast_of(self, first: Pair, second: Pair, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return InfoNCE between two views, over distinct ``users`` and ``items``."""
        of_users, of_items = (
            info_nce(one.index_select(0, rows), other.index_select(0, rows), self.temperature)
            for one, other, rows in zip(first, second, (users, items), strict=True)
        )
        return of_users + of_items

    def decay(self, users: torch.Tensor, items: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
        """Return LightGCN's: half the squared norms of the table rows in a batch, per edge."""
        return batch_norm_penalty(self.user_embedding.weight, self.item_embedding.weight, users, items, sampled)


def mean(layers: list[Pair]) -> Pair:
    """Return the mean of some layers."""
    users, items = (torch.stack(side).mean(dim=0) for side in zip(*layers, strict=True))
    return users, items


class SimGCL(NoisyGraphRecommender):
    r"""LightGCN without its layer 0, and InfoNCE between two noisy passes (eq. 7, 8).

    .. math:: E^{l} = \hat A^{+} E^{l-1} \; (+ \Delta^{l}), \quad \bar E = \tfrac1L \sum_{l=1}^{L} E^l, \quad
              \mathcal L = \mathcal L_{BPR} + \lambda \, (\mathcal L_{cl}^{U} + \mathcal L_{cl}^{I}) + reg

    with noise :math:`\Delta` of length ``eps`` in the orthant of each row, in the two contrasted passes only. The
    contrast is over the distinct users and items of a batch. BPR and the contrast are means, as in the authors' later
    code (SELFRec); RecBole-GNN's sums the contrast. The weight decay is LightGCN's.
    """

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        ranking = mean_bpr(*self.encode(), users, items, sampled)
        contrast: torch.Tensor | float = 0.0
        if self.cl_rate:  # eq. 3
            contrast = self.contrast_of(self.encode(self.eps), self.encode(self.eps), users.unique(), items.unique())
        return ranking + self.reg_weight * self.decay(users, items, sampled) + self.cl_rate * contrast

r"""XSimGCL: the contrast between the last and an earlier layer of one noisy pass.

Junliang Yu, Xin Xia, Tong Chen, Lizhen Cui, Nguyen Quoc Viet Hung, Hongzhi Yin. "XSimGCL: Towards Extremely Simple
Graph Contrastive Learning for Recommendation." IEEE TKDE 2023. https://arxiv.org/abs/2209.02544
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.init import xavier_uniform_initialization
from torch import nn

from recbole_signed.errors import UsageError
from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.contrast import info_nce, perturbed
from recbole_signed.model.pairwise import batch_norm_penalty, columns, mean_bpr


class XSimGCL(SignedRecommender):
    r"""One noisy pass of LightGCN without its layer 0; its mean is ranked by and contrasted with its layer l* (eq. 8).

    .. math:: E^{l} = \hat A^{+} E^{l-1} \; (+ \Delta^{l}), \quad \bar E = \tfrac1L \sum_{l=1}^{L} E^l, \quad
              \mathcal L = \mathcal L_{BPR}(\bar E) + \lambda \, \mathrm{InfoNCE}(\bar E, E^{l^*}) + reg

    with noise in training only. l* is ``layer_cl``. Mini-batches of likes; each step propagates once over the whole
    graph. All terms are means, the contrast over the distinct users and items of a batch. The weight decay is
    LightGCN's: half the squared norms of the table rows in a batch, per edge.
    """

    family = "graph, contrastive"
    source = "TKDE 2023, https://arxiv.org/abs/2209.02544"
    uses_dislikes = False
    needs_sign = False
    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_layers, self.layer_cl = int(config["n_layers"]), int(config["layer_cl"])
        if not 1 <= self.layer_cl <= self.n_layers:
            raise UsageError(f"layer_cl must be from 1 to n_layers = {self.n_layers}, but is {self.layer_cl}.")
        self.reg_weight, self.cl_rate = float(config["reg_weight"]), float(config["lambda"])
        self.eps, self.temperature = float(config["eps"]), float(config["temperature"])
        size = int(config["embedding_size"])
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.apply(xavier_uniform_initialization)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)

    def layers(self, noise: float = 0.0) -> list[Pair]:
        """Return the layers from 1 on, ``[n_users, d]`` and ``[n_items, d]`` each."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        found = []
        for _ in range(self.n_layers):
            users, items = self.likes(users, items)
            if noise:
                users, items = perturbed(users, noise), perturbed(items, noise)
            found.append((users, items))
        return found

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of the layers without noise, ``[n_users, d]`` and ``[n_items, d]``."""
        return _mean(self.layers())

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        layers = self.layers(self.eps)
        final = _mean(layers)
        ranking = mean_bpr(*final, users, items, sampled)
        tables = self.user_embedding.weight, self.item_embedding.weight
        decay = batch_norm_penalty(*tables, users, items, sampled)
        contrast = sum(
            info_nce(one.index_select(0, rows), other.index_select(0, rows), self.temperature)
            for one, other, rows in zip(final, layers[self.layer_cl - 1], (users.unique(), items.unique()), strict=True)
        )
        return ranking + self.reg_weight * decay + self.cl_rate * contrast


def _mean(layers: list[Pair]) -> Pair:
    users, items = (torch.stack(each).mean(dim=0) for each in zip(*layers, strict=True))
    return users, items

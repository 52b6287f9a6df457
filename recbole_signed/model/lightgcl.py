r"""LightGCL: contrast with the propagation over a low-rank form of the graph.

Xuheng Cai, Chao Huang, Lianghao Xia, Xubin Ren. "LightGCL: Simple Yet Effective Graph Contrastive Learning for
Recommendation." ICLR 2023. https://arxiv.org/abs/2302.08191
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator, Pair, symmetric
from recbole_signed.graph.spectral import right_factors
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import tables
from recbole_signed.model.losses import columns, dots, half_squared_norm, log_sum_exp, mean_bpr

BOUND = 5.0  # agreement beyond which a pair is not pulled any further together, as in the authors' code


class LightGCL(SignedRecommender):
    r"""Sums of layers over the graph (E) and over its truncated SVD (G), contrasted with each other.

    .. math:: E^l = \hat R E^{l-1}, \quad G^l = U_q S_q V_q^T E^{l-1}, \quad
              E = \sum_{l=0}^{L} E^l, \quad G = E^0 + \sum_{l=1}^{L} G^l

    .. math:: \mathcal L = \mathcal L_{BPR} + \lambda_1 \sum_{sides} \Big(
              \mathrm{mean}_u \ln \sum_v e^{g_u e_v / \tau} - \mathrm{mean}_u [g_u e_u / \tau]_{-5}^{5} \Big)
              + \lambda_2 \|\Theta\|^2

    (eq. 3-9; v runs over all users, in blocks whose products are not kept.) As the authors' code, which has no
    activation between layers and contrasts their sums, where the paper has a LeakyReLU and contrasts each layer. Two
    differences to the code: the singular vectors come from more iterations than ``torch.svd_lowrank`` makes by
    default, and edge dropout, 0 in their settings, is left out.
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_layers, self.temperature = int(config["n_layers"]), float(config["temp"])
        self.cl_rate, self.reg_weight = float(config["lambda1"]), float(config["lambda2"])
        size = int(config["embedding_size"])
        self.user_embedding, self.item_embedding = tables(self.n_users, self.n_items, size, nn.init.xavier_uniform_)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)
        matrix = symmetric(self.graph.likes)
        factors = right_factors(matrix, int(config["q"]), seed=int(config["seed"]))
        left = torch.from_numpy(matrix @ factors.vectors.numpy())  # U S, [n_users, q]
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", factors.vectors, persistent=False)  # V, [n_items, q]

    def _layers(self) -> list[Pair]:
        layers = [(self.user_embedding.weight, self.item_embedding.weight)]
        for _ in range(self.n_layers):
            layers.append(self.likes(*layers[-1]))
        return layers

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of the layers, ``[n_users, d]`` and ``[n_items, d]``."""
        return _sum(self._layers())

    def low_rank(self, layers: list[Pair]) -> Pair:
        """Return G of users and items, from the layers of E."""
        start = layers[0]
        passed = [
            (self.left @ (self.right.T @ items), self.right @ (self.left.T @ users)) for users, items in layers[:-1]
        ]
        return _sum([start, *passed])

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        named = torch.cat([items, sampled.reshape(-1)])  # the authors' code contrasts what a step learns of
        layers = self._layers()
        final, coarse = _sum(layers), self.low_rank(layers)
        ranking = mean_bpr(*final, users, items, sampled)
        contrast = sum(
            self._contrast(one, other, rows) for one, other, rows in zip(coarse, final, (users, named), strict=True)
        )
        return ranking + self.cl_rate * contrast + 2.0 * self.reg_weight * half_squared_norm(*self.parameters())

    def _contrast(self, coarse: torch.Tensor, final: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        rows, counts = rows.unique(return_counts=True)  # a row counts as often as it is named, but is made once
        queries = coarse.index_select(0, rows)
        together = dots(queries, final.index_select(0, rows)) / self.temperature
        weights = counts.to(queries.dtype) / counts.sum()
        return log_sum_exp(queries, final, self.temperature, weights) - weights @ together.clamp(-BOUND, BOUND)


def _sum(layers: list[Pair]) -> Pair:
    users, items = (torch.stack(side).sum(dim=0) for side in zip(*layers, strict=True))
    return users, items

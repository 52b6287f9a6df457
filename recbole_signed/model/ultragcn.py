r"""UltraGCN: the limit of infinitely many layers of graph convolution, as constraints in the loss.

Kelong Mao, Jieming Zhu, Xi Xiao, Biao Lu, Zhaowei Wang, Xiuqiang He. "UltraGCN: Ultra Simplification of Graph
Convolutional Networks for Recommendation." CIKM 2021. https://arxiv.org/abs/2110.15114
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from recbole_signed.graph.sparse_kernels import item_neighbours
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import normal_tables
from recbole_signed.model.losses import columns, dots, half_squared_norm, scores_of


class UltraGCN(SignedRecommender):
    r"""Matrix factorisation whose loss weighs pairs by what graph convolutions converge to.

    With :math:`\beta_{ui} = \frac{\sqrt{d_u + 1}}{d_u} \frac{1}{\sqrt{d_i + 1}}` (eq. 7) and :math:`y_{ui} = e_u e_i`,
    summed over the likes of a batch (eq. 10, 11, 14, 15):

    .. math:: -(w_1 + w_2 \beta_{ui}) \ln \sigma(y_{ui})
              - \frac{c}{K} \sum_{j=1}^{K} (w_3 + w_4 \beta_{uj}) \ln \sigma(-y_{uj})
              - \lambda \sum_{j \in S(i)} \omega_{ij} \ln \sigma(y_{uj}) + \tfrac{\gamma}{2} \|\Theta\|^2

    S(i): the ``ii_neighbor_num`` neighbours of i by :func:`~recbole_signed.graph.sparse_kernels.item_neighbours`. The
    weights c (``negative_weight``) and the form of :math:`\omega` are those of the authors' code. The K sampled items
    are drawn from all items, the user's likes included, as in five of the authors' six configurations;
    ``sift_positives`` leaves the likes out (their ``sampling_sift_pos``).
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.w1, self.w2, self.w3, self.w4 = (float(config[f"w{number}"]) for number in (1, 2, 3, 4))
        self.negative_weight = float(config["negative_weight"])
        self.gamma, self.neighbour_rate = float(config["gamma"]), float(config["lambda"])
        size = int(config["embedding_size"])
        start = float(config["initial_weight"])
        self.user_embedding, self.item_embedding = normal_tables(self.n_users, self.n_items, size, start)
        user_degrees, item_degrees = (np.asarray(self.graph.likes.sum(axis=axis)).ravel() for axis in (1, 0))
        of_users = np.where(user_degrees > 0, np.sqrt(user_degrees + 1) / np.maximum(user_degrees, 1), 0.0)
        self._constant("user_beta", of_users.astype(np.float32))
        self._constant("item_beta", (1 / np.sqrt(item_degrees + 1)).astype(np.float32))
        count = int(config["ii_neighbor_num"]) if self.neighbour_rate else 0
        neighbours = item_neighbours(self.graph.likes, count, show_progress=bool(config["show_progress"]))
        self._constant("neighbours", neighbours[0])
        self._constant("neighbour_weights", neighbours[1])

    def _constant(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables, ``[n_users, d]`` and ``[n_items, d]``."""
        return self.user_embedding.weight, self.item_embedding.weight

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss, a sum over the likes of ``batch``."""
        users, items, sampled = columns(self, batch)
        table = self.item_embedding.weight
        user_rows, beta = self.user_embedding(users), self.user_beta[users]
        known = dots(user_rows, table.index_select(0, items))
        likes = (self.w1 + self.w2 * beta * self.item_beta[items]) * softplus(-known)
        weight = self.w3 + self.w4 * beta[:, None] * self.item_beta[sampled]
        others = (weight * softplus(scores_of(user_rows, table, sampled))).mean(dim=-1)
        total = (likes + self.negative_weight * others).sum() + self.gamma * half_squared_norm(*self.parameters())
        if self.neighbour_rate:
            nearby = softplus(-scores_of(user_rows, table, self.neighbours[items]))
            total = total + self.neighbour_rate * (self.neighbour_weights[items] * nearby).sum()
        return total

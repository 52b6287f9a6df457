r"""SiReN: sign-aware recommendation using graph neural networks.

Changwon Seo, Kyeong-Joong Jeong, Sungsu Lim, Won-Yong Shin. "SiReN: Sign-Aware Recommendation Using Graph Neural
Networks." IEEE Transactions on Neural Networks and Learning Systems, 2022. https://arxiv.org/abs/2108.08735
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import dropout, xavier_pair
from recbole_signed.model.losses import SampledEdges, sign_aware_bpr


class SiReN(SignedRecommender):
    r"""LightGCN on the likes, a perceptron for the dislikes, and attention between the two.

    .. math:: Z^p = \tfrac{1}{L+1} \sum_{l=0}^{L} \hat A_+^l E, \quad
              Z^n = \mathrm{MLP}(E'), \quad
              \alpha = \mathrm{softmax}_{p, n}\, q^T \tanh(W Z + b), \quad Z = \alpha_p Z^p + \alpha_n Z^n

    with ReLU and dropout after each layer of the perceptron, and dropout on the tanh. The loss is, over the edges of a
    batch, likes and dislikes alike, with K sampled items j that have no edge to u,

    .. math:: -\sum_{(u,i)} \sum_j \ln \sigma(c\, y_{ui} - y_{uj}) + \lambda \sum \|z\|^2, \quad
              c = 1 \text{ for likes, } 2 \text{ for dislikes.}

    **No dislike is an edge of a graph here**: dislikes enter through the loss alone, which ranks a disliked item above
    unknown ones, by half the margin of a liked one; a negative ``dislike_coefficient`` (not the paper's) ranks it
    below.

    As the authors' code runs (they choose the epoch on test data; here it is chosen on validation), but the perceptron
    and the attention are computed only for the users and items of a batch, items are sampled batch by batch, and users
    and items have tables of their own. A step costs 2L sparse products and as many for its gradient, however small the
    batch.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.n_layers = int(config["embedding_size"]), int(config["n_layers"])
        self.dropout, self.reg_weight = float(config["dropout_prob"]), float(config["reg_weight"])
        self.dislike_coefficient = float(config["dislike_coefficient"])
        self.user_embedding, self.item_embedding = xavier_pair(self.n_users, self.n_items, size)
        self.user_dislikes, self.item_dislikes = xavier_pair(self.n_users, self.n_items, size)
        layers = [nn.Linear(size, size) for _ in range(int(config["mlp_layers"]))]
        for layer in layers:
            nn.init.xavier_normal_(layer.weight)
        self.mlp = nn.ModuleList(layers)
        self.attention = nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)

    def _combine(self, z_p: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Return Z of some rows, given their Z^p and their rows of E', ``[n_rows, d]`` each."""
        z_n = start
        for layer in self.mlp:
            z_n = dropout(layer(z_n).relu(), self.dropout, self.training)
        logits = [
            self.query(dropout(torch.tanh(self.attention(rows)), self.dropout, self.training)) for rows in (z_p, z_n)
        ]
        weight = torch.sigmoid(logits[0] - logits[1])  # the softmax of two
        return z_n + weight * (z_p - z_n)

    def _graph_means(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.likes.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return Z of all users ``[n_users, d]`` and items ``[n_items, d]``."""
        users, items = self._graph_means()
        return self._combine(users, self.user_dislikes.weight), self._combine(items, self.item_dislikes.weight)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss, summed over the edges of ``batch``."""
        users, items = batch[self.USER_ID], batch[self.ITEM_ID]
        sampled = batch[self.NEG_ITEM_ID].reshape(len(users), -1)
        user_rows, users = _distinct(users, self.n_users)
        item_rows, columns = _distinct(torch.cat([items[:, None], sampled], dim=1), self.n_items)
        edges = SampledEdges(users, columns[:, 0], columns[:, 1:], batch["sign"], (len(user_rows), len(item_rows)))
        means = self._graph_means()
        user_z = self._combine(means[0].index_select(0, user_rows), self.user_dislikes(user_rows))
        item_z = self._combine(means[1].index_select(0, item_rows), self.item_dislikes(item_rows))
        ranking = sign_aware_bpr(*edges.scores(user_z, item_z), edges.coefficient(1.0, self.dislike_coefficient))
        return ranking.sum() + self.reg_weight * edges.squared_norms(user_z, item_z)


def _distinct(ids: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids below ``n`` that occur, ascending, and the place of each of ``ids`` among them."""
    occurs = torch.zeros(n, dtype=torch.bool, device=ids.device)
    occurs[ids.reshape(-1)] = True
    return occurs.nonzero()[:, 0], (occurs.cumsum(0) - 1)[ids]

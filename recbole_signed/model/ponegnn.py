r"""Pone-GNN: positive and negative feedback in one graph neural network.

Ziyang Liu, Chaokun Wang, Shuwen Zheng, Cheng Wu, Kai Zheng, Yang Song, Na Mou. "Pone-GNN: Integrating Positive and
Negative Feedback in Graph Neural Networks for Recommender Systems." ACM Transactions on Recommender Systems 3(2), 2025.
https://doi.org/10.1145/3711666
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize, softplus

from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.graph.spectral import inverse_power
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import interest_scores, side_by_side, xavier_tables
from recbole_signed.model.losses import SampledEdges, reversed_bpr, sign_aware_bpr


class PoneGNN(SignedRecommender):
    r"""Interest and disinterest embeddings, contrasted with each other; what is of disinterest is ranked last.

    .. math:: B_\pm^{(l)} X = \hat A_\pm X + (1 + \varepsilon_l) D_\pm^{-1} X, \quad
              X^+_{l+1} = B_+^{(l)} X^+_l, \quad X^-_1 = B_-^{(0)} E, \; X^-_{l+1} = B_+^{(l)} X^-_l, \quad
              Z^\pm = \tfrac{1}{L+1} \sum_{l=0}^{L} X^\pm_l, \; X^-_0 = E'

    with learned :math:`\varepsilon_l`. The loss over edges (u, i), likes and dislikes alike, with K sampled items j is
    :math:`-\sum_j \ln \sigma(c\, y^+_{ui} - y^+_{uj})`, c = 1 for likes and 2 for dislikes, plus half the squared
    norms times ``reg_weight``, and in the first epoch and the last of each ``disinterest_every`` epochs also

    * :math:`-\sum_j \ln \sigma(y^-_{uj} - c' y^-_{ui})`, c' = 2 for likes and 1 for dislikes, with norms likewise;
    * :math:`-\ln \bigl( e^{\cos(z^+_u, z^+_i)/\tau} / (e^{\cos(z^+_u, z^+_i)/\tau} + e^{\cos(z^-_u, z^-_i)/\tau})
      \bigr)`.

    An item with :math:`y^-_{ui}` above ``disinterest_threshold`` is ranked after all others: a finite penalty where
    the authors drop it.

    Equations are those of the authors' code, the paper's text was not at hand. That code does not run as it is, counts
    ratings of 3 as hits and chooses the epoch on test data; here likes alone are hits and validation chooses. AdamW is
    Adam.

    What is validated must follow an epoch that trains disinterest: in the epochs after it the filter drops what the
    user would like, and NDCG falls by half and more. So ``eval_step`` is to be a divisor or a multiple of
    ``disinterest_every``, with ``eval_every_steps: 0``.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.n_layers = int(config["embedding_size"]), int(config["n_layers"])
        self.reg_weight, self.temperature = float(config["reg_weight"]), float(config["temperature"])
        self.contrast_weight, self.every = float(config["contrast_weight"]), int(config["disinterest_every"])
        self.threshold = float(config["disinterest_threshold"])
        self.user_embedding, self.item_embedding = xavier_tables(self.n_users, self.n_items, size)
        self.user_dislikes, self.item_dislikes = xavier_tables(self.n_users, self.n_items, size)
        self.epsilon = nn.Parameter(torch.zeros(self.n_layers))
        self.likes, self.likes_self = self._operator(self.graph.likes)
        self.dislikes, self.dislikes_self = self._operator(self.graph.dislikes)
        self.epoch = 0

    def _operator(self, matrix: Any) -> tuple[BipartiteOperator, Pair]:
        degrees = [np.asarray(matrix.sum(axis=axis), np.float64).ravel() for axis in (1, 0)]
        users, items = (
            torch.from_numpy(inverse_power(side, 0.0, 1.0)).float()[:, None].to(self.device) for side in degrees
        )
        return BipartiteOperator.symmetric(matrix, self.device), (users, items)

    def start_epoch(self, epoch: int) -> None:
        """Take note of the number of the epoch, from 0."""
        self.epoch = epoch

    def _step(self, operator: BipartiteOperator, own: Pair, layer: int, pair: Pair) -> Pair:
        users, items = operator(*pair)
        weight = 1.0 + self.epsilon[layer]
        return users + weight * (own[0] * pair[0]), items + weight * (own[1] * pair[1])

    def interest(self) -> Pair:
        """Return :math:`Z^+`."""
        start = self.user_embedding.weight, self.item_embedding.weight
        return self._mean(start, start, 0)

    def _mean(self, sums: Pair, pair: Pair, done: int) -> Pair:
        """Return the mean of the layers, of which the first ``done + 1`` add up to ``sums`` and end in ``pair``."""
        for layer in range(done, self.n_layers):
            pair = self._step(self.likes, self.likes_self, layer, pair)
            sums = sums[0] + pair[0], sums[1] + pair[1]
        return sums[0] / (self.n_layers + 1), sums[1] / (self.n_layers + 1)

    def encode(self) -> Pair:
        """Return interest and disinterest of users ``[n_users, 2d]`` and items ``[n_items, 2d]``, side by side."""
        start = self.user_embedding.weight, self.item_embedding.weight
        sums = side_by_side(start, (self.user_dislikes.weight, self.item_dislikes.weight))
        pair = side_by_side(
            self._step(self.likes, self.likes_self, 0, start), self._step(self.dislikes, self.dislikes_self, 0, start)
        )
        return self._mean((sums[0] + pair[0], sums[1] + pair[1]), pair, 1)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the interest scores ``[batch, n_items]``, items of disinterest last."""
        user_vectors, item_vectors = self.embeddings()
        return interest_scores(user_vectors[users], item_vectors, self.threshold)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss over the edges of ``batch``."""
        edges = SampledEdges.from_batch(self, batch)
        if self.epoch and (self.epoch + 1) % self.every:
            return self._part(edges, self.interest(), sign_aware_bpr, (1.0, 2.0))
        parts = [table.chunk(2, dim=1) for table in self.encode()]
        positive, negative = zip(*parts, strict=True)
        total = self._part(edges, positive, sign_aware_bpr, (1.0, 2.0))
        total = total + self._part(edges, negative, reversed_bpr, (2.0, 1.0))
        plus, minus = (
            edges.known_scores(normalize(users, dim=1), normalize(items, dim=1))
            for users, items in (positive, negative)
        )
        return total + self.contrast_weight * softplus((minus - plus) / self.temperature).mean()

    def _part(self, edges: SampledEdges, pair: Pair, kind: Any, coefficients: tuple[float, float]) -> torch.Tensor:
        ranking = kind(*edges.scores(*pair), edges.coefficient(*coefficients)).mean()
        return ranking + 0.5 * self.reg_weight * edges.squared_norms(*pair)

r"""LSGRec: a light signed graph convolution network for recommendation.

Yuting Liu, Yizhou Dang, Yuliang Liang, Qiang Liu, Guibing Guo, Jianzhe Zhao, Xingwei Wang. "Towards Unified Modeling
for Positive and Negative Preferences in Sign-Aware Recommendation." 2024. https://arxiv.org/abs/2403.08246
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import side_by_side, xavier_tables
from recbole_signed.model.losses import SampledEdges, reversed_bpr, sign_aware_bpr


class LSGRec(SignedRecommender):
    r"""Positive and negative preferences from one table: the first step of the negative ones goes along dislikes.

    .. math:: X^+_l = \hat A_+^l E, \quad X^-_l = \hat A_+^{l-1} \hat A_- E \;(l \ge 1), \quad X^-_0 = E', \quad
              Z^\pm = \tfrac{1}{L+1} \sum_{l=0}^{L} X^\pm_l, \quad y_{ui} = z^+_u \cdot z^+_i

    The loss has four parts, with K sampled items j for each edge, likes and dislikes alike:

    * :math:`-\ln \sigma(c\, y_{ui} - y_{uj})` summed over j, c = 1 for likes and 2 for dislikes, mean over the edges;
    * the same reversed for :math:`y^-_{ui} = z^-_u \cdot z^-_i`: :math:`-\ln \sigma(y^-_{uj} - c' y^-_{ui})`, c' = 2
      for likes and 1 for dislikes;
    * the squared error of a linear prediction of the rating from :math:`[z^+_u; z^+_i]`;
    * orthogonality, the mean over the edges of :math:`(z^+_u \cdot z^-_u)^2 + (z^+_i \cdot z^-_i)^2`;

    and half the squared norms of all embeddings of a batch, of both kinds, times ``reg_weight``.

    Both streams take the same products with :math:`\hat A_+` after the first step, so they are propagated side by
    side, and the sum over layers is one product shorter by Horner's rule.

    As the authors' code runs, with these differences: its squared error compares each rating with the predictions of
    all edges of the batch, by a shape error, here with that of its own edge, and of the sign; AdamW is Adam; the epoch
    is chosen on validation, not on test data.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.n_layers = int(config["embedding_size"]), int(config["n_layers"])
        self.reg_weight = float(config["reg_weight"])
        self.rating_weight, self.orthogonal_weight = float(config["rating_weight"]), float(config["orthogonal_weight"])
        self.user_embedding, self.item_embedding = xavier_tables(self.n_users, self.n_items, size)
        self.user_dislikes, self.item_dislikes = xavier_tables(self.n_users, self.n_items, size)
        self.rating = nn.Linear(2 * size, 1)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)
        self.dislikes = BipartiteOperator.symmetric(self.graph.dislikes, self.device)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :math:`Z^+` of users ``[n_users, d]`` and items ``[n_items, d]``."""
        return self.likes.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers)

    def streams(self) -> tuple[Pair, Pair]:
        """Return users and items of :math:`Z^+`, and those of :math:`Z^-`."""
        start = self.user_embedding.weight, self.item_embedding.weight
        third = self.user_dislikes.weight, self.item_dislikes.weight
        n = self.n_layers
        if not n:
            return start, third
        both = side_by_side(start, self.dislikes(*start))
        sums = [n * mean for mean in self.likes.mean_of_layers(*both, n - 1)]  # layers 0 to L - 1 of both
        positive, negative = zip(*(table.chunk(2, dim=1) for table in sums), strict=True)
        last = self.likes(*positive)
        return (
            ((start[0] + last[0]) / (n + 1), (start[1] + last[1]) / (n + 1)),
            ((third[0] + negative[0]) / (n + 1), (third[1] + negative[1]) / (n + 1)),
        )

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss over the edges of ``batch``."""
        edges = SampledEdges.from_batch(self, batch)
        positive, negative = self.streams()
        total = sign_aware_bpr(*edges.scores(*positive), edges.coefficient(1.0, 2.0)).mean()
        total = total + reversed_bpr(*edges.scores(*negative), edges.coefficient(2.0, 1.0)).mean()
        norms = edges.squared_norms(*positive) + edges.squared_norms(*negative)
        total = total + 0.5 * self.reg_weight * norms
        if self.rating_weight:
            total = total + self.rating_weight * self._rating_error(edges, positive)
        if self.orthogonal_weight:
            sides = zip(positive, negative, (edges.users, edges.items), strict=True)
            overlaps = [(plus * minus).sum(dim=1).square().index_select(0, ids).mean() for plus, minus, ids in sides]
            total = total + self.orthogonal_weight * sum(overlaps)
        return total

    def _rating_error(self, edges: SampledEdges, positive: Pair) -> torch.Tensor:
        """The mean squared error; each node's part of the prediction is one number, so no edge needs its embeddings."""
        parts = [table @ weight for table, weight in zip(positive, self.rating.weight[0].chunk(2), strict=True)]
        predicted = parts[0].index_select(0, edges.users) + parts[1].index_select(0, edges.items) + self.rating.bias
        return (predicted - edges.sign).square().mean()

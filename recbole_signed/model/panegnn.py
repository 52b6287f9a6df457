r"""PANE-GNN: positive and negative edges in graph neural networks.

Ziyang Liu, Chaokun Wang, Jingcao Xu, Cheng Wu, Kai Zheng, Yang Song, Na Mou, Kun Gai. "PANE-GNN: Unifying Positive and
Negative Edges in Graph Neural Networks for Recommendation." 2023. https://arxiv.org/abs/2306.04095
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import interest_scores, side_by_side, xavier_tables
from recbole_signed.model.losses import SampledEdges, info_nce, reversed_bpr, sign_aware_bpr


class PANEGNN(SignedRecommender):
    r"""Interest from the graph of likes, disinterest from that of dislikes and from a distorted copy of it.

    .. math:: Z^+ = \tfrac{1}{L+1} \sum_l \hat A_+^l E, \quad Z^- = \tfrac{1}{L+1} \sum_l \hat A_-^l E', \quad
              \tilde Z^- = \tfrac{1}{L+1} \sum_l \tilde A_-^l E'

    with :math:`\tilde A_-` the normalised graph of dislikes from which a share of the edges has been removed. The loss
    over edges (u, i), likes and dislikes alike, with K sampled items j is

    * :math:`-\sum_j \ln \sigma(c\, y^+_{ui} - y^+_{uj})`, c = 1 for likes and b for dislikes;
    * :math:`-\sum_j \ln \sigma(y^-_{uj} - c' y^-_{ui})`, c' = b for likes and 1 for dislikes;
    * InfoNCE between the rows of :math:`Z^-` and :math:`\tilde Z^-`, for the distinct users and the distinct items of
      the batch;
    * half the squared norms of all embeddings of the first two, times ``reg_weight``.

    An item with :math:`y^-_{ui}` above ``disinterest_threshold`` is ranked after all others, by a finite penalty.

    **Partly our reading: the paper's text was not at hand.** From its abstract: two graphs, two embeddings, light
    convolutions, contrastive training on a distorted graph of dislikes, a ranking filtered by disinterest scores. The
    rest follows the authors' code, ``pnegnn.py``, in the history of https://github.com/Young0222/PaN-GNN: both ranking
    losses with b = 3, a temperature of 0.8, 80 % of the edges removed, a threshold of 0. Its perceptron, joined to
    :math:`Z^+` by attention, is left out, as the abstract says nothing of it. Our choice: means over the batch with
    the regularisation of Pone-GNN's code; InfoNCE row by row; a new distortion for each epoch.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.n_layers = int(config["embedding_size"]), int(config["n_layers"])
        self.reg_weight, self.temperature = float(config["reg_weight"]), float(config["temperature"])
        self.contrast_weight, self.removed = float(config["contrast_weight"]), float(config["removed_share"])
        self.feedback_coefficient = float(config["feedback_coefficient"])
        self.threshold, self.seed = float(config["disinterest_threshold"]), int(config["seed"])
        self.user_embedding, self.item_embedding = xavier_tables(self.n_users, self.n_items, size)
        self.user_dislikes, self.item_dislikes = xavier_tables(self.n_users, self.n_items, size)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)
        self.dislikes = BipartiteOperator.symmetric(self.graph.dislikes, self.device)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Remove other edges; which ones depends on the seed and the number of the epoch alone."""
        rng = np.random.default_rng([self.seed, epoch])
        left = self.graph.dislikes.copy()
        left.data = (rng.random(left.nnz) >= self.removed).astype(left.dtype)
        left.eliminate_zeros()
        self.distorted = BipartiteOperator.symmetric(left, self.device)

    def interest(self) -> Pair:
        """Return :math:`Z^+`."""
        return self.likes.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers)

    def disinterest(self, operator: BipartiteOperator) -> Pair:
        """Return :math:`Z^-`, or what another graph makes of E'."""
        return operator.mean_of_layers(self.user_dislikes.weight, self.item_dislikes.weight, self.n_layers)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return interest and disinterest of users ``[n_users, 2d]`` and items ``[n_items, 2d]``, side by side."""
        return side_by_side(self.interest(), self.disinterest(self.dislikes))

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the interest scores ``[batch, n_items]``, items of disinterest last."""
        user_vectors, item_vectors = self.embeddings()
        return interest_scores(user_vectors[users], item_vectors, self.threshold)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss over the edges of ``batch``."""
        edges = SampledEdges.from_batch(self, batch)
        positive, negative, b = self.interest(), self.disinterest(self.dislikes), self.feedback_coefficient
        total = sign_aware_bpr(*edges.scores(*positive), edges.coefficient(1.0, b)).mean()
        total = total + reversed_bpr(*edges.scores(*negative), edges.coefficient(b, 1.0)).mean()
        norms = edges.squared_norms(*positive) + edges.squared_norms(*negative)
        total = total + 0.5 * self.reg_weight * norms
        if self.contrast_weight:
            sides = zip(negative, self.disinterest(self.distorted), (edges.users, edges.items), strict=True)
            for first, second, ids in sides:
                rows = ids.unique()
                views = first.index_select(0, rows), second.index_select(0, rows)
                total = total + self.contrast_weight * info_nce(*views, self.temperature)
        return total

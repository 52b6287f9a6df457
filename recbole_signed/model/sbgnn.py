r"""SBGNN: a signed bipartite graph network with edges within each side, with a ranking loss.

Junjie Huang, Huawei Shen, Qi Cao, Shuchang Tao, Xueqi Cheng. "Signed Bipartite Graph Neural Networks." CIKM 2021.
https://arxiv.org/abs/2108.09638
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator, Pair, TwoHopMean
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.losses import columns, mean_bpr


class SBGNNLayer(nn.Module):
    r"""Four messages for each node, and a perceptron (eq. 5-7).

    .. math:: x_a' = \mathrm{MLP}\big([x_a ; m^{+}_{b} ; m^{-}_{b} ; m^{+}_{a} ; m^{-}_{a}]\big), \quad
              m = \mathrm{mean}_{neighbours} (x W + c)

    of the other side (b) along likes and dislikes, and of the own side (a) along agreement and disagreement; 0 without
    neighbours. W, c differ by message and side, the perceptron (dropout, 5d to 2d, PReLU, to d) is shared by the sides.
    """

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.users_from, self.items_from = (
            nn.ModuleDict({name: nn.Linear(size, size) for name in ("like", "dislike", "agree", "disagree")})
            for _ in range(2)
        )
        self.update = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(5 * size, 2 * size), nn.PReLU(), nn.Linear(2 * size, size)
        )

    def forward(self, users: torch.Tensor, items: torch.Tensor, graph: SBGNNGraph) -> Pair:
        """Map ``users [n_users, d]`` and ``items [n_items, d]`` to the next layer's."""
        of_users, of_items = self.users_from, self.items_from
        near_users = [
            graph.likes.to_users @ of_users["like"](items),
            graph.dislikes.to_users @ of_users["dislike"](items),
            graph.users(of_users["agree"](users), agreeing=True),
            graph.users(of_users["disagree"](users), agreeing=False),
        ]
        near_items = [
            graph.likes.to_items @ of_items["like"](users),
            graph.dislikes.to_items @ of_items["dislike"](users),
            graph.items(of_items["agree"](items), agreeing=True),
            graph.items(of_items["disagree"](items), agreeing=False),
        ]
        return self.update(torch.cat([users, *near_users], dim=1)), self.update(torch.cat([items, *near_items], dim=1))


class SBGNNGraph:
    """The operators of all layers; copies of a model share them."""

    def __init__(self, graph: Any, device: Any) -> None:
        self.likes = BipartiteOperator.mean(graph.likes, device)
        self.dislikes = BipartiteOperator.mean(graph.dislikes, device)
        self.users = TwoHopMean(graph.likes, graph.dislikes, device)
        self.items = TwoHopMean(graph.likes.T.tocsr(), graph.dislikes.T.tocsr(), device)


class SBGNN(SignedRecommender):
    r"""Layers of :class:`SBGNNLayer` (SBGNN-MEAN), scores :math:`z_u \cdot z_i` of the last one, trained by BPR.

    Two users (items) agree on what both like or both dislike, and disagree on what one likes and the other dislikes.
    The paper makes an edge between each two of them, signed by whether agreement or disagreement is more frequent,
    which takes memory quadratic in a node's degree. Here each shared item counts on its own:

    .. math:: m^{+} \propto P P^T x + N N^T x, \quad m^{-} \propto P N^T x + N P^T x

    as sparse products, without a user's paths to itself, divided by the number of paths. The paper's attention is left
    out, as it would need these edges. Made for the signs of links (a cross-entropy), it is trained here by BPR: likes
    above sampled items that are not liked.
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size = int(config["embedding_size"])
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.layers = nn.ModuleList(
            SBGNNLayer(size, float(config["dropout_prob"])) for _ in range(int(config["n_layers"]))
        )
        self.operators = SBGNNGraph(self.graph, self.device)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last layer, ``[n_users, d]`` and ``[n_items, d]``."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        for layer in self.layers:
            users, items = layer(users, items, self.operators)
        return users, items

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        return mean_bpr(*self.encode(), *columns(self, batch))

r"""SGCN: signed graph convolutions, with a ranking loss.

Tyler Derr, Yao Ma, Jiliang Tang. "Signed Graph Convolutional Network." ICDM 2018. https://arxiv.org/abs/1808.06354
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.init import xavier_uniform_initialization
from torch import nn

from recbole_signed.errors import UsageError
from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import side_by_side
from recbole_signed.model.losses import batch_norm_penalty, columns, mean_bpr


class SignedLayer(nn.Module):
    r"""A layer of SGCN on both sides of the graph, with the weights of ``torch_geometric.nn.SignedConv``.

    First layer (eq. 1, 2), the others (eq. 3, 4), with means over neighbours and the same weights for users and items:

    .. math:: h^+ = [\mathrm{mean}_{N^+} x] \, W^+_l + x W^+_r + b^+, \quad
              h^- = [\mathrm{mean}_{N^-} x] \, W^-_l + x W^-_r + b^-

    .. math:: h^+ = [\mathrm{mean}_{N^+} h^+ ; \mathrm{mean}_{N^-} h^-] \, W^+_l + h^+ W^+_r + b^+, \quad
              h^- = [\mathrm{mean}_{N^+} h^- ; \mathrm{mean}_{N^-} h^+] \, W^-_l + h^- W^-_r + b^-
    """

    def __init__(self, n_inputs: int, n_outputs: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        width = n_inputs if first else 2 * n_inputs
        self.lin_pos_l, self.lin_neg_l = (nn.Linear(width, n_outputs, bias=False) for _ in range(2))
        self.lin_pos_r, self.lin_neg_r = (nn.Linear(n_inputs, n_outputs) for _ in range(2))

    def forward(self, liking: Pair, disliking: Pair, likes: BipartiteOperator, dislikes: BipartiteOperator) -> Any:
        """Map :math:`h^+` and :math:`h^-`, each of users and items, to those of the next layer."""
        if self.first:
            around = likes(*liking), dislikes(*disliking)
        else:
            around = (
                side_by_side(likes(*liking), dislikes(*disliking)),
                side_by_side(likes(*disliking), dislikes(*liking)),
            )
        return (
            tuple(self.lin_pos_l(near) + self.lin_pos_r(own) for near, own in zip(around[0], liking, strict=True)),
            tuple(self.lin_neg_l(near) + self.lin_neg_r(own) for near, own in zip(around[1], disliking, strict=True)),
        )


class SGCN(SignedRecommender):
    r"""Two embeddings of each node, of its friends' friends and of its enemies, by balance theory.

    Layers of :class:`SignedLayer` with tanh; a node is :math:`z = [h^+ ; h^-]`, a score :math:`z_u \cdot z_i`. Made
    for the signs of links, it is trained here, as the signed-graph papers do that compare with it, by BPR: likes above
    sampled items that are not liked. So the loss of the paper (three classes of edges, and margins) is replaced, its
    fixed spectral features are learned tables, and LightGCN's weight decay is added.
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, n_layers = int(config["embedding_size"]), int(config["n_layers"])
        if size % 2:
            raise UsageError(f"embedding_size must be even, as half of it is for dislikes, but is {size}.")
        self.reg_weight = float(config["reg_weight"])
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.layers = nn.ModuleList(
            SignedLayer(size if not number else size // 2, size // 2, first=not number) for number in range(n_layers)
        )
        self.apply(xavier_uniform_initialization)
        self.likes = BipartiteOperator.mean(self.graph.likes, self.device)
        self.dislikes = BipartiteOperator.mean(self.graph.dislikes, self.device)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z of the last layer, ``[n_users, d]`` and ``[n_items, d]``."""
        liking = disliking = self.user_embedding.weight, self.item_embedding.weight
        for layer in self.layers:
            sides = layer(liking, disliking, self.likes, self.dislikes)
            liking, disliking = ((torch.tanh(of_users), torch.tanh(of_items)) for of_users, of_items in sides)
        return side_by_side(liking, disliking)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        tables = self.user_embedding.weight, self.item_embedding.weight
        decay = batch_norm_penalty(*tables, users, items, sampled)
        return mean_bpr(*self.encode(), users, items, sampled) + self.reg_weight * decay

r"""SLGNN: attention over likes minus attention over dislikes, with a ranking loss.

Yu Li, Meng Qu, Jian Tang, Yi Chang. "Signed Laplacian Graph Neural Networks." AAAI 2023.

Code: https://github.com/liyu1990/slgnn
"""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.functional import dropout, leaky_relu, relu

from recbole_signed.graph.sparse_kernels import SparsePairs, pair_sums
from recbole_signed.graph.spectral import right_factors
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.losses import columns, mean_bpr


class SignedPairs:
    """The pairs (node, neighbour) of both signs, users before items, and the norm of each pair; copies share them."""

    def __init__(self, graph: Any, device: Any) -> None:
        n_users, n_items = graph.likes.shape
        size = n_users + n_items
        loops = torch.arange(size, device=device)
        counts = torch.ones(size, device=device)
        ends: list[tuple[torch.Tensor, ...]] = []
        for matrix in (graph.likes, graph.dislikes):
            edges = matrix.tocoo()
            users = torch.from_numpy(edges.row).long().to(device)
            items = torch.from_numpy(edges.col).long().to(device) + n_users
            ends.append((torch.cat([users, items]), torch.cat([items, users])))
            counts += torch.bincount(ends[-1][0], minlength=size)
        ends[0] = tuple(torch.cat([end, loops]) for end in ends[0])  # each node is a liked neighbour of itself
        self.pairs = [SparsePairs.sorted_by_row(rows, there, (size, size))[0] for rows, there in ends]
        inverse = counts.rsqrt()
        self.norms = [pairs.spread(inverse) * inverse[pairs.columns] for pairs in self.pairs]

    def __deepcopy__(self, memo: dict[int, Any]) -> SignedPairs:
        return self


def singular_features(matrix: sp.csr_matrix, size: int, seed: int) -> torch.Tensor:
    """Return the leading singular vectors, standardised, a row for each row and each column of ``matrix``."""
    factors = right_factors(matrix, size, seed=seed)
    left = torch.from_numpy(matrix @ factors.vectors.numpy()) / factors.values
    both = torch.cat([left, factors.vectors])
    both = (both - both.mean(0)) / both.std(0, correction=0)
    return torch.cat([both, torch.randn(len(both), size - both.shape[1])], dim=1)


class SLGNNLayer(nn.Module):
    r"""Heads of signed graph convolution with attention (the class ``SpMergeAttentionLayer`` of the authors' code).

    .. math:: h^{\pm} = x W^{\pm}, \quad
              c^{\pm}_{ij} = \frac{\sigma(\mathrm{LeakyReLU}(a \cdot [h^{\pm}_i ; h^{\pm}_j]))}{\sqrt{d_i d_j}}, \quad
              x'_i = \sum_{j \in N^+_i \cup \{i\}} c^+_{ij} h^+_j - \sum_{j \in N^-_i} c^-_{ij} h^-_j + b

    with d the number of neighbours of both signs and the node itself. W of either sign is a mixture of two bases.
    """

    def __init__(self, size_in: int, size: int, n_heads: int, slope: float, drop: tuple[float, float]) -> None:
        super().__init__()
        self.slope, self.drop = slope, drop
        self.bases = nn.Parameter(torch.empty(n_heads, 2, size_in, size))
        self.mixture = nn.Parameter(torch.empty(n_heads, 2, 2))
        self.attention = nn.Parameter(torch.empty(n_heads, 2 * size))
        self.bias = nn.Parameter(torch.empty(n_heads, size))
        for tensor in self.parameters():
            for head in tensor.data.split(1):  # Xavier's size is that of a head by itself: [2, size_in, size] and so on
                nn.init.xavier_normal_(head if head.dim() == 2 else head[0])

    def forward(self, states: torch.Tensor, graph: SignedPairs) -> list[torch.Tensor]:
        """Map ``states [n_nodes, d]`` to what each head makes of them, ``[n_nodes, size]``."""
        node_drop, edge_drop = self.drop
        weights = torch.einsum("hsb,hbio->hsio", self.mixture, self.bases)
        heads = []
        for head, attention in zip(weights, self.attention, strict=True):
            seen = dropout(states, node_drop, self.training)
            sums = []
            for weight, pairs, norm in zip(head, graph.pairs, graph.norms, strict=True):
                hidden = seen @ weight
                here, there = (hidden @ part for part in attention.chunk(2))
                score = pairs.spread(here) + there[pairs.columns]
                mixed = torch.sigmoid(leaky_relu(score, self.slope)) * norm
                sums.append(pair_sums(dropout(mixed, edge_drop, self.training), hidden, pairs))
            heads.append(sums[0] - sums[1])
        return [head + bias for head, bias in zip(heads, self.bias, strict=True)]


class SLGNN(SignedRecommender):
    """Two of :class:`SLGNNLayer`: the heads of the first side by side, the mean of those of the second, with ReLU.

    Scores are inner products of the second layer. Made for the signs of links, it is trained here by BPR, all edges at
    a time, as the comparison in SIGformer's paper does (SIGIR 2024). The trainable features of nodes start as the
    leading singular vectors of likes minus dislikes, standardised: those of the authors' whole adjacency matrix.
    Columns beyond the rank start at random.

    Departures from the authors' code: Adam in place of Adagrad; nothing of the size nodes x nodes is made.
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, heads = int(config["embedding_size"]), int(config["n_heads"])
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        features = singular_features(self.graph.likes - self.graph.dislikes, size, int(config["seed"]))
        with torch.no_grad():
            self.user_embedding.weight.copy_(features[: self.n_users])
            self.item_embedding.weight.copy_(features[self.n_users :])
        rest = heads, float(config["slope"]), (float(config["dropout_prob"]), float(config["edge_dropout_prob"]))
        self.first, self.second = (SLGNNLayer(size_in, size, *rest) for size_in in (size, heads * size))
        self.neighbours = SignedPairs(self.graph, self.device)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the second layer, ``[n_users, d]`` and ``[n_items, d]``."""
        states = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        states = relu(torch.cat(self.first(states, self.neighbours), dim=1))
        states = relu(torch.stack(self.second(states, self.neighbours)).mean(dim=0))
        users, items = states.split([self.n_users, self.n_items])
        return users, items

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        return mean_bpr(*self.encode(), *columns(self, batch))

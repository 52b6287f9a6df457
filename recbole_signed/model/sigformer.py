r"""SIGformer: a transformer over the signed graph.

Sirui Chen, Jiawei Chen, Sheng Zhou, Bohao Wang, Shen Han, Chanfei Su, Yuqing Yuan, Can Wang. "SIGformer: Sign-aware
Graph Transformer for Recommendation." SIGIR 2024. https://arxiv.org/abs/2404.11982
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn.functional import layer_norm, softplus

from recbole_signed.graph.eigenvectors import laplacian_eigenvectors
from recbole_signed.graph.random_walks import WalkGraph, n_path_types, path_attention
from recbole_signed.graph.sparse_kernels import SparsePairs, pair_scores
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import normal_tables


class SIGformer(SignedRecommender):
    r"""Attention along random walks, with a spectral and a path encoding that know signs.

    .. math:: E^{l+1} = S^l X^l, \quad X^l = \mathrm{LayerNorm}(E^l), \quad
              y_{ui} = \bar e_u \cdot \bar e_i, \quad \bar E = \tfrac{1}{L+1} \sum_{l=0}^{L} E^l

    with :math:`S^l` of :func:`~recbole_signed.graph.random_walks.path_attention` over fresh walks for each layer and
    step, :math:`w = e^{\lambda_l}`, and p the LayerNorm of the ``eigs_dim`` smoothest eigenvectors of
    :math:`L = (L^+ + \alpha L^-)/(1 + \alpha)`. There are no query, key and value matrices. The loss is the mean over
    all training edges of :math:`\mathrm{softplus}(c\,(y_{uj} - y_{ui}))`, c = 1 for likes and :math:`\beta` for
    dislikes, j an item unknown to u, plus weight decay; one step of Adam per epoch over all edges.

    Signs: ``alpha`` is that of the authors' code, the negative of the paper's. ``alpha > 0`` pulls a user and a
    disliked item together, ``beta > 0`` ranks a disliked item above unknown ones. The authors' commands use (alpha,
    beta, sample_hop) = (0.4, 1, 2) on Amazon-CDs, (0, 1, 3) on Amazon-Music, (0.4, 1, 3) on Epinions, (-0.8, -0.2, 6)
    on KuaiRec, (0.2, 1, 3) on KuaiRand: a dislike is a weak like everywhere but on KuaiRec.

    As the authors' code runs, with these differences:

    * it evaluates the embeddings of the last training step, which are one update old; this evaluates the current ones,
      over walks that are the same for every evaluation and for every numbering of users and items;
    * its eigenvectors come from a solver for matrices that need not be symmetric, which finds some of those of the
      eigenvalue 0; the others are the same up to signs and a rotation within equal eigenvalues, which its LayerNorm is
      not indifferent to. Where the graph has fewer than ``eigs_dim`` of them below the eigenvalue 1, p is narrower;
    * the gradient of a pair that c walks reach is the derivative; in the library that it uses it is c times as large.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.alpha, self.beta = float(config["alpha"]), float(config["beta"])
        self.n_layers, self.sample_hop = int(config["n_layers"]), int(config["sample_hop"])
        self.reg_weight, self.gate_decay = float(config["reg_weight"]), float(config["gate_decay"])
        size = int(config["embedding_size"])
        self.user_embedding, self.item_embedding = normal_tables(self.n_users, self.n_items, size, 0.1)
        self.gate = nn.Parameter(torch.zeros(self.n_layers, 1))  # lambda_l
        self.path_logits = nn.Parameter(torch.zeros(self.n_layers, n_path_types(self.sample_hop)))
        # evaluation walks are drawn in the order of these marks, whatever number a user or item has
        self.register_buffer("user_mark", torch.randperm(self.n_users))
        self.register_buffer("item_mark", torch.randperm(self.n_items))
        self.register_buffer("walk_seed", torch.tensor(int(config["seed"])))
        self._edges = self.training_rows(dataset)
        self.walks = WalkGraph.from_edges(*self._edges, self.n_users, self.n_items).to(self.device)
        self.register_buffer("positions", self._positions(int(config["eigs_dim"])), persistent=False)

    def _positions(self, k: int) -> torch.Tensor:
        """Return the LayerNorm of the eigenvectors, ``[n_users + n_items, at most k]``."""
        users, items, likes = (tensor.numpy() for tensor in self._edges)

        def counts(of: np.ndarray) -> sp.csr_matrix:
            ones = np.ones(int(of.sum()))
            return sp.csr_matrix((ones, (users[of], items[of])), shape=(self.n_users, self.n_items))

        columns = laplacian_eigenvectors(counts(likes), counts(~likes), self.alpha, k) if k else np.empty((0, 0))
        vectors = torch.from_numpy(columns).float()
        if not vectors.shape[1]:
            return torch.zeros(self.n_users + self.n_items, 1)
        return layer_norm(vectors, vectors.shape[1:]).contiguous()

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean over layers, ``[n_users, d]`` and ``[n_items, d]``."""
        start = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        if self.training:
            mean = self._propagate(start, self.positions, self.walks, None)
        else:
            users, items = self.user_mark.argsort(), self.item_mark.argsort()
            order = torch.cat([users, items + self.n_users])
            generator = torch.Generator().manual_seed(int(self.walk_seed))
            user, item, likes = self._edges
            marked = users.cpu().argsort()[user], items.cpu().argsort()[item]
            walks = WalkGraph.from_edges(*marked, likes, self.n_users, self.n_items).to(self.device)
            mean = self._propagate(start[order], self.positions[order], walks, generator)[order.argsort()]
        users, items = mean.split([self.n_users, self.n_items])
        return users, items

    def _propagate(
        self, state: torch.Tensor, positions: torch.Tensor, graph: WalkGraph, generator: torch.Generator | None
    ) -> torch.Tensor:
        total = state
        for gate, path_logits in zip(self.gate, self.path_logits, strict=True):
            walks = graph.draw(self.sample_hop, generator)
            state = path_attention(layer_norm(state, state.shape[1:]), gate.exp(), path_logits, positions, walks)
            total = total + state
        return total / (self.n_layers + 1)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss over the edges of ``batch``, likes alone where ``beta`` is 0."""
        users, items = batch[self.USER_ID], batch[self.ITEM_ID]
        unknown, sign = batch[self.NEG_ITEM_ID].reshape(len(users), -1), batch["sign"]
        if self.beta == 0:
            users, items, unknown, sign = (tensor[sign > 0] for tensor in (users, items, unknown, sign))
        if not len(users):  # a batch of dislikes alone: their mean over no edges would be NaN
            return self._decay(users, items, unknown)
        shape = (self.n_users, self.n_items)
        pairs, order = SparsePairs.sorted_by_row(users, items, shape)
        weight = torch.where(sign > 0, 1.0, self.beta).index_select(0, order)
        user_vectors, item_vectors = self.encode()
        known = pair_scores(user_vectors, item_vectors, pairs)
        total = known.new_zeros(())
        for column in unknown.unbind(dim=1):
            others = SparsePairs(pairs.indptr, column.index_select(0, order).int(), self.n_items)
            total = total + softplus(weight * (pair_scores(user_vectors, item_vectors, others) - known)).mean()
        return total / unknown.shape[1] + self._decay(users, items, unknown)

    def _decay(self, users: torch.Tensor, items: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
        """Half the squared norms of all rows that the batch names, per edge, and of the gates."""
        counts = (
            torch.bincount(users, minlength=self.n_users),
            torch.bincount(torch.cat([items, unknown.reshape(-1)]), minlength=self.n_items),
        )
        tables = self.user_embedding.weight, self.item_embedding.weight
        norms = sum(count.float() @ table.square().sum(dim=1) for count, table in zip(counts, tables, strict=True))
        return 0.5 * (self.reg_weight * norms / max(len(users), 1) + self.gate_decay * self.gate.square().sum())

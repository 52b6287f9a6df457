r"""DirectAU: alignment of liked pairs and uniformity of users and of items, without sampled items.

Chenyang Wang, Yuanqing Yu, Weizhi Ma, Min Zhang, Chong Chen, Yiqun Liu, Shaoping Ma. "Towards Representation Alignment
and Uniformity in Collaborative Filtering." KDD 2022. https://arxiv.org/abs/2206.12811
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize

from recbole_signed.graph.propagation import BipartiteOperator
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import xavier_tables
from recbole_signed.model.losses import uniformity


class DirectAU(SignedRecommender):
    r"""Unit embeddings :math:`\tilde e` that lie close for likes and spread out otherwise (eq. 6-8).

    .. math:: \mathcal L = \mathrm{mean}_{(u,i)} \|\tilde e_u - \tilde e_i\|^2 + \tfrac{\gamma}{2} \Big(
              \ln \mathrm{mean}_{u \ne u'} e^{-2 \|\tilde e_u - \tilde e_{u'}\|^2}
              + \ln \mathrm{mean}_{i \ne i'} e^{-2 \|\tilde e_i - \tilde e_{i'}\|^2} \Big)

    The uniformity is over the distinct users and the distinct items of a batch; the authors' code has a user once for
    each of its likes there, which pairs it with itself. Scores are inner products without the normalisation, as
    theirs. The encoder is ``MF``, the tables themselves, or ``LightGCN`` with ``n_layers``. Mini-batches of likes.
    """

    batches = "likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"]) if config["encoder"] == "LightGCN" else 0
        self.gamma = float(config["gamma"])
        size = int(config["embedding_size"])
        self.user_embedding, self.item_embedding = xavier_tables(self.n_users, self.n_items, size)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device) if self.n_layers else None

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's output, ``[n_users, d]`` and ``[n_items, d]``."""
        tables = self.user_embedding.weight, self.item_embedding.weight
        return tables if self.likes is None else self.likes.mean_of_layers(*tables, self.n_layers)

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        user_vectors, item_vectors = self.encode()
        users, of_user = batch[self.USER_ID].unique(return_inverse=True)
        items, of_item = batch[self.ITEM_ID].unique(return_inverse=True)
        user_rows = normalize(user_vectors.index_select(0, users), dim=-1)
        item_rows = normalize(item_vectors.index_select(0, items), dim=-1)
        apart = user_rows.index_select(0, of_user) - item_rows.index_select(0, of_item)
        alignment = apart.square().sum(dim=-1).mean()
        return alignment + self.gamma * (uniformity(user_rows) + uniformity(item_rows)) / 2

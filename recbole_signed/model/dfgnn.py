r"""DFGNN: a low-pass filter over likes and a high-pass filter over dislikes.

Yiqing Wu, Ruobing Xie, Zhao Zhang, Xu Zhang, Fuzhen Zhuang, Leyu Lin, Zhanhui Kang, Yongjun Xu. "DFGNN: Dual-frequency
Graph Neural Network for Sign-aware Feedback." 2024. https://arxiv.org/abs/2405.15280
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize, softplus

from recbole_signed.graph.propagation import BipartiteOperator
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import tables
from recbole_signed.model.losses import columns, dots, log_sum_exp, scores_of


class DFGNN(SignedRecommender):
    r"""Layers that join what is smooth along likes with what changes along dislikes.

    .. math:: E^{l+1} = [\tilde A^{+} E^l \,;\, (I - \hat A^{-}) E^l] \, W_l + b_l, \quad
              y_{ui} = \sigma(e^L_u \cdot e^L_i)

    with :math:`\tilde A^{+}` of the likes with a loop at each node, :math:`\hat A^{-}` of the dislikes without, both
    divided by the roots of the degrees. The loss over a batch is the mean binary cross-entropy of its likes and of K
    sampled items each, plus ``cl_weight`` times the signed graph regularisation over all of its edges, on the tables:

    .. math:: \mathrm{mean}_{(u,i,s)} \Big( -s \cos(e_u, e_i) / \tau
              + \ln \sum_{i'} e^{\cos(e_u, e_{i'}) / \tau} \Big)

    where :math:`i'` runs over the batch. These are the equations of the authors' code (github.com/wyqing20/DFGNN,
    HLGCNCLRec), not copied; the paper's own text was not at hand. Differences: a sampled item has no edge to the user;
    W and b start as torch's linear layers, where theirs are normal; b decays, too.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.cl_weight, self.temperature = float(config["cl_weight"]), float(config["temperature"])
        size = int(config["embedding_size"])
        self.user_embedding, self.item_embedding = tables(self.n_users, self.n_items, size, nn.init.xavier_uniform_)
        self.joins = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(int(config["n_layers"])))
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device, smoothing=1.0)
        self.dislikes = BipartiteOperator.symmetric(self.graph.dislikes, self.device)
        for side, axis in (("user", 1), ("item", 0)):
            degrees = np.asarray(self.graph.likes.sum(axis=axis), dtype=np.float32).ravel()
            self.register_buffer(f"{side}_loop", torch.from_numpy(1.0 / (degrees + 1.0))[:, None], persistent=False)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last layer, ``[n_users, d]`` and ``[n_items, d]``."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        for join in self.joins:
            low, high = self.likes(users, items), self.dislikes(users, items)
            users = join(torch.cat([low[0] + self.user_loop * users, users - high[0]], dim=1))
            items = join(torch.cat([low[1] + self.item_loop * items, items - high[1]], dim=1))
        return users, items

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes and dislikes."""
        users, items, sampled = columns(self, batch)
        signs = batch["sign"]
        return self._ranking(users, items, sampled, signs > 0) + self.cl_weight * self.regulariser(users, items, signs)

    def _ranking(
        self, users: torch.Tensor, items: torch.Tensor, sampled: torch.Tensor, liked: torch.Tensor
    ) -> torch.Tensor:
        users, items, sampled = users[liked], items[liked], sampled[liked]
        user_vectors, item_vectors = self.encode()
        user_rows = user_vectors.index_select(0, users)
        known = softplus(-dots(user_rows, item_vectors.index_select(0, items)))
        others = softplus(scores_of(user_rows, item_vectors, sampled))
        return (known.sum() + others.sum()) / max(known.numel() + others.numel(), 1)

    def regulariser(self, users: torch.Tensor, items: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        """Return the signed graph regularisation over the edges of a batch; 0 where there is but one."""
        left, right = normalize(self.user_embedding(users), dim=-1), normalize(self.item_embedding(items), dim=-1)
        if len(users) < 2:
            return 0.0 * left.sum()
        pulled = signs * dots(left, right) / self.temperature
        return log_sum_exp(left, right, self.temperature) - pulled.mean()

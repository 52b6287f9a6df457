r"""SiGRec: a signed graph neural network with two encoders and a sign cosine loss.

Junjie Huang, Ruobing Xie, Qi Cao, Huawei Shen, Shaoliang Zhang, Feng Xia, Xueqi Cheng. "Negative Can Be Positive:
Signed Graph Neural Networks for Recommendation." Information Processing & Management 60(4), 2023.
https://doi.org/10.1016/j.ipm.2023.103403
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import normalize

from recbole_signed.graph.propagation import BipartiteOperator
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.layers import side_by_side, xavier_tables
from recbole_signed.model.losses import SampledEdges, bpr


class SiGRec(SignedRecommender):
    r"""One LightGCN on the likes, one on the dislikes, and a loss on the cosines of both kinds of edges.

    .. math:: Z^+ = \tfrac{1}{L+1} \sum_l \hat A_+^l E, \quad Z^- = \tfrac{1}{L+1} \sum_l \hat A_-^l E', \quad
              z = [z^+; z^-], \quad y_{ui} = z_u \cdot z_i

    The loss over a batch of edges, with one sampled item j of no edge to u, is

    .. math:: \frac{1}{|B|} \Bigl( \sum_{(u,i)\,\text{liked}} -\ln \sigma(y_{ui} - y_{uj})
              + \lambda \Bigl[ \sum_{(u,i)\,\text{liked}} (1 - \cos(z_u, z_i))
              + \sum_{(u,i)\,\text{disliked}} \max(0, \cos(z_u, z_i) - \alpha) \Bigr]
              + \tfrac{\gamma}{2} \sum \|e\|^2 \Bigr)

    with the norms of the rows of E and E' that the edges name. The margin :math:`\alpha` says how alike a user and a
    disliked item may be before they are driven apart: -1, always; 1, never.

    **No code was published with the paper, and its text was not at hand.** Known from its abstract: positive and
    negative embeddings from two graph encoders, and a sign cosine (SiC) loss by which dislikes of different kinds
    count differently. The rest is our reading: LightGCN as either encoder, concatenation, the cosine embedding loss
    with a margin for the SiC loss, and the ranking loss beside it, without which nothing would order unknown items.
    """

    batches = "edges"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.n_layers = int(config["embedding_size"]), int(config["n_layers"])
        self.reg_weight, self.cosine_weight = float(config["reg_weight"]), float(config["cosine_weight"])
        self.margin = float(config["dislike_margin"])
        self.user_embedding, self.item_embedding = xavier_tables(self.n_users, self.n_items, size)
        self.user_dislikes, self.item_dislikes = xavier_tables(self.n_users, self.n_items, size)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)
        self.dislikes = BipartiteOperator.symmetric(self.graph.dislikes, self.device)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :math:`[Z^+; Z^-]` of users ``[n_users, 2d]`` and items ``[n_items, 2d]``."""
        return side_by_side(
            self.likes.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers),
            self.dislikes.mean_of_layers(self.user_dislikes.weight, self.item_dislikes.weight, self.n_layers),
        )

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss over the edges of ``batch``."""
        edges = SampledEdges.from_batch(self, batch)
        users, items = self.encode()
        known, sampled = edges.scores(users, items)
        liked = edges.sign > 0
        ranking = bpr(known[:, None], sampled).mean(dim=1)
        cosine = edges.known_scores(normalize(users, dim=1), normalize(items, dim=1))
        sign_cosine = torch.where(liked, 1.0 - cosine, (cosine - self.margin).relu())
        tables = ((self.user_embedding, self.item_embedding), (self.user_dislikes, self.item_dislikes))
        norms = sum(edges.squared_norms(user.weight, item.weight) for user, item in tables)
        total = (ranking * liked).sum() + self.cosine_weight * sign_cosine.sum() + 0.5 * self.reg_weight * norms
        return total / len(edges)

"""RecBole's LightGCN with its products in the bipartite form: the same model to rounding, without a Python loop."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.general_recommender.lightgcn import LightGCN

from recbole_signed.graph import BipartiteOperator, Pair


class BipartiteLightGCN(LightGCN):
    """LightGCN whose graph is built and multiplied by as CSR.

    RecBole puts every edge into a Python dictionary first (issues #1393, #1398), which a refresh has no time for.
    Parameters have the same names and the same start.
    """

    def get_norm_adj_mat(self) -> Any:
        """Build the operator; what RecBole keeps in its place is empty."""
        self.operator = BipartiteOperator.symmetric(self.interaction_matrix.tocsr(), self.device)
        return torch.empty(0)

    def forward(self) -> Pair:
        """Return the mean over layers of users ``[n_users, d]`` and of items ``[n_items, d]``."""
        return self.operator.mean_of_layers(self.user_embedding.weight, self.item_embedding.weight, self.n_layers)

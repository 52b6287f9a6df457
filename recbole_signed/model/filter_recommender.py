"""What the closed forms share that map the matrix of users and items to scores: on the likes, or on both signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.graph.inverse import ease_scores
from recbole_signed.model.training_free import TrainingFreeRecommender


class FilterRecommender(TrainingFreeRecommender):
    r"""Reads :meth:`signal`: the likes P, or :math:`X = P + wN` in a subclass that sets ``reads_both_signs``.

    Such a subclass has the weight w as its parameter ``dislike_weight``; with w = 0 it is the model of the likes.
    Degrees are the sums of :math:`|X|`.
    """

    family = "graph filter, training-free"
    uses_dislikes = False
    needs_sign = False
    reads_both_signs = False  # also in the export to RecBole, which has no facts such as uses_dislikes

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.dislike_weight = float(config["dislike_weight"]) if self.reads_both_signs else 0.0

    def signal(self, users: Any = None) -> sp.csr_matrix:
        """Return the matrix that is filtered, of all users or of some: float32 ``[n_users or batch, n_items]``."""
        graph = self.graph if users is None else self.graph.rows(users.cpu().numpy())
        return graph.weighted(self.dislike_weight) if self.reads_both_signs else graph.likes


class InverseRecommender(FilterRecommender):
    r"""Keeps G, an inverse of the Gram matrix of :meth:`signal` with a ridge; :math:`B_{ij} = -G_{ij} / G_{jj}`.

    :math:`B_{jj} = 0`, scores :math:`x_u B`. ``fit`` of a subclass makes ``inverse``, dense items x items.
    """

    family = "closed form"
    fitted = ("inverse",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.reg_weight = float(config["reg_weight"])
        self.register_buffer("inverse", torch.zeros(self.n_items, 0))

    def filtered(self, rows: sp.csr_matrix) -> torch.Tensor:
        """Return x B of rows x, CSR ``[n, n_items]``: ``[n, n_items]``."""
        return ease_scores(rows, self.inverse)

    def weights_of(self, item: int) -> torch.Tensor:
        """Return what a like of an item adds to the score of each, ``[n_items]``: its row of B."""
        return self.filtered(sp.csr_matrix(([np.float32(1)], ([0], [item])), shape=(1, self.n_items)))[0]

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        if not self.inverse.numel():
            return torch.zeros(len(users), self.n_items, device=self.device)
        return self.filtered(self.signal(users))

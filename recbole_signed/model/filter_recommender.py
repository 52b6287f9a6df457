"""What the closed forms share that map the matrix of users and items to scores: on the likes, or on both signs."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp

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

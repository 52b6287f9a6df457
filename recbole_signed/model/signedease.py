r"""SignedEASE
################################################
Reference:
    Harald Steck. "Embarrassingly Shallow Autoencoders for Sparse Data." in WWW 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from recbole_signed.graph import ease_scores, gram_inverse
from recbole_signed.model.filter_recommender import FilterRecommender


class SignedEASE(FilterRecommender):
    r"""EASE on the signed matrix :math:`X = P + wN`: a linear item-item model in closed form.

    :math:`G = (X^T X + \lambda I)^{-1}`, :math:`B_{ij} = -G_{ij} / G_{jj}`, :math:`B_{jj} = 0` (eq. 8), scores
    :math:`x_u B = x_u - (x_u G) / \mathrm{diag}(G)`. With w = 0 it is EASE; w may have either sign.

    The inverse G is what is kept: B follows from it, so that updates of the inverse (``graph/inverse.py``:
    changed rows, new and removed items) are updates of the model. :meth:`item_weights` gives B.

    Memory: G is dense items x items in float32, by the method's definition: 1.6 GB for 20,000 items,
    with no copy while fitting. :math:`X^T X` costs :math:`O(\sum_u d_u^2)`, the inversion :math:`O(n^3)`.
    """

    family = "closed form"
    source = "EASE, WWW 2019, with dislikes"
    parameter_ranges: ClassVar[Mapping[str, str]] = {"dislike_weight": "(-inf, inf)", "reg_weight": "(0, inf)"}
    needs_sign = True
    uses_dislikes = True
    reads_both_signs = True
    learner = "recbole_signed.online.learners.ease:EaseLearner"
    fitted = ("inverse",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.reg_weight = float(config["reg_weight"])
        self.register_buffer("inverse", torch.zeros(self.n_items, 0))

    def fit(self) -> None:
        """Invert the Gram matrix of the signed edges."""
        self.inverse = gram_inverse(self.signal(), self.reg_weight).to(self.device)

    def item_weights(self) -> torch.Tensor:
        """Return B, ``[n_items, n_items]``, column j the weights of the items that item j is predicted from."""
        weights = self.inverse / -self.inverse.diagonal()
        return weights.fill_diagonal_(0.0)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        if not self.inverse.numel():
            return torch.zeros(len(users), self.n_items, device=self.device)
        return ease_scores(self.signal(users), self.inverse)

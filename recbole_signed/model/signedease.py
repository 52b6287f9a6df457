r"""SignedEASE
################################################
Reference:
    Harald Steck. "Embarrassingly Shallow Autoencoders for Sparse Data." in WWW 2019.
"""

from __future__ import annotations

from recbole_signed.graph.inverse import gram_inverse
from recbole_signed.model.training_free import InverseRecommender


class SignedEASE(InverseRecommender):
    r"""EASE on the signed matrix :math:`X = P + wN`: a linear item-item model in closed form.

    :math:`G = (X^T X + \lambda I)^{-1}`, :math:`B_{ij} = -G_{ij} / G_{jj}`, :math:`B_{jj} = 0` (eq. 8), scores
    :math:`x_u B = x_u - (x_u G) / \mathrm{diag}(G)`. With w = 0 it is EASE; w may have either sign. G is what is kept,
    so that updates of the inverse (``graph/inverse.py``) are updates of the model.

    Memory: G is dense items x items in float32, by the method's definition: 1.6 GB for 20,000 items.
    """

    reads_both_signs = True

    def fit(self) -> None:
        """Invert the Gram matrix of the signed edges."""
        self.inverse = gram_inverse(self.signal(), self.reg_weight).to(self.device)

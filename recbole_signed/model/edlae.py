r"""EDLAE
################################################
Reference:
    Harald Steck. "Autoencoders that don't Overfit towards the Identity." in NeurIPS 2020.
Reference code:
    https://github.com/hasteck/EDLAE_NeurIPS2020
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from recbole_signed.graph.inverse import gram_inverse
from recbole_signed.model.training_free import InverseRecommender


class EDLAE(InverseRecommender):
    r"""A linear autoencoder of the likes with dropout and full emphasis, in closed form (full rank, eq. 8 and 9).

    Dropout of the input with probability p, where only dropped entries count in the loss, is in expectation the ridge
    :math:`\Lambda = \frac{p}{1-p} \mathrm{diag}(P^T P)`: :math:`G = (P^T P + \Lambda + \lambda I)^{-1}`,
    :math:`B_{ij} = -G_{ij} / G_{jj}`, :math:`B_{jj} = 0`, scores :math:`p_u B`. With p = 0 it is EASE.

    Memory: G is dense items x items in float32. The paper's low-rank forms, which need iterations, are left out.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.dropout = float(config["dropout_prob"])

    def fit(self) -> None:
        """Invert the Gram matrix with the ridge of dropout."""
        signal = self.signal()
        odds = self.dropout / (1.0 - self.dropout)
        self.inverse = gram_inverse(signal, self.reg_weight + odds * column_energy(signal)).to(self.device)


def column_energy(signal: sp.csr_matrix) -> np.ndarray:
    """Return the squared norm of each column, ``[n_items]``."""
    return np.asarray(signal.multiply(signal).sum(axis=0), np.float64).ravel()

r"""DEQL
################################################
Reference:
    Ruixin Guo et al. "Generalizing Linear Autoencoder Recommenders with Decoupled Expected Quadratic Loss." in ICLR
    2026.
Reference code:
    https://github.com/coderaBruce/DEQL
"""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch

from recbole_signed.model.edlae import EDLAE, column_energy


class DEQL(EDLAE):
    r"""EDLAE's expected loss with a weight b on what dropout kept, ``emphasis``, beside 1 on what it dropped.

    :math:`\min_W E_\Delta \|A \odot (P - (\Delta \odot P) W)\|^2 + cq^2 \lambda \|W\|^2`, :math:`\Delta` 1 with
    probability q = 1 - p, A = b where it is 1 and 1 elsewhere, c = :math:`q b^2 + p`: the paper's form, L2 norm
    and no constraint on the diagonal. :math:`\lambda` is EDLAE's; the paper's weight is :math:`c q^2 \lambda`.

    Where the paper updates a common inverse for each column by two matrices of rank one, here the block of other items
    is eliminated, so that only the diagonal of the inverse is needed. With EDLAE's :math:`G`,
    :math:`g_i = (P^T P)_{ii}` and :math:`\tau_i = g_i / q + \lambda - 1 / G_{ii}`:

    .. math:: W_{ii} = \frac{b^2 (g_i - \tau_i)}{b^2 g_i + c q \lambda - q b^4 \tau_i / c}, \quad
              W_{ji} = -\frac{c - q b^2 W_{ii}}{c q} \frac{G_{ji}}{G_{ii}}

    It is the paper's solution. With b = 0 it is EDLAE times 1/q.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.emphasis = float(config["emphasis"])
        self.register_buffer("item_energy", torch.zeros(self.n_items))

    def fit(self) -> None:
        """Invert the Gram matrix with the ridge of dropout."""
        super().fit()
        self.item_energy = torch.from_numpy(column_energy(self.signal())).float().to(self.device)

    def filtered(self, rows: sp.csr_matrix) -> torch.Tensor:
        """Return x W of rows x, CSR ``[n, n_items]``: ``[n, n_items]``."""
        scores = super().filtered(rows)
        kept, weight = 1.0 - self.dropout, self.emphasis**2
        mean = kept * weight + self.dropout
        if not mean:  # b = 0 without dropout: nothing is in the loss; the limit is EASE
            return scores
        energy = self.item_energy.double()
        tau = energy / kept + self.reg_weight - 1.0 / self.inverse.diagonal().double()
        own = (
            weight
            * (energy - tau)
            / (weight * energy + mean * kept * self.reg_weight - kept * weight**2 * tau / mean).clamp(min=1e-30)
        )
        scale = ((mean - kept * weight * own) / (mean * kept)).float()
        known = torch.from_numpy(rows.toarray()).to(self.device)
        return scores * scale + known * own.float()

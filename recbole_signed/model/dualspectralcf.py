r"""DualSpectralCF
################################################
Reference:
    Guanqun Yang, Tong Qi and Xiaoxue Han. "DualSpectralCF: Training-Free Sign-Aware Spectral Collaborative Filtering."
    arXiv:2608.10247 (August 2026).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp

from recbole_signed.graph.propagation import GramFilter, symmetric
from recbole_signed.model.chebycf import ChebyCF


class DualSpectralCF(ChebyCF):
    r"""ChebyCF with dislikes in the signal and in the operator.

    A user's row is :math:`p_u - \gamma n_u`: with :math:`\gamma < 0`, which the paper finds best, a dislike is a weak
    like. The operator is :math:`\tilde P^T \tilde P + \kappa \tilde N^T \tilde N`, where :math:`\tilde P = D_u^{-1/2}
    P D_i^{-1/2}` and :math:`\tilde N` is the same of the dislikes with their own degrees. Everything else is
    :class:`~recbole_signed.model.chebycf.ChebyCF`'s; with :math:`\gamma = \kappa = 0` it is ChebyCF.

    The paper has three instances; this is the one on ChebyCF, with its defaults. It has no public code, and was not at
    hand; the form is that of public summaries, which agree but for the sign of :math:`\kappa` in the Laplacian. Here
    items that are disliked together are near, as the paper's abstract says. Degrees in :math:`D_i^\beta` are those of
    the likes.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.gamma = float(config["gamma"])
        likes, dislikes = (symmetric(matrix) for matrix in (self.graph.likes, self.graph.dislikes))
        self.linear = GramFilter(sp.vstack([likes, np.float32(math.sqrt(float(config["kappa"]))) * dislikes]).tocsr())

    def signal(self, users: Any = None) -> sp.csr_matrix:
        """Return the likes of all users or, with their dislikes, of some: float32 ``[n_users or batch, n_items]``."""
        if users is None:
            return self.graph.likes
        return self.graph.rows(users.cpu().numpy()).weighted(-self.gamma)

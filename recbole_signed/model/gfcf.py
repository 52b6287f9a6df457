r"""GFCF
################################################
Reference:
    Yifei Shen et al. "How Powerful is Graph Convolution for Recommendation?" in CIKM 2021.
"""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.model.training_free import IdealFilterRecommender


class GFCF(IdealFilterRecommender):
    r"""A linear and an ideal low-pass filter of the likes, in closed form (eq. 8 and 9).

    :math:`s_u = p_u (\tilde R^T \tilde R + \alpha D_i^{-1/2} V V^T D_i^{1/2})` with
    :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2}` and V its ``rank`` leading right singular vectors.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.ideal_weight = float(config["alpha"])

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        rows = self.signal(users)
        linear = torch.from_numpy(self.linear.rows(rows)).to(self.device)
        with torch.no_grad():
            left, right = self.ideal()
            narrow = torch.from_numpy(rows @ left.cpu().numpy()).to(self.device)
            return linear + self.ideal_weight * (narrow @ right)


class SignedGFCF(GFCF):
    """GF-CF on :math:`X = P + wN` in place of the likes P, normalised by sums of :math:`|X|`; with w = 0 it is GF-CF.

    It shows what signs add to a published filter by themselves; the authors of GF-CF do not propose it.
    """

    reads_both_signs = True

r"""SignedGFCF
################################################
Reference:
    Yifei Shen et al. "How Powerful is Graph Convolution for Recommendation?" in CIKM 2021; here with dislikes.
"""

from __future__ import annotations

from recbole_signed.model.gfcf import GFCF


class SignedGFCF(GFCF):
    """GF-CF on :math:`X = P + wN` in place of the likes P, normalised by sums of :math:`|X|`; with w = 0 it is GF-CF.

    It shows what signs add to a published filter by themselves; the authors of GF-CF do not propose it.
    """

    reads_both_signs = True

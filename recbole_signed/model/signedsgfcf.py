r"""SignedSGFCF
################################################
Reference:
    Shaowen Peng et al. "How Powerful is Graph Filtering for Recommendation." in KDD 2024; here with dislikes.
"""

from __future__ import annotations

from recbole_signed.model.sgfcf import SGFCF


class SignedSGFCF(SGFCF):
    """SGFCF on :math:`X = P + wN` in place of the likes P: what signs add to a published filter by themselves.

    Everything else is :class:`~recbole_signed.model.sgfcf.SGFCF`'s, a pair of items counts in the homophily if another
    user has rated both. With w = 0 it is SGFCF. It is the closest relative of SSF, which has a response of another
    form, exponents of the degrees in the score, and the verdict beside the filter. The authors of SGFCF do not propose
    it.
    """

    reads_both_signs = True

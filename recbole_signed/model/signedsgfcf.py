r"""SignedSGFCF
################################################
Reference:
    Shaowen Peng et al. "How Powerful is Graph Filtering for Recommendation." in KDD 2024; here with dislikes.
"""

from __future__ import annotations

from recbole_signed.model.sgfcf import SGFCF


class SignedSGFCF(SGFCF):
    r"""SGFCF on :math:`X = P + wN` in place of the likes P: what signs add to a published filter by themselves.

    Everything else is :class:`~recbole_signed.model.sgfcf.SGFCF`'s: normalisation by the sums of :math:`|X|`, singular
    vectors, exponents by homophily (a pair of items counts if another user has rated both, whatever the verdicts),
    linear filter. A user is the fold-in of its row of X. With w = 0 it is SGFCF.

    This is the closest relative of SSF, which has a response of another form, exponents of the degrees in the score,
    and the verdict of the item beside the filter. The authors of SGFCF do not propose it.
    """

    reads_both_signs = True

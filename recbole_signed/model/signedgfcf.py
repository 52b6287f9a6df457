r"""SignedGFCF
################################################
Reference:
    Yifei Shen et al. "How Powerful is Graph Convolution for Recommendation?" in CIKM 2021; here with dislikes.
"""

from __future__ import annotations

from recbole_signed.model.gfcf import GFCF


class SignedGFCF(GFCF):
    r"""GF-CF on :math:`X = P + wN` in place of the likes P, normalised by the sums of :math:`|X|`.

    Everything else is :class:`~recbole_signed.model.gfcf.GFCF`'s; with w = 0 it is GF-CF. It shows what signs add to a
    published filter by themselves; the authors of GF-CF do not propose it.
    """

    reads_both_signs = True

r"""SSF
################################################
A signed spectral filter: training-free, inductive, without a user table. Source: this package.
"""

from __future__ import annotations

from recbole_signed.ssf.recommender import SpectralRecommender


class SSF(SpectralRecommender):
    r"""Filters each user's likes and dislikes by the spectrum of the normalised signed exposure matrix.

    :math:`R \approx U S V^T`; score of item i for user u:
    :math:`(f_u(S) \odot R_u V) V_i^T \, r_i^g \, \bar d_i^{\,\pi}` and a little popularity, with a Butterworth response
    :math:`f_u`, the like rate :math:`r_i`, and the degree :math:`\bar d_i` over the mean
    (``ssf/filter.py``).
    """

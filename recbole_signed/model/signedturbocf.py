r"""SignedTurboCF
################################################
Reference:
    Jin-Duk Park et al. "Turbo-CF: Matrix Decomposition-Free Graph Filtering for Fast Recommendation." in SIGIR 2024;
    here with dislikes.
"""

from __future__ import annotations

from recbole_signed.model.turbocf import TurboCF


class SignedTurboCF(TurboCF):
    r"""Turbo-CF on :math:`X = P + wN` in place of the likes P, normalised by the sums of :math:`|X|`; with w = 0 it is
    Turbo-CF.

    The elementwise power keeps the sign of an entry, :math:`\mathrm{sgn}(x) |x|^s`. It shows what signs add to a
    published filter by themselves; the authors of Turbo-CF do not propose it.
    """

    reads_both_signs = True

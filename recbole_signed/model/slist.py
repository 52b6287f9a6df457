r"""SLIST
################################################
Reference:
    Minjin Choi et al. "Session-aware Linear Item-Item Models for Session-based Recommendation." in WWW 2021.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.arrays import spans
from recbole_signed.graph.inverse import gram_inverse, refuse_too_large
from recbole_signed.model.training_free import IntArray, OrderedLikesRecommender

SMALLEST = 1e-3  # weights of places further apart than this are left out of partial sequences


class SLIST(OrderedLikesRecommender):
    r"""Item similarities and item transitions in one linear model in closed form, from the likes in their order.

    With X the likes of users, and a row of S and T for each place of a sequence that splits it into what came before
    (S) and what comes after (T), weighted by :math:`e^{-\text{distance}/\delta}`:

    .. math::
        \min_B \; \alpha \|X - XB\|^2 + (1-\alpha) \|T - SB\|^2 + \lambda \|B\|^2, \quad B_{jj} \le \xi

    (the paper's "Unifying Two Linear Models", with the constraint of its SLIS), whose solution is
    :math:`B = I - P\,\mathrm{diag}(\mu) + C`, :math:`P = (\alpha X^T X + (1-\alpha) S^T S + \lambda I)^{-1}`,
    :math:`C = -(1-\alpha) P S^T (S - T)`, and :math:`\mu_j = \max(\lambda, (1 - \xi + C_{jj}) / P_{jj})`. Scores are
    :math:`x_u B`, where a like counts :math:`e^{-r/\delta_\text{inf}}` if r moments of the user are later. With
    :math:`\alpha = 0` it is SLIT with a limit on the diagonal, with :math:`\alpha = 1` SLIS, which is EASE for
    :math:`\xi = 0`.

    Where this departs from the paper:

    * a user is one session, so sessions have no weights by age; likes of one time are one moment;
    * :math:`\xi` is 0 by default, since nobody gets an item again here; the authors' code has 10 in its SLIS;
    * weights below .001 are left out, and rows of S, T and X are not normalised, as by default in the authors' code.

    Without timestamps, and on data without a sign, it is SLIS. Memory: two dense matrices over the liked items,
    float32.
    """

    without_order = "SLIST is SLIS here, without an order of likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.alpha, self.reg_weight = float(config["alpha"]), float(config["reg_weight"])
        self.train_decay, self.diagonal_limit = float(config["train_decay"]), float(config["diagonal_limit"])
        if not self.has_order:
            self.alpha = 1.0

    def partial_sequences(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Return S and T, CSR ``[n_places, n_liked]`` each."""
        user, column, moment, last = self._rows
        n_moments = np.zeros(self.n_users, dtype=np.int64)
        np.maximum.at(n_moments, user, last)
        first = np.cumsum(n_moments) - n_moments  # place m of a user, 1 to the last moment, is in row first + m - 1
        reach = max(1, math.ceil(-math.log(SMALLEST) * self.train_decay))
        shape = int(n_moments.sum()), len(self.liked)

        def rows(start: IntArray, stop: IntArray, sign: int) -> sp.csr_matrix:
            count = np.maximum(stop - start, 0)
            like = np.repeat(np.arange(len(user)), count)
            place = spans(start, count)
            distance = place - 1 - moment[like] if sign > 0 else moment[like] - place
            cells = np.exp(-distance / self.train_decay), (first[user[like]] + place - 1, column[like])
            return sp.csr_matrix(cells, shape=shape, dtype=np.float32)

        before = rows(moment + 1, np.minimum(moment + reach, last) + 1, 1)
        after = rows(np.maximum(1, moment - reach + 1), moment + 1, -1)
        return before, after

    def fit(self) -> None:
        """Solve for B; the same likes in the same order give the same model."""
        refuse_too_large(len(self.liked), n_matrices=2)
        user, column, *_ = self._rows
        shape = self.n_users, len(self.liked)
        likes = sp.csr_matrix((np.full(len(user), 1.0, np.float32), (user, column)), shape=shape)
        before, after = self.partial_sequences()
        both = sp.vstack([math.sqrt(self.alpha) * likes, math.sqrt(1 - self.alpha) * before]).tocsr()
        inverse = gram_inverse(both, self.reg_weight).numpy()
        moved = ((self.alpha - 1) * (before.T @ (before - after))).tocsr()
        weights = (moved.T @ inverse).T  # C: the inverse is symmetric
        own, diagonal = weights.diagonal().copy(), inverse.diagonal()
        inverse *= np.maximum(self.reg_weight, (1 - self.diagonal_limit + own) / diagonal)
        weights -= inverse
        weights[np.diag_indices(len(weights))] += 1.0
        self.item_weights = torch.from_numpy(np.ascontiguousarray(weights)).to(self.device)

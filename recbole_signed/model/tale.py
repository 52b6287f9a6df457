r"""TALE
################################################
Reference:
    Seongmin Park et al. "Temporal Linear Item-Item Model for Sequential Recommendation." in WSDM 2025.
Reference code:
    https://github.com/psm1206/TALE
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import begins, spans
from recbole_signed.graph.inverse import gram_inverse, refuse_too_large
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.model.training_free import OrderedLikesRecommender

DAY = 86_400_000  # milliseconds


class TALE(OrderedLikesRecommender):
    r"""Item transitions in closed form, weighted by the time between likes.

    A row of S and T for each like with an earlier one (single-target augmentation): T holds that like, S all earlier
    ones of the user. With n the likes of an item in the ``trend_days`` up to a like (trend-aware normalisation),

    .. math::
        S_{rj} = \max(e^{-|t_r - t_j| / \tau}, c) \, n_j^\beta, \quad T_r = n_r^\beta, \quad
        B = (S^T S + \lambda I)^{-1} S^T T,

    with times in days; a row of S whose like is of the same moment does not count. Scores are :math:`x_u B`, where a
    like counts :math:`e^{-r/\delta_\text{inf}}` if r moments of the user are later.

    Where this departs from the authors' code: each like is a target once, not as often as there are later likes of the
    user; trends are counted in the training part, not in the whole data set; likes of one time are one moment.

    Without timestamps, and on data without a sign, it is Pop. Memory: two dense matrices over the liked items,
    float32.
    """

    without_order = "TALE is Pop here, without an order of likes"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.reg_weight, self.time_decay = float(config["reg_weight"]), float(config["time_decay"])
        self.smallest_weight = float(config["smallest_weight"])
        self.trend_days, self.trend_exponent = float(config["trend_days"]), float(config["trend_exponent"])
        time = dataset.times("inter_feat") if self.has_order else np.zeros(len(self._rows[0]))
        self._times = milliseconds(np.asarray(time), f"the time of '{dataset.dataset_name}'")

    def trend(self) -> npt.NDArray[np.int64]:
        """Return for each like the likes of its item in the days up to it, itself counted, ``[n]``."""
        column, time = self._rows[1], self._times - self._times.min(initial=0)
        span = int(time.max(initial=0)) + 1
        key = column * span + time
        ordered = np.sort(key)
        first = column * span + np.maximum(time - np.int64(min(self.trend_days * DAY, span)), 0)
        return np.searchsorted(ordered, key, side="right") - np.searchsorted(ordered, first)

    def sources_and_targets(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Return S and T, CSR ``[n_targets, n_liked]`` each."""
        user, column, moment, _ = self._rows
        order = np.lexsort((moment, user))
        user, column, moment, time = user[order], column[order], moment[order], self._times[order]
        scale = self.trend()[order] ** self.trend_exponent
        place = np.arange(len(user))
        new = begins(user), begins(user, moment)
        start, begin = (np.maximum.accumulate(np.where(mask, place, 0)) for mask in new)
        target = np.flatnonzero(begin > start)
        count = (begin - start)[target]
        row, source = np.repeat(np.arange(len(target)), count), spans(start[target], count)
        gap = (np.repeat(time[target], count) - time[source]) / DAY
        weight = np.maximum(np.exp(-gap / self.time_decay), self.smallest_weight) * scale[source]
        shape = len(target), len(self.liked)
        before = sp.csr_matrix((weight, (row, column[source])), shape=shape, dtype=np.float32)
        after = (scale[target], (np.arange(len(target)), column[target]))
        return before, sp.csr_matrix(after, shape=shape, dtype=np.float32)

    def fit(self) -> None:
        """Solve for B; the same likes at the same times give the same model."""
        refuse_too_large(len(self.liked), n_matrices=2)
        if not self.has_order:
            popularity = torch.bincount(torch.from_numpy(self._rows[1]), minlength=len(self.liked))
            self.item_weights = popularity.float().expand(len(self.liked), -1).clone().to(self.device)
            return
        before, after = self.sources_and_targets()
        inverse = gram_inverse(before, self.reg_weight).numpy()
        weights = (after.T @ before).tocsr() @ inverse  # the transpose of B: the inverse is symmetric
        self.item_weights = torch.from_numpy(np.ascontiguousarray(weights.T)).to(self.device)

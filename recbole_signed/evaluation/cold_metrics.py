"""Recall and NDCG of items without a training edge, among such items alone: what a model makes of the new ones.

Whatever a model does with the other items does not enter. The users who count have a held-out like of such an item.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.evaluator.base_metric import TopkMetric

from recbole_signed.evaluation.group_metrics import training_edges
from recbole_signed.evaluation.metrics import AtEveryK, FloatArray, PerUserMetric, collected, ndcg_at, recall_at

COLD = "rec.cold"
"""Collected per evaluated user, ``[n_users, max_k + 1]`` integers: 1 at each rank among the items without a training
edge where a held-out like is, and the number of distinct held-out likes of such items."""


def without_edges(dataset: Any) -> torch.Tensor:
    """Return which items have no like and no dislike in a training part, bool ``[n_items]``; not the padding item."""
    _, items = training_edges(dataset)
    cold = torch.ones(dataset.item_num, dtype=torch.bool)
    cold[0] = False
    cold[torch.from_numpy(items)] = False
    return cold


class _ColdMetric(PerUserMetric, TopkMetric):
    metric_need = [COLD]  # noqa: RUF012 (RecBole's convention)
    result = ""
    at_every_k: AtEveryK

    def used_info(self, dataobject: Any) -> npt.NDArray[np.integer[Any]]:
        """Return what the collector gathered."""
        gathered: npt.NDArray[np.integer[Any]] = collected(dataobject, COLD, self.result).numpy()
        return gathered

    def per_user(self, dataobject: Any) -> dict[str, FloatArray]:
        """See :meth:`~recbole_signed.evaluation.metrics.PerUserMetric.per_user`."""
        held = self.used_info(dataobject)
        relevant = held[:, -1]
        found = np.where((relevant > 0)[:, None], self.at_every_k(held[:, :-1] > 0, relevant), np.nan)
        return {f"{self.result}@{k}": found[:, k - 1] for k in self.topk}


class ColdRecall(_ColdMetric):
    """Recall of the held-out likes of items without a training edge, among these items; higher is better."""

    result = "coldrecall"
    at_every_k = staticmethod(recall_at)


class ColdNDCG(_ColdMetric):
    """NDCG of the held-out likes of items without a training edge, among these items; higher is better."""

    result = "coldndcg"
    at_every_k = staticmethod(ndcg_at)


COLD_METRICS: dict[str, type[PerUserMetric]] = {metric.__name__: metric for metric in (ColdRecall, ColdNDCG)}
"""The metrics of this module by class name, as they are written under ``metrics:``."""

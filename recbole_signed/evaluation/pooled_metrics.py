"""NDCG as a ratio of means, which some benchmarks print under the name of NDCG."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.evaluator.base_metric import AbstractMetric, TopkMetric


class PooledNDCG(TopkMetric):
    r"""The mean DCG of all users over their mean ideal DCG; higher is better.

    .. math::
        \mathrm{PooledNDCG@k} = \frac{\sum_{u} \sum_{j=1}^{k} [L_{u,j} \in T^+_u] / \log_2(j+1)}
        {\sum_{u} \sum_{j=1}^{\min(k, |T^+_u|)} 1 / \log_2(j+1)}

    The ``NDCG`` of Yambda's benchmark (arXiv 2505.22238), for comparison with its published figures. RecBole's NDCG is
    the mean of each user's ratio. Here users with many held-out likes weigh more, up to k of them, and there is no
    value per user, so that it takes part in no test.
    """

    smaller = False

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the ratio at each k, rounded to ``metric_decimal_place``; nan where no user has a like."""
        hits, n_likes = self.used_info(dataobject)
        discount = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
        ranks = np.arange(1, hits.shape[1] + 1)
        gained = (np.asarray(hits, dtype=bool) * discount).sum(axis=0).cumsum()
        possible = ((np.asarray(n_likes)[:, None] >= ranks) * discount).sum(axis=0).cumsum()
        with np.errstate(invalid="ignore"):
            values = gained / possible
        return {f"pooledndcg@{k}": round(float(values[k - 1]), self.decimal_place) for k in self.topk}


POOLED_METRICS: dict[str, type[AbstractMetric]] = {"PooledNDCG": PooledNDCG}
"""The metrics of this module by class name, as they are written under ``metrics:``."""

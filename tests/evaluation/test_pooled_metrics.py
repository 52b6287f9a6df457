"""NDCG as a ratio of means, against sums written out."""

from __future__ import annotations

from math import log2

import pytest
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict, smaller_metrics

from recbole_signed.evaluation.metrics import PooledNDCG


def test_it_is_the_ratio_of_the_means() -> None:
    hits = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    n_likes = [5, 1, 2]
    found = DataStruct()
    found.set("rec.topk", torch.tensor([[*row, n] for row, n in zip(hits, n_likes, strict=True)]))
    values = PooledNDCG({"topk": [1, 3], "metric_decimal_place": 6}).calculate_metric(found)
    discount = [1 / log2(rank + 1) for rank in (1, 2, 3)]
    gained = discount[0] + discount[2] + discount[1]
    possible = sum(sum(discount[: min(3, n)]) for n in n_likes)
    assert values == {
        "pooledndcg@1": pytest.approx(1 / 3, abs=1e-6),
        "pooledndcg@3": pytest.approx(gained / possible, abs=1e-6),
    }


def test_recbole_knows_it() -> None:
    assert metrics_dict["pooledndcg"] is PooledNDCG
    assert "pooledndcg" not in smaller_metrics

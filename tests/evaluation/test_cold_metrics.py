"""Recall and NDCG among items without a training edge, against a slow reference, through RecBole's collector."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_group_metrics import KS, N_ITEMS, N_USERS, Case, evaluate

from recbole_signed.errors import UsageError


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_are_those_of_the_cold_items_by_themselves(seed: int) -> None:
    case = Case(seed)
    cold = np.flatnonzero(case.n_edges(1) == 0)
    cold = set(cold[cold > 0].tolist())
    assert cold
    recall: dict[int, list[float]] = {k: [] for k in KS}
    ndcg: dict[int, list[float]] = {k: [] for k in KS}
    for user in range(N_USERS):
        liked = cold & set(case.likes[user])
        if not liked:
            continue
        order = sorted(cold, key=lambda item, user=user: -float(case.scores[user, item]))
        shown = [item for item in order if float(case.scores[user, item]) > -math.inf]
        hits = [item in liked for item in shown]
        for k in KS:
            gain = sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits[:k]))
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(liked))))
            recall[k].append(sum(hits[:k]) / len(liked))
            ndcg[k].append(gain / ideal)
    found = evaluate(case, ["ColdRecall", "ColdNDCG"])
    for k in KS:
        assert found[f"coldrecall@{k}"] == pytest.approx(np.mean(recall[k]), abs=1e-9)
        assert found[f"coldndcg@{k}"] == pytest.approx(np.mean(ndcg[k]), abs=1e-9)


def test_where_every_item_has_an_edge_there_is_no_value() -> None:
    case = Case(0)
    case.trained += [(1, item, 1) for item in range(1, N_ITEMS)]
    assert math.isnan(evaluate(case, ["ColdRecall"])["coldrecall@5"])


def test_an_evaluation_without_a_training_part_is_refused() -> None:
    with pytest.raises(UsageError, match="ColdRecall groups by training edges"):
        evaluate(Case(0), ["ColdRecall"], trained=False)

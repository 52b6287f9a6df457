"""The graph of a part of a signed data set: built once, with neutral rows where that is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared import prepared
from refusals import check_refused

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
Write = Callable[..., Path]


def prepare(**config: Any) -> tuple[Any, ...]:
    return prepared("signed", **config)[2]


def test_a_part_builds_its_graph_once(signed: str) -> None:
    train, valid, _ = prepare()
    graph = train._dataset.signed_graph()
    assert train._dataset.signed_graph() is graph
    assert graph.n_edges == len(train._dataset.inter_feat) + len(train._dataset.neg_feat)
    assert valid._dataset.signed_graph().n_edges == len(valid._dataset.inter_feat) + len(valid._dataset.neg_feat)
    assert graph.neutrals is None
    assert train._dataset.copy(valid._dataset.inter_feat).signed_graph().likes.nnz == len(valid._dataset.inter_feat)


@pytest.mark.parametrize("weight", [0.2, -0.2])
def test_neutral_rows_are_weak_edges_where_asked(weight: float, signed: str) -> None:
    train, _, _ = prepare(neutral_weight=weight)
    part = train._dataset
    graph = part.signed_graph()
    dense = np.zeros((part.user_num, part.item_num), dtype=np.float32)
    for table, value in ((part.inter_feat, 1.0), (part.neg_feat, 0.5), (part.neutral_feat, weight)):
        dense[table["user_id"].numpy(), table["item_id"].numpy()] = value
    assert np.array_equal(graph.weighted(0.5).toarray(), dense)
    users, items = graph.degrees(0.5)
    assert np.allclose(users, np.abs(dense).sum(axis=1))
    assert np.allclose(items, np.abs(dense).sum(axis=0))
    assert np.array_equal(graph.rows([3, 1]).weighted(0.5).toarray(), dense[[3, 1]])


@pytest.mark.parametrize("value", ["much", True, 2, -1.5, float("nan")])
def test_a_wrong_weight_is_refused(value: Any, signed: str) -> None:
    check_refused(r"neutral_weight is .* it must be a number from -1", prepare, neutral_weight=value)

"""The signed graph: what it keeps of the edges it is given."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.graph import SignedGraph

EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=40)


def graph_of(likes: list[tuple[int, int]], dislikes: list[tuple[int, int]]) -> SignedGraph:
    def columns(edges: list[tuple[int, int]]) -> Any:
        array = np.array(edges, dtype=np.int64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    return SignedGraph.from_edges(columns(likes), columns(dislikes), 6, 8)


def dense(edges: list[tuple[int, int]]) -> np.ndarray:
    matrix = np.zeros((6, 8))
    for user, item in edges:
        matrix[user, item] = 1.0
    return matrix


@given(EDGES, EDGES, st.sampled_from([-1.0, -0.3, 0.0, 0.5, 1.0]))
def test_it_is_two_binary_matrices(likes: list, dislikes: list, weight: float) -> None:
    graph = graph_of(likes, dislikes)
    P, N = dense(likes), dense(dislikes)
    assert np.array_equal(graph.likes.toarray(), P)
    assert np.array_equal(graph.dislikes.toarray(), N)
    assert (graph.n_users, graph.n_items, graph.n_edges) == (6, 8, P.sum() + N.sum())
    np.testing.assert_allclose(graph.weighted(weight).toarray(), P + weight * N, rtol=1e-6)
    users, items = graph.degrees(weight)
    np.testing.assert_allclose(users, (P + abs(weight) * N).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(items, (P + abs(weight) * N).sum(axis=0), rtol=1e-6)


@given(EDGES, EDGES, st.randoms())
def test_the_order_of_edges_does_not_matter(likes: list, dislikes: list, random: Any) -> None:
    first = graph_of(likes, dislikes)
    random.shuffle(likes)
    random.shuffle(dislikes)
    second = graph_of(likes, dislikes)
    for each in ("likes", "dislikes"):
        for part in ("data", "indices", "indptr"):
            assert np.array_equal(getattr(getattr(first, each), part), getattr(getattr(second, each), part))


@pytest.mark.parametrize("edge", [(6, 0), (0, 8), (-1, 0), (0, -1)])
def test_ids_out_of_range_are_refused(edge: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"(exceeds|negative|bounds|greater|less)"):
        graph_of([edge], [])


def test_a_copy_is_the_same_graph() -> None:
    graph = graph_of([(0, 1)], [(1, 2)])
    assert copy.deepcopy({"graph": graph})["graph"] is graph

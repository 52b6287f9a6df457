"""The signed graph: what it keeps of the edges it is given."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from edge_lists import EDGES, columns, dense
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv
from torch_geometric.transforms import ToUndirected

from recbole_signed.graph import SignedGraph


def graph_of(likes: list[tuple[int, int]], dislikes: list[tuple[int, int]]) -> SignedGraph:
    return SignedGraph.from_edges(columns(likes), columns(dislikes), 6, 8)


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


def test_pyg_data_has_the_same_edges() -> None:
    likes, dislikes = [(0, 1), (3, 7), (3, 2), (3, 7)], [(5, 0), (0, 7)]
    data = graph_of(likes, dislikes).to_pyg()
    assert data.validate()
    assert sorted(data.node_types) == ["item", "user"]
    assert data.edge_types == [("user", "likes", "item"), ("user", "dislikes", "item")]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (6, 8)
    for relation, edges in (("likes", likes), ("dislikes", dislikes)):
        found = data["user", relation, "item"].edge_index
        assert found.dtype == torch.int64
        assert sorted(map(tuple, found.T.tolist())) == sorted(set(edges))


class SignedSAGE(torch.nn.Module):
    """A heterogeneous model as PyTorch Geometric's users write it: one GraphSAGE convolution for each relation."""

    def __init__(self, data: HeteroData, size: int = 8) -> None:
        super().__init__()
        self.tables = torch.nn.ModuleDict(
            {kind: torch.nn.Embedding(data[kind].num_nodes, size) for kind in data.node_types}
        )
        self.layers = torch.nn.ModuleList(
            HeteroConv({relation: SAGEConv(size, size) for relation in data.edge_types}, aggr="sum") for _ in range(2)
        )

    def forward(self, data: HeteroData) -> dict[str, torch.Tensor]:
        state = {kind: table.weight for kind, table in self.tables.items()}
        for layer in self.layers:
            state = {kind: each.relu() + state[kind] for kind, each in layer(state, data.edge_index_dict).items()}
        return state


def test_a_heterogeneous_pyg_model_trains_on_it() -> None:
    """Signs that two tastes explain: after training most edges are told apart by the model's scores."""
    rng = np.random.default_rng(0)
    users, items = (each.ravel() for each in np.meshgrid(np.arange(1, 40), np.arange(1, 30), indexing="ij"))
    shown = rng.random(len(users)) < 0.3
    users, items = users[shown], items[shown]
    liked = users % 2 == items % 2
    graph = SignedGraph.from_edges((users[liked], items[liked]), (users[~liked], items[~liked]), 40, 30)
    data = ToUndirected()(graph.to_pyg())
    assert set(data.edge_types) == {
        (*ends, "item") if ends[0] == "user" else (*ends, "user")
        for ends in (("user", "likes"), ("user", "dislikes"), ("item", "rev_likes"), ("item", "rev_dislikes"))
    }
    torch.manual_seed(0)
    model = SignedSAGE(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    edges = torch.cat([data["user", each, "item"].edge_index for each in ("likes", "dislikes")], dim=1)
    wanted = (torch.arange(edges.shape[1]) < liked.sum()).float()
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        state = model(data)
        scores = (state["user"][edges[0]] * state["item"][edges[1]]).sum(dim=1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert ((scores > 0) == (wanted > 0)).float().mean() > 0.9

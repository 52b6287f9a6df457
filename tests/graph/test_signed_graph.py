"""The signed graph, with neutral edges and without."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from edge_lists import EDGES, columns, dense
from exposure import exposure_matrix
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv
from torch_geometric.transforms import ToUndirected

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import user_degrees
from recbole_signed.ssf import FilterSettings, SpectralFilter


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


@given(EDGES, EDGES, EDGES, st.sampled_from([-0.5, 0.25, 1.0]), st.sampled_from([-0.3, 0.0, 0.5]))
def test_neutral_edges_weigh_what_they_should(
    likes: list, dislikes: list, neutrals: list, neutral_weight: float, dislike_weight: float
) -> None:
    graph = SignedGraph.from_edges(
        columns(likes), columns(dislikes), 6, 8, neutrals=columns(neutrals), neutral_weight=neutral_weight
    )
    P, N = dense(likes), dense(dislikes)
    M = dense(neutrals) * (P == 0) * (N == 0)
    assert graph.neutrals is not None
    assert np.array_equal(graph.neutrals.toarray(), M)
    assert graph.neutrals.nnz == M.sum()
    np.testing.assert_allclose(graph.weighted(dislike_weight).toarray(), P + dislike_weight * N + neutral_weight * M)
    weights = P + abs(dislike_weight) * N + abs(neutral_weight) * M
    users, items = graph.degrees(dislike_weight)
    np.testing.assert_allclose(users, weights.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(items, weights.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(user_degrees(graph, dislike_weight), weights.sum(axis=1), rtol=1e-6)
    of_items = P + abs(dislike_weight) * N  # an item's degree counts verdicts alone
    scale = [1 / np.sqrt(each + 5.0) for each in (weights.sum(axis=1), of_items.sum(axis=0))]
    expected = scale[0][:, None] * (P + dislike_weight * N + neutral_weight * M) * scale[1]
    np.testing.assert_allclose(exposure_matrix(graph, dislike_weight).toarray(), expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_without_neutral_edges_or_weight_the_graph_is_as_before(weight: float) -> None:
    rng = np.random.default_rng(0)
    likes, dislikes, neutrals = (columns(rng.integers(0, 6, (20, 2)).tolist()) for _ in range(3))
    plain = SignedGraph.from_edges(likes, dislikes, 6, 8)
    given_none = SignedGraph.from_edges(likes, dislikes, 6, 8, neutrals if not weight else None, weight)
    assert given_none.neutrals is None
    for one, other in ((plain.weighted(0.4), given_none.weighted(0.4)), (plain.likes, given_none.likes)):
        assert np.array_equal(one.data, other.data)
        assert np.array_equal(one.indices, other.indices)
    for one, other in zip(plain.degrees(0.4), given_none.degrees(0.4), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("dislike_weight", [0.0, 0.5])
def test_the_spectral_filter_uses_and_explains_them(dislike_weight: float) -> None:
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 40, 600), rng.integers(1, 30, 600)
    sign = rng.choice([1, -1, 0], 600)
    edges = [(users[sign == each], items[sign == each]) for each in (1, -1, 0)]
    settings = FilterSettings(rank=8, dislike_weight=dislike_weight)
    graph = SignedGraph.from_edges(edges[0], edges[1], 40, 30, edges[2], 0.3)
    fitted, _ = SpectralFilter.fit(graph, settings)
    without, _ = SpectralFilter.fit(SignedGraph(graph.likes, graph.dislikes), settings)
    assert np.abs(fitted.scores(graph).numpy() - without.scores(graph).numpy()).max() > 1e-3
    one = graph.rows([4])
    told = fitted.explain(one, 9)
    assert sorted(set(told.signs.tolist())) == [-1, 0, 1]
    assert (told.contributions.sum() + told.prior) * told.factor == pytest.approx(told.score, rel=1e-4)

"""The signed graph and the sparse kernels on it."""

import copy
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from edge_lists import EDGES, columns, dense
from exposure import exposure_matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv
from torch_geometric.transforms import ToUndirected

from recbole_signed.graph import SignedGraph, sparse_kernels, top_scores
from recbole_signed.graph import sparse_kernels as module
from recbole_signed.graph.sparse_kernels import (
    SparsePairs,
    SparseTerm,
    add_transposed_product,
    csr_product,
    multiply,
    pair_scores,
)
from recbole_signed.graph.spectral import user_degrees
from recbole_signed.graph.top_scores import largest
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
        self.tables = torch.nn.ModuleDict({k: torch.nn.Embedding(data[k].num_nodes, size) for k in data.node_types})
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
    (told,) = fitted.explain(one, np.array([9]))
    assert sorted(set(told.signs.tolist())) == [-1, 0, 1]
    assert (told.contributions.sum() + told.prior) * told.factor == pytest.approx(told.score, rel=1e-4)


def random_matrix(seed: int, n_rows: int, n_columns: int, density: float = 0.3) -> sp.csr_matrix:
    return sp.random(n_rows, n_columns, density, "csr", dtype=np.float32, random_state=seed)


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5), st.sampled_from([0.0, 0.3]))
def test_the_product_of_a_sum(seed: int, n_rows: int, n_columns: int, width: int, density: float) -> None:
    first, second = random_matrix(seed, n_rows, n_columns), random_matrix(seed + 1, n_rows, n_columns, density)
    dense = np.random.default_rng(seed).standard_normal((n_columns, width), dtype=np.float32)
    scale = np.random.default_rng(seed + 1).random(n_rows, dtype=np.float32)
    out = np.full((n_rows, width), np.nan, dtype=np.float32)
    multiply(out, [SparseTerm.from_matrix(first), SparseTerm.from_matrix(second, -0.5, binary=True)], dense, scale)
    wanted = scale[:, None] * ((first - 0.5 * (second != 0)).toarray().astype(float) @ dense)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)


def test_pieces_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random_matrix(0, 100, 30)
    dense = np.random.default_rng(0).standard_normal((30, 7), dtype=np.float32)
    whole, pieces = (np.empty((100, 7), dtype=np.float32) for _ in range(2))
    multiply(whole, [SparseTerm.from_matrix(matrix)], dense)
    monkeypatch.setattr(sparse_kernels, "ROWS", 17)
    multiply(pieces, [SparseTerm.from_matrix(matrix)], dense)
    np.testing.assert_array_equal(whole, pieces)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_the_transposed_product_adds(compiled: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(sparse_kernels, "kernels", None)
    matrix = random_matrix(3, 50, 20)
    part = SparseTerm(matrix.indptr.astype(kind), matrix.indices.astype(kind), 0.5).rows(10, 25)
    dense = np.random.default_rng(0).standard_normal((25, 4), dtype=np.float32)
    out = np.ones((20, 4), dtype=np.float32)
    add_transposed_product(out, part, dense, np.full(1000, 0.5, dtype=np.float32))
    wanted = 1 + 0.5 * (matrix[10:35].toarray() != 0).T.astype(float) @ dense
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


def test_what_the_kernel_would_read_beyond_is_refused() -> None:
    part = SparseTerm.from_matrix(random_matrix(3, 5, 8), binary=True)
    out, dense, values = np.zeros((8, 4), np.float32), np.zeros((5, 4), np.float32), np.ones(40, np.float32)
    for wrong in (
        (out, part, dense[:4], values),
        (out[:, :3].copy(), part, dense, values),
        (out, part, dense, values[:2]),
    ):
        with pytest.raises(ValueError, match="shapes"):
            add_transposed_product(*wrong)
    for other in ((out.astype(np.float64), part, dense, values), (out, part, np.asfortranarray(dense), values)):
        with pytest.raises(ValueError, match="float32"):
            add_transposed_product(*other)


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(0, 30), st.integers(1, 20), st.integers(1, 70), st.booleans(), st.booleans())
def test_the_product_of_pairs(seed: int, n_rows: int, n_columns: int, width: int, ones: bool, single: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, n_rows)  # rows without pairs, and pairs that occur several times
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    columns = rng.integers(0, n_columns, indptr[-1]).astype(np.int32)
    values = None if ones else rng.standard_normal(len(columns))
    dense = rng.standard_normal((width, n_columns)).T  # contiguous by columns
    wanted = np.zeros((n_rows, width))
    np.add.at(wanted, np.repeat(np.arange(n_rows), sizes), (1.0 if ones else values[:, None]) * dense[columns])
    table = torch.from_numpy(dense).to(torch.float32 if single else torch.float64)
    weights = None if values is None else torch.from_numpy(values)
    result = csr_product(torch.from_numpy(indptr), torch.from_numpy(columns), weights, table)
    assert result.dtype == table.dtype
    np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-4 if single else 1e-9, atol=1e-5 if single else 1e-9)


def random_pairs(
    seed: int, n_rows: int, n_columns: int, n_pairs: int
) -> tuple[SparsePairs, torch.Tensor, torch.Tensor]:
    """Pairs with repeats and with rows that have none, and their rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(n_rows, (n_pairs,), generator=generator).sort().values
    columns = torch.randint(n_columns, (n_pairs,), generator=generator)
    indptr = torch.searchsorted(rows, torch.arange(n_rows + 1)).int()
    return SparsePairs(indptr, columns.int(), n_columns), rows, columns


@pytest.mark.filterwarnings("error")
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(0, 60))
def test_products_are_those_of_dense_matrices(seed: int, n_rows: int, n_columns: int, n_pairs: int) -> None:
    pairs, rows, columns = random_pairs(seed, n_rows, n_columns, n_pairs)
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (n_rows, n_columns))
    values = torch.randn(n_pairs, generator=generator, dtype=torch.float64)
    dense = torch.zeros(n_rows, n_columns, dtype=torch.float64).index_put_((rows, columns), values, accumulate=True)
    torch.testing.assert_close(pairs.dots(left, right), (left @ right.T)[rows, columns])
    torch.testing.assert_close(pairs.sum(values, right), dense @ right)
    torch.testing.assert_close(pairs.sum_transposed(values, left), dense.T @ left)
    torch.testing.assert_close(pairs.row_sums(values), dense.sum(dim=1))
    torch.testing.assert_close(pairs.spread(left[:, 0].contiguous()), left[rows, 0])


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_sorting_keeps_every_pair(seed: int, n_pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randint(n, (n_pairs,), generator=generator) for n in (7, 9))
    pairs, order = SparsePairs.sorted_by_row(rows, columns, (7, 9))
    assert pairs.shape == (7, 9)
    assert sorted(order.tolist()) == list(range(n_pairs))
    assert torch.equal(pairs.spread(torch.arange(7)), rows[order])
    assert torch.equal(pairs.columns.long(), columns[order])


def test_gradients_of_scores() -> None:
    pairs, _, _ = random_pairs(0, 6, 5, 20)
    left, right = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 5))
    assert torch.autograd.gradcheck(lambda a, b: pair_scores(a, b, pairs), (left, right))


# ---- the largest scores of long rows ----


@pytest.mark.parametrize("n", [5_120, 6_000, 6_016, 6_079])
@pytest.mark.parametrize("hidden", [0.0, 0.3, 0.9999])
def test_the_largest_are_those_of_a_full_sort(n: int, hidden: float) -> None:
    generator = torch.Generator().manual_seed(n)
    scores = torch.randn(7, n, generator=generator)
    scores[torch.rand(7, n, generator=generator) < hidden] = -torch.inf
    scores[:, -3:] = scores[:, -3:].clamp(max=5.0) + torch.tensor([0.0, 0.5, 4.0])  # the end of a row counts, too
    values, places = largest(scores, 20)
    assert torch.equal(values, scores.sort(dim=1, descending=True).values[:, :20])
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row)) == 20 for row in places.tolist())


def test_order_of_equal_scores_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randint(0, 5, (3, 6_000), generator=torch.Generator().manual_seed(0)).float()
    monkeypatch.setattr(top_scores, "CHUNK", 7)
    for row, least in ((scores, 6_001), (scores[:, :500], 0)):
        assert torch.equal(largest(row, 20, least)[1], row.topk(20, dim=1).indices)
    neighbours, _ = module.item_neighbours(sp.csr_matrix(np.ones((4, 5), dtype=np.float32)), 3)
    assert neighbours.tolist() == [[0, 1, 2]] * 5


# ---- the neighbours of items, in blocks of any size, are those of the whole matrix ----


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), k=st.integers(0, 12), products=st.integers(1, 200), density=st.floats(0, 1))
def test_blocks_of_any_size_give_the_largest_weights(seed: int, k: int, products: int, density: float) -> None:
    likes = (np.random.default_rng(seed).random((7, 9)) < density).astype(np.float32)
    before, module.PRODUCTS = module.PRODUCTS, products
    try:
        neighbours, weights = module.item_neighbours(sp.csr_matrix(likes), k)
    finally:
        module.PRODUCTS = before
    shared = (likes.T @ likes).astype(np.float64)
    g = shared.sum(axis=1)
    omega = shared * (np.sqrt(g + 1) / np.maximum(g, 1))[:, None] / np.sqrt(g + 1)
    wanted = np.zeros((9, k))
    wanted[:, : min(k, 9)] = np.sort(omega, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)
    np.testing.assert_allclose(omega[np.arange(9)[:, None], neighbours][weights > 0], weights[weights > 0], rtol=1e-6)
    for row, weight in zip(neighbours, weights, strict=True):
        assert len(set(row[weight > 0])) == (weight > 0).sum()

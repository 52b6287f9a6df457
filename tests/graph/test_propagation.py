"""Propagation over normalised adjacencies, and random walks."""

import copy
import itertools
import math
import warnings
from collections import Counter
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import LGConv, SignedConv

from recbole_signed.graph import SignedGraph, propagation, random_walks, sparse_kernels
from recbole_signed.graph.propagation import (
    BipartiteOperator,
    GramFilter,
    SparseOperator,
    row_mean,
    sparse_tensor,
    symmetric,
)
from recbole_signed.graph.random_walks import WalkGraph, WalkPairs, n_path_types, path_attention
from recbole_signed.graph.sparse_kernels import homophily_ratio

SHAPE = (9, 12)
MATRICES = st.lists(
    st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.sampled_from([1.0, 1.0, -0.5, 2.0])),
    max_size=50,
)


def matrix_of(cells: list[tuple[int, int, float]]) -> sp.csr_matrix:
    dense = np.zeros(SHAPE)
    for row, column, value in cells:
        dense[row, column] = value
    return sp.csr_matrix(dense)


def random_graph(seed: int = 0) -> SignedGraph:
    """The last user and the last item have no edge; some nodes have edges of one sign alone."""
    drawn = np.random.default_rng(seed).choice([1, 0, -1], SHAPE, p=[0.2, 0.7, 0.1])
    drawn[-1], drawn[:, -1] = 0, 0
    return SignedGraph.from_edges(np.nonzero(drawn > 0), np.nonzero(drawn < 0), *SHAPE)


def tables(width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    users, items = (torch.randn(n, width, generator=random, dtype=torch.float64) for n in SHAPE)
    return users.requires_grad_(), items.requires_grad_()


def between_all_nodes(matrix: sp.csr_matrix) -> torch.Tensor:
    """Edges from users to items and back as PyTorch Geometric wants them, users first."""
    edges = matrix.tocoo()
    users, items = torch.from_numpy(edges.row).long(), torch.from_numpy(edges.col).long() + SHAPE[0]
    return torch.stack([torch.cat([users, items]), torch.cat([items, users])])


def dense_reference(matrix: np.ndarray, smoothing: float, exponent: float) -> np.ndarray:
    size, scales = np.abs(matrix), []
    for degrees in (size.sum(1) + smoothing, size.sum(0) + smoothing):
        scales.append(np.array([degree**-exponent if degree > 0 else 0.0 for degree in degrees]))
    return scales[0][:, None] * matrix * scales[1]


@given(MATRICES, st.sampled_from([0.0, 3.0]), st.sampled_from([0.5, 0.3]))
def test_normalisation_is_that_of_the_formula(cells: list, smoothing: float, exponent: float) -> None:
    matrix = matrix_of(cells)
    found = symmetric(matrix, smoothing=smoothing, exponent=exponent)
    wanted = dense_reference(matrix.toarray(), smoothing, exponent)
    np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-5, atol=1e-7)
    means = row_mean(matrix).toarray()
    size = np.abs(matrix.toarray()).sum(1, keepdims=True)
    np.testing.assert_allclose(means, matrix.toarray() / np.where(size, size, 1), rtol=1e-5)


@given(MATRICES)
def test_products_and_gradients_are_those_of_the_dense_matrix(cells: list) -> None:
    matrix = matrix_of(cells)
    dense, operator = torch.from_numpy(matrix.toarray()), SparseOperator(matrix)
    users, items = tables()
    for found, wanted, argument in (
        (operator @ items, dense @ items, items),
        (operator.T @ users, dense.T @ users, users),
    ):
        torch.testing.assert_close(found, wanted)
        upstream = torch.arange(found.numel(), dtype=torch.float64).view(found.shape)
        gradients = [torch.autograd.grad(each, argument, upstream)[0] for each in (found, wanted)]
        torch.testing.assert_close(*gradients)
    assert (operator.shape, operator.T.shape) == (SHAPE, SHAPE[::-1])


def test_gradients_contiguous_or_not() -> None:
    graph = random_graph()
    users, items = tables(2)
    for operator in (BipartiteOperator.symmetric(graph.likes), BipartiteOperator.mean(graph.dislikes)):
        assert torch.autograd.gradcheck(operator, (users, items))
        assert torch.autograd.gradcheck(
            lambda u, i, operator=operator: operator.mean_of_layers(u, i, 3), (users, items)
        )
    operator = SparseOperator(random_graph().likes)
    _, items = tables()
    product = operator @ items
    upstream = torch.randn(4, SHAPE[0], dtype=torch.float64).T
    torch.testing.assert_close(torch.autograd.grad(product, items, upstream)[0], operator.T @ upstream)


@pytest.mark.parametrize("n_layers", [0, 1, 4])
def test_symmetric_propagation_is_that_of_lgconv(n_layers: int) -> None:
    likes = random_graph().likes
    users, items = tables()
    convolution, edges = LGConv(), between_all_nodes(likes)
    layer = torch.cat([users, items])
    wanted = [layer]
    for _ in range(n_layers):
        layer = convolution(layer, edges)
        wanted.append(layer)
    found = BipartiteOperator.symmetric(likes).mean_of_layers(users, items, n_layers)
    mean = torch.stack(wanted).mean(0)
    torch.testing.assert_close(torch.cat(found), mean, rtol=1e-6, atol=1e-7)
    upstream = torch.randn(mean.shape, dtype=torch.float64)
    ours = torch.autograd.grad(torch.cat(found), (users, items), upstream)
    torch.testing.assert_close(ours, torch.autograd.grad(mean, (users, items), upstream), rtol=1e-6, atol=1e-7)


def plain_signed_convolution(first: bool) -> SignedConv:
    """One whose weights pass the aggregates on; after the first layer those along dislikes twice."""
    convolution = SignedConv(4, 4, first_aggr=first, bias=True).double()
    with torch.no_grad():
        for each in convolution.parameters():
            each.zero_()
        for linear in (convolution.lin_pos_l, convolution.lin_neg_l):
            linear.weight.copy_(torch.eye(4) if first else torch.cat([torch.eye(4), 2 * torch.eye(4)], dim=1))
    return convolution


def test_mean_propagation_is_the_aggregation_of_signedconv() -> None:
    graph = random_graph()
    users, items = tables()
    edges = [between_all_nodes(each) for each in (graph.likes, graph.dislikes)]
    likes, dislikes = BipartiteOperator.mean(graph.likes), BipartiteOperator.mean(graph.dislikes)
    both = plain_signed_convolution(first=True)(torch.cat([users, items]), *edges)
    positive, negative = likes(users, items), dislikes(users, items)
    torch.testing.assert_close(torch.cat([torch.cat(positive), torch.cat(negative)], dim=1), both, rtol=1e-6, atol=1e-7)
    # the second layer: likes keep the kind of a neighbour's state, dislikes turn it
    wanted = plain_signed_convolution(first=False)(both, *edges)
    found = [
        torch.cat(likes(*same)) + 2 * torch.cat(dislikes(*other))
        for same, other in ((positive, negative), (negative, positive))
    ]
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, rtol=1e-6, atol=1e-7)


def test_what_is_kept_is_small_shared_and_quiet() -> None:
    likes = random_graph().likes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator = BipartiteOperator.symmetric(likes)
    kept = operator.to_users.matrix
    assert (kept.dtype, kept.crow_indices().dtype, kept.col_indices().dtype) == (
        torch.float32,
        torch.int32,
        torch.int32,
    )
    assert operator.to_items.matrix is operator.to_users.transposed
    assert copy.deepcopy(operator).to_users is operator.to_users
    product = operator.to_users @ torch.ones(SHAPE[1], 2, requires_grad=True)
    assert product.grad_fn is not None
    assert not product.grad_fn.saved_tensors  # nothing is stored for the backward pass


def test_an_empty_matrix_propagates_zeros() -> None:
    users, items = tables()
    for make in (BipartiteOperator.symmetric, BipartiteOperator.mean):
        operator = make(sp.csr_matrix(SHAPE, dtype=np.float32))
        assert not torch.cat(operator(users, items)).any()
        torch.testing.assert_close(operator.mean_of_layers(users, items, 2), (users / 3, items / 3))
    assert sparse_tensor(sp.csr_matrix(SHAPE)).shape == SHAPE


@pytest.mark.parametrize("cells", [1, 100, 1 << 20])
def test_sparse_and_dense_signals(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(propagation, "CELLS", cells)
    matrix = sp.random(40, 25, 0.2, format="csr", dtype=np.float32, random_state=1)
    signals = sp.random(13, 25, 0.3, format="csr", dtype=np.float32, random_state=2)
    linear, dense = GramFilter(matrix), matrix.toarray().astype(float)
    wanted = signals.toarray() @ dense.T @ dense
    np.testing.assert_allclose(linear.rows(signals), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear.dense(torch.from_numpy(signals.toarray())).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert copy.deepcopy(linear) is linear
    assert linear.rows(signals[:0]).shape == (0, 25)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), density=st.floats(0.0, 0.6), paths=st.sampled_from([1, 20, 1 << 24]))
def test_homophily_is_the_share_of_connected_pairs(seed: int, density: float, paths: int) -> None:
    dense = np.random.default_rng(seed).random((14, 11)) < density
    wanted = np.zeros(14)
    for row in range(14):
        pairs = list(permutations(np.flatnonzero(dense[row]), 2))
        others = np.delete(dense, row, axis=0)
        if pairs:
            wanted[row] = np.mean([(others[:, i] & others[:, j]).any() for i, j in pairs])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_kernels, "PATHS", paths)
        found = homophily_ratio(sp.csr_matrix(dense, dtype=np.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)


N_USERS, N_ITEMS, LENGTH = 7, 6, 3


def random_edges(seed: int, n_edges: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Edges with repeated pairs and pairs of both signs; user 0 and item 0 have none."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(1, N_USERS, (n_edges,), generator=generator)
    items = torch.randint(1, N_ITEMS, (n_edges,), generator=generator)
    return users, items, torch.rand(n_edges, generator=generator) < 0.6


def path_numbers(length: int) -> dict[tuple[int, ...], int]:
    """Shorter paths first, then in the order of binary numbers."""
    paths = [path for n in range(1, length + 1) for path in itertools.product((0, 1), repeat=n)]
    return {path: number for number, path in enumerate(paths)}


def possible(edges: tuple[torch.Tensor, ...], length: int) -> set[tuple[int, int, int]]:
    """All (start, end, type) of paths without a repeated node."""
    signs: dict[tuple[int, int], set[int]] = {}
    for user, item, like in zip(*(each.tolist() for each in edges), strict=True):
        signs.setdefault((user, item + N_USERS), set()).add(int(like))
        signs.setdefault((item + N_USERS, user), set()).add(int(like))
    numbers, found = path_numbers(length), set()

    def walk(nodes: tuple[int, ...], path: tuple[int, ...]) -> None:
        if path:
            found.add((nodes[0], nodes[-1], numbers[path]))
        if len(path) < length:
            for (source, target), kinds in signs.items():
                if source == nodes[-1] and target not in nodes:
                    for kind in kinds:
                        walk((*nodes, target), (*path, kind))

    for node in range(N_USERS + N_ITEMS):
        walk((node,), ())
    return found


def triples(graph: WalkGraph, length: int, seed: int) -> list[tuple[int, int, int]]:
    walks = graph.draw(length, torch.Generator().manual_seed(seed))
    rows = walks.pairs.spread(torch.arange(walks.pairs.shape[0]))
    assert walks.types.dtype == walks.pairs.columns.dtype == walks.pairs.indptr.dtype == torch.int32
    return list(zip(rows.tolist(), walks.pairs.columns.tolist(), walks.types.tolist(), strict=True))


@given(st.integers(0, 10_000), st.integers(0, 14), st.integers(1, 5))
def test_each_pair_is_joined_by_a_path_of_its_type(seed: int, n_edges: int, length: int) -> None:
    edges = random_edges(seed, n_edges)
    found = triples(WalkGraph.from_edges(*edges, N_USERS, N_ITEMS), length, seed)
    assert set(found) <= possible(edges, length)
    direct = Counter(
        pair
        for user, item, like in zip(*(each.tolist() for each in edges), strict=True)
        for pair in ((user, item + N_USERS, int(like)), (item + N_USERS, user, int(like)))
    )
    assert Counter(each for each in found if each[2] < 2) == direct
    assert all(kind < n_path_types(length) for _, _, kind in found)


def test_every_path_is_walked_with_its_probability() -> None:
    """A start on user 1 goes 1 - a - (1, 2, 2 again, 3), and the walk ends where it comes back."""
    edges = (torch.tensor([1, 2, 2, 3]), torch.tensor([1, 1, 1, 1]), torch.tensor([True, False, False, True]))
    graph = WalkGraph.from_edges(*edges, N_USERS, N_ITEMS)
    drawn = Counter(each for seed in range(4000) for each in triples(graph, 2, seed) if each[0] == 1)
    assert drawn.pop((1, N_USERS + 1, 1)) == 4000
    to_two, to_three = drawn.pop((1, 2, 2 + 2)), drawn.pop((1, 3, 2 + 3))  # like-dislike, like-like
    assert not drawn
    assert to_two / 4000 == pytest.approx(1 / 2, abs=0.04)
    assert to_three / 4000 == pytest.approx(1 / 4, abs=0.04)


def test_a_walk_needs_a_step_and_gives_no_pair_twice() -> None:
    # user 1 - item 1 is all of its component: each second step returns, and a third would find item 1 again
    edges = (torch.tensor([1]), torch.tensor([1]), torch.tensor([True]))
    found = triples(WalkGraph.from_edges(*edges, N_USERS, N_ITEMS), 6, 0)
    assert sorted(found) == [(1, N_USERS + 1, 1), (N_USERS + 1, 1, 1)]
    with pytest.raises(ValueError, match="one step or more"):
        WalkGraph.from_edges(*random_edges(0, 5), N_USERS, N_ITEMS).draw(0)


def test_the_order_of_edges_makes_no_difference_but_the_seed_does() -> None:
    users, items, likes = random_edges(3, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    first = WalkGraph.from_edges(users, items, likes, N_USERS, N_ITEMS)
    second = WalkGraph.from_edges(users[order], items[order], likes[order], N_USERS, N_ITEMS)
    assert triples(first, 4, 5) == triples(second, 4, 5)
    assert triples(first, 4, 5) != triples(first, 4, 6)


def test_more_pairs_than_int32_can_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = WalkGraph.from_edges(*random_edges(0, 12), N_USERS, N_ITEMS)
    monkeypatch.setattr(random_walks, "np", SimpleNamespace(iinfo=lambda _: SimpleNamespace(max=4 * 24), int32=None))
    assert len(graph.draw(3).types) > 24
    with pytest.raises(ValueError, match="24 walks of 4 steps give more pairs than int32 can number"):
        graph.draw(4)


@pytest.fixture
def walks() -> WalkPairs:
    generator = torch.Generator().manual_seed(4)
    users, items = (torch.randint(1, n, (22,), generator=generator) for n in (N_USERS, N_ITEMS))
    likes = torch.rand(22, generator=generator) < 0.5
    return WalkGraph.from_edges(users, items, likes, N_USERS, N_ITEMS).draw(LENGTH, generator)


def inputs(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator, nodes = torch.Generator().manual_seed(9), N_USERS + N_ITEMS
    shapes = ((nodes, 4), (1,), (n_path_types(LENGTH),), (nodes, 3))
    made = [scale * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [each.to(dtype).requires_grad_(place < 3) for place, each in enumerate(made)]


def reference(
    x: torch.Tensor, weight: torch.Tensor, phi: torch.Tensor, p: torch.Tensor, walks: WalkPairs
) -> torch.Tensor:
    """The formula, pair by pair."""
    rows = walks.pairs.spread(torch.arange(len(x))).tolist()
    out = [torch.zeros(x.shape[1], dtype=x.dtype) for _ in x]
    for i in set(rows):
        of_row = [place for place, row in enumerate(rows) if row == i]
        ends = walks.pairs.columns[of_row].long()
        by_content = (x[ends] @ x[i] / math.sqrt(x.shape[1]) + weight * (p[ends] @ p[i])).exp().clamp(max=5)
        by_path = phi[walks.types[of_row].long()].exp().clamp(max=5)
        share = (by_content / by_content.sum() + by_path / by_path.sum()) / 2
        out[i] = share @ x[ends]
    return torch.stack(out)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_values_and_gradients_are_those_of_the_formula(walks: WalkPairs, scale: float) -> None:
    """With the larger scale many weights are cut off at 5."""
    found, wanted = inputs(scale), inputs(scale)
    output, expected = path_attention(*found, walks), reference(*wanted, walks)
    torch.testing.assert_close(output, expected)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (output * direction).sum().backward()
    (expected * direction).sum().backward()
    for ours, theirs in zip(found[:3], wanted[:3], strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert not output[0].any()  # starts no walk


def test_gradients_and_precision(walks: WalkPairs) -> None:
    *free, positions = inputs(0.4)
    assert torch.autograd.gradcheck(lambda x, w, phi: path_attention(x, w, phi, positions, walks), free)
    arguments = inputs(100.0, torch.float32)
    path_attention(*arguments, walks).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in arguments[:3])
    single, double = (path_attention(*inputs(dtype=dtype), walks) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)

"""Walks on the signed graph, and attention over the pairs that they join."""

import itertools
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.graph import random_walks
from recbole_signed.graph.random_walks import WalkGraph, WalkPairs, n_path_types, path_attention

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
    generator = torch.Generator().manual_seed(9)
    nodes = N_USERS + N_ITEMS
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

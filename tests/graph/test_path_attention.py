"""Attention over walks and its gradients, against a loop over pairs in float64."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_signed.graph.random_walks import WalkGraph, WalkPairs, n_path_types, path_attention

N_USERS, N_ITEMS, LENGTH = 7, 6, 3


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


def test_gradcheck(walks: WalkPairs) -> None:
    *free, positions = inputs(0.4)
    assert torch.autograd.gradcheck(lambda x, w, phi: path_attention(x, w, phi, positions, walks), free)


def test_large_logits_do_not_overflow(walks: WalkPairs) -> None:
    arguments = inputs(100.0, torch.float32)
    path_attention(*arguments, walks).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in arguments[:3])


def test_single_precision_agrees_with_double(walks: WalkPairs) -> None:
    single, double = (path_attention(*inputs(dtype=dtype), walks) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)

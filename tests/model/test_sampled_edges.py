"""Scores, norms and ranking losses of sampled edges against the dense tensors they do without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from recbole_signed.model.layers import disinterest_filter
from recbole_signed.model.losses import SampledEdges, reversed_bpr, sign_aware_bpr


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5), st.integers(1, 40))
def test_scores_and_norms_are_those_of_gathered_rows(seed: int, n_edges: int, n_sampled: int, n_items: int) -> None:
    """Pairs repeat, and outnumber the cells of the matrix for some of these sizes."""
    random = torch.Generator().manual_seed(seed)
    n_users = 4
    users = torch.randint(n_users, (n_edges,), generator=random)
    items = torch.randint(n_items, (n_edges,), generator=random)
    sampled = torch.randint(n_items, (n_edges, n_sampled), generator=random)
    sign = torch.randint(2, (n_edges,), generator=random) * 2.0 - 1
    tables = [torch.randn(n, 3, generator=random, dtype=torch.float64, requires_grad=True) for n in (n_users, n_items)]
    edges = SampledEdges(users, items, sampled, sign, (n_users, n_items))
    u, i, j = tables[0][users], tables[1][items], tables[1][sampled]
    c = torch.where(sign > 0, 1.0, 2.0)
    margins = (c * (u * i).sum(1))[:, None] - (u[:, None] * j).sum(2)
    norms = u.square().sum() + i.square().sum() + j.square().sum()
    known, others = edges.scores(*tables)
    torch.testing.assert_close(edges.known_scores(*tables), known)
    for found, wanted in (
        (sign_aware_bpr(known, others, edges.coefficient(1.0, 2.0)).sum(), -logsigmoid(margins).sum()),
        (reversed_bpr(known, others, edges.coefficient(1.0, 2.0)).sum(), -logsigmoid(-margins).sum()),
        (edges.squared_norms(*tables), norms),
    ):
        torch.testing.assert_close(found, wanted)
        gradients = [torch.autograd.grad(each, tables, retain_graph=True) for each in (found, wanted)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_items", [3, 60])
def test_gradients_of_scores_are_right(n_items: int) -> None:
    random = torch.Generator().manual_seed(0)
    users, items = torch.tensor([2, 0, 2, 1]), torch.tensor([1, 1, 2, 0])
    sampled = torch.randint(n_items, (4, 3), generator=random)
    edges = SampledEdges(users, items, sampled, torch.ones(4), (5, n_items))
    tables = [torch.randn(n, 2, generator=random, dtype=torch.float64, requires_grad=True) for n in (5, n_items)]
    assert torch.autograd.gradcheck(edges.scores, tables)
    assert torch.autograd.gradcheck(edges.known_scores, tables)


def test_a_filter_that_hits_all_or_none_keeps_the_order() -> None:
    scores = torch.tensor([[3.0, -1e4, 2.0, 2.5], [0.0, 0.0, 0.0, 0.0]])
    for disinterest in (torch.ones_like(scores), -torch.ones_like(scores)):
        filtered = disinterest_filter(scores, disinterest, 0.0)
        assert torch.equal(filtered.argsort(dim=1, stable=True), scores.argsort(dim=1, stable=True))
    mixed = disinterest_filter(scores, torch.tensor([[1.0, -1, 1, -1], [1, -1, 1, -1]]), 0.0)
    assert (mixed[:, [1, 3]].amin(1) > mixed[:, [0, 2]].amax(1)).all()
    assert torch.isfinite(mixed).all()
    assert torch.equal(disinterest_filter(scores, torch.full_like(scores, 0.3), 0.3), scores), "at the threshold, kept"

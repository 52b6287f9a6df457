"""Losses that go blockwise or over sparse pairs, against the dense tensors they do without."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from recbole_signed.model import losses
from recbole_signed.model.layers import disinterest_filter
from recbole_signed.model.losses import SampledEdges, reversed_bpr, scores_of, sign_aware_bpr


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_log_sum_exp_and_its_gradients_do_not_depend_on_the_blocks(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CELLS_IN_CACHE", cells)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, 3, dtype=torch.float64, generator=generator, requires_grad=True) for n in (5, 4))
    dense = (queries @ keys.T / 0.3).exp().sum(dim=1).log()
    weights = torch.arange(5.0, dtype=torch.float64)
    torch.testing.assert_close(losses.log_sum_exp(queries, keys, 0.3), dense.mean())
    torch.testing.assert_close(losses.log_sum_exp(queries, keys, 0.3, weights), weights @ dense)
    assert torch.autograd.gradcheck(lambda a, b: losses.log_sum_exp(a, b, 0.3), (queries, keys))
    assert torch.autograd.gradcheck(lambda a, b: losses.log_sum_exp(a, b, 0.3, weights), (queries, keys))
    assert torch.autograd.gradcheck(lambda a: losses.log_sum_exp(a, a, 0.3), (queries,))


@pytest.mark.parametrize("cells", [1, 7, 10_000])
def test_gradients_of_uniformity(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CELLS_IN_CACHE", cells)
    rows = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(rows, dim=-1).requires_grad_()
    dense = torch.pdist(rows).square().mul(-2).exp().mean().log()
    found = losses.uniformity(rows)
    # both as functions of rows of length 1: what a gradient says along a row is lost by the normalisation before
    along = [torch.autograd.grad(each, rows)[0] for each in (found, dense)]
    apart, expected = (each - (each * rows).sum(dim=-1, keepdim=True) * rows for each in along)
    torch.testing.assert_close(apart, expected)


def test_large_products_and_single_precision() -> None:
    rows = torch.full((2, 4), 50.0)
    rows.requires_grad_()
    losses.log_sum_exp(rows, rows, 0.1).backward()
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
    rows = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    dense = torch.pdist(rows.double()).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(losses.uniformity(rows).double(), dense, rtol=1e-4, atol=1e-4)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(losses.uniformity(opposite), torch.tensor(-8.0), rtol=1e-3, atol=0)
    assert losses.uniformity(rows[:1]) == 0


@pytest.mark.parametrize("n_items", [3, 50])
@pytest.mark.parametrize("k", [1, 7])
def test_scores_of_sampled_items(n_items: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n_items + k)
    users, table = (
        torch.randn(n, 5, dtype=torch.float64, generator=generator, requires_grad=True) for n in (6, n_items)
    )
    items = torch.randint(0, n_items, (6, k), generator=generator)  # some occur several times
    torch.testing.assert_close(scores_of(users, table, items), torch.einsum("bd,bkd->bk", users, table[items]))
    assert torch.autograd.gradcheck(lambda *both: scores_of(*both, items), (users, table))


def test_no_sampled_item_has_no_score() -> None:
    users, table = torch.randn(4, 5, requires_grad=True), torch.randn(9, 5, requires_grad=True)
    found = scores_of(users, table, torch.empty(4, 0, dtype=torch.int64))
    assert found.shape == (4, 0)
    found.sum().backward()
    assert not users.grad.any()


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
    margins = (torch.where(sign > 0, 1.0, 2.0) * (u * i).sum(1))[:, None] - (u[:, None] * j).sum(2)
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
    edges = SampledEdges(users, items, torch.randint(n_items, (4, 3), generator=random), torch.ones(4), (5, n_items))
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

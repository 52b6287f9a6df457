"""Blockwise losses against their dense forms."""

from __future__ import annotations

import pytest
import torch

from recbole_signed.model import losses


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
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    rows = torch.nn.functional.normalize(rows, dim=-1).requires_grad_()
    dense = torch.pdist(rows).square().mul(-2).exp().mean().log()
    found = losses.uniformity(rows)
    # both as functions of rows of length 1: what a gradient says along a row is lost by the normalisation before
    along = [torch.autograd.grad(each, rows)[0] for each in (found, dense)]
    apart, expected = (each - (each * rows).sum(dim=-1, keepdim=True) * rows for each in along)
    torch.testing.assert_close(apart, expected)


def test_large_products_do_not_overflow() -> None:
    rows = torch.full((2, 4), 50.0)
    rows.requires_grad_()
    losses.log_sum_exp(rows, rows, 0.1).backward()
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()


def test_uniformity_in_single_precision_is_that_of_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator), dim=-1)
    dense = torch.pdist(rows.double()).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(losses.uniformity(rows).double(), dense, rtol=1e-4, atol=1e-4)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(losses.uniformity(opposite), torch.tensor(-8.0), rtol=1e-3, atol=0)
    assert losses.uniformity(rows[:1]) == 0

"""Scores of sampled items and their gradients, against gathered rows."""

from __future__ import annotations

import pytest
import torch

from recbole_signed.model.losses import scores_of


@pytest.mark.parametrize("n_items", [3, 50])
@pytest.mark.parametrize("k", [1, 7])
def test_scores_of_sampled_items(n_items: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n_items + k)
    users, table = (
        torch.randn(n, 5, dtype=torch.float64, generator=generator, requires_grad=True) for n in (6, n_items)
    )
    items = torch.randint(0, n_items, (6, k), generator=generator)  # some occur several times
    found = scores_of(users, table, items)
    torch.testing.assert_close(found, torch.einsum("bd,bkd->bk", users, table[items]))
    assert torch.autograd.gradcheck(lambda *both: scores_of(*both, items), (users, table))


def test_no_sampled_item_has_no_score() -> None:
    users, table = torch.randn(4, 5, requires_grad=True), torch.randn(9, 5, requires_grad=True)
    found = scores_of(users, table, torch.empty(4, 0, dtype=torch.int64))
    assert found.shape == (4, 0)
    found.sum().backward()
    assert not users.grad.any()

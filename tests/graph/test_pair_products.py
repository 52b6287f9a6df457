"""Inner products and sums over sparse pairs, against dense matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_signed.graph.sparse_kernels import SparsePairs, pair_scores


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

"""The largest scores of long rows."""

from __future__ import annotations

import pytest
import torch

from recbole_signed.graph import top_scores
from recbole_signed.graph.top_scores import largest


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


def test_a_shorter_row_keeps_the_order_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randint(0, 5, (3, 6_000), generator=torch.Generator().manual_seed(0)).float()
    monkeypatch.setattr(top_scores, "CHUNK", 7)
    for row, least in ((scores, 6_001), (scores[:, :500], 0)):
        assert torch.equal(largest(row, 20, least)[1], row.topk(20, dim=1).indices)

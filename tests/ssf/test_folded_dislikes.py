"""What a dislike does to somebody who is folded in: nothing near to it rises, and without order nothing else moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT"])
def test_a_dislike_raises_nothing_near_it_and_moves_nothing_else(name: str, prepare_model: Callable[..., Any]) -> None:
    model, *_ = prepare_model(name, auto=False)
    model.fit()
    lowered = 0
    for user in range(1, 40, 3):
        likes = model.graph.likes[user].indices.tolist()
        new = [item for item in range(1, model.n_items) if item not in likes]
        first, second = new[user % len(new)], new[(user + 7) % len(new)]
        ranked = [model.fold_in(likes, dislikes) for dislikes in ([], [first], [first, second], [])]
        near = [model._personal.near(np.array([each])).items for each in (first, second)]
        near = [[item for item in each.tolist() if item in new and item != first][:10] for each in near]
        assert (ranked[1] <= ranked[0])[near[0]].all()
        moved = torch.nonzero(ranked[1] != ranked[0]).ravel().tolist()
        assert set(moved) <= set(near[0]) or model.dislikes_lead
        assert (ranked[2] <= ranked[1])[[item for item in near[1] if item != second]].all()
        assert torch.equal(ranked[3], ranked[0])
        lowered += int((ranked[1] < ranked[0])[near[0]].sum())
    assert lowered > 50


def test_a_repeated_dislike_counts_once_where_it_is_last(prepare_model: Callable[..., Any]) -> None:
    """What is held back is named by its item, so that an earlier one of the same item was, too."""
    model, *_ = prepare_model("SSF", auto=False)
    model.fit()
    found = model.fold_in([1, 2, 5], [3, 4, 3])
    torch.testing.assert_close(found, model.fold_in([1, 2, 5], [4, 3]), rtol=0, atol=0)
    assert not torch.equal(found, model.fold_in([1, 2, 5], [3]))


@pytest.mark.parametrize("name", ["SSF", "SSFL", "SSFT"])
def test_scores_of_pairs_alone_give_the_same_lists(
    name: str, prepare_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large catalogue what is near a dislike is scored alone, in a small one with all items."""
    model, *_ = prepare_model(name, auto=False, dislike_strength=0.3)
    model.fit()
    users = torch.arange(1, 50)
    of_all = model.judged(users)
    asked, scores = [], model._scores
    monkeypatch.setattr(model, "_scores", lambda *args: asked.append(args[2:]) or scores(*args))
    monkeypatch.setattr("recbole_signed.model.verdicts.SPARSE", 0)
    torch.testing.assert_close(model.judged(users), of_all, rtol=1e-5, atol=1e-6)
    assert any(rest and rest[0] is not None for rest in asked)
    assert not torch.equal(of_all, model.score(users))

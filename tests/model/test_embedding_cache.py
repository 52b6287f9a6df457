"""Embeddings are encoded once for an evaluation, and again after whatever changes them."""

from __future__ import annotations

import pytest
import torch
from signed_reference import N_USERS, build, small_data

from recbole_signed.model.lsgrec import LSGRec

USERS = torch.arange(N_USERS)


def test_one_evaluation_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(LSGRec, small_data())
    calls: list[None] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda: (calls.append(None), encode())[1])
    assert torch.equal(model.score(USERS), model.score(USERS))
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["load", "step", "train"])
def test_what_changes_parameters_is_followed_by_their_embeddings(change: str) -> None:
    data = small_data()
    model = build(LSGRec, data)
    before = model.score(USERS)
    state = {key: 2.0 * value for key, value in model.state_dict().items()}
    if change == "load":
        model.load_state_dict(state)
    else:
        if change == "step":
            model.calculate_loss(data.batch(2))
        with torch.no_grad():
            for key, value in model.named_parameters():
                value.copy_(state[key])
        if change == "train":
            model.train()
    torch.testing.assert_close(model.score(USERS), 4.0 * before)  # propagation is linear

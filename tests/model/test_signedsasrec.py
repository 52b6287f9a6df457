"""What SignedSASRec learns from, against loops."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed import UsageError

LENGTH = 5
SETTINGS = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": LENGTH}


@pytest.fixture
def model(prepare_model: Callable[..., Any]) -> Any:
    return prepare_model("SignedSASRec", **SETTINGS)[0].eval()


@st.composite
def batches(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    rows = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, LENGTH), min_size=rows, max_size=rows))
    items, signs = torch.zeros((rows, LENGTH), dtype=torch.int64), torch.zeros((rows, LENGTH), dtype=torch.int64)
    for row, length in enumerate(lengths):
        for place in range(length):
            items[row, place] = draw(st.integers(1, 20))
            signs[row, place] = draw(st.sampled_from([1, -1]))
    targets = draw(st.lists(st.integers(1, 20), min_size=rows, max_size=rows))
    return {
        "item_id_list": items,
        "sign_list": signs,
        "item_length": torch.tensor(lengths),
        "item_id": torch.tensor(targets),
    }


def loop_targets(batch: dict[str, torch.Tensor]) -> list[tuple[int, int, int, int | None]]:
    """(row, place, next liked item, disliked next item if any) of each place."""
    found = []
    for row, length in enumerate(batch["item_length"].tolist()):
        events = list(zip(batch["item_id_list"][row].tolist(), batch["sign_list"][row].tolist(), strict=True))[:length]
        events.append((int(batch["item_id"][row]), 1))
        for place in range(length):
            following = events[place + 1 :]
            like = next(item for item, sign in following if sign > 0)
            found.append((row, place, like, following[0][0] if following[0][1] < 0 else None))
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=batches(), weight=st.sampled_from([0.0, 0.7]))
def test_the_loss_is_that_of_a_loop_over_places(model: Any, batch: dict, weight: float) -> None:
    model.dislike_weight = weight
    with torch.no_grad():
        scores = model.forward(batch) @ model.item_embedding.weight.T
        losses, pushes, targets = 0.0, 0.0, loop_targets(batch)
        for row, place, like, dislike in targets:
            here = scores[row, place].double()
            losses += float(torch.logsumexp(here, 0) - here[like])
            if dislike is not None:
                pushes += math.log1p(math.exp(float(here[dislike] - here[like])))
        wanted = (losses + weight * pushes) / len(targets)
        assert float(model.calculate_loss(batch)) == pytest.approx(wanted, rel=1e-4)


def test_a_place_sees_nothing_that_is_later(model: Any) -> None:
    batch = {
        "item_id_list": torch.tensor([[3, 4, 5, 6, 7]]),
        "sign_list": torch.tensor([[1, -1, 1, 1, -1]]),
        "item_length": torch.tensor([5]),
    }
    before = model.forward(batch)
    batch["item_id_list"][0, 3], batch["sign_list"][0, 4] = 9, 1
    after = model.forward(batch)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_the_encoder_is_recboles_sasrec_with_signs_added_to_items(prepare_model: Callable[..., Any]) -> None:
    """Each item occurs with one sign, so the sum of both embeddings is an item embedding of SASRec."""
    keys = {"hidden_size": 8, "inner_size": 12, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": LENGTH}
    keys |= {"hidden_act": "relu", "layer_norm_eps": 1e-3, "initializer_range": 0.5}
    keys |= {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.6}
    ours = prepare_model("SignedSASRec", **keys)[0].eval()
    theirs = prepare_model("SASRec", **keys, train_neg_sample_args=None)[0].eval()
    items = torch.tensor([[3, 4, 5, 6, 7], [7, 8, 3, 0, 0]])
    signs = torch.tensor([[1, -1, 1, 1, -1], [-1, -1, 1, 0, 0]])
    lengths = torch.tensor([5, 3])
    for own, other in ((ours.norm, theirs.LayerNorm), (ours.encoder, theirs.trm_encoder)):
        other.load_state_dict(own.state_dict())
    with torch.no_grad():
        for each in (ours.sign_embedding.weight, ours.item_embedding.weight, ours.position_embedding.weight):
            assert float(each.std()) == pytest.approx(0.5, rel=0.3)
        theirs.position_embedding.weight.copy_(ours.position_embedding.weight)
        theirs.item_embedding.weight.copy_(ours.item_embedding.weight)
        liked, disliked = torch.tensor([3, 5, 6]), torch.tensor([4, 7, 8])
        theirs.item_embedding.weight[disliked] += ours.sign_embedding.weight[0]
        theirs.item_embedding.weight[liked] += ours.sign_embedding.weight[2]
        batch = {"item_id_list": items, "sign_list": signs, "item_length": lengths}
        wanted = theirs.forward(items, lengths)
        torch.testing.assert_close(ours.forward(batch)[torch.arange(2), lengths - 1], wanted, rtol=1e-4, atol=1e-5)
        scores = ours.full_sort_predict(batch)
        dropped = []
        for each, given in ((ours.train(), (batch,)), (theirs.train(), (items, lengths))):
            torch.manual_seed(3)
            dropped.append(each.forward(*given))
        torch.testing.assert_close(dropped[0][torch.arange(2), lengths - 1], dropped[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, wanted @ ours.item_embedding.weight.T, rtol=1e-4, atol=1e-5)


def test_a_negative_weight_of_dislikes_is_refused(prepare_model: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="dislike_weight is -1; it must be a number 0 or more"):
        prepare_model("SignedSASRec", **SETTINGS, dislike_weight=-1)

"""Training batches of signed edges."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prepared import prepared
from recbole.utils import InputType

from recbole_signed.data.dataloader import SignedTrainDataLoader
from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender


class EdgeModel(SignedRecommender):
    input_type = InputType.PAIRWISE
    batches = "edges"


class LikeModel(EdgeModel):
    batches = "likes"


ROWS = [(f"u{u}", f"i{(3 * u + k) % 11}", (1, -1, 1, -1, 0)[k]) for u in range(12) for k in range(5)]


@pytest.fixture
def loader(write_inter: Callable[..., Path]) -> Callable[..., Any]:
    parts = {"train": [*ROWS, ROWS[0]], "valid": [("u0", "i7", 1)], "test": [("u1", "i9", 1)]}
    for part, rows in parts.items():
        write_inter("edges", ["user_id:token", "item_id:token", "sign:float"], rows, part)

    def make(model: type = EdgeModel, **config: Any) -> Any:
        given = {
            "benchmark_filename": list(parts), "load_col": {"inter": ["user_id", "item_id", "sign"]},
            "duplicate_pairs": "keep", "train_batch_size": 10, "n_negatives": 3, **config,
        }  # fmt: skip
        return prepared("edges", model, **given)[2][0]

    return make


def epoch(loader: Any) -> list[Any]:
    return list(loader)


def rows_of(batches: list[Any], dataset: Any) -> Counter[tuple[str, str, int]]:
    users, items, signs = (torch.cat([batch[key] for batch in batches]) for key in ("user_id", "item_id", "sign"))
    tokens = dataset.id2token("user_id", users), dataset.id2token("item_id", items), signs.int().tolist()
    return Counter(zip(*tokens, strict=True))


def test_an_epoch_brings_each_row_in_batches_or_at_once(loader: Callable[..., Any]) -> None:
    edges = loader()
    assert isinstance(edges, SignedTrainDataLoader)
    wanted = Counter(row for row in [*ROWS, ROWS[0]] if row[2])
    assert rows_of(epoch(edges), edges._dataset) == wanted
    assert len(edges) == 5
    likes = loader(LikeModel)
    assert rows_of(epoch(likes), likes._dataset) == Counter({row: n for row, n in wanted.items() if row[2] > 0})
    whole = epoch(loader(train_batch_size=0, n_negatives=0))
    assert len(whole) == 1
    assert len(whole[0]) == 49
    assert "neg_item_id" not in whole[0].columns


def test_sampled_items_are_unknown_unless_a_model_says_so(loader: Callable[..., Any]) -> None:
    for model, signs in ((EdgeModel, (1, -1)), (LikeModel, (1,))):
        made = loader(model, negative_exponent=0.75)
        known = {(row[0], row[1]) for row in ROWS if row[2] in signs}
        for batch in epoch(made):
            assert batch["neg_item_id"].shape == (len(batch), 3)
            users = made._dataset.id2token("user_id", batch["user_id"].repeat_interleave(3))
            items = made._dataset.id2token("item_id", batch["neg_item_id"].reshape(-1))
            assert not known & set(zip(users, items, strict=True))
    made = loader(LikeModel, sift_positives=False, n_negatives=200)
    liked = {(row[0], row[1]) for row in ROWS if row[2] > 0}
    batch = epoch(made)[0]
    users = made._dataset.id2token("user_id", batch["user_id"].repeat_interleave(200))
    items = made._dataset.id2token("item_id", batch["neg_item_id"].reshape(-1))
    assert {item for item, _ in Counter(items).items()} == {f"i{number}" for number in range(11)}
    share = sum(pair in liked for pair in zip(users, items, strict=True)) / len(items)
    assert share == pytest.approx(2 / 11, abs=0.03), "each of a user's two likes is as likely as any other item"


def test_epochs_and_batches_draw_by_their_numbers(loader: Callable[..., Any]) -> None:
    first, second = loader(), loader()
    third = [epoch(first) for _ in range(3)][-1]
    torch.manual_seed(1)
    second.set_epoch(2)
    again = epoch(second)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(third, again, strict=True) for key in a.columns)
    assert not torch.equal(epoch(second)[0]["user_id"], again[0]["user_id"])
    second.set_epoch(2)
    assert torch.equal(epoch(second)[0]["neg_item_id"], again[0]["neg_item_id"])
    made = loader(LikeModel, sift_positives=False, n_negatives=40)
    first, second = (batch["neg_item_id"] for batch in epoch(made)[:2])
    assert float((first == second).float().mean()) < 0.3  # by chance 1 in 11
    other = epoch(loader(LikeModel, sift_positives=False, n_negatives=40, seed=77))[0]
    assert float((first == other["neg_item_id"]).float().mean()) < 0.3
    whole, turned = (epoch(loader(train_batch_size=0, seed=seed))[0]["user_id"] for seed in (7, 8))
    assert not torch.equal(whole, turned)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0])
def test_items_are_sampled_by_a_power_of_their_edges(exponent: float, loader: Callable[..., Any]) -> None:
    made = loader(train_batch_size=0, sift_positives=False, n_negatives=400, negative_exponent=exponent)
    batch = epoch(made)[0]
    n_items = made._dataset.item_num
    degrees = torch.bincount(batch["item_id"], minlength=n_items).double()
    assert degrees[1:].max() > degrees[1:].min() > 0
    wanted = degrees**exponent
    wanted[0] = 0.0
    found = torch.bincount(batch["neg_item_id"].reshape(-1), minlength=n_items).double()
    torch.testing.assert_close(found / found.sum(), wanted / wanted.sum(), rtol=0.0, atol=0.01)


@pytest.mark.parametrize("size", [-1, "all"])
def test_a_wrong_batch_size_is_refused(loader: Callable[..., Any], size: Any) -> None:
    with pytest.raises(UsageError, match=r"train_batch_size'? is"):
        loader(train_batch_size=size)


def test_recboles_sampling_key_is_not_ignored(loader: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    loader()
    assert "train_neg_sample_args" not in caplog.text
    loader(train_neg_sample_args={"sample_num": 5})
    assert "train_neg_sample_args has no effect on EdgeModel: n_negatives and negative_exponent" in caplog.text


def test_a_user_with_every_item_is_named_by_id(loader: Callable[..., Any], write_inter: Callable[..., Path]) -> None:
    columns = ["user_id:token", "item_id:token", "sign:float"]
    write_inter("edges", columns, [*ROWS, *(("u7", f"i{item}", 1 - 2 * (item % 2)) for item in range(11))], "train")
    with pytest.raises(UsageError, match="the user 'u7' has an edge to every item that could be drawn"):
        epoch(loader())
    assert epoch(loader(sift_positives=False))
    assert epoch(loader(n_negatives=0))

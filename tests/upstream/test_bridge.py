"""How an exported model reads signs and makes its batches in stock RecBole."""

from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recbole_signed.lab.upstream.bridge import (
    SignedBatches,
    StockRecommender,
    TimedDislikes,
    graph_of,
    hides_dislikes,
    signed_rows,
)


class Config(dict):
    """As RecBole's: a missing key is None."""

    def __missing__(self, key: str) -> None:
        return None


class Table(dict):
    @property
    def columns(self) -> list[str]:
        return list(self)

    def __len__(self) -> int:
        return len(next(iter(self.values())))


def data(rows: list[tuple[int, ...]], dislikes: list[tuple[int, int]] | None = None, **config: Any) -> Any:
    names = ["user_id", "item_id", "sign"][: len(rows[0])]
    columns = {name: torch.tensor(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    dataset = SimpleNamespace(
        config=Config(NEG_PREFIX="neg_", seed=1, n_negatives=3, **config),
        inter_feat=Table(columns),
        uid_field="user_id",
        iid_field="item_id",
        user_num=6,
        item_num=20,
    )
    if dislikes is not None:
        users, items = zip(*dislikes, strict=True)
        dataset.dislike_feat = {"dislike_user_id": torch.tensor(users), "dislike_item_id": torch.tensor(items)}
    return dataset


LIKES = [(user, item) for user in range(1, 6) for item in range(1, 5)]
DISLIKES = [(user, item) for user in range(1, 6) for item in (10, 11)]


def epoch(batches: SignedBatches, dataset: Any, size: int) -> tuple[list[dict[str, torch.Tensor]], list[int | None]]:
    made, begun = [], []
    for first in range(0, len(dataset.inter_feat), size):
        part = {name: column[first : first + size] for name, column in dataset.inter_feat.items()}
        batch, new = batches.signed(part)
        made.append(batch)
        begun.append(new)
    return made, begun


# RecBole makes the word none of ``train_neg_sample_args: ~``; the number beside it has no meaning then
@pytest.mark.parametrize("sampling", [{}, *({"distribution": "none", "sample_num": number} for number in ("none", 3))])
def test_each_dislike_comes_once_an_epoch_and_nothing_known_is_sampled(sampling: dict[str, Any]) -> None:
    dataset = data(LIKES, DISLIKES, train_neg_sample_args=sampling)
    batches = SignedBatches(dataset, signed_rows(dataset), "edges")
    orders = []
    for number in range(2):
        made, begun = epoch(batches, dataset, 7)
        assert begun == [number, None, None]
        seen = [
            (int(user), int(item))
            for batch in made
            for user, item, sign in zip(batch["user_id"], batch["item_id"], batch["sign"], strict=True)
            if sign < 0
        ]
        assert Counter(seen) == Counter(DISLIKES)
        orders.append(seen)
        assert all(batch["neg_item_id"].shape == (len(batch["user_id"]), 3) for batch in made)
        assert sampled(made).isdisjoint({*LIKES, *DISLIKES})
    assert orders[0] != orders[1]


def test_items_are_sampled_in_proportion_to_a_power_of_their_edges() -> None:
    edges = [*((user, 1) for user in range(1, 5)), (1, 2), (5, 3)]
    for exponent, wanted in ((1.0, 4 / 5), (2.0, 16 / 17)):
        dataset = data(edges, negative_exponent=exponent)
        dataset.config["n_negatives"] = 2000
        batches = SignedBatches(dataset, signed_rows(dataset), "edges")
        batch, _ = batches.signed({"user_id": torch.tensor([5]), "item_id": torch.tensor([3])})
        counts = Counter(batch["neg_item_id"].flatten().tolist())
        assert set(counts) == {1, 2}, "of those that somebody has an edge to"
        assert counts[1] / 2000 == pytest.approx(wanted, abs=0.04)


def test_batches_of_likes_hold_no_dislike() -> None:
    """Of what is sampled beside them likes alone are left out."""
    dataset = data([(*pair, 1.0) for pair in LIKES] + [(*pair, -1.0) for pair in DISLIKES])
    dataset.config["n_negatives"] = 100
    made, _ = epoch(SignedBatches(dataset, signed_rows(dataset), "likes"), dataset, 5)
    assert sum(len(batch["user_id"]) for batch in made) == len(LIKES)
    assert all(bool((batch["sign"] > 0).all()) for batch in made)
    assert sampled(made).isdisjoint(LIKES)
    assert sampled(made) > set(DISLIKES)


def sampled(made: list[dict[str, torch.Tensor]]) -> set[tuple[int, int]]:
    rows = (zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True) for batch in made)
    return {(user, item) for each in rows for user, items in each for item in items}


@pytest.mark.parametrize("sifts", [None, True, False])
def test_a_users_own_items_are_sampled_where_the_setting_says_so(sifts: bool | None) -> None:
    dataset = data(LIKES, DISLIKES, **({} if sifts is None else {"sift_positives": sifts}))
    dataset.config["n_negatives"] = 100
    made, _ = epoch(SignedBatches(dataset, signed_rows(dataset), "edges"), dataset, 20)
    known = {*LIKES, *DISLIKES}
    assert sampled(made) > known if sifts is False else sampled(made).isdisjoint(known)


@pytest.mark.parametrize("hide", [None, True, False])
def test_a_full_ranking_leaves_out_what_each_user_disliked(hide: bool | None) -> None:
    dataset = data(LIKES, [(1, 10), (1, 11), (4, 12)], **({} if hide is None else {"hide_dislikes": hide}))
    users, scores = torch.tensor([4, 2, 1]), torch.rand(3, 20)
    model = SimpleNamespace(
        USER_ID="user_id",
        score=lambda _: scores,
        graph=graph_of(signed_rows(dataset), dataset),
        hide_dislikes=hides_dislikes(dataset),
    )
    wanted = scores.clone()
    if hide is not False:
        wanted[[0, 2, 2], [12, 10, 11]] = -torch.inf
    found = StockRecommender.full_sort_predict(model, {"user_id": users})  # type: ignore[arg-type]
    assert torch.equal(found.reshape(3, 20), wanted)


def test_a_sign_column_is_read() -> None:
    dataset = data([(*pair, 1.0) for pair in LIKES] + [(*pair, -1.0) for pair in DISLIKES] + [(1, 15, 0.0)])
    graph = graph_of(signed_rows(dataset), dataset)
    assert (graph.likes.nnz, graph.dislikes.nnz) == (len(LIKES), len(DISLIKES))
    assert graph.dislikes[1, 10] == 1
    made, _ = epoch(SignedBatches(dataset, signed_rows(dataset), "edges"), dataset, 100)
    assert sorted(made[0]["sign"].tolist()) == [-1.0] * len(DISLIKES) + [1.0] * len(LIKES)


@pytest.mark.parametrize("how", [{"normalize_all": True}, {"normalize_field": ["sign"]}])
def test_a_normalised_sign_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must not be normalised"):
        signed_rows(data([(1, 1, 1.0), (1, 2, 0.0)], **how))


def timed(dislikes: list[tuple[int, int, float]], **config: Any) -> TimedDislikes:
    dataset = data(LIKES, **config)
    users, items, times = (torch.tensor(each) for each in zip(*dislikes, strict=True))
    dataset.time_field, dataset.config["LIST_SUFFIX"] = "timestamp", "_list"
    dataset.inter_feat["timestamp"] = torch.zeros(len(LIKES))
    dataset.dislike_feat = Table(dislike_user_id=users, dislike_item_id=items, dislike_timestamp=times.float())
    return TimedDislikes(dataset)


@pytest.mark.parametrize(
    "how", [{"normalize_all": True}, {"normalize_field": ["timestamp"]}, {"normalize_field": ["dislike_timestamp"]}]
)
def test_normalised_times_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="times must not be normalised"):
        timed([(1, 10, 1.0)], **how)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("predicts", [True, False])
def test_a_sequence_holds_the_dislikes_that_are_earlier_than_its_target(seed: int, predicts: bool) -> None:
    draw = partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    n_rows, longest = 40, 5
    dislikes = [(u, i, float(t)) for u, i, t in zip(*draw(1, 6, (3, 30)).tolist(), strict=True)]
    dislikes = [(u if u != 3 else 2, i, t) for u, i, t in dislikes]  # user 3 dislikes nothing
    user, length = draw(1, 6, (n_rows,)), draw(1, longest + 1, (n_rows,))
    items, target = draw(10, 20, (n_rows, longest)), draw(0, 9, (n_rows,)).float()
    times = draw(0, 9, (n_rows, longest)).float().sort(dim=1).values
    batch = {"user_id": user, "timestamp_list": times} | ({"timestamp": target} if predicts else {})
    found = timed(dislikes).among(batch, items, length)
    for row in range(n_rows):
        events = [(float(times[row, j]), 0, int(items[row, j]), 1) for j in range(int(length[row]))]
        late = float(target[row]) if predicts else 99.0
        events += [(t, 1, i, -1) for u, i, t in dislikes if u == int(user[row]) and t < late]
        wanted = sorted(events, key=lambda each: each[:2])[-longest:]
        padding = [0] * (longest - len(wanted))
        assert found[2][row] == len(wanted)
        assert found[1][row].tolist() == [sign for *_, sign in wanted] + padding
        assert found[0][row].tolist() == [item for *_, item, _ in wanted] + padding

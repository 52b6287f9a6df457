"""Draws of items that a user has no edge to: ours for batches, and RecBole's very own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from edge_lists import columns
from hypothesis import given
from hypothesis import strategies as st
from prepared import prepared
from recbole.quick_start import run_recbole
from recbole.sampler import RepeatableSampler, Sampler
from refusals import check_refused

from recbole_signed.data import negative_sampling as module
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.data.negative_sampling import PHASES, SignedSampler, UnseenItems
from recbole_signed.errors import UsageError

N_USERS, N_ITEMS = 6, 9
PAIRS = st.sets(st.tuples(st.integers(0, N_USERS - 1), st.integers(1, N_ITEMS - 1)), max_size=40)


@given(PAIRS, st.booleans(), st.integers(0, 2**32 - 1))
def test_no_seen_item_and_no_padding_is_drawn(pairs: set[tuple[int, int]], weighted: bool, seed: int) -> None:
    weights = np.arange(N_ITEMS, dtype=float) if weighted else None
    unseen = UnseenItems.from_pairs(*columns(sorted(pairs)), N_ITEMS, weights)
    open_users = [user for user in range(N_USERS) if sum(u == user for u, _ in pairs) < N_ITEMS - 1]
    users = np.array(open_users * 3, dtype=np.int64)
    drawn = unseen.draw(users, 4, np.random.default_rng(seed))
    assert drawn.shape == (len(users), 4)
    assert drawn.size == 0 or (drawn.min() >= 1 and drawn.max() < N_ITEMS)
    assert not any((int(user), int(item)) in pairs for user, row in zip(users, drawn, strict=True) for item in row)


@pytest.mark.parametrize("weights", [None, np.array([5.0, 1, 2, 3, 4, 0, 6, 7, 8])])
def test_proportions_are_those_of_the_weights(weights: np.ndarray | None) -> None:
    unseen = UnseenItems.from_pairs(np.array([0, 0, 0]), np.array([1, 2, 8]), N_ITEMS, weights)
    drawn = unseen.draw(np.zeros(1000, dtype=np.int64), 40, np.random.default_rng(0)).ravel()
    wanted = np.ones(N_ITEMS) if weights is None else weights.copy()
    wanted[[0, 1, 2, 8]] = 0.0
    np.testing.assert_allclose(np.bincount(drawn, minlength=N_ITEMS) / 40_000, wanted / wanted.sum(), atol=0.01)


@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.3, 1.0, 1e6]), min_size=2, max_size=400).filter(lambda each: any(each[1:])),
    st.integers(0, 2**32 - 1),
)
def test_draws_are_those_of_a_search_in_the_running_sum(weights: list[float], seed: int) -> None:
    """Also where most items have no weight, or nearly none."""
    none = np.zeros(0, dtype=np.int64)
    unseen = UnseenItems.from_pairs(none, none, len(weights), np.array(weights))
    running, part = np.cumsum([0.0, *weights[1:]]), np.random.default_rng(seed).random(60)
    expected = np.searchsorted(running, np.minimum(part * running[-1], np.nextafter(running[-1], 0.0)), side="right")
    assert (
        unseen.draw(np.ones(20, dtype=np.int64), 3, np.random.default_rng(seed)).ravel().tolist() == expected.tolist()
    )


@given(PAIRS, st.integers(0, 2**32 - 1))
def test_a_search_finds_what_the_table_does(pairs: set[tuple[int, int]], seed: int) -> None:
    users = np.repeat(np.arange(N_USERS + 3), N_ITEMS)
    items = np.tile(np.arange(N_ITEMS), N_USERS + 3)
    table, search = (UnseenItems.from_pairs(*columns(sorted(pairs)), N_ITEMS) for _ in range(2))
    found = table._seen(users, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_BITS", 0)
        assert search._seen(users, items).tolist() == found.tolist()
    wanted = [(int(user), int(item)) in pairs for user, item in zip(users, items, strict=True)]
    assert found.tolist() == wanted


def test_the_last_open_item_is_found_and_who_has_all_is_named() -> None:
    items = np.delete(np.arange(1, 100_000), 77_776)
    unseen = UnseenItems.from_pairs(np.zeros(len(items), dtype=np.int64), items, 100_000)
    assert (unseen.draw(np.zeros(3, dtype=np.int64), 2, np.random.default_rng(1)) == 77_777).all()
    unseen = UnseenItems.from_pairs(np.full(8, 3), np.arange(1, 9), N_ITEMS)
    with pytest.raises(UsageError, match="user with the id 3 has an edge to every item"):
        unseen.draw(np.array([3]), 1, np.random.default_rng(0))


def test_who_has_seen_everything_that_can_be_drawn_is_known_before() -> None:
    """An item without a weight, and the padding item, can't be."""
    users, items = np.repeat([0, 1, 2], [8, 7, 6]), np.concatenate([np.arange(1, 9), np.arange(1, 8), np.arange(1, 7)])
    for last, wanted in ((1.0, [False, True, True, True]), (0.0, [False, False, True, True])):
        weights = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, last])
        for each in (weights, None) if last else (weights,):
            unseen = UnseenItems.from_pairs(users, items, N_ITEMS, each)
            assert unseen.can_draw(np.array([0, 1, 2, 5])).tolist() == wanted


@pytest.mark.parametrize("weights", [np.zeros(9), np.full(9, -1.0), np.full(9, np.nan)])
def test_useless_weights_are_refused(weights: np.ndarray) -> None:
    check_refused("must be finite", UnseenItems.from_pairs, np.array([0]), np.array([1]), N_ITEMS, weights)


COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
Write = Callable[..., Path]
DISTRIBUTIONS = [("uniform", 1.0), ("popularity", 1.0), ("popularity", 0.5), ("popularity", 0.0)]


def parts(n_users: int = 30, n_items: int = 40, seed: int = 0) -> list[Any]:
    """Three parts with likes of skewed popularity; some pairs repeat, within a part and over parts."""
    rng, made = np.random.default_rng(seed), []
    for size in (300, 60, 60):
        users = torch.from_numpy(rng.integers(1, n_users, size))
        items = torch.from_numpy((rng.random(size) ** 2 * (n_items - 1)).astype(np.int64) + 1)
        table = {"user_id": users, "item_id": items}
        sizes = {"user_num": n_users, "item_num": n_items}
        names = {"uid_field": "user_id", "iid_field": "item_id", "id2token": lambda _, number: f"raw {number}"}
        made.append(SimpleNamespace(inter_feat=table, **sizes, **names))
    return made


def part_of(users: list[int], items: list[int], n_items: int) -> Any:
    """A part of these likes alone."""
    (part, *_) = parts()
    part.inter_feat, part.item_num = {"user_id": torch.tensor(users), "item_id": torch.tensor(items)}, n_items
    return part


def draws(sampler: Any, seed: int = 1) -> list[list[int]]:
    """Batches of many users, of one user, and of several items for each."""
    np.random.seed(seed)  # noqa: NPY002  (what RecBole seeds)
    rng = np.random.default_rng(seed)
    batches = [(rng.integers(1, 30, 200), 1), (np.full(50, 7), 1), (rng.integers(1, 30, 64), 4)]
    return [sampler.sample_by_user_ids(users, rng.integers(1, 40, len(users)), num).tolist() for users, num in batches]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("distribution", "alpha"), DISTRIBUTIONS)
def test_draws_what_recbole_draws(distribution: str, alpha: float, phase: str) -> None:
    data = parts()
    theirs = Sampler(list(PHASES), data, distribution, alpha).set_phase(phase)
    assert draws(SignedSampler(data, distribution, alpha).set_phase(phase)) == draws(theirs)


@pytest.mark.parametrize(("distribution", "alpha"), DISTRIBUTIONS)
def test_draws_what_recbole_draws_where_items_may_repeat(distribution: str, alpha: float) -> None:
    data = parts()
    theirs = RepeatableSampler(list(PHASES), data[0], distribution, alpha).set_phase("train")
    assert draws(SignedSampler(data[:1], distribution, alpha, repeatable=True).set_phase("train")) == draws(theirs)


def test_draws_what_recbole_draws_where_an_item_has_just_the_mean_popularity() -> None:
    """It gives none of its draws away, and takes none."""
    data = parts()
    counts = [4, 2, 6, 4, 4, 1, 7]  # the mean is 4
    items = torch.from_numpy(np.random.default_rng(3).permutation(np.repeat(np.arange(1, 8), counts)))
    for part, own in zip(data, items.tensor_split(3), strict=True):
        part.inter_feat, part.item_num = {"user_id": 1 + torch.arange(len(own)) % 29, "item_id": own}, 8
    theirs = Sampler(list(PHASES), data, "popularity").set_phase("test")
    assert draws(SignedSampler(data, "popularity").set_phase("test")) == draws(theirs)


@pytest.mark.parametrize(("distribution", "alpha"), DISTRIBUTIONS)
def test_draws_among_what_is_left_are_those_that_would_not_be_refused(
    distribution: str, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which end the draws that are refused for too long."""
    monkeypatch.setattr(module, "MOST_ROUNDS", 0)
    data, n = parts(), 3000
    liked = {int(i) for u, i in zip(*data[0].inter_feat.values(), strict=True) if u == 5}
    found = np.bincount(
        SignedSampler(data, distribution, alpha).set_phase("train").sample_by_user_ids([5] * n, [1] * n, 1),
        minlength=40,
    )
    counts = np.bincount(np.concatenate([part.inter_feat["item_id"] for part in data]), minlength=40)
    weights = np.where(counts > 0, counts.astype(float) ** alpha, 0.0) if distribution == "popularity" else np.ones(40)
    weights[[0, *liked]] = 0.0
    expected = n * weights / weights.sum()
    assert not found[expected == 0].any()
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected)).all()


def test_a_user_who_likes_all_that_popularity_draws_is_named() -> None:
    """An item that nobody likes has no share of the draws, so they would never end."""
    sampler = SignedSampler([part_of([1, 1, 2], [1, 2, 1], 4)], "popularity").set_phase("train")
    check_refused("the user 'raw 1' has liked every item that could be drawn", sampler.sample_by_user_ids, [1], [1], 1)
    sampler.set_distribution("uniform")
    assert sampler.sample_by_user_ids([1], [1], 1).tolist() == [3]
    sampler.set_distribution("popularity")
    check_refused("the user 'raw 1' has liked every item that could be drawn", sampler.sample_by_user_ids, [1], [1], 1)


def test_a_like_that_a_later_part_repeats_is_one_item() -> None:
    """A user with three liked items in each of two parts has one of four left."""
    data = [part_of([1, 1, 1, 2], [1, 2, 3, 4], 5) for _ in range(2)]
    for distribution in ("uniform", "popularity"):
        sampler = SignedSampler(data, distribution).set_phase("valid")
        assert sampler.sample_by_user_ids([1], [1], 3).tolist() == [4, 4, 4]


@pytest.mark.parametrize("alpha", [60.0, 4000.0, -4000.0, 1e308, -1e308])
def test_a_distribution_that_leaves_next_to_nothing_to_the_others_is_drawn_from_all_the_same(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused draws would go on for ever; the weights of all items may be too small, or too large, for a float."""
    monkeypatch.setattr(module, "MOST_ROUNDS", 50)
    counts = {1: 5, 2: 2, 3: 1, 4: 1} if alpha > 0 else {1: 1, 2: 3, 3: 9, 4: 9}
    items = [item for item, count in counts.items() for _ in range(count)]
    part = part_of([1 if item == 1 else 2 for item in items], items, 5)
    sampler = SignedSampler([part], "popularity", alpha).set_phase("train")
    assert sampler.sample_by_user_ids([1] * 20, [1] * 20, 1).tolist() == [2] * 20  # the next in the order of weights
    repeatable = SignedSampler([part], "popularity", alpha, repeatable=True).set_phase("train")
    assert repeatable.sample_by_user_ids([1] * 20, [1] * 20, 1).tolist() == [2] * 20


def test_lists_of_items() -> None:
    users, items = np.array([70_000, 0, 70_000, 70_000]), np.array([5, 1, 5, 0])
    lists = ItemLists.from_pairs(users, items, 70_001, 60_000)
    assert lists.items.dtype == np.int32
    assert lists.keys(60_000).tolist() == [1, 4_200_000_000, 4_200_000_005]
    row, item = lists.select(np.array([70_000, 3, 0]))
    assert (row.tolist(), item.tolist(), item.dtype) == ([0, 0, 2], [0, 5, 1], np.int64)


def test_wrong_use_is_named() -> None:
    data = parts()
    sampler = SignedSampler(data, "uniform").set_phase("train")
    with pytest.raises(ValueError, match=r"user_id \[30\] not exist"):
        sampler.sample_by_user_ids([1, 30], [1, 1], 1)
    with pytest.raises(ValueError, match=r"user_id \[-1\] not exist"):
        sampler.sample_by_user_ids([0, -1], [1, 1], 1)
    with pytest.raises(ValueError, match=r"Phase \[tests\] not exist"):
        sampler.set_phase("tests")
    check_refused("it must be uniform or popularity", sampler.set_distribution, "popular")
    full = torch.arange(1, 40)
    data[2].inter_feat = {"user_id": torch.full((39,), 3), "item_id": full}
    assert len(SignedSampler(data, "uniform").set_phase("valid").sample_by_user_ids([1], [1], 2)) == 2
    with pytest.raises(UsageError, match="the user 'raw 3' has liked every item"):
        SignedSampler(data, "uniform").set_phase("test").sample_by_user_ids([1], [1], 1)
    with pytest.raises(ValueError, match="interacted with all items"):
        Sampler(list(PHASES), data)


@pytest.mark.parametrize(
    "sampling",
    [
        {"distribution": "popularity", "sample_num": 2, "alpha": 0.7, "dynamic": False, "candidate_num": 0},
        {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": True, "candidate_num": 4},
    ],
    ids=["popularity", "dynamic"],
)
def test_recboles_sampling_arguments_give_the_metrics_of_a_file_of_likes(
    sampling: dict, signed: str, write_inter: Write, signed_rows: list, quick: dict
) -> None:
    write_inter("likes", [COLUMNS[0], COLUMNS[1], COLUMNS[3]], [(u, i, t) for u, i, s, t in signed_rows if s > 0])
    args = {**quick, "train_neg_sample_args": sampling, "mask_dislikes": False, "mask_neutrals": False}
    signed = run_recbole(model="BPR", dataset=signed, config_dict=args, saved=False)
    args = {key: value for key, value in args.items() if not key.startswith("mask")}
    likes = run_recbole(model="BPR", dataset="likes", config_dict=args, saved=False)
    assert signed["test_result"] == likes["test_result"]


@pytest.mark.parametrize("repeatable", [False, True])
def test_signed_data_is_trained_with_it(repeatable: bool, signed: str) -> None:
    _, _, (train, valid, test) = prepared(signed, repeatable=repeatable)
    assert isinstance(train._sampler, SignedSampler)
    assert [loader._sampler.phase for loader in (train, valid, test)] == list(PHASES)
    for batch in train:
        assert ((batch["neg_item_id"] > 0) & (batch["neg_item_id"] < train._dataset.item_num)).all()
        assert (batch["neg_item_id"] != batch["item_id"]).all()


def test_sampled_evaluation_runs(signed: str, write_inter: Write, signed_rows: list, quick: dict) -> None:
    write_inter("likes", [COLUMNS[0], COLUMNS[1], COLUMNS[3]], [(u, i, t) for u, i, s, t in signed_rows if s > 0])
    args = {**quick, "eval_args": {"mode": "uni20"}}
    shown = {**args, "mask_dislikes": False, "mask_neutrals": False}
    results = [
        run_recbole(model="BPR", dataset=name, config_dict=given, saved=False)["test_result"]
        for name, given in ((signed, shown), ("likes", args), (signed, args))
    ]
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize("mode", ["uni20", "pop20"])
@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_what_is_hidden_in_a_full_ranking_is_no_candidate(model: str, mode: str, signed: str) -> None:
    _, _, loaders = prepared(signed, model, eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": mode})
    for loader in loaders[1:]:
        users, items = loader._dataset.history.users(), loader._dataset.history.items
        hidden = set(zip(users.tolist(), items.tolist(), strict=True))
        disliked = set(zip(*(each.tolist() for each in loader._dataset._pairs(loader._dataset.neg_feat)), strict=True))
        drawn, shown = set(), 0
        for batch, _, _, positive in loader:
            pairs = list(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))
            drawn.update(pairs)
            shown += len(positive)
        assert len(drawn) > 10 * shown
        assert not hidden & drawn
        assert disliked & drawn  # held-out dislikes are candidates, as they are in a full ranking


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_a_user_for_whom_all_candidates_are_hidden_is_named_if_it_is_evaluated(distribution: str) -> None:
    data = parts()
    liked = set(data[0].inter_feat["item_id"][data[0].inter_feat["user_id"] == 5].tolist())
    others = np.array([item for item in range(1, 40) if item not in liked])
    for part in data[1:]:
        part.history = ItemLists.from_pairs(np.full(len(others), 5), others, 30, 40)
        kept = part.inter_feat["user_id"] != 5
        part.inter_feat = {name: column[kept] for name, column in part.inter_feat.items()}
    sampler = SignedSampler(data, distribution)
    assert len(sampler.set_phase("train").sample_by_user_ids([5], [1], 3)) == 3
    assert len(sampler.set_phase("valid").sample_by_user_ids([4], [1], 3)) == 3
    last = data[2].inter_feat
    data[2].inter_feat = {name: torch.cat([column, torch.tensor([5])]) for name, column in last.items()}
    with pytest.raises(UsageError, match="the user 'raw 5' has an edge to every item"):
        SignedSampler(data, distribution).set_phase("test").sample_by_user_ids([4], [1], 3)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_the_item_of_the_row_is_no_negative_where_items_may_repeat(distribution: str) -> None:
    """It counts as one that can't be drawn, so that draws for a user who has no other one do not go on for ever."""
    part = part_of([1, 2, 2], [1, 2, 3], 4)
    cases = (([], {2, 3}), ([2], {3}), ([2, 3], None), ([1], {2, 3}), ([1, 2], {3}), ([1, 2, 3], None))
    for hidden, wanted in cases:
        part.history = ItemLists.from_pairs(np.full(len(hidden), 1), np.array(hidden, dtype=np.int64), 30, 4)
        sampler = SignedSampler([part], distribution, repeatable=True).set_phase("train")
        if wanted is not None:
            assert set(sampler.sample_by_user_ids([1] * 50, [1] * 50, 1).tolist()) == wanted
            continue
        check_refused("the user 'raw 1' has an edge to every item", sampler.sample_by_user_ids, [1], [1], 1)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_of_two_items_that_may_repeat_the_other_is_drawn_and_of_one_none(distribution: str) -> None:
    sampler = SignedSampler([part_of([1, 2], [1, 2], 3)], distribution, repeatable=True).set_phase("train")
    assert sampler.sample_by_user_ids([1, 2], [1, 2], 2).tolist() == [2, 1, 2, 1]
    sampler = SignedSampler([part_of([1, 2], [1, 1], 2)], distribution, repeatable=True).set_phase("train")
    check_refused("one item to draw from", sampler.sample_by_user_ids, [1], [1], 1)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_each_row_of_a_user_needs_an_item_other_than_its_own(distribution: str) -> None:
    part, other = part_of([2, 2, 1], [2, 3, 1], 4), part_of([2, 1, 1], [3, 1, 2], 4)
    part.history = other.history = ItemLists.from_pairs(np.array([1, 1]), np.array([1, 3]), 30, 4)
    sampler = SignedSampler([part], distribution, repeatable=True).set_phase("train")
    assert sampler.sample_by_user_ids([1], [1], 2).tolist() == [2, 2]
    sampler = SignedSampler([other], distribution, repeatable=True).set_phase("train")
    check_refused("the user 'raw 1' has an edge to every item", sampler.sample_by_user_ids, [1], [1], 1)


def test_what_is_hidden_and_liked_by_nobody_leaves_popularity_its_candidates() -> None:
    part = part_of([1, 2], [1, 2], 4)
    part.history = ItemLists.from_pairs(np.array([1]), np.array([3]), 30, 4)
    assert SignedSampler([part], "popularity").set_phase("train").sample_by_user_ids([1], [1], 3).tolist() == [2, 2, 2]

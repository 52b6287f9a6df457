"""Sequences of signed data: those of a file of likes for RecBole's models, and all events for models that ask."""

import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepared import prepared
from recbole.config import Config
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.quick_start import run_recbole
from recbole.utils import FeatureType

from recbole_signed import UsageError, register_model
from recbole_signed.data.dataloader import SignedEvalBatch, WindowLoader
from recbole_signed.data.sequential import SignedSequentialDataset
from recbole_signed.evaluation import group_metrics
from recbole_signed.evaluation.group_metrics import EdgeGroups
from recbole_signed.model.verdicts import rates_of
from recbole_signed.plugin import registry

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
LIKES = ["user_id:token", "item_id:token", "timestamp:float"]
LOAD = {"inter": ["user_id", "item_id", "timestamp"]}
PARTS = ("train", "valid", "test")
Row = tuple[int, int, int, int]
Write = Callable[..., Path]


def prepare(dataset: str, model: str = "GRU4Rec", **config: Any) -> tuple[Config, Any, tuple[Any, Any, Any]]:
    return prepared(dataset, model, **{"MAX_ITEM_LIST_LENGTH": 4, "load_col": LOAD, **config})


def liked(part: Any) -> list[tuple[int, int]]:
    """The likes of a part, as the file names users and items."""
    names = (part.id2token(f"{side}_id", each) for side, each in zip(("user", "item"), part.liked_pairs(), strict=True))
    return [(int(user), int(item)) for user, item in zip(*names, strict=True)]


def written(folder: Path, name: str, columns: list[str], rows: list[Any]) -> None:
    (folder / name).mkdir(parents=True)
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    (folder / name / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


@st.composite
def event_rows(draw: st.DrawFn) -> list[Row]:
    """Rows of up to 6 users, each pair once, times with ties, users whose likes are few or none."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=20, max_size=45, unique=True))
    signs = draw(st.lists(st.sampled_from([1, 1, 1, -1, -1, 0]), min_size=len(pairs), max_size=len(pairs)))
    times = draw(st.lists(st.integers(0, 30), min_size=len(pairs), max_size=len(pairs)))
    rows = [(*pair, sign, time) for pair, sign, time in zip(pairs, signs, times, strict=True)]
    # a user with a sequence and a dislike, so that there is something to learn from
    return [*rows, *((9, item, 1, item) for item in range(5)), (9, 5, -1, 3)]


SPLITS = [{"LS": "valid_and_test"}, {"LS": "test_only"}, {"RS": [0.6, 0.2, 0.2]}]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=event_rows(), split=st.sampled_from(SPLITS), group=st.sampled_from(["user", "none"]))
@pytest.mark.parametrize("mask_seen", [True, False])
def test_rows_parts_and_masks_are_those_of_likes(mask_seen: bool, rows: list[Row], split: dict, group: str) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        written(folder, "signed", COLUMNS, rows)
        written(folder, "likes", LIKES, [(u, i, t) for u, i, sign, t in rows if sign > 0])
        args = {"split": split, "order": "TO", "group_by": group, "mode": "full"}
        options = {"data_path": str(folder), "eval_args": args}
        signed = prepare("signed", **options, mask_seen=mask_seen)[2]
        likes = prepare("likes", **options)[2]
    finally:
        shutil.rmtree(folder)
    for own, theirs in zip(signed, likes, strict=True):
        mine, expected = own._dataset.inter_feat, theirs._dataset.inter_feat
        assert set(mine.columns) == set(expected.columns)
        for column in expected.columns:
            assert torch.equal(mine[column], expected[column]), column
    for own, theirs in zip(signed[1:], likes[1:], strict=True):
        for (batch, (row, item), like_u, like_i), (stock, none, stock_u, stock_i) in zip(own, theirs, strict=True):
            assert none is None
            assert torch.equal(like_u, stock_u)
            assert torch.equal(like_i, stock_i)
            assert torch.equal(batch["item_id_list"], stock["item_id_list"])
            assert mask_seen or not len(row)  # RecBole hides nothing from sequential models
            assert not (set(zip(row.tolist(), item.tolist(), strict=True)) & set(enumerate(like_i.tolist())))


@pytest.mark.parametrize(("name", "loss"), [("SASRec", "CE"), ("SASRec", "BPR"), ("BERT4Rec", "CE"), ("NARM", "CE")])
def test_a_stock_model_learns_and_ranks_as_on_a_file_of_likes(
    name: str, loss: str, write_inter: Write, signed_rows: list, quick: dict
) -> None:
    rows = [(u, i, sign, t - 1_600_000_000) for u, i, sign, t in signed_rows]  # exact in 32 bits
    write_inter("signed", COLUMNS, rows)
    write_inter("likes", LIKES, [(u, i, t) for u, i, sign, t in rows if sign > 0])
    losses: list[list[float]] = []
    results = []
    negatives = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
    for data in ("likes", "signed"):
        with pytest.MonkeyPatch.context() as patch:
            from recbole.trainer import Trainer

            mine: list[float] = []
            stock = Trainer._train_epoch

            def watched(self: Any, *args: Any, _seen: list = mine, _stock: Any = stock, **kwargs: Any) -> Any:
                found = _stock(self, *args, **kwargs)
                _seen.append(float(found))
                return found

            patch.setattr(Trainer, "_train_epoch", watched)
            config = {
                **quick, "mask_seen": False, "allow_unknown_keys": True, "load_col": LOAD, "loss_type": loss,
                "train_neg_sample_args": negatives if loss == "BPR" else None, "MAX_ITEM_LIST_LENGTH": 8,
                "train_batch_size": 64,
            }  # fmt: skip
            results.append(run_recbole(model=name, dataset=data, config_dict=config, saved=False))
        losses.append(mine)
    assert losses[0] == losses[1]
    assert len(losses[0]) == quick["epochs"]
    assert results[0]["test_result"] == results[1]["test_result"]
    assert results[0]["best_valid_result"] == results[1]["best_valid_result"]


def test_held_out_dislikes_are_counted_and_are_in_no_mask(signed: str) -> None:
    _, data, (train, valid, test) = prepare(signed)
    assert type(data) is SignedSequentialDataset
    for loader, earlier in ((valid, [train]), (test, [train, valid])):
        held = set(zip(*(each.tolist() for each in loader._dataset._pairs(loader._dataset.neg_feat)), strict=True))
        likes = {pair for each in earlier for pair in zip(*each._dataset.liked_pairs(), strict=True)}
        likes |= set(zip(*loader._dataset._first_likes(), strict=True))
        part = train._dataset
        touched = {pair for each in (part.neg_feat, part.neutral_feat) for pair in zip(*part._pairs(each), strict=True)}
        for batch, (row, item), _, like_i in loader:
            assert isinstance(batch, SignedEvalBatch)
            users = batch["user_id"].tolist()
            target = set(zip(users, like_i.tolist(), strict=True))
            masked = {(users[r], i) for r, i in zip(row.tolist(), item.tolist(), strict=True)}
            assert masked == {pair for pair in likes | touched if pair[0] in users} - target
            assert not masked & held
            counted = {(users[r], i) for r, i in zip(batch.dislike_u.tolist(), batch.dislike_i.tolist(), strict=True)}
            assert counted == {pair for pair in held if pair[0] in users}
            assert batch.like_count.tolist() == [1] * len(users)


def test_the_first_likes_are_hidden_and_in_the_graph(signed: str, signed_rows: list) -> None:
    """They are the target of no row."""
    parts = [loader._dataset for loader in prepare(signed)[2]]
    likes = {(u, i) for u, i, sign, _ in signed_rows if sign > 0}
    found = [pair for part in parts for pair in liked(part)]
    assert len(found) == len(set(found))
    assert set(found) == likes, "also those of users with a single one"
    assert parts[0].signed_graph().likes.nnz == len(parts[0].liked_pairs()[0])


def test_first_likes_are_training_edges_of_groups_and_rates(write_inter: Write, signed_rows: list) -> None:
    """So that these are what they are for general models: each user's likes are split alike, first to last."""
    write_inter("signed", COLUMNS, [row for row in signed_rows if row[2] >= 0 or row[0] % 2])
    split = {"order": "TO", "group_by": "user", "split": {"LS": "valid_and_test"}, "mode": "full"}
    parts = [prepare("signed", model, eval_args=split)[2] for model in ("GRU4Rec", "BPR")]
    of_sequences, of_pairs = (train._dataset for train, _, _ in parts)
    # both number users and items by the likes of the file, in its order
    default: dict[str, Any] = defaultdict(lambda: None)
    groups = [EdgeGroups.of_training(each, default) for each in (of_sequences, of_pairs)]
    assert torch.equal(groups[0].user, groups[1].user)
    assert torch.equal(groups[0].item, groups[1].item)
    assert torch.equal(group_metrics.without_edges(of_sequences), group_metrics.without_edges(of_pairs))
    assert torch.equal(rates_of(of_sequences, 5.0), rates_of(of_pairs, 5.0))


def test_where_all_are_cut_at_a_moment_first_likes_follow_their_times(write_inter: Write) -> None:
    rows = [(user, 10 + step, 1, 100 * step + user) for user in range(8) for step in range(1, 6)]
    rows += [(20, 30, 1, 5), (21, 31, 1, 6), (21, 11, 1, 900), (22, 32, 1, 990)]  # alone; its second held out; late
    write_inter("signed", COLUMNS, rows)
    split = {"order": "TO", "group_by": "none", "split": {"RS": [0.6, 0.2, 0.2]}, "mode": "full"}

    of_sequences, of_pairs = (
        [set(liked(loader._dataset)) for loader in prepare("signed", model, eval_args=split)[2]]
        for model in ("GRU4Rec", "BPR")
    )
    assert {(20, 30), (21, 31)} <= of_sequences[0] & of_pairs[0]
    assert (22, 32) in of_sequences[2] & of_pairs[2]
    assert set.union(*of_sequences) == set.union(*of_pairs)
    assert sum(map(len, of_sequences)) == len(rows), "each in one part"


def test_first_likes_of_users_who_are_held_out_are_in_no_training_part(write_inter: Write) -> None:
    """They would count in the popularity that the users themselves are measured against."""
    write_inter("signed", COLUMNS, [(user, 10 * user + step, 1, step) for user in range(10) for step in range(4)])
    split = {"order": "TO", "group_by": "user", "split": {"CU": [0.6, 0.2, 0.2]}, "mode": "full"}
    train, _, test = (loader._dataset for loader in prepare("signed", eval_args=split)[2])
    known, held = (set(part.liked_pairs()[0].tolist()) for part in (train, test))
    assert len(held) == 2
    assert not known & held
    assert sum(len(part.liked_pairs()[0]) for part in (train, test)) <= 40
    assert np.bincount(test.liked_pairs()[0])[list(held)].tolist() == [4, 4], "the first ones, too"


def test_where_only_the_test_part_begins_at_a_moment_first_likes_are_training_edges(write_inter: Write) -> None:
    """Also those of users who come after another one's validation likes."""
    rows = [(1, 10 + step, 1, step) for step in range(1, 11)]
    rows += [(2, 30 + step, 1, 20 + step) for step in range(11)]
    rows += [(3, 50 + step, 1, 90 + step) for step in range(6)]
    rows += [(4, 60, 1, 25), (5, 61, 1, 95), (1, 62, -1, 2)]  # one like each, before the test and in it
    write_inter("signed", COLUMNS, rows)
    split = {"order": "TO", "group_by": "user", "split": {"TS": [0.6, 0.2, 0.2]}, "mode": "full"}
    found = [set(liked(loader._dataset)) for loader in prepare("signed", eval_args=split)[2]]
    assert {(1, 11), (2, 30), (3, 50), (4, 60)} <= found[0]
    assert (5, 61) in found[2]
    assert sum(map(len, found)) == sum(sign > 0 for _, _, sign, _ in rows), "each in one part"


@pytest.mark.parametrize("count", [1, 7])
def test_eval_users_ranks_some_of_the_users(count: int, signed: str) -> None:
    test = prepare(signed, eval_users=count)[2][2]
    users = [user for batch, *_ in test for user in batch["user_id"].tolist()]
    assert len(users) == len(set(users)) == count


# ---- all events ----


class EventReader(GRU4Rec):
    """A sequential model that asks for signs."""

    reads = "events"


class WindowReader(GRU4Rec):
    """One that learns from each place of a sequence."""

    reads = "windows"


class WrongReader(GRU4Rec):
    """One that asks for what there is not."""

    reads = "dislikes"


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "registered", dict(registry.registered))
    module = ModuleType("sequence_readers")
    (tmp_path / "readers.yaml").write_text(
        "embedding_size: 8\nhidden_size: 8\nnum_layers: 1\ndropout_prob: 0.0\nloss_type: CE\n", encoding="utf-8"
    )
    for each in (EventReader, WindowReader, WrongReader):
        setattr(module, each.__name__, each)
        register_model(each.__name__, module.__name__, properties=tmp_path / "readers.yaml")
    monkeypatch.setitem(sys.modules, module.__name__, module)


def expected_events(rows: list[Row], dislikes: set[tuple[int, int]], user: int, target: int, longest: int) -> list:
    """(item, sign, gap) of what is before a liked item, by a loop: likes first among equal times."""
    places = {pair[:2]: place for place, pair in enumerate(rows)}
    events = [
        (time, -sign, places[u, i], i)
        for u, i, sign, time in rows
        if u == user and (sign > 0 or (sign < 0 and (u, i) in dislikes))
    ]
    events.sort()
    before = events[: next(place for place, each in enumerate(events) if each[3] == target)]
    gaps = [0.0, *(float(b[0] - a[0]) for a, b in pairwise(before))]
    return [(item, -sign, gap) for (_, sign, _, item), gap in zip(before, gaps, strict=True)][-longest:]


@pytest.mark.parametrize("longest", [3, 50])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_events_are_what_is_known_before_the_target(
    split: dict, longest: int, write_inter: Write, signed_rows: list, readers: None
) -> None:
    rows = [(u, i, sign, (t - 1_600_000_000) // 20_000) for u, i, sign, t in signed_rows]  # many ties
    write_inter("signed", COLUMNS, rows)
    eval_args = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
    options = {"eval_args": eval_args, "MAX_ITEM_LIST_LENGTH": longest}
    _, data, loaders = prepare("signed", "EventReader", **options)
    likes = prepare("signed", "GRU4Rec", **options)[2]

    def tokens(users: Any, items: Any) -> list[tuple[int, int]]:
        names = data.id2token("user_id", users), data.id2token("item_id", items)
        return [(int(u), int(i)) for u, i in zip(*names, strict=True)]

    dislikes = [set(tokens(*each._dataset._pairs(each._dataset.neg_feat))) for each in loaders]
    for number, loader in enumerate(loaders):
        feat = loader._dataset.inter_feat
        for column, kind in (("sign_list", FeatureType.TOKEN_SEQ), ("gap_list", FeatureType.FLOAT_SEQ)):
            assert (loader._dataset.field2type[column], loader._dataset.field2seqlen[column]) == (kind, longest)
        for column in ("user_id", "item_id"):  # the rows and parts are those of the likes
            assert torch.equal(feat[column], likes[number]._dataset.inter_feat[column])
        known, targets = set().union(*dislikes[: max(number, 1)]), tokens(*loader._dataset._pairs(feat))
        for place, (user, target) in enumerate(targets):
            wanted = expected_events(rows, known, user, target, longest)
            length = int(feat["item_length"][place])
            items = [int(each) for each in data.id2token("item_id", feat["item_id_list"][place][:length].numpy())]
            signs, gaps = feat["sign_list"][place], feat["gap_list"][place]
            assert list(zip(items, signs[:length].tolist(), gaps[:length].tolist(), strict=True)) == wanted
            assert not feat["item_id_list"][place][length:].any()
            assert not signs[length:].any()


def test_windows_cover_all_events_with_few_rows(signed: str, readers: None) -> None:
    _, _, (train, valid, _) = prepare(signed, "WindowReader", MAX_ITEM_LIST_LENGTH=5)
    assert isinstance(train, WindowLoader)
    assert not isinstance(valid, WindowLoader)
    part = train._dataset
    users, places = part.inter_feat["user_id"].numpy(), part.event_place
    covered: dict[int, set[int]] = {}
    chosen = 0
    for batch in train:
        chosen += len(batch)
        for user, item in zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True):
            (row,) = np.flatnonzero((users == user) & (part.inter_feat["item_id"].numpy() == item))
            covered.setdefault(user, set()).update(range(max(0, places[row] - 5), places[row] + 1))
    for user in np.unique(users):
        last = places[users == user].max()
        assert set(places[users == user].tolist()) <= covered[user]
        assert last in covered[user]
    assert chosen < len(users) / 2


def test_the_order_of_windows_is_that_of_the_seed_and_the_epoch(signed: str, readers: None) -> None:
    def targets(loader: Any, epoch: int) -> list[tuple[int, int]]:
        loader.set_epoch(epoch)
        batches = list(loader)
        columns = (torch.cat([batch[name] for batch in batches]).tolist() for name in ("user_id", "item_id"))
        return list(zip(*columns, strict=True))

    train, other = (prepare(signed, "WindowReader", seed=seed)[2][0] for seed in (7, 8))
    first, second = targets(train, 0), targets(train, 1)
    assert first != second
    assert targets(train, 0) == first
    assert targets(other, 0) != first
    assert sorted(first) == sorted(second) == sorted(targets(other, 0))


def test_the_latest_sequence_holds_everything(write_inter: Write, signed_rows: list, readers: None) -> None:
    rows = [(u, i, sign, t - 1_600_000_000) for u, i, sign, t in signed_rows]
    write_inter("signed", COLUMNS, rows)
    signs: tuple[int, ...]
    for model, signs in (("GRU4Rec", (1,)), ("EventReader", (1, -1))):
        data = prepare("signed", model, MAX_ITEM_LIST_LENGTH=6)[1]
        latest = data.latest()
        for place, user in enumerate(data.id2token("user_id", latest["user_id"].numpy())):
            events = sorted((t, -sign, i) for u, i, sign, t in rows if u == int(user) and sign in signs)
            length = int(latest["item_length"][place])
            items = data.id2token("item_id", latest["item_id_list"][place][:length].numpy())
            assert [int(each) for each in items] == [item for *_, item in events][-6:]
            if model == "EventReader":
                gaps = [0.0, *(float(b[0] - a[0]) for a, b in pairwise(events))]
                assert latest["gap_list"][place][:length].tolist() == gaps[-6:]
                assert latest["sign_list"][place][:length].tolist() == [-sign for _, sign, _ in events][-6:]


# ---- what is refused ----


def test_wrong_sequences_are_one_sentence(signed: str, write_inter: Write, signed_rows: list, readers: None) -> None:
    write_inter("timeless", COLUMNS[:3], [row[:3] for row in signed_rows])
    for part in PARTS:
        write_inter("parts", COLUMNS, signed_rows, part)
    wrong: list[tuple[str, str, dict[str, Any], str]] = [
        (signed, "SASRec", {"eval_args": {"order": "RO"}}, "set eval_args.order to TO, it is RO"),
        (signed, "SASRec", {"eval_args": {"order": "TO", "split": {"CI": [8, 1, 1]}}}, "CI holds out all edges"),
        ("timeless", "SASRec", {"load_col": {"inter": ["user_id", "item_id"]}}, "has no column 'timestamp'"),
        ("parts", "SASRec", {"benchmark_filename": list(PARTS)}, "'parts' is split already"),
        (signed, "WrongReader", {}, "WrongReader.reads is 'dislikes'; it must be one of likes, events, windows"),
        (signed, "GRU4RecKG", {}, "it reads a knowledge graph"),
        (signed, "CFKG", {}, "it reads a knowledge graph"),
        (signed, "FM", {}, "it predicts the label of an item that is shown"),
    ]
    for dataset, model, config, message in wrong:
        with pytest.raises(UsageError, match=message) as caught:
            prepare(dataset, model, **config)
        assert "\n" not in str(caught.value)


def test_a_first_like_is_hidden_where_the_second_one_is_held_out(write_inter: Write) -> None:
    """General models know it from training, so nobody recommends it."""
    cut = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}
    rows = [(user, item, 1, 10 * user + item) for user in range(1, 9) for item in range(1, 9)]
    rows = [(9, 50, 1, 0), *rows, (9, 51, 1, 999)]
    write_inter("signed", COLUMNS, rows)
    _, data, (_, _, test) = prepare("signed", eval_args=cut)
    user, first = data.token2id("user_id", "9"), data.token2id("item_id", "50")
    hidden = {
        (batch["user_id"][r].item(), i)
        for batch, (row, item), *_ in test
        for r, i in zip(row.tolist(), item.tolist(), strict=True)
    }
    assert (user, first) in hidden


def test_rows_of_the_whole_data_set_hold_all_events(write_inter: Write, signed_rows: list) -> None:
    write_inter("small", COLUMNS, signed_rows)
    _, data, _ = prepare("small", "SignedSASRec", data_path=str(Path("dataset").absolute()))
    rows = data[torch.tensor([3, 1])]
    item, length, likes = rows["item_id_list"], rows["item_length"], data.inter_feat[torch.tensor([3, 1])]
    assert torch.equal(rows["item_id"], likes["item_id"])
    names = data.field2id_token["item_id"]
    for row, (user, target) in enumerate(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True)):
        who, what = int(data.field2id_token["user_id"][user]), int(names[target])
        time = next(t for u, i, sign, t in signed_rows if (u, i, sign) == (who, what, 1))
        events = [(i, sign) for u, i, sign, t in signed_rows if u == who and sign and t < time][-4:]
        assert [int(names[each]) for each in item[row, : length[row]].tolist()] == [i for i, _ in events]
        assert rows["sign_list"][row, : length[row]].tolist() == [sign for _, sign in events]

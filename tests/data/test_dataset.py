"""What RecBole sees of signed data, and where the dislikes are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prepared import prepared
from recbole.config import Config
from recbole.data import create_dataset
from recbole.quick_start import run_recbole
from recbole.utils import get_model
from refusals import check_refused

from recbole_signed import SignedDataset, UsageError
from recbole_signed.data import item_lists
from recbole_signed.data.dataloader import SignedEvalBatch, SignedFullSortEvalDataLoader
from recbole_signed.plugin import configuration

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
LIKE_COLUMNS = ["user_id:token", "item_id:token", "timestamp:float"]
LOAD = {"inter": ["user_id", "item_id", "timestamp"]}
Write = Callable[..., Path]


def pairs(dataset: Any, feat: str) -> set[tuple[str, str]]:
    """The (user token, item token) pairs of one table."""
    if isinstance(getattr(dataset, feat), pd.DataFrame):
        dataset._change_feat_format()
    table = getattr(dataset, feat)
    users = dataset.id2token("user_id", table["user_id"].numpy()) if len(table) else []
    items = dataset.id2token("item_id", table["item_id"].numpy()) if len(table) else []
    return set(zip(map(str, users), map(str, items), strict=True))


def loaded(name: str, **config: Any) -> Any:
    """A data set as it is before it is split."""
    return create_dataset(Config("BPR", name, config_dict={"state": "ERROR", **config}))


def expected(rows: list[tuple[int, int, int, int]], sign: int) -> set[tuple[str, str]]:
    return {(str(user), str(item)) for user, item, row_sign, _ in rows if row_sign == sign}


# ---- stock models see exactly the likes ----


@pytest.mark.parametrize("order", ["RO", "TO"])
@pytest.mark.parametrize("split", [{"RS": [0.8, 0.1, 0.1]}, {"LS": "valid_and_test"}], ids=str)
@pytest.mark.parametrize("model", ["BPR", "LightGCN", "EASE"])
def test_a_stock_model_gives_the_metrics_of_a_file_of_likes(
    model: str, split: dict, order: str, signed: str, write_inter: Write, signed_rows: list, quick: dict
) -> None:
    write_inter("likes", LIKE_COLUMNS, [(u, i, t) for u, i, sign, t in signed_rows if sign > 0])
    args = {**quick, "eval_args": {"split": split, "order": order, "group_by": "user"}}
    likes = run_recbole(model=model, dataset="likes", config_dict={**args, "load_col": LOAD}, saved=False)
    masks = {"mask_dislikes": False, "mask_neutrals": False}
    signed = run_recbole(model=model, dataset=signed, config_dict={**args, **masks}, saved=False)
    assert signed["test_result"] == likes["test_result"]
    assert signed["best_valid_result"] == likes["best_valid_result"]


def test_dislikes_are_in_no_training_batch_no_graph_and_no_ground_truth(signed: str, signed_rows: list) -> None:
    config, _, (train, valid, test) = prepared(signed, "LightGCN")
    likes, others = expected(signed_rows, 1), expected(signed_rows, -1) | expected(signed_rows, 0)
    dataset = train._dataset
    trained = {
        pair
        for batch in train
        for pair in zip(
            map(str, dataset.id2token("user_id", batch["user_id"].numpy())),
            map(str, dataset.id2token("item_id", batch["item_id"].numpy())),
            strict=True,
        )
    }
    assert trained <= likes
    assert not trained & others
    model = get_model("LightGCN")(config, dataset)
    edges = {
        (u, i - model.n_users) for u, i in model.norm_adj_matrix.coalesce().indices().T.tolist() if u < model.n_users
    }
    graph = {(str(dataset.id2token("user_id", u)), str(dataset.id2token("item_id", i))) for u, i in edges}
    assert graph == pairs(dataset, "inter_feat") == trained
    truth = set()
    for loader in (valid, test):
        for batch, _, rows, items in loader:
            users = batch["user_id"][rows].numpy()
            tokens = (dataset.id2token("user_id", users), dataset.id2token("item_id", items.numpy()))
            truth |= set(zip(*(map(str, each) for each in tokens), strict=True))
    assert truth
    assert truth == likes - trained


def test_every_row_is_in_one_part_with_its_sign(signed: str, signed_rows: list) -> None:
    _, data, loaders = prepared(signed)
    assert isinstance(data, SignedDataset)
    for feat, sign in {"inter_feat": 1, "neg_feat": -1, "neutral_feat": 0}.items():
        per_part = [pairs(loader._dataset, feat) for loader in loaders]
        assert set.union(*per_part) == expected(signed_rows, sign)
        assert sum(map(len, per_part)) == len(expected(signed_rows, sign))
        shares = np.array([len(part) for part in per_part]) / len(expected(signed_rows, sign))
        assert shares[0] > 0.6
        assert min(shares) > 0.04


# ---- masks ----


def masked_and_held_out(loader: Any) -> tuple[set, set, set]:
    """Masked pairs, held-out likes and held-out dislikes, as ids."""
    masked, likes, dislikes = set(), set(), set()
    for batch, (rows, items), like_rows, like_items in loader:
        assert isinstance(batch, SignedEvalBatch)
        users = batch["user_id"]
        masked |= set(zip(users[rows].tolist(), items.tolist(), strict=True))
        likes |= set(zip(users[like_rows].tolist(), like_items.tolist(), strict=True))
        dislikes |= set(zip(users[batch.dislike_u].tolist(), batch.dislike_i.tolist(), strict=True))
        assert batch.like_count.tolist() == torch.bincount(like_rows, minlength=len(batch)).tolist()
    return masked, likes, dislikes


def ids(dataset: Any, *feats: str) -> set[tuple[int, int]]:
    tables = [getattr(dataset, feat) for feat in feats]
    return {pair for table in tables for pair in zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True)}


@pytest.mark.parametrize("mask_valid", [True, False])
@pytest.mark.parametrize("mask_dislikes", [True, False])
@pytest.mark.parametrize("mask_neutrals", [True, False])
def test_masks(mask_valid: bool, mask_dislikes: bool, mask_neutrals: bool, signed: str) -> None:
    keys = {"mask_valid_at_test": mask_valid, "mask_dislikes": mask_dislikes, "mask_neutrals": mask_neutrals}
    _, _, (train, valid, test) = prepared(signed, **keys)
    touched = ["inter_feat", *["neg_feat"] * mask_dislikes, *["neutral_feat"] * mask_neutrals]
    seen = ids(train._dataset, *touched)
    for loader, history in ((valid, seen), (test, seen | (ids(valid._dataset, "inter_feat") if mask_valid else set()))):
        masked, likes, dislikes = masked_and_held_out(loader)
        ranked = set(loader.users.tolist())
        assert masked == {(user, item) for user, item in history if user in ranked}
        assert likes == ids(loader._dataset, "inter_feat")
        assert dislikes == {(user, item) for user, item in ids(loader._dataset, "neg_feat") if user in ranked}
        assert not masked & (likes | dislikes)


@pytest.mark.parametrize("rule", ["rule", "time"])
@pytest.mark.parametrize("mask_valid", [True, False])
def test_validation_dislikes_are_hidden_at_test_where_likes_set_times(rule: str, mask_valid: bool, signed: str) -> None:
    args = {"order": "TO", "split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user"}
    keys = {"dislike_split": rule, "mask_valid_at_test": mask_valid, "eval_args": args}
    _, _, (train, valid, test) = prepared(signed, **keys)
    feats = ["inter_feat", "neg_feat", "neutral_feat"]
    seen, known = ids(train._dataset, *feats), set()
    if mask_valid:
        known = ids(valid._dataset, *feats) if rule == "time" else ids(valid._dataset, "inter_feat")
    for loader, history in ((valid, seen), (test, seen | known)):
        ranked = set(loader.users.tolist())
        assert masked_and_held_out(loader)[0] == {(user, item) for user, item in history if user in ranked}


def test_repeatable_masks_nothing(signed: str) -> None:
    _, _, (_, _, test) = prepared(signed, repeatable=True)
    assert not masked_and_held_out(test)[0]


def test_users_with_held_out_likes_are_ranked_as_in_recbole(write_inter: Write) -> None:
    rows = {
        "train": [(1, 1, 1), (2, 2, 1), (3, 4, 1)],
        "valid": [(1, 2, 1), (2, 1, -1)],
        "test": [(1, 3, 1), (1, 4, -1), (2, 3, -1), (3, 3, 1)],
    }
    for part, part_rows in rows.items():
        write_inter("split", COLUMNS[:3], part_rows, part)
    _, _, (_, _, test) = prepared("split", benchmark_filename=["train", "valid", "test"])
    assert isinstance(test, SignedFullSortEvalDataLoader)
    ((batch, _, rows_of_likes, _),) = list(test)
    assert batch.like_count.tolist() == [1, 1]
    assert (batch.dislike_u.tolist(), rows_of_likes.tolist()) == ([0], [0, 1])


# ---- duplicates, time, ids ----

REPEATED = [
    ("a", "x", 1, 10), ("a", "x", -1, 30), ("a", "y", 1, 20), ("b", "x", -1, 5), ("b", "x", 1, 2),
    ("b", "y", -1, 7), ("c", "y", 1, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "likes", "dislikes"),
    [
        ("last", {("a", "y"), ("c", "y")}, {("a", "x"), ("b", "x"), ("b", "y")}),
        ("first", {("a", "x"), ("a", "y"), ("b", "x"), ("c", "y")}, {("b", "y")}),
        ("keep", {("a", "x"), ("a", "y"), ("b", "x"), ("c", "y")}, {("a", "x"), ("b", "x"), ("b", "y")}),
    ],
)
def test_repeated_pairs_follow_the_rule_by_time(rule: str, likes: set, dislikes: set, write_inter: Write) -> None:
    write_inter("repeated", COLUMNS, REPEATED)
    data = loaded("repeated", duplicate_pairs=rule)
    assert (data.sign_report.repeated_rows, data.sign_report.contradicting_pairs) == (2, 2)
    assert pairs(data, "inter_feat") == likes
    assert pairs(data, "neg_feat") == dislikes


@pytest.mark.parametrize("rule", ["last", "first", "keep"])
@pytest.mark.parametrize("timed", [True, False])
def test_parts_that_are_merged_are_what_one_file_would_be(rule: str, timed: bool, write_inter: Write) -> None:
    """A pair may be in several parts, with different signs."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, high, 90) for high in (6, 7, 3, 9)], axis=1) - [0, 0, 1, 0]
    columns = COLUMNS if timed else COLUMNS[:3]
    rows = rows[:, : len(columns)]
    for part, own in zip(("train", "valid", "test"), np.split(rows, [40, 60]), strict=True):
        write_inter("parts", columns, own, part)
    write_inter("whole", columns, rows)
    keys = {"duplicate_pairs": rule, "eval_args": {"split": {"RS": [1, 0, 0]}}}
    _, _, (merged, *_) = prepared("parts", benchmark_filename=["train", "valid", "test"], **keys)
    _, _, (whole, *_) = prepared("whole", **keys)
    for feat in ("inter_feat", "neg_feat", "neutral_feat"):
        assert pairs(merged._dataset, feat) == pairs(whole._dataset, feat)
        assert len(getattr(merged._dataset, feat)) == len(getattr(whole._dataset, feat))


def test_repeated_likes_count_as_often_as_they_occur_where_they_are_kept(write_inter: Write) -> None:
    rows = {
        "train": [(1, 1, 1), (1, 1, 1), (2, 2, -1), (2, 4, 1)],
        "valid": [(1, 2, 1)],
        "test": [(1, 3, 1), (1, 3, 1), (1, 1, 1)],
    }
    for part, part_rows in rows.items():
        write_inter("split", COLUMNS[:3], part_rows, part)
    _, _, (train, _, test) = prepared("split", benchmark_filename=["train", "valid", "test"], protocol="published")
    assert len(train._dataset) == 3
    ((batch, (rows_masked, masked), _, likes),) = list(test)
    assert batch.like_count.tolist() == [3]
    # a held-out like that was seen in training is hidden, as SIGformer does, and so can't be hit
    assert sorted(likes.tolist()) == sorted({*likes.tolist()})
    assert set(masked.tolist()) & set(likes.tolist())
    assert rows_masked.tolist() == [0] * len(masked)
    _, _, (_, _, test) = prepared("split", benchmark_filename=["train", "valid", "test"])
    ((batch, (_, masked), _, likes),) = list(test)
    assert batch.like_count.tolist() == [2]
    assert not set(masked.tolist()) & set(likes.tolist())


def test_time_order_is_exact_where_float32_is_not(write_inter: Write) -> None:
    start = 1_650_000_000_000  # milliseconds: float32 steps are 131,072 apart
    times = start + np.random.default_rng(0).permutation(400)
    write_inter(
        "fine", COLUMNS, [(u % 20, u // 20, 1 if u % 3 else -1, t) for u, t in zip(range(400), times, strict=True)]
    )
    _, _, loaders = prepared("fine", eval_args={"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"})
    exact = [np.concatenate([keys.time for keys in loader._dataset._row_keys.values()]) for loader in loaders]
    assert exact[0].dtype == np.int64
    assert exact[0].max() < exact[1].min()
    assert exact[1].max() < exact[2].min()


def test_likes_get_the_ids_that_a_file_of_likes_would_give(write_inter: Write, signed_rows: list) -> None:
    rows = [("only-dislikes", "never-liked", -1, 1), *signed_rows]
    write_inter("signed", COLUMNS, rows)
    write_inter("likes", LIKE_COLUMNS, [(u, i, t) for u, i, sign, t in rows if sign == 1])
    signed, likes = loaded("signed"), loaded("likes")
    for field in ("user_id", "item_id"):
        tokens = likes.field2id_token[field]
        assert (signed.field2id_token[field][: len(tokens)] == tokens).all()
        assert len(signed.field2id_token[field]) > len(tokens)


def test_k_core_counts_likes_and_other_rows_follow(signed: str, write_inter: Write, signed_rows: list) -> None:
    write_inter("likes", LIKE_COLUMNS, [(u, i, t) for u, i, sign, t in signed_rows if sign > 0])
    core = {"user_inter_num_interval": "[8,inf)", "item_inter_num_interval": "[8,inf)"}
    signed, likes = loaded(signed, **core), loaded("likes", **core)
    assert 1 < likes.user_num < 61
    assert (signed.field2id_token["user_id"] == likes.field2id_token["user_id"]).all()
    assert pairs(signed, "inter_feat") == pairs(likes, "inter_feat")
    users, items = (set(map(str, likes.field2id_token[field])) for field in ("user_id", "item_id"))
    kept = {(u, i) for u, i in expected(signed_rows, -1) if u in users and i in items}
    assert pairs(signed, "neg_feat") == kept
    told = signed.sign_report
    assert (told.likes, told.dislikes, told.neutrals) == tuple(
        len(getattr(signed, name)) for name in ("inter_feat", "neg_feat", "neutral_feat")
    )


@pytest.mark.parametrize("core", ["[8,inf)", "[1,inf)"])
def test_rows_keep_their_times_where_a_k_core_drops_others(core: str, signed: str, signed_rows: list) -> None:
    """Times lie beside the tables, by which rows are split."""
    keys = {"user_inter_num_interval": core, "item_inter_num_interval": core}
    args = {"order": "TO", "split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"}
    _, data, loaders = prepared(signed, **keys, eval_args=args)
    users, items = (set(map(str, data.field2id_token[field])) for field in ("user_id", "item_id"))
    latest = 0
    for part in (loader._dataset for loader in loaders):
        for name in ("inter_feat", "neg_feat", "neutral_feat"):
            table, kept = getattr(part, name), part.times(name)
            tokens = [data.id2token(field, table[field].numpy()).tolist() for field in ("user_id", "item_id")]
            times = {(str(user), str(item)): time for user, item, _, time in signed_rows}
            assert kept.tolist() == [times[pair] for pair in zip(*tokens, strict=True)]
        assert part.times("inter_feat").min() >= latest
        latest = part.times("inter_feat").max()
    for name, sign in (("neg_feat", -1), ("neutral_feat", 0)):
        kept_pairs = {(u, i) for u, i in expected(signed_rows, sign) if u in users and i in items}
        assert set.union(*(pairs(loader._dataset, name) for loader in loaders)) == kept_pairs
        assert (len(kept_pairs) < len(expected(signed_rows, sign))) == (core == "[8,inf)")


def test_what_can_not_be_prepared_is_named(signed: str) -> None:
    with pytest.raises(UsageError, match=r"no like of 'signed' is left by user_inter_num_interval \(\[99,inf\)\)"):
        prepared(signed, user_inter_num_interval="[99,inf)")
    message = r"column 'stars', which is not loaded; name it in load_col, under the file that has it \(inter, user or"
    check_refused(message, prepared, signed, val_interval={"stars": "[3,5]"})
    check_refused(r"no data set 'sined'.*did you mean 'signed'", prepared, "sined")
    Path("dataset/empty").mkdir()
    check_refused(r"dataset/empty holds no \.inter file; 'recbole-signed convert' makes", prepared, "empty")
    config, _, (train, _, _) = prepared(signed, "EASE", reg_weight=0.0)
    with pytest.raises(UsageError, match=r"reg_weight is 0\.0; that of EASE must be a number above 0"):
        get_model("EASE")(config, train._dataset)


def test_empty_parts_are_refused_and_two_parts_are_read(signed: str, write_inter: Write, signed_rows: list) -> None:
    nothing = {"split": {"RS": [0, 1, 1]}, "order": "RO", "group_by": None, "mode": "full"}
    check_refused("no row of 'signed' is left to train on, which is a like; give", prepared, signed, eval_args=nothing)
    write_inter("once", COLUMNS, [(user, user % 5, 1, user) for user in range(30)])
    with pytest.raises(UsageError, match="which is a like with an earlier one of the same user"):
        prepared("once", "SASRec", train_neg_sample_args=None, load_col=None)
    for part in ("train", "test"):
        write_inter("split", COLUMNS, signed_rows, part=part)
    dataset = loaded("split", benchmark_filename=["train", "test"])
    assert len(dataset.inter_feat)
    check_refused(r"benchmark_filename is \['train', 'test'\]; a run needs a list of three", dataset.build)


def test_a_time_window_applies_to_every_sign(signed: str, signed_rows: list) -> None:
    middle = signed_rows[len(signed_rows) // 2][3]
    data = loaded(signed, val_interval={"timestamp": f"[{middle},inf)"})
    late = [row for row in signed_rows if row[3] >= middle]
    assert pairs(data, "neg_feat") == expected(late, -1)
    assert pairs(data, "inter_feat") == expected(late, 1)


@pytest.mark.parametrize(
    ("interval", "likes"),
    [
        ({"sign": "[0,inf)"}, "1"),
        ({"sign": "[1,1]"}, "1"),
        ({"rating": "[3,5]"}, "1"),
        ({"timestamp": "[0,4]"}, "012"),  # the dislike has not happened yet
        ({"sign": "[1,1]", "timestamp": "[0,4]"}, "012"),
    ],
    ids=str,
)
def test_a_filter_brings_no_older_like_of_a_disliked_pair_back(interval: dict, likes: str, write_inter: Write) -> None:
    write_inter(
        "changed",
        ["user_id:token", "item_id:token", "rating:float", "sign:float", "timestamp:float"],
        [(0, 0, 5, 1, 1), (0, 1, 5, 1, 2), (0, 2, 4, 1, 3), (0, 0, 1, -1, 5), (0, 2, 2, -1, 6), (0, 3, 1, -1, 4)],
    )
    data = loaded("changed", val_interval=interval, load_col=None)
    assert pairs(data, "inter_feat") == {("0", item) for item in likes}
    assert not pairs(data, "inter_feat") & pairs(data, "neg_feat")


@pytest.mark.parametrize(("interval", "items"), [("[2,inf)", "0123"), (None, "012389")])
def test_a_k_core_takes_dislikes_of_dropped_items(interval: str | None, items: str, write_inter: Write) -> None:
    """Else an item without a like would keep an id, and be a candidate of which dislikes alone are known."""
    liked = [(user, item, 1, 10 * user + item) for user in range(4) for item in range(4)]
    write_inter("core", COLUMNS, [*liked, (0, 9, 1, 90), (1, 9, -1, 91), (2, 9, 0, 92), (3, 8, -1, 93), (3, 3, -1, 1)])
    data = loaded("core", item_inter_num_interval=interval)
    assert set(data.field2id_token["item_id"][1:]) == set(items)
    assert (len(data.neg_feat), len(data.neutral_feat)) == ((0, 0) if interval else (2, 1))


def test_a_pair_may_be_in_two_parts_of_a_split(write_inter: Write) -> None:
    """``duplicate_pairs`` holds within each part: a test part that repeats a pair is what it was published as."""
    filler = [("f", f"g{each}", 1, each) for each in range(3)]
    parts = {
        "train": [("a", "x", 1, 1), ("a", "x", -1, 2), ("a", "y", 1, 3), *filler],
        "valid": [("a", "x", 1, 4), ("a", "z", -1, 5)],
        "test": [("a", "y", -1, 6), ("a", "z", 1, 7), ("a", "z", 1, 8)],
    }
    for part, rows in parts.items():
        write_inter("parts", COLUMNS, rows, part)
    _, _, loaders = prepared("parts", benchmark_filename=list(parts))
    found = [[pairs(each._dataset, feat) for feat in ("inter_feat", "neg_feat")] for each in loaders]
    assert found[0] == [{("a", "y"), *(row[:2] for row in filler)}, {("a", "x")}]
    assert (found[1], found[2]) == ([{("a", "x")}, {("a", "z")}], [{("a", "z")}, {("a", "y")}])
    assert len(loaders[2]._dataset.inter_feat) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"unload_col": {"inter": ["user_id", "sign", "timestamp"]}, "load_col": None},
        {"load_col": {"inter": ["item_id"]}},
        {"load_col": {"item": ["item_id"]}},
    ],
)
def test_ids_and_what_signs_and_order_are_made_of_are_read_though_unloaded(
    columns: dict, signed: str, signed_rows: list
) -> None:
    data = loaded(signed, **columns)
    assert pairs(data, "neg_feat") == expected(signed_rows, -1)
    assert data.times("inter_feat") is not None


def test_who_has_no_row_of_features_gets_padding_and_the_mean(write_inter: Write, signed_rows: list) -> None:
    folder = write_inter("signed", COLUMNS, signed_rows)
    (folder / "signed.item").write_text("item_id:token\tkind:token\tprice:float\n0\tnew\t2\n1\told\t4\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "kind", "price"]}
    data = loaded("signed", load_col=columns, filter_inter_by_user_or_item=False, normalize_all=False)
    feat, number = data.item_feat, data.token2id("item_id", ["0", "1", "2"])
    assert feat["kind"].to_numpy()[number].tolist() == [*data.token2id("kind", ["new", "old"]), 0]
    assert feat["price"].to_numpy()[number].tolist() == [2, 4, 3]


# ---- rules and wrong input ----

RATED = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}
AUC = {"metrics": ["AUC"], "valid_metric": "AUC"}


def rated_rows() -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(1)
    keys = rng.permutation(20 * 30)[:300]
    return [(int(k // 30), int(k % 30), int(rng.integers(1, 6)), int(t)) for t, k in enumerate(keys)]


def test_rules_and_caches_of_rules(write_inter: Write) -> None:
    rows = rated_rows()
    write_inter("rated", RATED, rows)
    # normalisation squashes ratings into [0, 1] after the sign was taken
    data = loaded("rated", sign_rule=RULE, normalize_all=True)
    assert pairs(data, "inter_feat") == {(str(u), str(i)) for u, i, r, _ in rows if r >= 4}
    assert pairs(data, "neg_feat") == {(str(u), str(i)) for u, i, r, _ in rows if r <= 2}
    assert pairs(data, "neutral_feat") == {(str(u), str(i)) for u, i, r, _ in rows if r == 3}
    counts = []
    for least in (4, 5, 4):
        data = loaded("rated", save_dataset=True, sign_rule={**RULE, "like": f"rating >= {least}"})
        counts.append((len(data.inter_feat), len(data.neg_feat)))
    assert counts[0] == counts[2] != counts[1]


def test_a_cached_data_set_is_used_and_split_as_its_user_says(signed: str, quick: dict) -> None:
    sizes = []
    for ratios in ([0.8, 0.1, 0.1], [0.4, 0.3, 0.3]):
        eval_args = {"split": {"RS": ratios}, "order": "TO", "group_by": "none"}
        data = loaded(signed, save_dataset=True, eval_args=eval_args)
        assert data.config["vocabulary"]
        sizes.append([len(part.inter_feat) / len(data.inter_feat) for part in data.build()])
    assert sizes[0] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert sizes[1] == pytest.approx([0.4, 0.3, 0.3], abs=0.02)
    runs = [
        run_recbole(model="BPR", dataset=signed, config_dict={**quick, "save_dataset": True}, saved=False)
        for _ in range(2)
    ]
    assert Path("saved/signed-Dataset.pth").is_file()
    assert runs[0]["test_result"] == runs[1]["test_result"]


def test_a_data_set_that_is_newer_than_its_cached_copy_is_read_again(write_inter: Write, signed_rows: list) -> None:
    counts = []
    for rows in (signed_rows, signed_rows[: len(signed_rows) // 2]):
        write_inter("signed", COLUMNS, rows)
        counts.append(len(loaded("signed", save_dataset=True).inter_feat))
    assert counts == [sum(sign > 0 for _, _, sign, _ in r) for r in (signed_rows, signed_rows[: len(signed_rows) // 2])]


def test_a_copy_that_one_sequential_model_cached_serves_another(signed: str) -> None:
    settings = {"save_dataset": True, "state": "ERROR", "eval_args": {"order": "TO"}, "train_neg_sample_args": None}
    columns = [
        create_dataset(Config(model, signed, config_dict=settings)).build()[0].inter_feat.columns
        for model in ("SASRec", "SignedSASRec", "SASRec")
    ]
    assert ["sign_list" in each for each in columns] == [False, True, False]


def test_ids_are_the_same_where_a_sequence_is_loaded(write_inter: Write, signed_rows: list) -> None:
    """RecBole's own reader serves such files."""
    rows = [(f"e\u0301{user}", item, sign, time, "a b") for user, item, sign, time in signed_rows]
    rows[0] = ("\u00e9" + rows[0][0][2:], *rows[0][1:])
    columns = [*COLUMNS, "tags:token_seq"]
    names = [column.partition(":")[0] for column in columns]
    write_inter("signed", columns, rows)
    numbers = [loaded("signed", load_col={"inter": load}).user_num for load in (names, names[:-1])]
    assert numbers[0] == numbers[1]
    write_inter("signed", columns, [*rows, ("", 1, 1, 1, "a")])
    check_refused("the column 'user_id' is blank", loaded, "signed", load_col={"inter": names})


@pytest.mark.parametrize("signs", [(1,), (1, -1), (1, 0)])
def test_sequences_may_be_loaded_where_a_sign_has_no_row(
    signs: tuple[int, ...], write_inter: Write, signed_rows: list, quick: dict
) -> None:
    rows = [(*row, "a b", "1 2") for row in signed_rows if row[2] in signs]
    write_inter("signed", [*COLUMNS, "tags:token_seq", "place:float_seq"], rows)
    _, data, parts = prepared("signed", load_col=None)
    counts = (len(data.inter_feat), len(data.neg_feat), len(data.neutral_feat))
    assert counts == tuple(sum(row[2] == sign for row in rows) for sign in (1, -1, 0))
    assert sum(len(part._dataset.inter_feat) for part in parts) == counts[0]
    assert data.inter_feat["tags"].shape == (counts[0], 2)
    found = run_recbole("BPR", "signed", config_dict={**quick, "load_col": None}, saved=False)
    assert found["test_result"]["recall@10"] >= 0


def test_rows_without_time_and_a_broken_yaml_are_refused(write_inter: Write, signed_rows: list) -> None:
    # one held-out like without a time let all dislikes of its user, or of all users, into training
    write_inter("signed", COLUMNS, [*signed_rows, (1, 1, 1, "")])
    check_refused("1 row of 'signed' has no time in the column 'timestamp'; correct or drop", loaded, "signed")
    loaded("signed", TIME_FIELD=None)
    folder = write_inter("signed", COLUMNS, signed_rows)
    (folder / "signed.yaml").write_text("a: [1\n")
    check_refused(r"signed.yaml is not valid yaml", Config, "BPR", "signed", config_dict={"state": "ERROR"})
    (folder / "signed.yaml").unlink()
    with pytest.raises(UsageError, match="there is no encoding 'utf-9'; set 'encoding' to that of"):
        Config("BPR", "signed", config_dict={"state": "ERROR", "encoding": "utf-9"})


@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        ("learning_rate: -1\n", {}, "signed.yaml: learning_rate is -1; it must be a number above 0"),
        ("learning_rate: fast\n", {}, r"signed.yaml: 'learning_rate' is 'fast'; it must be a number \(the default is"),
        ("topk: [0]\n", {}, r"signed.yaml: topk is \[0\]"),
        ("learning_rate: fast\n", {"learning_rate": "slow"}, "^'learning_rate' is 'slow'"),
        ("mask_dislike: False\n", {}, "signed.yaml: unknown configuration key 'mask_dislike' .* 'mask_dislikes'"),
    ],
)
def test_values_beside_are_checked(text: str, given: dict, told: str, write_inter: Write, signed_rows: list) -> None:
    (write_inter("signed", COLUMNS, signed_rows) / "signed.yaml").write_text(text)
    check_refused(told, Config, "BPR", "signed", config_dict={"state": "ERROR", **given})


def test_values_beside_the_data_count_as_those_of_the_user(write_inter: Write, signed_rows: list) -> None:
    folder = write_inter("signed", COLUMNS, signed_rows)
    (folder / "signed.yaml").write_text("epochs: 1e1\neval_batch_size: 640.0\nlearning_rate: -1\n")
    config = Config("BPR", "signed", config_dict={"state": "ERROR", "learning_rate": 0.1})
    assert [config[key] for key in ("epochs", "eval_batch_size", "learning_rate")] == [10, 640, 0.1]
    assert isinstance(config["epochs"], int)
    assert "_beside_data" not in vars(config)


def test_signs_may_be_ignored_and_candidates_sampled(signed: str, signed_rows: list) -> None:
    data = loaded(signed, SIGN_FIELD=None)
    assert type(data).__name__ == "Dataset"
    assert len(data.inter_feat) == len(signed_rows)
    settings = {"eval_args": {"split": {"LS": "valid_and_test"}, "mode": "uni5"}, "metrics": ["Recall"], "topk": [6]}
    found = run_recbole("Random", signed, config_dict={"state": "ERROR", "valid_metric": "Recall@6", **settings})
    assert found["test_result"] == {"recall@6": 1.0}  # of one like and five other items


@pytest.mark.parametrize(
    ("columns", "rows", "config", "message"),
    [
        (COLUMNS, [(1, 1, 1, 1), (1, 2, 2, 2)], {}, "holds 2 in row 2"),
        (COLUMNS, [(1, 1, 1, 1), (1, 2, "", 2)], {}, "holds nan in row 2"),
        (COLUMNS, [(1, 1, -1, 1), (1, 2, 0, 2)], {}, "no row of 'bad' is a like"),
        (COLUMNS, [(1, 1, "true", 1), (1, 2, "false", 2)], {}, "the sign column 'sign' of .*bad.inter holds 'true'"),
        (["user_id:float", *COLUMNS[1:]], [(1, 1, 1, 1)], {}, "has the type 'float'; write 'user_id:token'"),
        (["user_id:token", "item_id:token", "sign:token"], [(1, 1, 1)], {}, "write it as 'sign:float'"),
        (["user_id", "item_id:token", "sign:float"], [(1, 1, 1)], {}, "name columns as 'name:type'"),
        (RATED, [(1, 1, 5, 1), (2, 2, 1, 2)], {"sign_rule": RULE}, "no user of 'bad' has both"),
        (RATED, [(1, 1, 3, 1)], {"sign_rule": RULE}, "no row of 'bad' is a like"),
        (RATED, [(1, 1, 3, 1)], {"sign_rule": {**RULE, "like": "ratng >= 4"}}, "did you mean 'rating'"),
        (RATED, [(1, 1, 3, 1)], {"sign_rule": "rating >= 4"}, "A sign rule is a mapping"),
        (RATED, [(1, 1, 3, 1)], {"SIGN_FIELD": "signs"}, "SIGN_FIELD is 'signs'"),
        (COLUMNS, [(1, 1, 1, 1)], {"TIME_FIELD": "timestmp"}, "TIME_FIELD is 'timestmp'.*did you mean 'timestamp'"),
        ([*COLUMNS[:2], " Sign:float"], [(1, 1, -1)], {}, "a column ' Sign', and the sign is looked for under 'sign'"),
        (COLUMNS, [(1, 1, 1, 1)], {"eval_args": {"mode": None}}, "eval_args.mode is None"),
        (COLUMNS, [(1, 1, 1, 1)], {"duplicate_pairs": "latest"}, "did you mean 'last'"),
        (COLUMNS, [(1, 1, 1, 1)], {"mask_dislikes": 3}, "must be True or False"),
        (COLUMNS, [(1, 1, 1, 1)], {"threshold": {"sign": 1}}, "'threshold' is set too"),
        (COLUMNS, [(1, 1, 1, 1)], {"eval_args": {"mode": "labeled"}, **AUC}, "use 'full'"),
        (COLUMNS, [(1, 1, 1, 1)], {"learning_rat": 1}, "did you mean 'learning_rate'"),
        (COLUMNS[:3], [(1, 1, 1), (1, 2, -1)], {"eval_args": {"order": "TO"}}, "has no column 'timestamp'"),
    ],
)
def test_wrong_input_is_one_sentence(columns: list, rows: list, config: dict, message: str, write_inter: Write) -> None:
    write_inter("bad", columns, rows)
    with pytest.raises(UsageError, match=message) as caught:
        prepared("bad", **config)
    assert "\n" not in str(caught.value)


# ---- popularity ----


def test_pop_counts_likes_whatever_the_batch_size(signed: str, quick: dict) -> None:
    results = [
        run_recbole(model="Pop", dataset=signed, config_dict={**quick, "train_batch_size": size}, saved=False)[
            "test_result"
        ]
        for size in (7, 2048)
    ]
    assert results[0] == results[1]
    config, _, (train, _, _) = prepared(signed, "Pop")
    model = get_model("Pop")(config, train._dataset)
    counts = np.bincount(train._dataset.inter_feat["item_id"].numpy(), minlength=model.n_items)
    assert torch.equal(model.full_sort_predict({"user_id": torch.tensor([1])}), torch.from_numpy(counts / counts.max()))


def test_unsigned_data_is_recboles_own(write_inter: Write, signed_rows: list) -> None:
    write_inter("likes", LIKE_COLUMNS, [(u, i, t) for u, i, sign, t in signed_rows if sign > 0])
    config, _, (train, _, _) = prepared("likes", "Pop")
    model = get_model("Pop")(config, train._dataset)
    assert model.item_cnt.sum() == 0
    for batch in train:
        model.calculate_loss(batch)
    assert model.item_cnt.sum() > 0
    config, _, (train, _, _) = prepared("likes", "Random")
    model = get_model("Random")(config, train._dataset)
    torch.manual_seed(3)
    found = model.full_sort_predict({"user_id": torch.tensor([1, 2])}).view(2, -1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(model.n_items, 1).double().T.repeat(2, 1))


def test_random_gives_each_user_a_list_that_a_loaded_model_gives_again(signed: str, tmp_path: Path) -> None:
    _, _, (train, _, _) = prepared(signed, "Random")

    def scores(seed: int) -> torch.Tensor:
        config, _, _ = prepared(signed, "Random", seed=seed)
        model = get_model("Random")(config, train._dataset)
        torch.rand(3)  # what else draws makes no difference
        users, items = torch.arange(model.n_users), torch.arange(model.n_items)
        found = model.full_sort_predict({"user_id": users}).view(model.n_users, -1)
        some = {"user_id": users[1:4], "item_id": items[2:5]}
        assert torch.equal(model.predict(some), found[users[1:4], items[2:5]].float())
        return found

    first = scores(1)
    assert torch.equal(first, scores(1))
    assert first.min() >= 0
    assert first.max() < 1
    assert len(first.unique()) == first.numel()
    assert not torch.isin(first, scores(2)).any()
    assert abs(first.mean() - 0.5) < 5 * (12 * first.numel()) ** -0.5
    assert len({tuple(row.topk(5).indices.tolist()) for row in first}) > len(first) / 2


def test_ease_is_recboles_own_inverting_in_place_or_not(signed: str, write_inter: Write, signed_rows: list) -> None:
    write_inter("likes", LIKE_COLUMNS, [(u, i, t) for u, i, sign, t in signed_rows if sign > 0])
    scores = {}
    for name in (signed, "likes"):
        config, _, (train, _, _) = prepared(name, "EASE", reg_weight=3.0)
        X = train._dataset.inter_matrix(form="csr").toarray().astype(np.float64)
        inverse = np.linalg.inv(X.T @ X + 3.0 * np.eye(X.shape[1]))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        model = get_model("EASE")(config, train._dataset)
        users = torch.arange(X.shape[0])
        scores[name] = model.full_sort_predict({"user_id": users}).view(X.shape)
        np.testing.assert_allclose(scores[name].numpy(), X @ weights, atol=1e-5)
        pairs = {"user_id": users[:5], "item_id": torch.arange(1, 6)}
        np.testing.assert_allclose(model.predict(pairs).numpy(), (X @ weights)[range(5), range(1, 6)], atol=1e-5)
        assert isinstance(model.item_similarity, np.matrix) == (name == "likes")  # RecBole's own, without a sign
        kept = model.other_parameter()
        assert isinstance(kept["item_similarity"], torch.Tensor) == (name == signed)
        model.item_similarity = None
        model.load_other_parameter(kept)
        assert torch.equal(model.full_sort_predict({"user_id": users}).view(X.shape), scores[name])


# ---- a sample of users ----


def test_a_sample_of_users_is_the_same_for_any_order_of_rows(write_inter: Write, signed_rows: list) -> None:
    split = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}}
    drawn = []
    for name, rows in (("one", signed_rows), ("other", signed_rows[::-1])):
        write_inter(name, COLUMNS, rows)
        _, data, (_, _, test) = prepared(name, **split, eval_users=7)
        assert len(test.users) == 7
        drawn.append(set(data.id2token("user_id", test.users)))
        _, _, (_, _, whole) = prepared(name, **split)
        assert set(test.users) < set(whole.users)
        assert list(test.users) == sorted(test.users)
        _, _, (_, _, many) = prepared(name, **split, eval_users=10_000)
        assert (many.users == whole.users).all()
    assert drawn[0] == drawn[1]


def test_many_users_at_a_time_where_the_catalogue_is_large(signed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}}
    _, data, _ = prepared(signed, **split)
    n_items = data.item_num
    monkeypatch.setattr(configuration, "EVAL_CELLS", 2 * n_items)
    for most, rows in ((1_000 * n_items, 64), (5 * n_items, 5), (1, 2)):
        monkeypatch.setattr(item_lists, "MOST_CELLS", most)
        _, _, (_, _, test) = prepared(signed, **split)
        assert (test.step, test.batch_size) == (rows, rows)
        assert len(next(iter(test))[0]) == min(rows, len(test.users))
    monkeypatch.setattr(item_lists, "LONG", n_items)
    monkeypatch.setattr(item_lists, "MOST_CELLS", 1_000 * n_items)
    _, _, (_, _, test) = prepared(signed, **split)
    assert test.step == 256
    _, _, (_, _, test) = prepared(signed, **split, eval_batch_size=3 * n_items)
    assert test.step == 3  # what is given holds
    sampled = {"eval_args": {**split["eval_args"], "mode": "uni20"}}
    assert prepared(signed, **sampled)[0]["eval_batch_size"] == 4096  # RecBole's: it counts pairs there
    assert prepared(signed, "NeuMF", **split)[0]["eval_batch_size"] == 4096  # here, too: it scores pairs alone


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "many", True])
def test_a_wrong_number_of_users_is_refused(wrong: object, signed: str) -> None:
    check_refused("it must be a whole number of users, 1 or more", prepared, signed, eval_users=wrong)


@pytest.mark.parametrize("mode", ["uni20", {"valid": "pop5", "test": "full"}])
def test_a_sample_of_users_is_refused_where_candidates_are_drawn(mode: object, signed: str) -> None:
    with pytest.raises(UsageError, match=r"eval_users draws users where all items are ranked, but eval_args\.mode is"):
        prepared(signed, eval_args={"mode": mode}, eval_users=5)

"""Columns and ids as RecBole's, the graph of a part, and the batches of edges."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared import prepared
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType, InputType
from refusals import check_refused

from recbole_signed.convert.cleaning import resolve
from recbole_signed.data.columnar import ColumnarDataset, pair_keys, renumber
from recbole_signed.data.dataloader import SignedTrainDataLoader
from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender


def dataset(kind: type, users: list[str], items: list[str], categories: bool, **config: Any) -> Any:
    made = object.__new__(kind)
    frame = pd.DataFrame({"user_id": users, "item_id": items, "row": np.arange(len(users))})
    if categories:
        for field in ("user_id", "item_id"):
            codes, tokens = pd.factorize(frame[field])
            frame[field] = pd.Categorical.from_codes(codes, tokens)
    made.__dict__.update(
        inter_feat=frame,
        user_feat=pd.DataFrame({"user_id": [*dict.fromkeys(users), "nobody"]}),
        item_feat=None,
        uid_field="user_id",
        iid_field="item_id",
        field2id_token={},
        field2token_id={},
        field2type=dict.fromkeys(("user_id", "item_id"), FeatureType.TOKEN),
        config={"numerical_features": [], **config},
        logger=SimpleNamespace(debug=lambda *_: None, warning=lambda *_: None),
    )
    return made


INTERVALS = st.sampled_from(["[0,inf)", "[2,inf)", "[3,inf)", "(1,4]", "[1,2];[5,9]", None])
IDS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=1, max_size=40)


@settings(max_examples=100)
@given(pairs=IDS, user_interval=INTERVALS, item_interval=INTERVALS, categories=st.booleans())
def test_k_core_equals_recbole(pairs: list, user_interval: str, item_interval: str, categories: bool) -> None:
    users, items = map(list, zip(*pairs, strict=True))
    config = {"user_inter_num_interval": user_interval, "item_inter_num_interval": item_interval}
    theirs = dataset(Dataset, users, items, False, **config)
    ours = dataset(ColumnarDataset, users, items, categories, **config)
    for each in (theirs, ours):
        each._filter_by_inter_num()
    assert ours.inter_feat["row"].tolist() == theirs.inter_feat["row"].tolist()
    assert ours.inter_feat.index.tolist() == theirs.inter_feat.index.tolist()
    assert ours.user_feat["user_id"].tolist() == theirs.user_feat["user_id"].tolist()


@settings(max_examples=100)
@given(pairs=IDS, categories=st.booleans(), late=st.lists(st.sampled_from("abcxyz"), max_size=5))
def test_ids_equal_recboles(pairs: list, categories: bool, late: list[str]) -> None:
    users, items = map(list, zip(*pairs, strict=True))
    theirs, ours = dataset(Dataset, users, items, False), dataset(ColumnarDataset, users, items, categories)
    for each in (theirs, ours):
        other = pd.DataFrame({"user_id": pd.Series(late, dtype=object)})
        kind = FeatureType.TOKEN
        each._remap([(each.inter_feat, "user_id", kind), (each.user_feat, "user_id", kind), (other, "user_id", kind)])
        each.late = other
    assert ours.field2id_token["user_id"].tolist() == theirs.field2id_token["user_id"].tolist()
    assert ours.field2id_token["user_id"].dtype == theirs.field2id_token["user_id"].dtype
    assert ours.field2token_id == theirs.field2token_id
    for table in ("inter_feat", "user_feat", "late"):
        assert getattr(ours, table)["user_id"].tolist() == getattr(theirs, table)["user_id"].tolist()


def test_ids_of_sequences_and_a_long_id() -> None:
    tokens = [*map(str, range(20_000)), "x" * 16_384]
    (ids,), names = renumber([pd.Series(tokens)])
    assert names[ids].tolist() == tokens
    assert names.nbytes < 1 << 20
    made = dataset(ColumnarDataset, ["a", "b"], ["x", "y"], True)
    tags = pd.DataFrame({"tags": [np.array(["b", "z"]), np.array(["a"])]})
    made._remap([(made.inter_feat, "user_id", FeatureType.TOKEN), (tags, "tags", FeatureType.TOKEN_SEQ)])
    assert made.inter_feat["user_id"].tolist() == [1, 2]
    assert [each.tolist() for each in tags["tags"]] == [[2, 3], [1]]


def test_missing_tokens_are_padding_and_tables_share_a_vocabulary() -> None:
    tokens = pd.Index(["p", "q", "r"], dtype=object)
    first = pd.Series(pd.Categorical.from_codes([2, -1, 0], tokens))
    second = pd.Series(pd.Categorical.from_codes([1, 2, -1], tokens))
    ids, known = renumber([first, second, pd.Series(["s", None, "p"], dtype=object)])
    assert [each.tolist() for each in ids] == [[1, 0, 2], [3, 1, 0], [4, 0, 2]]
    assert known.tolist() == ["[PAD]", "r", "p", "q", "s"]


@pytest.mark.parametrize("row", ["user", "item"])
@pytest.mark.parametrize("options", [{}, {"max_history_len": 3}, {"value_field": "value"}], ids=str)
def test_histories_equal_recboles(row: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    table = Interaction(
        {
            "user_id": torch.from_numpy(rng.integers(1, 12, 150)),
            "item_id": torch.from_numpy(rng.integers(1, 20, 150)),
            "value": torch.from_numpy(rng.random(150).astype(np.float32)),
        }
    )
    found = []
    for kind in (Dataset, ColumnarDataset):
        made = dataset(kind, [], [], False)
        made.inter_feat = table
        made.field2id_token = {"user_id": range(13), "item_id": range(20)}
        torch.manual_seed(3)
        found.append(made._history_matrix(row, **options))
    for theirs, ours in zip(*found, strict=True):
        assert theirs.dtype == ours.dtype
        assert torch.equal(theirs, ours)


# ---- repeated pairs ----


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([-1, 0, 1]), st.integers(0, 4))),
    rule=st.sampled_from(["last", "first", "keep"]),
    timed=st.booleans(),
)
def test_repeated_pairs_against_a_loop(rows: list[tuple[int, int, int, int]], rule: str, timed: bool) -> None:
    users, items, signs, times = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in sorted(range(len(rows)), key=lambda row: (times[row] if timed else 0, row)):
        by_pair.setdefault((users[row], items[row]), []).append(row)
    # a neutral row is no verdict: it stays where its pair has no other
    choices = [[row for row in pair if signs[row]] or pair for pair in by_pair.values()]
    kept = {"last": [each[-1] for each in choices], "first": [each[0] for each in choices]}
    stays, repeated, contradicting = resolve(
        pair_keys(users, items, np.zeros(len(rows), dtype=np.int64)),
        signs.astype(np.int8),
        times if timed else None,
        rule,
    )
    assert np.flatnonzero(stays).tolist() == sorted(kept.get(rule, range(len(rows))))
    assert repeated == len(rows) - len(by_pair)
    assert contradicting == sum({1, -1} <= {signs[row] for row in pair} for pair in by_pair.values())


PARTS = ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("written", "without", "parts", "words"),
    [
        ("train", "", PARTS, r"split\.valid\.inter of benchmark_filename does not exist"),
        ("train valid test", "train", PARTS, r"split\.train\.inter has no column 'sign', which another file"),
        ("train valid test", "test", PARTS, r"split\.test\.inter has no column 'sign', which another file"),
        (
            "train test",
            "",
            ["a", "b", "c"],
            r"holds split\.test\.inter, split\.train\.inter, but benchmark_filename is \[",
        ),
        ("train test", "", None, r"holds split\.test\.inter, split\.train\.inter, but benchmark_filename is None"),
    ],
)
def test_parts_that_are_missing_or_without_the_sign_are_named(
    written: str, without: str, parts: list[str] | None, words: str, write_inter: Any
) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    for part in written.split():
        columns = ["user_id:token", "item_id:token", "sign:float"][: 2 if part == without else 3]
        write_inter("split", columns, [(1, 1, 1)[: len(columns)]], part)
    settings = {"benchmark_filename": parts, "state": "ERROR"}
    check_refused(words, lambda: create_dataset(Config(model="BPR", dataset="split", config_dict=settings)))


def prepare(**config: Any) -> tuple[Any, ...]:
    return prepared("signed", **config)[2]


def test_a_part_builds_its_graph_once(signed: str) -> None:
    train, valid, _ = prepare()
    graph = train._dataset.signed_graph()
    assert train._dataset.signed_graph() is graph
    assert graph.n_edges == len(train._dataset.inter_feat) + len(train._dataset.neg_feat)
    assert valid._dataset.signed_graph().n_edges == len(valid._dataset.inter_feat) + len(valid._dataset.neg_feat)
    assert graph.neutrals is None
    assert train._dataset.copy(valid._dataset.inter_feat).signed_graph().likes.nnz == len(valid._dataset.inter_feat)


@pytest.mark.parametrize("weight", [0.2, -0.2])
def test_neutral_rows_are_weak_edges_where_asked(weight: float, signed: str) -> None:
    train, _, _ = prepare(neutral_weight=weight)
    part = train._dataset
    graph = part.signed_graph()
    dense = np.zeros((part.user_num, part.item_num), dtype=np.float32)
    for table, value in ((part.inter_feat, 1.0), (part.neg_feat, 0.5), (part.neutral_feat, weight)):
        dense[table["user_id"].numpy(), table["item_id"].numpy()] = value
    assert np.array_equal(graph.weighted(0.5).toarray(), dense)
    users, items = graph.degrees(0.5)
    assert np.allclose(users, np.abs(dense).sum(axis=1))
    assert np.allclose(items, np.abs(dense).sum(axis=0))
    assert np.array_equal(graph.rows([3, 1]).weighted(0.5).toarray(), dense[[3, 1]])


@pytest.mark.parametrize("value", ["much", True, 2, -1.5, float("nan")])
def test_a_wrong_weight_is_refused(value: Any, signed: str) -> None:
    check_refused(r"neutral_weight is .* it must be a number from -1", prepare, neutral_weight=value)


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
    batch, n_items = epoch(made)[0], made._dataset.item_num
    degrees = torch.bincount(batch["item_id"], minlength=n_items).double()
    assert degrees[1:].max() > degrees[1:].min() > 0
    wanted = degrees**exponent
    wanted[0] = 0.0
    found = torch.bincount(batch["neg_item_id"].reshape(-1), minlength=n_items).double()
    torch.testing.assert_close(found / found.sum(), wanted / wanted.sum(), rtol=0.0, atol=0.01)


@pytest.mark.parametrize("size", [-1, "all"])
def test_a_wrong_batch_size_is_refused(loader: Callable[..., Any], size: Any) -> None:
    check_refused(r"train_batch_size'? is", loader, train_batch_size=size)


def test_a_misspelt_kind_of_batches_is_refused(loader: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"Odd\.batches is 'edge'; it must be one of edges, likes, or None"):
        loader(type("Odd", (EdgeModel,), {"batches": "edge"}))


def test_recboles_sampling_key_is_not_ignored(loader: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    loader()
    assert "train_neg_sample_args" not in caplog.text
    loader(train_neg_sample_args={"sample_num": 5})
    assert "train_neg_sample_args has no effect on EdgeModel: n_negatives and negative_exponent" in caplog.text


def test_a_user_with_every_item_is_named_by_id(loader: Callable[..., Any], write_inter: Callable[..., Path]) -> None:
    columns = ["user_id:token", "item_id:token", "sign:float"]
    write_inter("edges", columns, [*ROWS, *(("u7", f"i{item}", 1 - 2 * (item % 2)) for item in range(11))], "train")
    check_refused("the user 'u7' has an edge to every item that could be drawn", lambda: epoch(loader()))
    assert epoch(loader(sift_positives=False))
    assert epoch(loader(n_negatives=0))

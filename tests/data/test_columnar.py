"""RecBole's filter and ids, by columns, against its own on the same tables."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType

from recbole_signed.data.columnar import ColumnarDataset, pair_keys, renumber, resolve


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


def test_a_missing_part_is_named(write_inter: Any) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    from recbole_signed import UsageError

    write_inter("split", ["user_id:token", "item_id:token", "sign:float"], [(1, 1, 1)], "train")
    settings = {"benchmark_filename": ["train", "valid", "test"], "state": "ERROR"}
    with pytest.raises(UsageError, match=r"split\.valid\.inter of benchmark_filename does not exist"):
        create_dataset(Config(model="BPR", dataset="split", config_dict=settings))
